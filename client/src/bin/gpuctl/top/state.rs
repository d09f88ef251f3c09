//! What is on the screen, and what each event makes of it. Pure: no terminal, no clock, no daemon.
//!
//! ```text
//!            / ┌────────┐ Enter, Esc         c ┌─────────┐ y, n
//!  Browsing ──▶│ Typing │──▶ Browsing  Browsing ──▶│ Asking  │──▶ Browsing (y: cancels)
//!              └────────┘                          └─────────┘
//! ```

use gpusched_client::shared::spec::PRIORITY;
use gpusched_client::{JobId, JobView};

use super::snapshot::Snapshot;
use super::theme::Theme;
use crate::render::{job, shorten};

/// The longest filter.
const MOST_FILTER: usize = 60;
/// How much of a job's text a question about it quotes.
const QUOTED: usize = 40;

/// Everything that is drawn.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) theme: Theme,
    /// False for a frame that is printed: it has no keys.
    pub(super) interactive: bool,
    /// The last that was seen, if anything was.
    pub(super) snapshot: Option<Snapshot>,
    /// Why the daemon cannot be reached; `None` while it can.
    pub(super) lost: Option<String>,
    pub(super) mode: Mode,
    pub(super) selected: Option<JobId>,
    /// Where in the list the selection was, to stay about there when it goes.
    position: usize,
    pub(super) filter: String,
    /// The display stands still.
    pub(super) paused: bool,
    /// What the last order came to, or why a key did nothing.
    pub(super) message: Option<String>,
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Browsing,
    /// They are the filter's.
    Typing,
    /// They answer whether to cancel this job.
    Asking {
        job: JobId,
        /// What it is.
        what: String,
    },
    Help,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Key(Key),
    /// The daemon answered.
    Seen(Box<Snapshot>),
    /// The daemon cannot be reached, and why; it is tried again.
    Lost(String),
    /// What an order came to.
    Told(String),
    /// The terminal has another size.
    Resized,
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C, which always quits.
    Interrupt,
    Character(char),
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Cancel(JobId),
    SetPriority(JobId, i8),
}

impl State {
    pub(super) fn new(theme: Theme, interactive: bool) -> Self {
        Self {
            theme,
            interactive,
            snapshot: None,
            lost: None,
            mode: Mode::Browsing,
            selected: None,
            position: 0,
            filter: String::new(),
            paused: false,
            message: None,
        }
    }

    /// What an event makes of it, and what is to be done.
    pub(super) fn update(&mut self, event: Event) -> Option<Effect> {
        let effect = match event {
            Event::Key(Key::Interrupt) => Some(Effect::Quit),
            Event::Key(key) => match std::mem::replace(&mut self.mode, Mode::Browsing) {
                Mode::Browsing => self.browse(key),
                Mode::Typing => self.type_in(key),
                Mode::Asking { job, what } => self.answer(key, job, what),
                Mode::Help => None,
            },
            Event::Seen(snapshot) => {
                if self.lost.take().is_some() {
                    self.message = Some("the daemon is back".to_owned());
                }
                if !self.paused || self.snapshot.is_none() {
                    self.snapshot = Some(*snapshot);
                }
                None
            }
            Event::Lost(why) => {
                self.lost = Some(why);
                None
            }
            Event::Told(message) => {
                self.message = Some(message);
                None
            }
            Event::Resized => None,
        };
        self.settle();
        effect
    }

    /// The jobs that can be selected, in the order of the screen: on lanes, waiting, ended.
    pub(super) fn selectable(&self) -> Vec<JobId> {
        let Some(snapshot) = &self.snapshot else { return Vec::new() };
        let on_lanes = snapshot.status.lanes.iter().filter_map(|lane| lane.job).filter(|job| self.passes(*job));
        let mut jobs: Vec<JobId> = Vec::new();
        let waiting = self.waiting().into_iter().map(|place| place.job);
        let ended = self.ended().into_iter().map(|job| job.id);
        for job in on_lanes.chain(waiting).chain(ended) {
            if job.0 != 0 && !jobs.contains(&job) {
                jobs.push(job);
            }
        }
        jobs
    }

