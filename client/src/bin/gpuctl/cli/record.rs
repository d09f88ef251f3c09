//! What happened: options of `report` and `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gpusched_client::report::parse_instant;

use super::job::duration;

/// Which stretch of time, and where its page goes.
#[derive(Debug, Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) stretch: Stretch,
    /// File to write the page to, which is overwritten; `-` is standard output
    #[arg(short, long = "output", value_name = "FILE", default_value = "report.html")]
    pub(crate) output: PathBuf,
    /// Without the pictures that reflecting jobs made
    #[arg(long)]
    pub(crate) no_pictures: bool,
}

/// Which stretch of time, in which format, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::ChromeTrace)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) stretch: Stretch,
    /// File to write, which is overwritten [default: standard output]
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How a record is written for other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For https://ui.perfetto.dev and chrome://tracing: lanes as tracks, memory as counters
    ChromeTrace,
    /// Attempts, one a line, below the names of the columns
    Csv,
    /// Everything, a JSON document a line: classes, jobs, attempts, memory
    Jsonl,
}

/// A stretch of time.
#[derive(Debug, Args)]
pub(crate) struct Stretch {
    /// From then on: so long ago (30m, 24h), or a time of day or a date (2026-11-30, '2026-11-30 03:00', or as RFC 3339 has it)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = moment)]
    pub(crate) since: Moment,
    /// Up to then [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Moment>,
}

/// A moment, however it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So many milliseconds ago.
    Ago(u64),
    /// In milliseconds since the Unix epoch.
    At(u64),
}

impl Moment {
    /// In milliseconds since the Unix epoch.
    pub(crate) fn unix_ms(self, now_unix_ms: u64) -> u64 {
        match self {
            Self::Ago(ms) => now_unix_ms.saturating_sub(ms),
            Self::At(unix_ms) => unix_ms,
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Some(unix_ms) = parse_instant(text) {
        return Ok(Moment::At(unix_ms));
    }
    let ago = duration(text).map_err(|_| {
        format!("{text:?} is neither so long ago (30m, 24h) nor a time ('2026-11-30 03:00', 2026-11-30T03:00:00Z)")
    })?;
    Ok(Moment::Ago(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_said_as_ages_or_as_times() {
        assert_eq!(moment("90m"), Ok(Moment::Ago(5_400_000)));
        assert_eq!(moment("2026-11-22T15:41:11Z"), Ok(Moment::At(1_795_362_071_000)));
        assert!(moment("2026-11-22 15:41").is_ok());
        assert!(moment("soon").is_err_and(|wrong| wrong.contains("30m")));
        assert_eq!((Moment::Ago(5).unix_ms(3), Moment::At(7).unix_ms(3)), (0, 7));
    }
}
