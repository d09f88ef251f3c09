//! How reflection is written on the command line.

use std::time::Duration;

use clap::Args;
use gpusched_client::shared::reflect::ROUNDS;
use gpusched_client::shared::{Check, Reflect};

use super::job::{duration, milliseconds};

/// The answer that passes where a check names none.
const DEFAULT_ANSWER: &str = "yes";

/// Whether a picture is checked, how, and what may be spent on better ones. Only `--reflect` turns it on: the rest alone
/// would be a costly thing to do unasked.
#[derive(Debug, Args)]
pub(crate) struct ReflectOptions {
    /// Have the picture checked, and made again where it does not show what was asked for; the best one is the result.
    #[arg(long)]
    reflect: bool,
    /// With --reflect: the most pictures to make, 1 to 8 [default: 4].
    #[arg(long, value_name = "N", requires = "reflect", value_parser = rounds())]
    rounds: Option<u8>,
    /// With --reflect: ask this of each picture, and not what the prompt claims; may be given up to 16 times. The last `=`
    /// separates; without one the answer that passes is yes.
    #[arg(long = "check", value_name = "QUESTION[=ANSWER]", requires = "reflect", value_parser = check)]
    checks: Vec<Check>,
    /// With --reflect: which model answers what is asked [default: the daemon's first that can]
    #[arg(long, value_name = "NAME", requires = "reflect")]
    judge: Option<String>,
    /// With --reflect: the share of the probability, 0 to 1, that an answer needs to pass [default: 0.9].
    #[arg(long, value_name = "F", requires = "reflect")]
    confidence: Option<f32>,
    /// With --reflect: once lanes have worked so long on the job, begin no further round.
    #[arg(long, value_name = "TIME", requires = "reflect", value_parser = duration)]
    lane_budget: Option<Duration>,
    /// With --reflect: look at what each picture but the last is about to become, after this share of its steps, between 0 and
    /// 1, or after half of them; one that is hopeless by then is not made to its end. Off by default: it costs as many checks
    /// again, and pays where many pictures fail.
    #[arg(long, value_name = "SHARE", requires = "reflect", num_args = 0..=1, default_missing_value = "0.5")]
    early_reject: Option<f32>,
    /// With --reflect: the job fails if no picture passes; otherwise the best one is its result all the same.
    #[arg(long, requires = "reflect")]
    strict: bool,
}

impl ReflectOptions {
    /// What to ask of the daemon, if anything.
    pub(crate) fn reflect(&self) -> Option<Reflect> {
        self.reflect.then(|| Reflect {
            rounds: self.rounds,
            checks: self.checks.clone(),
            judge: self.judge.clone(),
            confidence: self.confidence,
            lane_ms: self.lane_budget.map(milliseconds),
            strict: self.strict,
            early: self.early_reject,
        })
    }
}

fn rounds() -> impl clap::builder::TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(i64::from(*ROUNDS.start())..=i64::from(*ROUNDS.end()))
}

fn check(text: &str) -> Result<Check, String> {
    let (question, answer) = text.rsplit_once('=').unwrap_or((text, DEFAULT_ANSWER));
    let (question, answer) = (question.trim(), answer.trim());
    if question.is_empty() || answer.is_empty() {
        return Err("a check is a question, or a question, `=` and the answer that passes".to_owned());
    }
    Ok(Check::new(question, answer))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn reflect(args: &[&str]) -> Result<Option<Reflect>, clap::Error> {
        let cli = Cli::try_parse_from(["gpuctl", "submit", "txt2img", "a red circle"].iter().chain(args))?;
        let Command::Submit(submit) = cli.command else { panic!("not submit") };
        Ok(submit.spec().reflect.map(|reflect| *reflect))
    }

    #[test]
    fn the_last_equals_sign_separates() {
        for (text, question, answer) in [
            ("is there a red circle?", "is there a red circle?", "yes"),
            ("how many shapes? = two", "how many shapes?", "two"),
            ("is 1+1=2 written on it?=no", "is 1+1=2 written on it?", "no"),
        ] {
            assert_eq!(check(text), Ok(Check::new(question, answer)));
        }
        for bad in ["", " ", "=yes", "is it red?=", "is it red? = "] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_option_reaches_the_job() {
        assert_eq!(reflect(&[]).expect("a command line"), None);
        assert_eq!(reflect(&["--reflect"]).expect("a command line"), Some(Reflect::default()));
        let checks = ["--check", "is it red?", "--check", "how many?=one"];
        let rest = ["--rounds", "3", "--judge", "vilt", "--confidence", "0.7", "--lane-budget", "30s", "--strict"];
        let early = ["--early-reject", "0.25"];
        let all = reflect(&[&["--reflect"][..], &checks, &rest, &early].concat()).expect("a command line");
        let expected = Reflect {
            rounds: Some(3),
            checks: vec![Check::new("is it red?", "yes"), Check::new("how many?", "one")],
            judge: Some("vilt".to_owned()),
            confidence: Some(0.7),
            lane_ms: Some(30_000),
            strict: true,
            early: Some(0.25),
        };
        assert_eq!(all, Some(expected));
        let half = reflect(&["--reflect", "--early-reject"]).expect("a command line");
        assert_eq!(half, Some(Reflect { early: Some(0.5), ..Reflect::default() }));
    }

    #[test]
    fn nothing_but_its_own_option_turns_it_on() {
        for args in [&["--rounds", "3"][..], &["--check", "is it red?"], &["--strict"], &["--early-reject"]] {
            let error = reflect(args).expect_err("refused").to_string();
            assert!(error.contains("--reflect"), "{error}");
        }
        assert!(reflect(&["--reflect", "--rounds", "9"]).is_err());
        assert!(reflect(&["--reflect", "--rounds", "0"]).is_err());
    }

    #[test]
    fn only_pictures_are_checked() {
        assert!(Cli::try_parse_from(["gpuctl", "submit", "vqa", "a.png", "what?", "--reflect"]).is_err());
    }
}
