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
    let widths = NUMBERS.iter().skip(1).map(|(_, width)| usize::from(*width));
    let cells = cells.chain(counts.into_iter().zip(widths).map(|(count, width)| Span::raw(compact(count, width))));
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

/// A number in so many characters, four at least; one that is longer is rounded down and says so: `12M`.
fn compact(number: u64, width: usize) -> String {
    let exact = number.to_string();
    let units = [(1_000, 'k'), (1_000_000, 'M'), (1_000_000_000, 'G'), (1_000_000_000_000, 'T')];
    let rounded = units.into_iter().map(|(unit, letter)| format!("{}{letter}", number / unit));
    std::iter::once(exact.clone()).chain(rounded).find(|text| text.len() <= width).unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn numbers_are_never_cut() {
        let cases = [(0, "0"), (9999, "9999"), (10_000, "10k"), (4_000_000_000, "4G"), (999_999_999_999, "999G")];
        for (number, text) in cases {
            assert_eq!(compact(number, 4), text);
        }
        assert_eq!(compact(123_456, 5), "123k");
    }
}
