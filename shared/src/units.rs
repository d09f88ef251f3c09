//! Quantities as people read them.

use std::fmt;

/// A number of bytes, shown with a binary unit and at most one decimal: `3.1 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB"];
        let (mut value, mut unit) = (self.0 as f64, "B");
        for larger in units {
            // What would be rounded to 1024 of a unit is 1 of the next.
            if value < 1023.95 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        let decimals = usize::from(unit != "B" && value < 99.95);
        write!(f, "{value:.decimals$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3 * 1024 * 1024 + 100_000, "3.1 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (34 << 30, "34.0 GiB"),
            (500 << 30, "500 GiB"),
            (1 << 60, "1048576 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
