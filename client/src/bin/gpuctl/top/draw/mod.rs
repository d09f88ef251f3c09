//! The screen, from the state alone.
//!
//! ```text
//! header      version, uptime, engine, disk; what is wrong with the connection
//! LANES       one line each, with a bar
//! CLASSES     queues and memory, one line each
//! WAITING     in the order in which they are likely to start
//! ENDED       the last first
//! footer      keys, or what the last of them came to
//! ```

mod bar;
mod classes;
mod header;
mod jobs;
mod lanes;
mod overlay;
mod part;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::Line;

use super::state::{Mode, State};

/// Lines above everything else.
const HEADER: u16 = 2;
/// The least that the list of waiting jobs gets, its heading included, where there is room.
const LEAST_LIST: u16 = 4;

/// Draws everything. Whatever the size, it neither panics nor draws beyond it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let height = frame.area().height;
    let footer = u16::from(state.interactive);
    let (lanes, classes) = state
        .snapshot
        .as_ref()
        .map_or((0, 0), |snapshot| (lines(snapshot.status.lanes.len()), lines(snapshot.status.classes.len())));
    // Lanes are what people look at, but they leave room for the jobs.
    let room = height.saturating_sub(HEADER + footer + classes + 2 * LEAST_LIST);
    let lanes = if state.interactive { lanes.min(room.max(2)) } else { lanes };
    let rest = height.saturating_sub(HEADER + footer + classes + lanes);
    let (waiting, ended) = (lines(state.waiting().len()), lines(state.ended().len()));
    // Each list gets half, and what the other does not need.
    let waiting = waiting.max(2).min((rest - rest / 2).max(rest.saturating_sub(ended.max(2))));
    let areas = Layout::vertical([
        Constraint::Length(HEADER),
        Constraint::Length(lanes),
        Constraint::Length(classes),
        Constraint::Length(waiting),
        Constraint::Fill(1),
        Constraint::Length(footer),
    ])
    .split(frame.area());
    let &[top, lanes, classes, waiting, ended, bottom] = &*areas else { return };

    frame.render_widget(header::header(state, top.width), top);
    lanes::draw(frame, lanes, state);
    classes::draw(frame, classes, state);
    jobs::waiting(frame, waiting, state);
    jobs::ended(frame, ended, state);
    frame.render_widget(footer_line(state), bottom);
    match &state.mode {
        Mode::Asking { job, what } => overlay::question(frame, state, *job, what),
        Mode::Help => overlay::help(frame, state),
        Mode::Browsing | Mode::Typing => {}
    }
}

/// Lines of a part with so many rows.
fn lines(rows: usize) -> u16 {
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1)
}

fn footer_line(state: &State) -> Line<'_> {
    match (&state.mode, &state.message) {
        (Mode::Typing, _) => Line::from(format!(" filter: {}▏  Enter keeps it, Esc clears it", state.filter)),
        (Mode::Asking { .. }, _) => Line::from(" y yes   n no"),
        (_, Some(message)) => Line::styled(format!(" {message}"), state.theme.strong()),
        (_, None) => {
            let keys = " q quit  j/k select  c cancel  +/- priority  / filter  p pause  ? help";
            Line::styled(keys, state.theme.faint())
        }
    }
}
