//! Live progress: a bar for each run on a terminal, a line for each elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress {
    bar: ProgressBar,
    terminal: bool,
}

impl Progress {
    /// Of `jobs` jobs that `what` names.
    pub(super) fn new(what: &str, jobs: usize) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        if !terminal {
            eprintln!("{what}: {jobs} jobs");
        }
        let bar = ProgressBar::new(jobs as u64);
        if let Ok(style) = ProgressStyle::with_template("{prefix:<32} {bar:30} {pos:>3} of {len} jobs") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Self { bar, terminal }
    }

    /// One more has ended.
    pub(super) fn job_ended(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            self.bar.finish_and_clear();
        }
    }
}
