//! Colours, or none: everything they say is said by words and shapes, too.

use ratatui::style::{Color, Modifier, Style};

/// Colours of classes, in the order of the classes; heavy and light are blue and red by default.
const CLASSES: [Color; 6] = [Color::Blue, Color::Red, Color::Magenta, Color::Cyan, Color::Yellow, Color::Green];

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Theme {
    coloured: bool,
}

impl Theme {
    pub(super) const COLOURED: Self = Self { coloured: true };
    pub(super) const PLAIN: Self = Self { coloured: false };

    /// As the user wants it: no colours where `NO_COLOR` is set (<https://no-color.org>).
    pub(super) fn of_environment() -> Self {
        let set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if set { Self::PLAIN } else { Self::COLOURED }
    }

    fn colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    /// What belongs to the class of this number.
    pub(super) fn class(self, index: usize) -> Style {
        self.colour(CLASSES[index % CLASSES.len()])
    }

    /// The line above a part.
    pub(super) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What matters less.
    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }

    pub(super) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }
}
