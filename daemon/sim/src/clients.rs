//! The clients: what they hand in, and what fate has in store for each job.

use gpusched_core::policy::routing::route;
use gpusched_core::{Input, Plan, SessionId, Ticket, Time};
use gpusched_shared::{JobSpec, TaskKind, Uid};

use crate::engine::Work;
use crate::random::Random;
use crate::scenario::{FaultSpec, Scenario, Seconds};
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
    submitted: u64,
}

impl Clients {
    pub(crate) fn of(scenario: &Scenario, plan: &Plan) -> Self {
        let streams = scenario.arrivals.iter().filter_map(|arrival| {
            let kind = scenario.kind(&arrival.kind)?;
            let spec = scenario.job(arrival);
            let model = scenario.models.iter().position(|model| model.name == kind.model)?;
            Some(Stream {
                uid: arrival.uid,
                class: route(plan.routes(), &spec, arrival.uid).and_then(|name| plan.class_named(name))?,
                spec,
                kind: kind.name.clone(),
                run_us: us(kind.run_s),
                store_us: kind.store_s.us(),
                work: Work {
                    model,
                    image: match kind.task {
                        TaskKind::Txt2Img | TaskKind::Img2Img => true,
                        TaskKind::Vqa => false,
                    },
                    steps: kind.steps,
                    run_us: 0,
                    yields: kind.yields(),
                    stall: None,
                    ooms: 0,
                    oom_at: None,
                },
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
        let faults = self.faults;
        let Stream { uid, spec, work, submitted, run_us, .. } = &mut self.streams[stream];
        *submitted += 1;
        let mut random = Random::of(self.seed, ((stream as u64) << 32) + *submitted);
        let own = SessionId(u64::MAX - self.submitted);
        let run_us = random.within(*run_us);
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
        let attached = matches!(quit, Some(Quit::Vanish { .. }));
        let journal_fails = random.chance(faults.journal);
        let (record_us, conclude_us) = (random.within(self.journal_us), random.within(self.journal_us));
        let mut ooms = u32::from(runs_out);
        while runs_out && ooms < OOMS && random.chance(faults.oom) {
            ooms += 1;
        }
        let draw = Draw {
            // A job with a single yield point, its end, has none at which it could run out.
            work: Work {
                run_us,
                stall: stalls.then_some(stall),
                ooms,
                oom_at: (runs_out && work.yields > 1).then_some(oom_at),
                ..*work
            },
            quit,
            journal_fails,
            record_us,
            conclude_us,
        };
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

fn us((least, most): (Seconds, Seconds)) -> (u64, u64) {
    (least.us(), most.us())
}
