//! The clients: what they hand in, and what fate has in store for each job.

use gpusched_core::policy::routing::route;
use gpusched_core::{Input, Part, Plan, Role, SessionId, Ticket, Time};
use gpusched_shared::{JobSpec, TaskKind, Uid};

use crate::engine::Work;
use crate::product::Makes;
use crate::random::Random;
use crate::scenario::{FaultSpec, KindSpec, ReflectSpec, Scenario, Seconds};
use crate::stretch::Stall;

/// Attempts of one job that may run out of memory.
const OOMS: u32 = 1000;

/// Everything about a job that is left to chance. It is drawn from the seed, the job's stream and its place therein, so
/// that it is the same under every policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    pub(crate) work: Work,
    pub(crate) quit: Option<Quit>,
    pub(crate) journal_fails: bool,
    pub(crate) record_us: u64,
    pub(crate) conclude_us: u64,
    /// Where what is left to chance in its stages comes from.
    pub(crate) fate: u64,
}

/// A client that does not wait for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quit {
    Cancel { after_us: u64 },
    Vanish { after_us: u64, session: SessionId },
}

pub(crate) struct Clients {
    seed: u64,
    faults: FaultSpec,
    journal_us: (u64, u64),
    streams: Vec<Stream>,
    submitted: u64,
}

/// Jobs of one client.
struct Stream {
    uid: Uid,
    spec: JobSpec,
    kind: String,
    class: usize,
    run_us: (u64, u64),
    store_us: u64,
    /// Of every one of its jobs, apart from what is drawn.
    work: Work,
    /// Who looks at its pictures, if somebody does.
    judge: Option<Judge>,
    submitted: u64,
}

/// How pictures are checked.
struct Judge {
    reflect: ReflectSpec,
    run_us: (u64, u64),
    /// Of every check, apart from what is drawn.
    work: Work,
}

impl Clients {
    pub(crate) fn of(scenario: &Scenario, plan: &Plan) -> Self {
        let streams = scenario.arrivals.iter().filter_map(|arrival| {
            let kind = scenario.kind(&arrival.kind)?;
            let spec = scenario.job(arrival);
            let model = scenario.model(&kind.model)?;
            Some(Stream {
                uid: arrival.uid,
                class: route(plan.routes(), &spec, arrival.uid).and_then(|name| plan.class_named(name))?,
                spec,
                kind: kind.name.clone(),
                run_us: us(kind.run_s),
                store_us: kind.store_s.us(),
                work: work(kind, model),
                judge: arrival.reflect.as_ref().and_then(|reflect| {
                    let kind = scenario.judge(reflect)?;
                    let work = work(kind, scenario.model(&kind.model)?);
                    Some(Judge { reflect: reflect.clone(), run_us: us(kind.run_s), work })
                }),
                submitted: 0,
            })
        });
        Self {
            seed: scenario.seed,
            faults: scenario.faults,
            journal_us: us(scenario.journal_s),
            streams: streams.collect(),
            submitted: 0,
        }
    }

    /// The next job of a stream.
    pub(crate) fn submit(&mut self, stream: usize, now: Time) -> (Input, Draw) {
        self.submitted += 1;
        let Stream { uid, spec, work, submitted, run_us, .. } = &mut self.streams[stream];
        *submitted += 1;
        let mut random = Random::of(self.seed, ((stream as u64) << 32) + *submitted);
        let own = SessionId(u64::MAX - self.submitted);
        let draw = Draw::of(&mut random, *work, *run_us, own, &self.faults, self.journal_us);
        let attached = matches!(draw.quit, Some(Quit::Vanish { .. }));
        let input = Input::Submit {
            ticket: Ticket(self.submitted),
            uid: *uid,
            session: if attached { own } else { SessionId(stream as u64) },
            spec: spec.clone(),
            pictures: Vec::new(),
            attached,
            key: None,
            unix_ms: now.0 / 1000,
            boot: None,
        };
        (input, draw)
    }

    /// A stage of a stream's job with this fate.
    pub(crate) fn stage(&self, stream: usize, fate: u64, part: Part, spec: &JobSpec) -> Draw {
        let Stream { work, run_us, judge, .. } = &self.streams[stream];
        let sequence = match part.role {
            Role::Image | Role::Detect | Role::Segment | Role::Inpaint => 1,
            Role::Check(index) | Role::Glance(index) => 2 + u64::from(index),
        };
        let mut random = Random::of(fate, (u64::from(part.round) << 32) + sequence);
        let (work, run_us) = match (part.role, judge) {
            (Role::Check(index) | Role::Glance(index), Some(Judge { reflect, run_us, work })) => {
                let passes = match self.flaw(stream, fate, part.round) {
                    Some(flaw) if flaw == u64::from(index) => random.chance(reflect.false_pass),
                    Some(_) | None => !random.chance(reflect.false_fail),
                };
                (Work { makes: Makes::Check { passes }, ..*work }, *run_us)
            }
            (Role::Image | Role::Detect | Role::Segment | Role::Inpaint, _) | (_, None) => {
                with_steps(*work, *run_us, spec)
            }
        };
        let nobody = SessionId(0);
        Draw { quit: None, ..Draw::of(&mut random, work, run_us, nobody, &self.faults, self.journal_us) }
    }

