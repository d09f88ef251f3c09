//! What keys do.

use super::super::state::{Effect, Mode};
use super::*;

fn press(state: &mut State, key: Key) -> Option<Effect> {
    state.update(Event::Key(key))
}

fn character(state: &mut State, key: char) -> Option<Effect> {
    press(state, Key::Character(key))
}

#[test]
fn selection_goes_through_all_parts_of_the_screen_and_stops_at_its_ends() {
    let mut state = seeing(busy());
    let order = [7, 12, 9, 10, 11, 8, 6, 5, 4, 3].map(JobId);
    assert_eq!(state.selectable(), order, "each job once, and nobody else's");
    for job in order {
        type_keys(&mut state, "j");
        assert_eq!(state.selected, Some(job));
    }
    type_keys(&mut state, "j");
    assert_eq!(state.selected, Some(JobId(3)));
    type_keys(&mut state, "k");
    assert_eq!(state.selected, Some(JobId(4)));
    press(&mut state, Key::Home);
    press(&mut state, Key::Up);
    assert_eq!(state.selected, Some(JobId(7)));
    press(&mut state, Key::End);
    assert_eq!(state.selected, Some(JobId(3)));
    press(&mut state, Key::Escape);
    assert_eq!(state.selected, None);
}

#[test]
fn nothing_is_cancelled_without_a_yes() {
    let mut state = seeing(busy());
    type_keys(&mut state, "c");
    assert_eq!(state.mode, Mode::Browsing);
    assert_eq!(state.message.as_deref(), Some("select a job first, with the arrow keys"));
    type_keys(&mut state, "jc");
    let asking = Mode::Asking { job: JobId(7), what: "a red circle left of a blue square".to_owned() };
    assert_eq!(state.mode, asking);
    // Keys that are no answer change nothing, whatever they mean elsewhere.
    type_keys(&mut state, "jc+/");
    press(&mut state, Key::Enter);
    assert_eq!(state.mode, asking);
    type_keys(&mut state, "n");
    assert_eq!(state.mode, Mode::Browsing);
    type_keys(&mut state, "c");
    assert_eq!(character(&mut state, 'y'), Some(Effect::Cancel(JobId(7))));
    assert_eq!(state.message.as_deref(), Some("job 7: is being cancelled"));
    assert_eq!(state.update(Event::Told("job 7: cancelled".to_owned())), None);
    assert_eq!(state.message.as_deref(), Some("job 7: cancelled"));
    // What has ended is past cancelling.
    press(&mut state, Key::End);
    type_keys(&mut state, "c");
    assert_eq!((&state.mode, state.message.as_deref()), (&Mode::Browsing, Some("job 3 has ended")));
}

#[test]
fn priorities_are_counted_on_before_the_daemon_has_answered() {
    let mut state = seeing(busy());
    state.selected = Some(JobId(11));
    assert_eq!(character(&mut state, '+'), Some(Effect::SetPriority(JobId(11), -4)));
    assert_eq!(character(&mut state, '+'), Some(Effect::SetPriority(JobId(11), -3)));
    assert_eq!(character(&mut state, '-'), Some(Effect::SetPriority(JobId(11), -4)));
    assert_eq!(state.waiting()[1].priority, -4);
    state.snapshot.as_mut().expect("seen").jobs.get_mut(&JobId(11)).expect("it waits").spec.priority = 100;
    assert_eq!(character(&mut state, '+'), Some(Effect::SetPriority(JobId(11), 100)), "no further than it goes");
}

#[test]
fn filters_find_jobs_by_any_of_their_words() {
    let mut state = seeing(busy());
    type_keys(&mut state, "/SQUARE");
    assert_eq!(state.mode, Mode::Typing);
    press(&mut state, Key::Enter);
    assert_eq!((&state.mode, state.filter.as_str()), (&Mode::Browsing, "SQUARE"));
    assert_eq!(state.selectable(), [7, 10, 3].map(JobId), "on a lane, waiting, ended");
    type_keys(&mut state, "/ pass");
    // Letters that are keys elsewhere are letters here.
    assert_eq!(state.filter, "SQUARE pass");
    assert_eq!(state.selectable(), []);
    for _ in 0..5 {
        press(&mut state, Key::Backspace);
    }
    type_keys(&mut state, " yellow");
    assert_eq!(state.selectable(), [JobId(10)], "all words count");
    press(&mut state, Key::Escape);
    assert_eq!((state.filter.as_str(), state.selectable().len()), ("", 10));
    type_keys(&mut state, &format!("/{}", "x".repeat(500)));
    assert_eq!(state.filter.len(), 60, "bounded");
}

#[test]
fn the_selection_stays_on_its_job_or_near_where_that_was() {
    let mut state = seeing(busy());
    state.selected = Some(JobId(10));
    let mut seen = busy();
    seen.waiting.swap(0, 1);
    state.update(Event::Seen(Box::new(seen.clone())));
    assert_eq!(state.selected, Some(JobId(10)), "it follows the job");
    seen.waiting.retain(|place| place.job != JobId(10));
    state.update(Event::Seen(Box::new(seen)));
    assert_eq!(state.selected, Some(JobId(8)), "what has taken its place");
    state.update(Event::Seen(Box::new(idle())));
    assert_eq!(state.selected, None, "nothing is left");
}

#[test]
fn a_paused_display_stands_still() {
    let mut state = seeing(busy());
    type_keys(&mut state, "p");
    state.update(Event::Seen(Box::new(idle())));
    assert_eq!(state.snapshot, Some(busy()));
    type_keys(&mut state, "p");
    state.update(Event::Seen(Box::new(idle())));
    assert_eq!(state.snapshot, Some(idle()));
}

#[test]
fn a_daemon_that_goes_and_comes_is_noticed() {
    let mut state = seeing(busy());
    state.update(Event::Lost("no daemon".to_owned()));
    assert_eq!(state.lost.as_deref(), Some("no daemon"));
    assert_eq!(state.snapshot, Some(busy()), "what was seen last stays");
    state.update(Event::Seen(Box::new(idle())));
    assert_eq!((state.lost, state.message.as_deref()), (None, Some("the daemon is back")));
}

#[test]
fn leaving_is_always_possible() {
    let mut state = seeing(busy());
    assert_eq!(character(&mut state, 'q'), Some(Effect::Quit));
    for keys in ["/", "jc", "?"] {
        let mut state = seeing(busy());
        type_keys(&mut state, keys);
        assert_ne!(state.mode, Mode::Browsing);
        assert_eq!(press(&mut state, Key::Interrupt), Some(Effect::Quit), "{keys}");
    }
    let mut state = seeing(busy());
    type_keys(&mut state, "?q");
    assert_eq!(state.mode, Mode::Browsing, "any key leaves the help, and does nothing else");
}
