//! A job's progress while it runs: a bar on a terminal, else lines, both on standard error; JSON on standard output.

use std::io::{self, IsTerminal};
use std::time::Duration;

use gpusched_client::shared::{Activity, Phase};
use gpusched_client::{JobId, Notice, Update};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::job::{backing_off, queued, running, step};
use super::reflection::{phase, round};
use crate::failure::Failure;
use crate::output::Output;

/// How often a bar shows that it lives.
const TICK: Duration = Duration::from_millis(120);

/// Shows updates the way the user can read them. A bar goes away with it.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    style: Style,
}

/// Says something beside the progress.
#[derive(Debug)]
pub(crate) struct Aside {
    output: Output,
    bar: Option<ProgressBar>,
}

impl Aside {
    /// What became of the connection.
    pub(crate) fn tell(&self, notice: Notice) {
        if self.output.json {
            let document = match notice {
                Notice::Lost { within } => json!({ "daemon": "lost", "within_ms": within.as_millis() as u64 }),
                Notice::Back => json!({ "daemon": "back" }),
            };
            // If it cannot be written, the next result cannot either, and that is told.
            let _ = self.output.document(&document);
            return;
        }
        let words = match notice {
            Notice::Lost { within } => {
                format!("the daemon went away; waiting for it (up to {} s)…", within.as_secs())
            }
            Notice::Back => "the daemon is back".to_owned(),
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(&words)),
            None => self.output.note(&words),
        }
    }
}

#[derive(Debug)]
enum Style {
    Silent,
    Json,
    Lines(Pace),
    Bar(ProgressBar),
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new(output: &Output) -> Self {
        let style = if output.json {
            Style::Json
        } else if output.quiet {
            Style::Silent
        } else if io::stderr().is_terminal() {
            Style::Bar(ProgressBar::new_spinner())
        } else {
            Style::Lines(Pace::default())
        };
        Self { output: *output, style }
    }

    /// For what is to be said meanwhile, without spoiling what is shown.
    pub(crate) fn aside(&self) -> Aside {
        let bar = match &self.style {
            Style::Bar(bar) => Some(bar.clone()),
            Style::Silent | Style::Json | Style::Lines(_) => None,
        };
        Aside { output: self.output, bar }
    }

    /// Shows what is new of a job.
    pub(crate) fn show(&mut self, job: JobId, update: &Update) -> Result<(), Failure> {
        match &mut self.style {
            Style::Silent => {}
            Style::Json => self.output.document(&json!({ "update": update }))?,
            Style::Lines(pace) => {
                if pace.is_worth_a_line(update) {
                    self.output.note(&format!("job {job}: {}", words(update)));
                }
            }
            Style::Bar(bar) => {
                bar.enable_steady_tick(TICK);
                draw(bar, job, update);
            }
        }
        Ok(())
    }
}

impl Progress {
    /// Makes way for a text on standard output: from here on nothing is shown beside it. `None` where JSON tells the text.
    pub(crate) fn make_way(&mut self) -> Option<Output> {
        match &self.style {
            Style::Json => return None,
            Style::Bar(bar) => bar.finish_and_clear(),
            Style::Silent | Style::Lines(_) => {}
        }
        self.style = Style::Silent;
        Some(self.output)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Style::Bar(bar) = &self.style {
            bar.finish_and_clear();
        }
    }
}

fn words(update: &Update) -> String {
    match update {
        Update::Queued { ahead } => queued(*ahead),
        Update::Running { activity, parked, .. } => running(*activity, *parked),
        Update::BackingOff { retry, within_ms } => backing_off(*retry, *within_ms),
        Update::Reflecting { round: number, of, phase: at } => format!("{}: {}", round(*number, *of), phase(*at)),
        Update::Editing { step: at, phase: far } => format!("{}: {}", step(*at), phase(*far)),
        Update::Writing { tokens, .. } => format!("{tokens} tokens"),
        Update::Done(_) => "ended".to_owned(),
    }
}

