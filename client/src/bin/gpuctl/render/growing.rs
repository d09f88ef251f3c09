//! A text that is shown while it grows.

use super::clean_piece;

/// What has been shown of it.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    shown: String,
}

impl Growing {
    /// What is new of a text. One that is begun anew, because its lane was lost, goes on where the last one was; if it is
    /// another one, it has a line of its own.
    pub(crate) fn grow(&mut self, text: &str) -> String {
        if self.shown.starts_with(text) {
            return String::new();
        }
        let new = match text.strip_prefix(self.shown.as_str()) {
            Some(new) => clean_piece(new),
            None => format!("\n{}", clean_piece(text)),
        };
        text.clone_into(&mut self.shown);
        new
    }

    /// The rest of a text that is complete, and the end of its last line.
    pub(crate) fn end(&mut self, text: &str) -> String {
        let rest = self.grow(text);
        if self.shown.ends_with('\n') { rest } else { rest + "\n" }
    }

    /// The end of the line of a text that nothing follows any more.
    pub(crate) fn stop(&self) -> &'static str {
        if self.shown.is_empty() || self.shown.ends_with('\n') { "" } else { "\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_shown_once() {
        let mut text = Growing::default();
        assert_eq!(text.stop(), "");
        assert_eq!([text.grow("a"), text.grow("a red"), text.grow("a red")], ["a", " red", ""]);
        assert_eq!(text.stop(), "\n");
        // Begun anew.
        assert_eq!([text.grow("a"), text.grow("a red\u{7}")], ["", "\\u{7}"]);
        assert_eq!(text.end("a red\u{7} circle"), " circle\n");
        assert_eq!(Growing::default().end("all at once\n"), "all at once\n");
        assert_eq!(Growing::default().end(""), "\n");
    }

    #[test]
    fn another_text_has_a_line_of_its_own() {
        let mut text = Growing::default();
        assert_eq!([text.grow("a red"), text.grow("a blue")], ["a red", "\na blue"]);
    }
}
