//! How jobs that make a text are written on the command line.

use clap::Args;
use gpusched_client::shared::{AnalyzeSpec, JobSpec, Task};

use super::job::{JobOptions, SubmissionOptions};

/// `gpuctl submit analyze`.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// The question, or what else there is to say something about.
    prompt: String,
    /// The most tokens of the answer, 1 to 4096 [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    pub(crate) submission: SubmissionOptions,
}

impl Analyze {
    /// The job to ask for.
    pub(crate) fn spec(&self) -> JobSpec {
        self.job.spec(Task::Analyze(AnalyzeSpec { prompt: self.prompt.clone(), max_tokens: self.max_tokens }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    #[test]
    fn a_question_has_a_bound_on_its_answer() {
        let submit = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["gpuctl", "submit", "analyze"][..], args].concat()).ok()?;
            let Command::Submit(submit) = cli.command else { panic!("not submit") };
            Some(submit.spec())
        };
        let spec = submit(&["why?", "--max-tokens", "7", "--model", "qwen"]).expect("a command line");
        assert_eq!(spec.task, Task::Analyze(AnalyzeSpec { prompt: "why?".to_owned(), max_tokens: Some(7) }));
        assert_eq!(spec.model.as_deref(), Some("qwen"));
        assert_eq!(submit(&["why?", "--max-tokens", "0"]), None);
    }
}
