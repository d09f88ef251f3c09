//! What the screen looks like. Each picture is a snapshot under review.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::super::draw::draw;
use super::super::print;
use super::*;

fn drawn(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, state)).expect("drawn");
    terminal
}

fn screen(state: &State, width: u16, height: u16) -> String {
    print::text(drawn(state, width, height).backend().buffer())
}

fn assert_both(name: &str, state: &State) {
    for (width, height) in [(80, 24), (200, 50)] {
        insta::assert_snapshot!(format!("{name}_{width}x{height}"), screen(state, width, height));
    }
}

#[test]
fn empty() {
    assert_both("empty", &seeing(idle()));
}

#[test]
fn full() {
    assert_both("busy", &seeing(busy()));
}

#[test]
fn gone() {
    let mut state = seeing(busy());
    let why = "no daemon at /run/gpusched/gpusched.sock: start it with `systemctl start gpusched` or `gpuschedd serve`";
    state.update(Event::Lost(why.to_owned()));
    assert_both("gone", &state);
    let mut never = State::new(Theme::PLAIN, true);
    insta::assert_snapshot!("connecting_80x24", screen(&never, 80, 24));
    never.update(Event::Lost(why.to_owned()));
    assert!(screen(&never, 200, 10).contains("no daemon at /run/gpusched"));
}

#[test]
fn filtered() {
    let mut state = seeing(busy());
    type_keys(&mut state, "/square");
    insta::assert_snapshot!("typing_80x24", screen(&state, 80, 24));
    state.update(Event::Key(Key::Enter));
    type_keys(&mut state, "jpj");
    assert_both("filtered", &state);
}

#[test]
fn helped() {
    let mut state = seeing(busy());
    type_keys(&mut state, "?");
    assert_both("help", &state);
}

#[test]
fn asked() {
    let mut state = seeing(busy());
    type_keys(&mut state, "jc");
    assert_both("cancel", &state);
}

#[test]
fn long_names() {
    let mut seen = busy();
    let long = "a-class-whose-name-nobody-should-have-chosen";
    for class in &mut seen.status.classes {
        class.name = format!("{long}-{}", class.name);
        (class.queued, class.finished, class.out_of_memory) = (123_456, 12_345_678_901, 4_000_000_000);
    }
    for lane in &mut seen.status.lanes {
        lane.class = format!("{long}-{}", lane.class);
        lane.index += 100;
    }
    for job in seen.jobs.values_mut() {
        job.class = long.to_owned();
        job.spec.model = Some(format!("{long}\u{1b}]0;title\u{7}"));
        job.id = JobId(job.id.0 + 123_456_000);
    }
    for place in &mut seen.waiting {
        (place.class, place.model) = (long.to_owned(), long.to_owned());
        place.waited_ms = 987_654_321;
    }
    seen.ended.iter_mut().for_each(|job| job.class = long.to_owned());
    seen.status.draining = true;
    seen.status.engine = EngineView { up: false, pid: None, deaths: 1_000_000 };
    seen.status.storage.free_bytes = 0;
    assert_both("long_names", &seeing(seen));
}

#[test]
fn more_jobs_than_lines() {
    let mut seen = busy();
    let jobs: Vec<_> = (100..400).map(|id| picture(id, "one of many", JobState::Queued { ahead: 0 })).collect();
    seen.waiting = jobs.iter().map(|job| place(job, None)).collect();
    seen.waiting_count = 5000;
    seen.ended = (500..560).map(|id| picture(id, "one of many", made())).collect();
    let mut state = seeing(seen);
    insta::assert_snapshot!("many_80x24", screen(&state, 80, 24));
    // Wherever the selection is, it is seen.
    for (job, line) in [(399, " 399 "), (559, " 559 ")] {
        assert!(!screen(&state, 80, 24).contains(line));
        state.selected = Some(JobId(job));
        assert!(screen(&state, 80, 24).contains(line), "{}", screen(&state, 80, 24));
    }
}

#[test]
fn every_size_can_be_drawn() {
    let mut states = vec![State::new(Theme::COLOURED, true), seeing(idle()), seeing(busy())];
    for keys in ["/x", "jc", "?"] {
        let mut state = seeing(busy());
        type_keys(&mut state, keys);
        states.push(state);
    }
    for state in &states {
        for width in [0, 1, 2, 7, 20, 39, 79, 300] {
            for height in [0, 1, 2, 3, 5, 11, 17, 100] {
                drawn(state, width, height);
            }
        }
    }
}

#[test]
fn what_others_wrote_cannot_move_the_cursor() {
    let text = screen(&seeing(busy()), 200, 50);
    assert!(text.contains("it\\u{1b}[31mdied"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let coloured = |theme| {
        let mut state = seeing(busy());
        state.theme = theme;
        let terminal = drawn(&state, 80, 24);
        terminal.backend().buffer().content().iter().filter(|cell| cell.fg != Color::Reset).count()
    };
    assert!(coloured(Theme::COLOURED) > 0);
    assert_eq!(coloured(Theme::PLAIN), 0);
}

#[test]
fn a_frame_as_text_has_no_keys_and_all_jobs() {
    let mut state = seeing(busy());
    state.interactive = false;
    let text = print::frame(&state, 100);
    insta::assert_snapshot!("printed_100", text);
    assert!(!text.contains("q quit"));
}
