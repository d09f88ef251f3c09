//! Live progress: a bar for each job on a terminal, a line for each end elsewhere.

use gpusched_shared::view::Activity;
use gpusched_shared::{JobId, Update};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::jobs::Job;

pub(super) struct Progress {
    bars: MultiProgress,
    terminal: bool,
}

/// One job's line.
pub(super) struct Line {
    bar: ProgressBar,
    /// What to print at the end where there is no terminal.
    plain: Option<String>,
}

impl Progress {
    pub(super) fn new(jobs: usize) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        if !terminal {
            eprintln!("{jobs} jobs submitted together");
        }
        Self { bars: MultiProgress::new(), terminal }
    }

    pub(super) fn line(&self, id: JobId, job: &Job) -> Line {
        let name = format!("{id:>3} {:<26}", job.text());
        let bar = self.bars.add(ProgressBar::new(1));
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.clone());
        Line { bar, plain: (!self.terminal).then_some(name) }
    }

    pub(super) fn clear(&self) {
        // Nothing to clear where nothing could be drawn.
        let _ = self.bars.clear();
    }
}

impl Line {
    pub(super) fn show(&self, update: &Update) {
        match update {
            Update::Queued { ahead } => self.bar.set_message(format!("queued, {ahead} ahead")),
            Update::Running { activity: Activity::Starting, .. } => self.bar.set_message("starting"),
            Update::Running { activity: Activity::Loading { done, of }, .. } => {
                self.bar.set_message(format!("loading, file {done} of {of}"));
            }
            Update::Running { activity: Activity::Working { done, of }, .. } => {
                self.bar.set_length(u64::from(*of));
                self.bar.set_position(u64::from(*done));
                self.bar.set_message(format!("step {done} of {of}"));
            }
            Update::Done(view) => {
                let (wait, run) = (view.wait_ms as f64 / 1000.0, view.run_ms as f64 / 1000.0);
                let message = format!("waited {wait:.2} s, ran {run:.2} s");
                match &self.plain {
                    Some(name) => eprintln!("{name} {message}"),
                    None => self.bar.finish_with_message(message),
                }
            }
        }
    }
}
