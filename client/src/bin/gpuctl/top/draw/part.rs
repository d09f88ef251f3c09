//! What all parts of the screen share: a heading with columns, and rows of which some may not fit.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::widgets::{Row, Table};

use super::super::theme::Theme;

/// A part: its columns, and which of its rows the eye is on.
pub(super) struct Part<'a> {
    pub(super) columns: Vec<(String, Constraint)>,
    pub(super) rows: Vec<Row<'a>>,
    pub(super) selected: Option<usize>,
    /// What to say where there are no rows.
    pub(super) empty: &'static str,
}

impl Part<'_> {
    /// Draws as many rows as fit, the selected one among them.
    pub(super) fn draw(self, frame: &mut Frame<'_>, area: Rect, theme: Theme) {
        let Self { columns, mut rows, selected, empty } = self;
        let visible = usize::from(area.height.saturating_sub(1));
        if rows.is_empty() {
            rows.push(Row::new(["".to_owned(), empty.to_owned()]).style(theme.faint()));
        }
        let first = selected.map_or(0, |at| (at + 1).saturating_sub(visible));
        let rows = rows
            .into_iter()
            .enumerate()
            .skip(first)
            .take(visible)
            .map(|(at, row)| if selected == Some(at) { row.style(theme.selected()) } else { row });
        let (titles, mut widths): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let rows: Vec<_> = rows.collect();
        if let Some(last) = widths.last_mut() {
            *last = Constraint::Fill(1);
        }
        let table = Table::new(rows, widths).column_spacing(1).style(Style::new());
        frame.render_widget(table.header(Row::new(titles).style(theme.heading())), area);
    }
}

/// A title that says how many rows there are.
pub(super) fn counted(title: &str, count: usize, all: usize) -> String {
    if count == all { format!("{title} {all}") } else { format!("{title} {count}/{all}") }
}
