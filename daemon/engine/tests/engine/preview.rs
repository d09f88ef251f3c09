//! What a picture is about to become is shown on the way, and changes nothing.

use std::cell::Cell;

use candle_core::{DType, Device};
use gpusched_engine::{Command, Event, Product};
use gpusched_models::flux2::{Pipeline, Preview, Request};
use gpusched_models::{Interrupted, Picture, Site, Unobserved, YieldPoint};
use gpusched_shared::view::Activity;

use crate::rig::{FLUX, HEAVY, MODEL_TABLES, Rig, txt2img, weights};

const STEPS: u32 = 16;

fn made(product: Product) -> Vec<u8> {
    let Product::Image { png, .. } = product else { panic!("{product:?}") };
    png
}

fn picture(png: &[u8]) -> Picture {
    Picture::decode(png, 1 << 20).expect("a picture")
}

/// The mean difference of two pictures of one size, of 255.
fn difference(a: &Picture, b: &Picture) -> f64 {
    let pairs = a.rgb().iter().zip(b.rgb());
    pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.rgb().len() as f64
}

/// The preview of a stage.
fn preview(rig: &mut Rig) -> (Vec<u8>, (u32, u32)) {
    let shown = rig.until(|event| matches!(event, Event::Previewed { .. }));
    let Event::Previewed { png, size, .. } = shown else { panic!("{shown:?}") };
    (png, (size.width, size.height))
}

#[test]
fn a_preview_comes_after_its_step_and_the_picture_comes_out_the_same() {
    let mut rig = Rig::new();
    let alone = made(rig.run(0, txt2img(64, STEPS)).0);
    let mut differences = Vec::new();
    for after in [1, STEPS - 1] {
        let job = rig.begin_with_preview(txt2img(64, STEPS), after);
        let step =
            |event: &Event| matches!(event, Event::Progress(_, Activity::Working { done, .. }) if *done + 1 == after);
        rig.until(step);
        let (png, size) = preview(&mut rig);
        assert_eq!(rig.next(), Event::Progress(job, Activity::Working { done: after, of: STEPS }));
        assert_eq!(made(rig.end(job).0.expect("it can be done")), alone);
        let shown = picture(&png);
        assert_eq!(((shown.width(), shown.height()), size), ((64, 64), (64, 64)));
        differences.push(difference(&shown, &picture(&alone)));
    }
    println!("previews differ from the picture by {differences:?} of 255");
    assert!(
        differences[1] < differences[0] / 2.0 && differences[0] < 64.0,
        "it comes near the picture: {differences:?}"
    );
}

#[test]
fn there_is_nothing_to_show_after_the_last_step() {
    let mut rig = Rig::new();
    for after in [0, STEPS, STEPS + 1] {
        let job = rig.begin_with_preview(txt2img(64, STEPS), after);
        let ended = rig.until(|event| {
            assert!(!matches!(event, Event::Previewed { .. }), "{event:?}");
            matches!(event, Event::Finished(..))
        });
        assert!(matches!(ended, Event::Finished(ended, Ok(_), _) if ended == job), "{ended:?}");
    }
}

#[test]
fn a_stage_that_has_shown_a_hopeless_picture_can_be_stopped() {
    let mut rig = Rig::new();
    let job = rig.begin_with_preview(txt2img(64, STEPS), 2);
    preview(&mut rig);
    rig.tell(Command::Stop(job));
    let ended = rig.next();
    let ended = if matches!(ended, Event::Progress(..)) { rig.next() } else { ended };
    assert!(matches!(ended, Event::Interrupted(stopped, _) if stopped == job), "{ended:?}");
    let held = rig.memory(HEAVY);
    assert!(held.live_bytes < held.weights_bytes + MODEL_TABLES, "{held:?}");
}

/// Counts the yield points of the autoencoder, and interrupts the work at one of them.
struct Count {
    reached: Cell<u32>,
    interrupts_at: Option<u32>,
}

impl YieldPoint for Count {
    fn reach(&self, site: Site) -> Result<(), Interrupted> {
        self.reached.set(self.reached.get() + u32::from(site == Site::VaeStage));
        if self.interrupts_at == Some(self.reached.get()) { Err(Interrupted) } else { Ok(()) }
    }
}

#[test]
fn a_preview_has_the_yield_points_of_a_picture() {
    let pipeline = Pipeline::load(&weights().join(FLUX), &Device::Cpu, DType::F32, &Unobserved).expect("it loads");
    let request =
        Request { prompt: "a red circle", references: &[], width: 32, height: 32, steps: 2, guidance: 1.0, seed: 1 };
    let count = |preview: bool, interrupts_at: Option<u32>| {
        let count = Count { reached: Cell::new(0), interrupts_at };
        let show = |latents: &candle_core::Tensor| pipeline.picture(latents, &count).map(drop);
        let preview = preview.then_some(Preview { after: 1, show: &show });
        let made = pipeline.generate_with_preview(&request, preview, &count).is_ok();
        (made, count.reached.get())
    };
    let (_, once) = count(false, None);
    assert!(once > 2);
    assert_eq!(count(true, None), (true, 2 * once));
    assert_eq!(count(true, Some(once / 2)), (false, once / 2), "which may end the work there");
}
