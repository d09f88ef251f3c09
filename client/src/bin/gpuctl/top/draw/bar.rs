//! Bars of text. What is filled differs by shape, not only by colour.

/// What has been done.
pub(super) const DONE: char = '█';
/// What is held, but stands still or is only promised.
pub(super) const HELD: char = '▒';
/// What is left.
pub(super) const LEFT: char = '·';

/// A bar of this many characters: for each part its share of the whole, 0 to 1, and what it is drawn with; the rest is
/// [`LEFT`]. A part that is not nothing has at least one character while there is room.
pub(super) fn bar(width: usize, parts: &[(f64, char)]) -> String {
    let mut text = String::new();
    let mut drawn = 0;
    let mut share = 0.0;
    for &(part, with) in parts {
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        share += part;
        let end = (share.min(1.0) * width as f64).round() as usize;
        let end = if part > 0.0 { end.max(drawn + 1) } else { end };
        let end = end.clamp(drawn, width);
        text.extend(std::iter::repeat_n(with, end - drawn));
        drawn = end;
    }
    text.extend(std::iter::repeat_n(LEFT, width - drawn));
    text
}

/// A share of a whole that may be nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_told() {
        assert_eq!(bar(8, &[(0.5, DONE)]), "████····");
        assert_eq!(bar(8, &[(0.25, DONE), (0.25, HELD)]), "██▒▒····");
        assert_eq!(bar(8, &[]), "········");
        assert_eq!(bar(0, &[(1.0, DONE)]), "");
    }

    #[test]
    fn a_little_is_not_nothing_and_too_much_is_all() {
        assert_eq!(bar(4, &[(0.001, DONE)]), "█···");
        assert_eq!(bar(4, &[(0.9, DONE), (0.9, HELD)]), "████");
        assert_eq!(bar(4, &[(7.0, DONE)]), "████");
        assert_eq!(bar(4, &[(f64::NAN, DONE), (share(1, 0), HELD)]), "····");
    }
}
