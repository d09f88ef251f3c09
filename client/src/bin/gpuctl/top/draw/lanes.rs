//! The lanes, each with the job on it and how far that is.

use std::time::Duration;

use gpusched_client::shared::{Activity, LaneView, Phase};
use gpusched_client::{JobState, JobView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Span;
use ratatui::widgets::Row;

use super::super::state::State;
use super::bar::{DONE, HELD, bar, share};
use super::part::Part;
use crate::render::units::span;
use crate::render::{clean, job, shorten};

/// Width of a lane's name.
const NAME: u16 = 10;

/// Draws them.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Some(snapshot) = &state.snapshot else { return };
    let lanes = &snapshot.status.lanes;
    let width = bar_width(area.width);
    let busy = lanes.iter().filter(|lane| lane.job.is_some()).count();
    let columns = vec![
        (" LANE".to_owned(), Constraint::Length(NAME)),
        (format!("BUSY {busy}/{}", lanes.len()), Constraint::Length(width)),
        ("DOING".to_owned(), Constraint::Length(21)),
        ("RAN".to_owned(), Constraint::Length(9)),
        ("JOB".to_owned(), Constraint::Length(6)),
        ("WHAT".to_owned(), Constraint::Fill(1)),
    ];
    let rows = lanes.iter().map(|lane| row(lane, state, usize::from(width))).collect();
    let selected = state.selected.and_then(|job| lanes.iter().position(|lane| lane.job == Some(job)));
    Part { columns, rows, selected, empty: "no lanes" }.draw(frame, area, state.theme);
}

/// A fourth of the line, so that on a wide screen one step moves the bar.
fn bar_width(line: u16) -> u16 {
    (line / 4).max(8)
}

fn row<'a>(lane: &LaneView, state: &State, width: usize) -> Row<'a> {
    let class = state.snapshot.iter().flat_map(|s| &s.status.classes).position(|class| class.name == lane.class);
    let style = state.theme.class(class.unwrap_or(0));
    let name = format!(" {}", lane_name(lane));
    let cells = |filled: String, doing: String, ran: String, job: String, what: String| {
        let texts = [doing, ran, job, what].map(Span::raw);
        Row::new([Span::styled(name.clone(), style), Span::styled(filled, style)].into_iter().chain(texts))
    };
    let none = String::new;
    match lane.job {
        None => cells(bar(width, &[]), "idle".to_owned(), none(), none(), none()),
        Some(id) => match state.job(id) {
            Some(view) => {
                let (filled, doing) = progress(view, width);
                let ran = span(Duration::from_micros(view.run_us));
                cells(filled, doing, ran, id.to_string(), shorten(view.spec.task.text(), 200))
            }
            None if id.0 == 0 => {
                cells(bar(width, &[(1.0, HELD)]), "busy".to_owned(), none(), none(), "someone else's".to_owned())
            }
            None => cells(bar(width, &[(1.0, HELD)]), "busy".to_owned(), none(), id.to_string(), none()),
        },
    }
}

/// `heavy/0`, so that it fits; the number is never what is cut.
fn lane_name(lane: &LaneView) -> String {
    let number = format!("/{}", lane.index);
    let room = usize::from(NAME).saturating_sub(1 + number.len());
    format!("{}{number}", shorten(&clean(&lane.class), room))
}

/// A job's bar and what is done for it, short enough for the column.
fn progress(view: &JobView, width: usize) -> (String, String) {
    match &view.state {
        JobState::Running { activity, parked, .. } => doing(*activity, *parked, width),
        JobState::Reflecting { round, of, phase } => {
            let (filled, words) = far(*phase, width);
            (filled, format!("round {round}/{of} {words}"))
        }
        JobState::Editing { step, phase } => {
            let (filled, words) = far(*phase, width);
            (filled, format!("{step} {words}"))
        }
        JobState::Queued { .. } | JobState::BackingOff { .. } | JobState::Done(_) => {
            (bar(width, &[]), job::state(&view.state))
        }
    }
}

fn far(phase: Phase, width: usize) -> (String, String) {
    match phase {
        Phase::Waiting => (bar(width, &[]), "waits".to_owned()),
        Phase::Making { activity, parked } => doing(activity, parked, width),
        Phase::Checking { done, of } => {
            (bar(width, &[(share(u64::from(done), u64::from(of)), DONE)]), format!("check {done}/{of}"))
        }
    }
}

fn doing(activity: Activity, parked: bool, width: usize) -> (String, String) {
    match activity {
        Activity::Starting => (bar(width, &[]), if parked { "parked" } else { "starting" }.to_owned()),
        Activity::Loading { done, of } => (bar(width, &[]), format!("loading {done}/{of}")),
        Activity::Working { done, of } => {
            let (with, word) = if parked { (HELD, "parked") } else { (DONE, "step") };
            (bar(width, &[(share(done.into(), of.into()), with)]), format!("{word} {done}/{of}"))
        }
    }
}
