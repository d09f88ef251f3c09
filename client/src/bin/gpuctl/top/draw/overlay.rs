//! What lies over the rest: a question, or the keys.

use gpusched_client::JobId;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::super::state::State;

const HELP: &str = "\
up, down, k, j   select a job: on a lane, waiting or ended
home, end, g, G  the first, the last
c                cancel the selected job, after a question
+ -              raise or lower its priority among its owner's
/                show only jobs with these words: number, class,
                 model, state, uid, text; Esc shows all again
p                let the display stand still, or go on
q, Ctrl-C        leave

bars             █ done or weights   ▒ parked or promised   · left
someone else's   jobs of others are counted, not shown";

/// Asks whether to cancel a job.
pub(super) fn question(frame: &mut Frame<'_>, state: &State, job: JobId, what: &str) {
    let lines = vec![Line::from(what.to_owned()), Line::from(""), Line::styled("y yes   n no", state.theme.strong())];
    popup(frame, &format!(" Cancel job {job}? "), Text::from(lines));
}

/// Lists the keys.
pub(super) fn help(frame: &mut Frame<'_>, state: &State) {
    let mut text = Text::from(HELP);
    text.push_line(Line::from(""));
    text.push_line(Line::styled("any key goes back", state.theme.strong()));
    popup(frame, " gpuctl top ", text);
}

fn popup(frame: &mut Frame<'_>, title: &str, text: Text<'_>) {
    let width = text.width().max(title.chars().count()) + 4;
    let height = text.height() + 2;
    let length = |n: usize| Constraint::Length(u16::try_from(n).unwrap_or(u16::MAX));
    let area: Rect = frame.area().centered(length(width), length(height));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title.to_owned()).padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(text).block(block), area);
}
