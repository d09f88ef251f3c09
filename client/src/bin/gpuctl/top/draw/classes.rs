//! The classes: their queues, and what of their memory is used, promised and left.

use gpusched_client::shared::{Bytes, ClassView, PartitionView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Span;
use ratatui::widgets::Row;

use super::super::state::State;
use super::bar::{DONE, HELD, bar, share};
use super::part::Part;
use crate::render::shorten;

/// Width of a class's name.
const NAME: u16 = 10;
/// Widths of the columns between the name and the bar.
const NUMBERS: [(&str, u16); 6] = [("STATE", 6), ("WAIT", 5), ("RUN", 4), ("RETRY", 5), ("ENDED", 6), ("OOM", 4)];
/// Width of the numbers behind the bar.
const AMOUNT: u16 = 22;

/// Draws them.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Some(snapshot) = &state.snapshot else { return };
    let taken: u16 = NUMBERS.iter().map(|(_, width)| width + 1).sum::<u16>() + NAME + 1;
    let width = area.width.saturating_sub(taken + AMOUNT + 1).max(4);
    let mut columns = vec![(" CLASS".to_owned(), Constraint::Length(NAME))];
    columns.extend(NUMBERS.map(|(title, width)| (title.to_owned(), Constraint::Length(width))));
    columns.push(("MEMORY".to_owned(), Constraint::Length(width)));
    columns.push(("USED OF CAP".to_owned(), Constraint::Fill(1)));
    let classes = snapshot.status.classes.iter().enumerate();
    let rows = classes.map(|(index, class)| row(index, class, state, usize::from(width))).collect();
    Part { columns, rows, selected: None, empty: "no classes" }.draw(frame, area, state.theme);
}

fn row<'a>(index: usize, class: &ClassView, state: &State, width: usize) -> Row<'a> {
    let style = state.theme.class(index);
    let name = format!(" {}", shorten(&class.name, usize::from(NAME) - 1));
    let paused = if class.paused { "paused" } else { "open" };
    let counts =
        [u64::from(class.queued), class.running.into(), class.backing_off.into(), class.finished, class.out_of_memory];
    let memory = &class.partition;
    let cells = [Span::styled(name, style), Span::raw(paused)].into_iter();
    let cells = cells.chain(counts.map(|count| Span::raw(count.to_string())));
    Row::new(cells.chain([Span::styled(memory_bar(memory, width), style), Span::raw(amount(memory))]))
}

/// Weights are there, leases are promised, the rest is free.
fn memory_bar(memory: &PartitionView, width: usize) -> String {
    let of_cap = |bytes| share(bytes, memory.cap_bytes);
    bar(width, &[(of_cap(memory.weights_bytes), DONE), (of_cap(memory.leased_bytes), HELD)])
}

fn amount(memory: &PartitionView) -> String {
    format!("{} of {}", Bytes(memory.live_bytes), Bytes(memory.cap_bytes))
}
