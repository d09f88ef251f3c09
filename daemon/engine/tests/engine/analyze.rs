//! Texts are said as they grow, and make way between tokens.

use gpusched_engine::{Command, Event, Product};
use gpusched_shared::view::Activity;
use gpusched_shared::{FailureKind, JobId};

use crate::rig::{HEAVY, PLENTY, Rig, analyze, vqa};

const MOST: u32 = 24;

/// What was said of a text, up to the end.
fn heard(rig: &mut Rig, job: JobId) -> (Vec<(String, u32)>, Product) {
    let mut texts = Vec::new();
    let mut progress = None;
    loop {
        match rig.next() {
            Event::Progress(_, Activity::Working { done, of: MOST }) => progress = Some(done),
            Event::Wrote { job: of, text, tokens } => {
                // Said first, so that the text is the latest news.
                assert_eq!((of, progress), (job, Some(tokens)));
                texts.push((text, tokens));
            }
            Event::Finished(of, product, _) => {
                assert_eq!(of, job);
                return (texts, product.expect("it can be done"));
            }
            Event::Interrupted(..) => panic!("nobody interrupted it"),
            Event::Started(_)
            | Event::Progress(..)
            | Event::Parked { .. }
            | Event::Resumed(_)
            | Event::Previewed { .. }
            | Event::OnDevice { .. }
            | Event::Loaded { .. }
            | Event::Unloaded { .. }
            | Event::Flushed { .. }
            | Event::Missed { .. }
            | Event::Inspected { .. } => {}
        }
    }
}

#[test]
fn a_text_is_said_as_it_grows() {
    let mut rig = Rig::new();
    let job = rig.begin(2, analyze("a red circle", MOST), PLENTY);
    let (texts, product) = heard(&mut rig, job);
    let Product::Text { text, tokens, complete: true, truncated_tokens: 0 } = product else { panic!("{product:?}") };
    assert!(texts.len() > 1 && texts.is_sorted_by(|a, b| b.0.starts_with(&a.0) && a.1 < b.1), "{texts:?}");
    assert_eq!(texts.last(), Some(&(text, tokens)));
    assert!(tokens < MOST);
}

#[test]
fn a_text_makes_way_between_tokens_and_comes_out_the_same() {
    let mut rig = Rig::new();
    let (alone, usage) = rig.run(0, analyze("a red circle", MOST));
    assert!(usage.peak_bytes > 0 && usage.yields == 0, "{usage:?}");

    let job = rig.begin(0, analyze("a red circle", MOST), PLENTY);
    rig.until(|event| matches!(event, Event::Wrote { .. }));
    rig.gate(true);
    let parked = rig.next();
    assert!(matches!(parked, Event::Parked { job: of, after_us: Some(_) } if of == job), "{parked:?}");
    // What it has read so far stays where it is.
    let held = rig.memory(HEAVY);
    assert!(held.live_bytes > held.weights_bytes);
    rig.run(2, vqa());
    assert_eq!(rig.memory(HEAVY), held);
    rig.gate(false);
    let (result, usage) = rig.end_after_resuming(job);
    assert_eq!((result.expect("it can be done"), usage.yields), (alone, 1));
}

#[test]
fn a_text_is_stopped_in_the_middle_and_a_question_that_is_too_long_refused() {
    let mut rig = Rig::new();
    let job = rig.begin(2, analyze("a red circle", MOST), PLENTY);
    rig.until(|event| matches!(event, Event::Wrote { .. }));
    rig.tell(Command::Stop(job));
    let stopped = rig.next();
    assert!(matches!(stopped, Event::Interrupted(of, _) if of == job), "{stopped:?}");

    let long = rig.begin(2, analyze(&"blue ".repeat(1000), MOST), PLENTY);
    let failure = rig.end(long).0.expect_err("it is too long");
    assert_eq!(failure.kind, FailureKind::Input);
    assert!(failure.message.contains("ask less"), "{failure}");
}
