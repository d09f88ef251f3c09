//! One frame as text, for where there is no terminal.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::text::Span;

use super::draw::draw;
use super::state::State;

/// The most lines; a list that is longer is cut.
const MOST_LINES: usize = 200;
/// Lines that are neither a lane, a class nor a job.
const OTHER_LINES: usize = 8;

/// The frame, `width` wide and as high as it needs to be. Without the last line break.
pub(super) fn frame(state: &State, width: u16) -> String {
    let rows = state.snapshot.as_ref().map_or(0, |snapshot| {
        snapshot.status.lanes.len() + snapshot.status.classes.len() + state.waiting().len() + state.ended().len()
    });
    let height = u16::try_from((rows + OTHER_LINES).min(MOST_LINES)).unwrap_or(u16::MAX);
    // Its errors are those of a backend, and this one has none.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(drawn) = terminal.draw(|frame| draw(frame, state));
    text(drawn.buffer)
}

/// What is in a buffer, without spaces at the ends of lines and empty lines at the end.
pub(super) fn text(buffer: &Buffer) -> String {
    let lines = (0..buffer.area.height).map(|y| {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // What a wide character covers is no character of its own.
            x += u16::try_from(Span::raw(symbol).width()).unwrap_or(1).max(1);
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
