//! `gpuschedd journal`: for people who look after the daemon's state.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gpusched_shared::Bytes;
use indicatif::{ProgressBar, ProgressStyle};

use super::backup::{BackupError, backup};
use super::check::{CheckError, Report, check};

/// Arguments of `gpuschedd journal`.
#[derive(Debug, Args)]
pub struct JournalArgs {
    /// The daemon's state directory [default: as the configuration says]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Configuration file of the daemon
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    quiet: bool,
    // What gpuctl hands over with its other options; the journal is read without asking the daemon.
    #[arg(long, value_name = "PATH", hide = true, global = true)]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Look whether the journal and the stored files are whole; may run beside a daemon. Exit code 1 if they are not.
    Check,
    /// Copy the journal and the stored files into a new directory; may run beside a daemon. The copy can be used as a state
    /// directory.
    Backup {
        /// The directory, which must not be there
        directory: PathBuf,
    },
}

/// Why there is nothing good to say.
#[derive(Debug, thiserror::Error)]
pub enum JournalCliError {
    /// It could not be looked at.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It could not be copied.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// It is not whole. The text is the report.
    #[error("{0}")]
    Damaged(String),
}

impl JournalArgs {
    /// Does what was asked, with the journal in `state_dir`; returns what to print.
    ///
    /// # Errors
    /// [`JournalCliError`].
    pub fn run(&self, state_dir: &Path) -> Result<String, JournalCliError> {
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}%") {
            bar.set_style(style);
        }
        let progress = |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let done = match &self.command {
            Action::Check => {
                bar.set_message("reading");
                let report = check(state_dir, progress)?;
                let text = self.text(&report, &format!("journal in {}", state_dir.display()));
                if report.is_sound() { Ok(text) } else { Err(JournalCliError::Damaged(text)) }
            }
            Action::Backup { directory } => {
                bar.set_message("copying");
                let report = backup(state_dir, directory, progress)?;
                Ok(self.text(&report, &format!("backup in {}", directory.display())))
            }
        };
        bar.finish_and_clear();
        done
    }

    fn text(&self, report: &Report, what: &str) -> String {
        if self.json {
            return serde_json::to_string(report).unwrap_or_default();
        }
        let Report { jobs, unfinished, stages, blobs, blob_bytes, orphans, problems, more_problems } = report;
        let mut text = format!(
            "{what}: {jobs} jobs, {unfinished} of them have not ended; {stages} stages; \
             {blobs} files of theirs take {}; {orphans} files are no job's",
            Bytes(*blob_bytes)
        );
        for problem in problems {
            let _ = write!(text, "\n{problem}");
        }
        let count = problems.len() as u64 + more_problems;
        match (count, more_problems) {
            (0, _) => text.push_str("\nall is well"),
            (_, 0) => drop(write!(text, "\n{count} problems")),
            (_, more) => drop(write!(text, "\n{count} problems, {more} of them not listed")),
        }
        text
    }
}
