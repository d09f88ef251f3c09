//! What is said in the log of hostile or broken clients: enough to find them, not so much that they fill the disk with it.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a row.
const LINES: u32 = 10;
/// In how long.
const WINDOW: Duration = Duration::from_secs(10);

/// All lines about clients share it.
static LIMIT: Mutex<Limit> = Mutex::new(Limit { since: None, lines: 0, silent: 0 });

/// Says something about a client, unless there was too much of that lately; how much was left out is said later.
pub(super) fn complain(what: fmt::Arguments<'_>) {
    let verdict = LIMIT.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now());
    match verdict {
        Verdict::Silent => {}
        Verdict::Say { left_out: 0 } => tracing::warn!("{what}"),
        Verdict::Say { left_out } => tracing::warn!("{what} (and {left_out} lines like it were left out)"),
    }
}

#[derive(Debug)]
struct Limit {
    since: Option<Instant>,
    lines: u32,
    silent: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Say { left_out: u64 },
    Silent,
}

impl Limit {
    fn line(&mut self, now: Instant) -> Verdict {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES {
            self.silent += 1;
            return Verdict::Silent;
        }
        self.lines += 1;
        Verdict::Say { left_out: std::mem::take(&mut self.silent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written_down() {
        let mut limit = Limit { since: None, lines: 0, silent: 0 };
        let start = Instant::now();
        let said = (0..1000).filter(|_| limit.line(start) != Verdict::Silent).count();
        assert_eq!(said, LINES as usize);
        assert_eq!(limit.line(start + WINDOW), Verdict::Say { left_out: 990 });
        assert_eq!(limit.line(start + WINDOW), Verdict::Say { left_out: 0 });
    }
}
