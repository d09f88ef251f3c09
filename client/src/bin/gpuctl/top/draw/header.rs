//! The lines at the top: who answers, since when, and what is wrong.

use std::time::Duration;

use gpusched_client::StatusView;
use gpusched_client::shared::Bytes;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;

use super::super::state::State;
use crate::render::units::span;
use crate::render::{clean, shorten};

/// Both lines, `width` wide.
pub(super) fn header(state: &State, width: u16) -> Paragraph<'static> {
    let theme = state.theme;
    let Some(snapshot) = &state.snapshot else {
        let why = state.lost.as_deref().map_or("connecting…".to_owned(), clean);
        return Paragraph::new(Text::from(vec![
            Line::styled(" gpusched", theme.strong()),
            Line::from(format!(" {why}")),
        ]));
    };
    let status = &snapshot.status;
    let uptime = span(Duration::from_millis(status.uptime_ms));
    let (running, waiting) = (status.classes.iter().map(|class| class.running).sum::<u32>(), snapshot.waiting_count);
    let first = Line::from(vec![
        Span::styled(format!(" gpuschedd {}", clean(&status.version)), theme.strong()),
        Span::raw(format!("  up {uptime}  ")),
        engine(state, status),
        Span::raw(format!("  {running} running, {waiting} waiting")),
    ]);
    let notices = notices(state, status);
    let second = match &state.lost {
        // The rest is old by then.
        Some(why) => {
            let room = usize::from(width).saturating_sub(2);
            Line::styled(format!(" {}", shorten(&format!("DAEMON LOST, trying again: {why}"), room)), theme.bad())
        }
        None => Line::from(vec![Span::styled(notices, theme.strong()), Span::raw(format!(" {}", disk(status)))]),
    };
    Paragraph::new(Text::from(vec![first, second]))
}

fn engine(state: &State, status: &StatusView) -> Span<'static> {
    let deaths = match status.engine.deaths {
        0 => String::new(),
        1 => ", died once".to_owned(),
        n => format!(", died {n} times"),
    };
    if status.engine.up {
        Span::styled(format!("engine up{deaths}"), state.theme.good())
    } else {
        Span::styled(format!("engine DOWN{deaths}"), state.theme.bad())
    }
}

fn disk(status: &StatusView) -> String {
    let storage = &status.storage;
    let full = if storage.free_bytes < storage.low_water_bytes { ", too little for new jobs" } else { "" };
    format!(
        "disk {} free{full}, files {} of {}",
        Bytes(storage.free_bytes),
        Bytes(storage.blob_bytes),
        Bytes(storage.blob_quota_bytes)
    )
}

/// What is not as usual, and how one looks at it.
fn notices(state: &State, status: &StatusView) -> String {
    let parts = [
        status.draining.then(|| "DRAINING".to_owned()),
        state.paused.then(|| "DISPLAY PAUSED (p)".to_owned()),
        (!state.filter.is_empty()).then(|| format!("filter: {}", state.filter)),
    ];
    parts.into_iter().flatten().map(|part| format!(" {part} ")).collect()
}