    /// Those that wait and pass the filter.
    pub(super) fn waiting(&self) -> Vec<&gpusched_client::QueueView> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.waiting);
        all.filter(|place| {
            let text = format!("{} {} {}", place.job, place.class, place.model);
            self.filter.is_empty() || self.passes(place.job) || (place.job.0 != 0 && self.matches(&text))
        })
        .collect()
    }

    /// Those that have ended and pass the filter.
    pub(super) fn ended(&self) -> Vec<&JobView> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.ended);
        all.filter(|job| self.filter.is_empty() || self.matches(&words(job))).collect()
    }

    /// What is known of a job.
    pub(super) fn job(&self, id: JobId) -> Option<&JobView> {
        let snapshot = self.snapshot.as_ref()?;
        snapshot.jobs.get(&id).or_else(|| snapshot.ended.iter().find(|job| job.id == id))
    }

    fn passes(&self, job: JobId) -> bool {
        self.filter.is_empty() || self.job(job).is_some_and(|view| self.matches(&words(view)))
    }

    /// True if a text has all words of the filter.
    fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.filter.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }

    fn browse(&mut self, key: Key) -> Option<Effect> {
        self.message = None;
        match key {
            Key::Up | Key::Character('k') => self.step(false),
            Key::Down | Key::Character('j') => self.step(true),
            Key::Home | Key::Character('g') => self.selected = self.selectable().first().copied(),
            Key::End | Key::Character('G') => self.selected = self.selectable().last().copied(),
            Key::Escape if !self.filter.is_empty() => self.filter.clear(),
            Key::Escape => self.selected = None,
            Key::Character('/') => self.mode = Mode::Typing,
            Key::Character('p') => self.paused = !self.paused,
            Key::Character('?' | 'h') => self.mode = Mode::Help,
            Key::Character('q') => return Some(Effect::Quit),
            Key::Character('c') => self.ask(),
            Key::Character('+' | '=') => return self.prioritise(1),
            Key::Character('-') => return self.prioritise(-1),
            Key::Enter | Key::Backspace | Key::Character(_) | Key::Interrupt => {}
        }
        None
    }

    fn type_in(&mut self, key: Key) -> Option<Effect> {
        match key {
            Key::Enter => return None,
            Key::Escape => {
                self.filter.clear();
                return None;
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Character(c) if self.filter.chars().count() < MOST_FILTER => self.filter.push(c),
            Key::Character(_) | Key::Up | Key::Down | Key::Home | Key::End | Key::Interrupt => {}
        }
        self.mode = Mode::Typing;
        None
    }

    fn answer(&mut self, key: Key, job: JobId, what: String) -> Option<Effect> {
        match key {
            Key::Character('y' | 'Y') => {
                self.message = Some(format!("job {job}: is being cancelled"));
                Some(Effect::Cancel(job))
            }
            Key::Character('n' | 'N' | 'q') | Key::Escape => None,
            Key::Character(_)
            | Key::Enter
            | Key::Backspace
            | Key::Up
            | Key::Down
            | Key::Home
            | Key::End
            | Key::Interrupt => {
                self.mode = Mode::Asking { job, what };
                None
            }
        }
    }

    /// The selected job, if it has not ended; else says why there is none.
    fn target(&mut self) -> Option<JobView> {
        let snapshot = self.snapshot.as_ref()?;
        let Some(id) = self.selected else {
            self.message = Some("select a job first, with the arrow keys".to_owned());
            return None;
        };
        let found = snapshot.jobs.get(&id).cloned();
        if found.is_none() {
            self.message = Some(match snapshot.ended.iter().any(|job| job.id == id) {
                true => format!("job {id} has ended"),
                false => format!("of job {id} no more is known; use `gpuctl show {id}`"),
            });
        }
        found
    }

    fn ask(&mut self) {
        if let Some(view) = self.target() {
            let what = shorten(view.spec.task.text(), QUOTED);
            self.mode = Mode::Asking { job: view.id, what };
        }
    }

    fn prioritise(&mut self, by: i8) -> Option<Effect> {
        let view = self.target()?;
        let to = (view.spec.priority + by).clamp(*PRIORITY.start(), *PRIORITY.end());
        // At once, so that the next key counts from there; the next snapshot tells what came of it.
        let snapshot = self.snapshot.as_mut()?;
        if let Some(job) = snapshot.jobs.get_mut(&view.id) {
            job.spec.priority = to;
        }
        snapshot.waiting.iter_mut().filter(|place| place.job == view.id).for_each(|place| place.priority = to);
        Some(Effect::SetPriority(view.id, to))
    }

    fn step(&mut self, down: bool) {
        let jobs = self.selectable();
        let at = self.selected.and_then(|selected| jobs.iter().position(|job| *job == selected));
        let next = match at {
            None => 0,
            Some(at) if down => (at + 1).min(jobs.len().saturating_sub(1)),
            Some(at) => at.saturating_sub(1),
        };
        self.selected = jobs.get(next).copied();
    }

    /// Keeps the selection on something that is there.
    fn settle(&mut self) {
        let Some(selected) = self.selected else { return };
        let jobs = self.selectable();
        match jobs.iter().position(|job| *job == selected) {
            Some(at) => self.position = at,
            None => self.selected = jobs.get(self.position.min(jobs.len().saturating_sub(1))).copied(),
        }
    }
}

/// What a filter can find a job by.
fn words(view: &JobView) -> String {
    let model = view.spec.model.as_deref().unwrap_or_default();
    let (kind, text) = (view.spec.task.kind(), view.spec.task.text());
    format!("{} {} {model} {kind} {} uid {} {text}", view.id, view.class, job::state(&view.state), view.uid)
}