    /// What is wrong with the picture of a round: the number of the check that is about it. `None` if it is right.
    pub(crate) fn flaw(&self, stream: usize, fate: u64, round: u8) -> Option<u64> {
        let Judge { reflect, .. } = self.streams[stream].judge.as_ref()?;
        let mut random = Random::of(fate, u64::from(round) << 32);
        (!random.chance(reflect.right)).then(|| random.below(u64::from(reflect.checks)))
    }

    /// The most pictures of a job of a stream, and the lane time after which no more is begun, in microseconds.
    pub(crate) fn budget(&self, stream: usize) -> (u8, Option<u64>) {
        let reflect = self.streams[stream].spec.reflect.as_ref();
        let rounds = reflect.and_then(|reflect| reflect.rounds).unwrap_or(0);
        (rounds, reflect.and_then(|reflect| reflect.lane_ms).map(|ms| ms * 1000))
    }

    pub(crate) fn class(&self, stream: usize) -> usize {
        self.streams[stream].class
    }

    pub(crate) fn kind(&self, stream: usize) -> &str {
        &self.streams[stream].kind
    }

    pub(crate) fn store_us(&self, stream: usize) -> u64 {
        self.streams[stream].store_us
    }
}

impl Draw {
    fn of(
        random: &mut Random,
        work: Work,
        run_us: (u64, u64),
        own: SessionId,
        faults: &FaultSpec,
        journal_us: (u64, u64),
    ) -> Self {
        let run_us = random.within(run_us);
        let stalls = random.chance(faults.stall);
        let stall = Stall { after: random.below(work.yields), us: random.within(us(faults.stall_s)) };
        let runs_out = random.chance(faults.oom);
        let oom_at = 1 + random.below(work.yields.saturating_sub(1));
        let (cancels, vanishes) = (random.chance(faults.cancel), random.chance(faults.vanish));
        let after_us = random.within((0, faults.within_s.us()));
        let quit = match (cancels, vanishes) {
            (true, _) => Some(Quit::Cancel { after_us }),
            (false, true) => Some(Quit::Vanish { after_us, session: own }),
            (false, false) => None,
        };
        let journal_fails = random.chance(faults.journal);
        let (record_us, conclude_us) = (random.within(journal_us), random.within(journal_us));
        let mut ooms = u32::from(runs_out);
        while runs_out && ooms < OOMS && random.chance(faults.oom) {
            ooms += 1;
        }
        Self {
            // A job with a single yield point, its end, has none at which it could run out.
            work: Work {
                run_us,
                stall: stalls.then_some(stall),
                ooms,
                oom_at: (runs_out && work.yields > 1).then_some(oom_at),
                ..work
            },
            quit,
            journal_fails,
            record_us,
            conclude_us,
            fate: random.next(),
        }
    }
}

/// What every job of a kind does, apart from what is drawn.
fn work(kind: &KindSpec, model: usize) -> Work {
    Work {
        model,
        makes: match kind.task {
            TaskKind::Txt2Img | TaskKind::Img2Img | TaskKind::Inpaint => Makes::Picture,
            TaskKind::Vqa
            | TaskKind::Detect
            | TaskKind::Segment
            | TaskKind::Edit
            | TaskKind::Analyze
            | TaskKind::Score => Makes::Answers,
        },
        steps: kind.steps,
        run_us: 0,
        yields: kind.yields(),
        stall: None,
        ooms: 0,
        oom_at: None,
    }
}

/// The same with the steps of `spec`, each of which takes as long as before.
fn with_steps(work: Work, (least, most): (u64, u64), spec: &JobSpec) -> (Work, (u64, u64)) {
    let steps = spec.task.image().and_then(|image| image.steps).unwrap_or(work.steps);
    let (before, after) = (u64::from(work.steps), u64::from(steps));
    let yields = work.yields / before * after;
    (Work { steps, yields, ..work }, (least * after / before, most * after / before))
}

fn us((least, most): (Seconds, Seconds)) -> (u64, u64) {
    (least.us(), most.us())
}
