//! Reflection in words.

use std::time::Duration;

use gpusched_client::shared::{Checked, Phase, Reflect, Round};
use gpusched_client::{Reflection, Verdict};

use super::job::running;
use super::units::span;
use super::{clean, table};

/// Which round a job is at.
pub(crate) fn round(number: u8, of: u8) -> String {
    format!("round {number}/{of}")
}

/// How far a round is.
pub(crate) fn phase(of: Phase) -> String {
    match of {
        Phase::Waiting => "waits for a lane".to_owned(),
        Phase::Making { activity, parked } => running(activity, parked),
        Phase::Checking { done, of } => format!("{done} of {of} checks"),
    }
}

/// What a job may spend on being checked and made again.
pub(crate) fn budget(reflect: &Reflect) -> String {
    let parts = [
        reflect.rounds.map(|rounds| if rounds == 1 { "1 round".to_owned() } else { format!("up to {rounds} rounds") }),
        reflect.lane_ms.map(|ms| format!("up to {} of lane time", span(Duration::from_millis(ms)))),
        reflect.judge.as_ref().map(|judge| format!("judge {}", clean(judge))),
        reflect.confidence.map(|confidence| format!("confidence {confidence}")),
        reflect.strict.then(|| "strict".to_owned()),
        reflect.early.map(|share| format!("early reject after {share} of the steps")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "as the daemon chooses".to_owned() } else { parts.join(", ") }
}

/// Each round and the checks that it failed, a line each.
pub(crate) fn rounds(reflection: &Reflection) -> Vec<String> {
    let of_round = |round: &Round| {
        let failed = round.checks.iter().filter(|checked| !checked.passed).map(failed);
        std::iter::once(headline(round)).chain(failed).collect::<Vec<_>>()
    };
    reflection.rounds.iter().flat_map(of_round).collect()
}

fn headline(round: &Round) -> String {
    let number = round.number;
    match round.verdict {
        Some(verdict) if round.rejected_early => {
            format!("round {number}: {verdict}, rejected early, score {:.3}", round.score)
        }
        Some(verdict) => format!("round {number}: {verdict}, score {:.3}", round.score),
        None if round.image.is_none() => format!("round {number}: no picture"),
        None => format!("round {number}: not checked to the end"),
    }
}

fn failed(checked: &Checked) -> String {
    let Checked { question, expected, confidence, .. } = checked;
    let answer = checked.answer.as_ref().map_or_else(|| "no answer".to_owned(), |answer| clean(answer));
    format!("    {} expected {}, got {answer} (confidence {confidence:.3})", clean(question), clean(expected))
}

/// Which round's picture is the result, what was found out about it, and why there is no further one.
pub(crate) fn result(reflection: &Reflection) -> String {
    let Reflection { best, verdict, end, .. } = reflection;
    let why = end.map(|end| format!("; no further round because {end}")).unwrap_or_default();
    match (best, verdict) {
        (Some(best), Some(Verdict::Pass)) => format!("round {best} is the result: PASS"),
        (Some(best), Some(Verdict::Fail)) => format!("round {best} is the result, and did best: FAIL{why}"),
        (Some(best), None) => format!("round {best} is the result: no verdict{why}"),
        (None, _) if end.is_some() => format!("no round is the result{why}"),
        (None, _) => "not decided yet".to_owned(),
    }
}

/// What the rounds were made from, and each of their checks. Nothing if there are none.
pub(crate) fn tables(reflection: &Reflection) -> Vec<String> {
    let rows: Vec<_> = reflection.rounds.iter().map(made).collect();
    let checks: Vec<_> = reflection.rounds.iter().flat_map(checks).collect();
    let rounds = ["ROUND", "VERDICT", "SCORE", "SEED", "STEPS", "GUIDANCE", "MAKING", "CHECKING", "PROMPT"];
    [(&rounds[..], rows), (&["ROUND", "CHECK", "EXPECTED", "ANSWER", "CONFIDENCE", "PASSED"], checks)]
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(header, rows)| table(header, rows))
        .collect()
}

fn made(round: &Round) -> Vec<String> {
    let judged = |text: String| if round.verdict.is_some() { text } else { "-".to_owned() };
    vec![
        round.number.to_string(),
        round.verdict.map_or_else(
            || "-".to_owned(),
            |verdict| if round.rejected_early { format!("{verdict} early") } else { verdict.to_string() },
        ),
        judged(format!("{:.3}", round.score)),
        round.seed.to_string(),
        round.steps.to_string(),
        round.guidance.map_or_else(|| "-".to_owned(), |guidance| guidance.to_string()),
        span(Duration::from_micros(round.image_us)),
        span(Duration::from_micros(round.check_us)),
        clean(&round.prompt),
    ]
}

