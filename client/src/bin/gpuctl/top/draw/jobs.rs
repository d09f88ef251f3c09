//! The jobs that wait, and those that have ended.

use std::collections::BTreeSet;
use std::time::Duration;

use gpusched_client::{JobState, JobView, Outcome, QueueView, Verdict};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Span;
use ratatui::widgets::Row;

use super::super::state::State;
use super::part::{Part, counted};
use crate::render::units::{ago, span};
use crate::render::{job, shorten};

/// Characters of a text, more than fit on any line.
const TEXT: usize = 300;
/// Width of a class's or a model's name.
const NAME: u16 = 8;

/// Draws those that wait.
pub(super) fn waiting(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Some(snapshot) = &state.snapshot else { return };
    let places = state.waiting();
    let columns = vec![
        (" JOB".to_owned(), Constraint::Length(7)),
        ("CLASS".to_owned(), Constraint::Length(NAME)),
        ("PRIO".to_owned(), Constraint::Length(4)),
        ("MODEL".to_owned(), Constraint::Length(NAME)),
        ("WAITED".to_owned(), Constraint::Length(9)),
        ("STARTS IN".to_owned(), Constraint::Length(9)),
        (counted("WAITING", places.len(), snapshot.waiting_count), Constraint::Fill(1)),
    ];
    let selected = state.selected.and_then(|job| places.iter().position(|place| place.job == job));
    let owners = owners(state);
    let rows = places.iter().map(|place| waiting_row(place, state, owners)).collect();
    let empty = if state.filter.is_empty() { "nobody" } else { "none" };
    Part { columns, rows, selected, empty }.draw(frame, area, state.theme);
}

fn waiting_row<'a>(place: &QueueView, state: &State, owners: bool) -> Row<'a> {
    let hidden = place.job.0 == 0;
    let what = match state.job(place.job) {
        _ if hidden => "someone else's".to_owned(),
        Some(view) => text(view, owners),
        None => String::new(),
    };
    let number = |shown: String| if hidden { "-".to_owned() } else { shown };
    Row::new([
        Span::raw(format!(" {}", number(place.job.to_string()))),
        Span::styled(shorten(&place.class, NAME.into()), class(state, &place.class)),
        Span::raw(number(place.priority.to_string())),
        Span::raw(number(shorten(&place.model, NAME.into()))),
        Span::raw(span(Duration::from_millis(place.waited_ms))),
        Span::raw(place.starts_in_ms.map_or_else(|| "-".to_owned(), |ms| span(Duration::from_millis(ms)))),
        Span::raw(what),
    ])
}

/// Draws those that have ended.
pub(super) fn ended(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Some(snapshot) = &state.snapshot else { return };
    let jobs = state.ended();
    let columns = vec![
        (" JOB".to_owned(), Constraint::Length(7)),
        ("CLASS".to_owned(), Constraint::Length(NAME)),
        ("OUTCOME".to_owned(), Constraint::Length(10)),
        ("WAITED".to_owned(), Constraint::Length(9)),
        ("RAN".to_owned(), Constraint::Length(9)),
        ("SUBMITTED".to_owned(), Constraint::Length(10)),
        (counted("ENDED", jobs.len(), snapshot.ended.len()), Constraint::Fill(1)),
    ];
    // A job that is still at something is selected there.
    let alive = |job| snapshot.jobs.contains_key(&job);
    let selected = state.selected.filter(|job| !alive(*job));
    let selected = selected.and_then(|id| jobs.iter().position(|job| job.id == id));
    let owners = owners(state);
    let rows = jobs.iter().map(|job| ended_row(job, state, owners, snapshot.now_unix_ms)).collect();
    let empty = if state.filter.is_empty() { "none yet" } else { "none" };
    Part { columns, rows, selected, empty }.draw(frame, area, state.theme);
}

fn ended_row<'a>(view: &JobView, state: &State, owners: bool, now_unix_ms: u64) -> Row<'a> {
    let (outcome, style) = outcome(view, state);
    Row::new([
        Span::raw(format!(" {}", view.id)),
        Span::styled(shorten(&view.class, NAME.into()), class(state, &view.class)),
        Span::styled(outcome, style),
        Span::raw(span(Duration::from_micros(view.wait_us))),
        Span::raw(span(Duration::from_micros(view.run_us))),
        Span::raw(ago(view.submitted_unix_ms, now_unix_ms)),
        Span::raw(text(view, owners)),
    ])
}

fn outcome(view: &JobView, state: &State) -> (String, Style) {
    let JobState::Done(outcome) = &view.state else { return (job::state(&view.state), Style::new()) };
    let verdict = view.reflection.as_ref().and_then(|reflection| reflection.verdict);
    let theme = state.theme;
    match (outcome, verdict) {
        (Outcome::Failed { .. }, _) => (outcome.word().to_owned(), theme.bad()),
        (Outcome::Cancelled | Outcome::Expired { .. }, _) => (outcome.word().to_owned(), theme.faint()),
        (done, None) => (done.word().to_owned(), theme.good()),
        (done, Some(verdict)) => {
            let style = if verdict == Verdict::Pass { theme.good() } else { theme.strong() };
            (format!("{}, {verdict}", done.word()), style)
        }
    }
}

/// What a job is about: whose it is, if that is not clear, what holds it up, and what it says.
fn text(view: &JobView, owners: bool) -> String {
    let owner = if owners { format!("uid {}: ", view.uid) } else { String::new() };
    let state = match &view.state {
        JobState::BackingOff { .. } | JobState::Reflecting { .. } | JobState::Editing { .. } => {
            format!("[{}] ", job::full_state(&view.state))
        }
        JobState::Done(Outcome::Failed { kind, message }) => format!("[{}] ", job::failed(kind, message)),
        JobState::Queued { .. } | JobState::Running { .. } | JobState::Done(_) => String::new(),
    };
    shorten(&format!("{owner}{state}{}", view.spec.task.text()), TEXT)
}

/// True if the jobs are not all of one user.
fn owners(state: &State) -> bool {
    let jobs = state.snapshot.iter().flat_map(|snapshot| snapshot.jobs.values().chain(&snapshot.ended));
    jobs.map(|job| job.uid).collect::<BTreeSet<_>>().len() > 1
}

fn class(state: &State, name: &str) -> Style {
    let classes = state.snapshot.iter().flat_map(|snapshot| &snapshot.status.classes);
    let index = classes.map(|class| class.name.as_str()).position(|class| class == name);
    state.theme.class(index.unwrap_or(0))
}
