//! The terminal: taken, read, and given back as it was.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::state::{Event, Key};

/// The terminal while gpuctl has it. Dropped, or when the program panics, the screen is as it was before.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(|terminal| Self { terminal }).inspect_err(|_| ratatui::restore())
    }

    pub(super) fn terminal(&mut self) -> &mut DefaultTerminal {
        &mut self.terminal
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Reads keys on a thread of its own, which ends with the program: a read cannot be given up.
pub(super) fn read(events: mpsc::Sender<Event>) {
    std::thread::spawn(move || {
        // Ends when the terminal does: then no sender is left, and whoever listens learns of it.
        while let Ok(happened) = event::read() {
            let meant = match happened {
                event::Event::Key(key) => meaning(key).map(Event::Key),
                event::Event::Resize(..) => Some(Event::Resized),
                event::Event::FocusGained | event::Event::FocusLost | event::Event::Mouse(_) => None,
                event::Event::Paste(_) => None,
            };
            if meant.is_some_and(|event| events.blocking_send(event).is_err()) {
                return;
            }
        }
    });
}

/// What a key means, if anything.
fn meaning(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "there are keys beyond number, and these are those with a meaning"
    )]
    match key.code {
        KeyCode::Char('c') if control => Some(Key::Interrupt),
        KeyCode::Char(_) if control => None,
        KeyCode::Char(c) => Some(Key::Character(c)),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::Home => Some(Key::Home),
        KeyCode::End => Some(Key::End),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Backspace => Some(Key::Backspace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_they_say() {
        let plain = |code| meaning(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(plain(KeyCode::Char('c')), Some(Key::Character('c')));
        assert_eq!(plain(KeyCode::F(1)), None);
        assert_eq!(meaning(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Key::Interrupt));
        assert_eq!(meaning(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::CONTROL)), None);
        assert_eq!(meaning(KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT)), Some(Key::Character('G')));
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(meaning(released), None);
    }
}
