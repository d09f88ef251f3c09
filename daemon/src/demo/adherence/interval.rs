//! Shares, and how well so few observations tell them.

use std::fmt;

use serde::Serialize;

/// Standard deviations within which 95 % of a normal distribution lie.
const Z: f64 = 1.959_963_984_540_054;

/// How many of how many, with what that says of the true share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Share {
    pub(super) hits: u64,
    pub(super) of: u64,
    /// `None` of nothing.
    pub(super) share: Option<f64>,
    /// The Wilson score interval of 95 %.
    pub(super) interval: Option<(f64, f64)>,
}

impl Share {
    /// The share of true values.
    pub(super) fn of(values: impl IntoIterator<Item = bool>) -> Self {
        let (hits, of) = values.into_iter().fold((0, 0), |(hits, of), hit| (hits + u64::from(hit), of + 1));
        let share = (of > 0).then(|| hits as f64 / of as f64);
        Self { hits, of, share, interval: share.map(|share| wilson(share, of as f64)) }
    }
}

/// The Wilson score interval of a share that was seen in `count` observations, which are at least one.
fn wilson(share: f64, count: f64) -> (f64, f64) {
    let z2 = Z * Z;
    let middle = share + z2 / (2.0 * count);
    let half = Z * (share * (1.0 - share) / count + z2 / (4.0 * count * count)).sqrt();
    let scale = 1.0 + z2 / count;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.share, self.interval) {
            (Some(share), Some((low, high))) => {
                format!("{:.1} % [{:.1}, {:.1}] of {}", 100.0 * share, 100.0 * low, 100.0 * high, self.of)
            }
            (_, None) | (None, _) => "none".to_owned(),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(hits: u64, of: u64) -> Share {
        Share::of((0..of).map(|at| at < hits))
    }

    /// Those of Newcombe (1998), table I, method 3; of all of them it is from n / (n + z²) to 1.
    #[test]
    fn intervals_are_those_of_the_literature() {
        let known = [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (500, 500, 0.9924, 1.0),
        ];
        for (hits, of, low, high) in known {
            let interval = share(hits, of).interval.expect("an interval");
            assert!((interval.0 - low).abs() < 5e-5 && (interval.1 - high).abs() < 5e-5, "{hits}/{of}: {interval:?}");
        }
    }

    #[test]
    fn intervals_hold_the_share_and_mirror() {
        for of in 1..60 {
            for hits in 0..=of {
                let (one, other) = (share(hits, of), share(of - hits, of));
                let ((low, high), (low_other, high_other)) =
                    (one.interval.expect("an interval"), other.interval.expect("an interval"));
                let value = one.share.expect("a share");
                assert!((0.0..=value + 1e-12).contains(&low) && (value - 1e-12..=1.0).contains(&high), "{hits}/{of}");
                assert!((low - (1.0 - high_other)).abs() < 1e-12 && (high - (1.0 - low_other)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_share_is_said_with_what_it_is_of() {
        assert_eq!(share(75, 100).to_string(), "75.0 % [65.7, 82.5] of 100");
        assert_eq!(share(0, 0).to_string(), "none");
        assert_eq!(share(0, 0).share, None);
    }
}