fn draw(bar: &ProgressBar, job: JobId, update: &Update) {
    let template = match counted(update) {
        Some((done, of)) => {
            bar.set_length(u64::from(of));
            bar.set_position(u64::from(done));
            "{spinner} {msg} {bar:30} {elapsed}"
        }
        None => "{spinner} {msg} {elapsed}",
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(format!("job {job}: {}", words(update)));
}

/// How much is done, and of how much, where that can be counted.
fn counted(update: &Update) -> Option<(u32, u32)> {
    match update {
        Update::Running { activity, .. }
        | Update::Reflecting { phase: Phase::Making { activity, .. }, .. }
        | Update::Editing { phase: Phase::Making { activity, .. }, .. } => match *activity {
            Activity::Loading { done, of } | Activity::Working { done, of } => Some((done, of)),
            Activity::Starting => None,
        },
        Update::Reflecting { phase: Phase::Checking { done, of }, .. }
        | Update::Editing { phase: Phase::Checking { done, of }, .. } => Some((u32::from(*done), u32::from(*of))),
        Update::Queued { .. }
        | Update::BackingOff { .. }
        | Update::Reflecting { phase: Phase::Waiting, .. }
        | Update::Editing { phase: Phase::Waiting, .. }
        | Update::Writing { .. }
        | Update::Done(_) => None,
    }
}

/// Keeps lines few: one for each new place in the queue, one for each tenth of what a lane does, and one more for the
/// first time it is parked in it, however often it is. A round adds one for its waiting and one for its checks.
#[derive(Debug, Default)]
struct Pace {
    /// In which round or at which step, from 1, or 0 without either; and what.
    last: Option<(u8, Mark)>,
    parked: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Mark {
    Queued(u32),
    BackingOff(u32),
    Starting,
    Loading(u64),
    Working(u64),
    Waiting,
    Checking,
    Ended,
}

impl Pace {
    fn is_worth_a_line(&mut self, update: &Update) -> bool {
        let mark = mark(update);
        let parked = matches!(
            update,
            Update::Running { parked: true, .. }
                | Update::Reflecting { phase: Phase::Making { parked: true, .. }, .. }
                | Update::Editing { phase: Phase::Making { parked: true, .. }, .. }
        );
        let new = self.last.as_ref() != Some(&mark);
        let worth = new || (parked && !self.parked);
        self.parked = parked || (self.parked && !new);
        self.last = Some(mark);
        worth
    }
}

fn mark(update: &Update) -> (u8, Mark) {
    match update {
        Update::Queued { ahead } => (0, Mark::Queued(*ahead)),
        Update::BackingOff { retry, .. } => (0, Mark::BackingOff(*retry)),
        Update::Running { activity, .. } => (0, working_mark(*activity)),
        Update::Reflecting { round, phase, .. } => (*round, mark_of(*phase)),
        Update::Editing { step, phase } => (step.number(), mark_of(*phase)),
        // What it writes is shown itself.
        Update::Writing { .. } => (0, Mark::Starting),
        Update::Done(_) => (0, Mark::Ended),
    }
}

fn mark_of(phase: Phase) -> Mark {
    match phase {
        Phase::Waiting => Mark::Waiting,
        Phase::Making { activity, .. } => working_mark(activity),
        Phase::Checking { .. } => Mark::Checking,
    }
}

fn working_mark(activity: Activity) -> Mark {
    let tenths = |done: u32, of: u32| u64::from(done) * 10 / u64::from(of.max(1));
    match activity {
        Activity::Starting => Mark::Starting,
        Activity::Loading { done, of } => Mark::Loading(tenths(done, of)),
        Activity::Working { done, of } => Mark::Working(tenths(done, of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working(done: u32, of: u32) -> Update {
        Update::Running { lane: 0, activity: Activity::Working { done, of }, parked: false }
    }

    fn parked(done: u32, of: u32) -> Update {
        Update::Running { lane: 0, activity: Activity::Working { done, of }, parked: true }
    }

    #[test]
    fn few_steps_get_a_line_each_and_many_a_line_a_tenth() {
        let lines = |of| {
            let mut pace = Pace::default();
            (0..=of).filter(|&done| pace.is_worth_a_line(&working(done, of))).count()
        };
        assert_eq!((lines(4), lines(10), lines(500)), (5, 11, 11));
    }

    #[test]
    fn the_same_news_twice_is_said_once() {
        let mut pace = Pace::default();
        let news = [3, 3, 2, 2, 0].map(|ahead| pace.is_worth_a_line(&Update::Queued { ahead }));
        assert_eq!(news, [true, false, true, false, true]);
    }

    #[test]
    fn parking_is_told_once_a_tenth() {
        let mut pace = Pace::default();
        let news = [working(4, 20), parked(4, 20), working(4, 20), parked(4, 20), parked(6, 20), working(8, 20)];
        let worth = news.map(|update| pace.is_worth_a_line(&update));
        assert_eq!(worth, [true, true, false, false, true, true]);
    }

    #[test]
    fn each_round_has_lines_of_its_own() {
        let at = |round, phase| Update::Reflecting { round, of: 4, phase };
        let making = |done| Phase::Making { activity: Activity::Working { done, of: 20 }, parked: false };
        let news = [
            at(1, Phase::Waiting),
            at(1, making(4)),
            at(1, making(5)),
            at(1, Phase::Checking { done: 0, of: 5 }),
            at(1, Phase::Checking { done: 1, of: 5 }),
            at(2, Phase::Waiting),
            at(2, making(4)),
        ];
        let mut pace = Pace::default();
        let worth = news.each_ref().map(|update| pace.is_worth_a_line(update));
        assert_eq!(worth, [true, true, false, true, false, true, true]);
        assert_eq!(words(&news[1]), "round 1/4: step 4 of 20");
        assert_eq!(counted(&news[1]), Some((4, 20)));
        assert_eq!(counted(&news[4]), Some((1, 5)));
        assert_eq!(counted(&news[0]), None);
    }

    #[test]
    fn news_are_words() {
        assert_eq!(words(&Update::Queued { ahead: 3 }), "queued, 3 ahead");
        assert_eq!(words(&Update::Queued { ahead: 0 }), "queued, next");
        let waits = Update::BackingOff { retry: 2, within_ms: 12_300 };
        assert_eq!(words(&waits), "ran out of memory; retry 2 in up to 12.3 s");
        assert_eq!(words(&working(4, 20)), "step 4 of 20");
        assert_eq!(words(&parked(4, 20)), "step 4 of 20, parked");
    }
}