fn checks(round: &Round) -> Vec<Vec<String>> {
    let row = |checked: &Checked| {
        vec![
            round.number.to_string(),
            clean(&checked.question),
            clean(&checked.expected),
            checked.answer.as_ref().map_or_else(|| "-".to_owned(), |answer| clean(answer)),
            format!("{:.3}", checked.confidence),
            if checked.passed { "yes" } else { "no" }.to_owned(),
        ]
    };
    round.checks.iter().map(row).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use gpusched_client::shared::{Activity, ReflectEnd, RoundImage};
    use gpusched_client::{BlobHash, BlobRef, Size};

    use super::*;

    fn checked(question: &str, answer: Option<&str>, confidence: f32) -> Checked {
        Checked {
            question: question.to_owned(),
            expected: "yes".to_owned(),
            answer: answer.map(str::to_owned),
            confidence,
            passed: answer == Some("yes"),
        }
    }

    fn tried(number: u8, verdict: Option<Verdict>, score: f32, checks: Vec<Checked>) -> Round {
        let blob = BlobRef { hash: BlobHash([0xab; 32]), bytes: 1500 };
        let size = Size { width: 64, height: 32 };
        Round {
            number,
            prompt: "a red\ncircle".to_owned(),
            seed: 10 + u64::from(number),
            steps: 20,
            guidance: (number == 2).then_some(1.5),
            image: Some(RoundImage { blob, size, truncated_tokens: 0 }),
            checks,
            verdict,
            score,
            image_us: 480_000,
            check_us: 61_000,
            rejected_early: false,
        }
    }

    /// A round that failed, and one that passed.
    pub(in super::super) fn passed() -> Reflection {
        let first = vec![checked("is it red?", Some("yes"), 0.9), checked("is it\u{7} round?", Some("no"), 0.123)];
        let second = vec![checked("is it red?", Some("yes"), 0.9), checked("is it round?", Some("yes"), 0.8)];
        Reflection {
            rounds: vec![tried(1, Some(Verdict::Fail), 0.333, first), tried(2, Some(Verdict::Pass), 0.849, second)],
            best: Some(2),
            verdict: Some(Verdict::Pass),
            end: Some(ReflectEnd::Passed),
        }
    }

    #[test]
    fn rounds_say_what_failed() {
        let mut reflection = passed();
        reflection.rounds.push(tried(3, None, 0.0, vec![checked("is it red?", None, 0.0)]));
        reflection.rounds.push(Round { image: None, ..tried(4, None, 0.0, Vec::new()) });
        let rejected = tried(5, Some(Verdict::Fail), 0.01, Vec::new());
        reflection.rounds.push(Round { image: None, rejected_early: true, ..rejected });
        let expected = [
            "round 1: FAIL, score 0.333",
            "    is it\\u{7} round? expected yes, got no (confidence 0.123)",
            "round 2: PASS, score 0.849",
            "round 3: not checked to the end",
            "    is it red? expected yes, got no answer (confidence 0.000)",
            "round 4: no picture",
            "round 5: FAIL, rejected early, score 0.010",
        ];
        assert_eq!(rounds(&reflection), expected);
        assert!(tables(&reflection)[0].contains("\n5      FAIL early  0.010"), "{:?}", tables(&reflection));
    }

    #[test]
    fn results_say_why_no_more() {
        let mut reflection = passed();
        assert_eq!(result(&reflection), "round 2 is the result: PASS");
        (reflection.verdict, reflection.end) = (Some(Verdict::Fail), Some(ReflectEnd::Rounds));
        let failed = "round 2 is the result, and did best: FAIL; no further round because all rounds were used";
        assert_eq!(result(&reflection), failed);
        (reflection.verdict, reflection.end) = (None, Some(ReflectEnd::Unchecked));
        let unchecked = "round 2 is the result: no verdict; no further round because no check could be made";
        assert_eq!(result(&reflection), unchecked);
        reflection.best = None;
        assert!(result(&reflection).starts_with("no round is the result; "));
        reflection.end = None;
        assert_eq!(result(&reflection), "not decided yet");
    }

    #[test]
    fn tables_have_every_check() {
        let expected = "\
ROUND  VERDICT  SCORE  SEED  STEPS  GUIDANCE  MAKING  CHECKING  PROMPT
1      FAIL     0.333  11    20     -         480 ms  61 ms     a red\\ncircle
2      PASS     0.849  12    20     1.5       480 ms  61 ms     a red\\ncircle

ROUND  CHECK              EXPECTED  ANSWER  CONFIDENCE  PASSED
1      is it red?         yes       yes     0.900       yes
1      is it\\u{7} round?  yes       no      0.123       no
2      is it red?         yes       yes     0.900       yes
2      is it round?       yes       yes     0.800       yes";
        assert_eq!(tables(&passed()).join("\n\n"), expected);
        let none = Reflection { rounds: Vec::new(), ..passed() };
        assert_eq!(tables(&none), Vec::<String>::new());
    }

    #[test]
    fn budgets_say_what_is_set() {
        assert_eq!(budget(&Reflect::default()), "as the daemon chooses");
        let all = Reflect {
            rounds: Some(4),
            checks: Vec::new(),
            judge: Some("vilt".to_owned()),
            confidence: Some(0.7),
            lane_ms: Some(30_000),
            strict: true,
            early: Some(0.5),
        };
        let expected = "up to 4 rounds, up to 30.0 s of lane time, judge vilt, confidence 0.7, strict, early reject after 0.5 of \
                        the steps";
        assert_eq!(budget(&all), expected);
    }

    #[test]
    fn phases_are_words() {
        assert_eq!(phase(Phase::Waiting), "waits for a lane");
        let activity = Activity::Working { done: 12, of: 40 };
        assert_eq!(phase(Phase::Making { activity, parked: true }), "step 12 of 40, parked");
        assert_eq!(phase(Phase::Checking { done: 3, of: 5 }), "3 of 5 checks");
    }
}
