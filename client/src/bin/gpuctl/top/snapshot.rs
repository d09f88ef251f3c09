//! What there is to show at one moment.

use std::collections::{BTreeMap, BTreeSet};

use gpusched_client::{Client, Error, JobId, JobState, JobView, QueueView, StatusView};
use serde::Serialize;

use crate::render::now_unix_ms;

/// Jobs that have not ended, asked for in one go: the newest.
const LISTED: u32 = 100;
/// Waiting jobs, the next to run, whose details are asked for one by one if they are not among those.
const DETAILED: usize = 50;
/// Waiting jobs that are kept; of the others only their number.
const MOST_WAITING: usize = 1000;
/// Jobs that have ended, kept.
const MOST_ENDED: usize = 100;
/// Jobs that are looked through for those that have ended.
const LOOKED_THROUGH: usize = 400;

/// The daemon and its jobs at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Snapshot {
    /// The wall clock, in milliseconds since the Unix epoch.
    pub(super) now_unix_ms: u64,
    pub(super) status: StatusView,
    /// Who waits, in the order in which they are likely to start; at most [`MOST_WAITING`].
    pub(super) waiting: Vec<QueueView>,
    /// How many wait in all.
    pub(super) waiting_count: usize,
    /// What is known of the caller's jobs on lanes and of those that wait, by number.
    pub(super) jobs: BTreeMap<JobId, JobView>,
    /// The caller's jobs that have ended, the last to end first.
    pub(super) ended: Vec<JobView>,
}

/// Takes snapshots, and remembers from one to the next what spares questions: a journal is not to be read four times a second.
#[derive(Debug, Default)]
pub(super) struct Photographer {
    /// Jobs that had not ended at the last snapshot.
    unfinished: BTreeSet<JobId>,
    ended: BTreeMap<JobId, JobView>,
    /// How many jobs had ended at the last snapshot, for each class; `None` before the first.
    finished: Option<Vec<u64>>,
}

impl Photographer {
    /// Asks the daemon. The questions are bounded in number: a few, and one for each lane and for each of the next jobs.
    pub(super) async fn take(&mut self, client: &Client) -> Result<Snapshot, Error> {
        let status = client.status().await?;
        let places = client.queue().await?;
        let mut waiting: Vec<_> = places.into_iter().filter(|place| place.lane.is_none()).collect();
        let mut waiting_count = waiting.len();
        waiting.truncate(MOST_WAITING);

        let listed = client.list(false, None, LISTED).await?;
        let mut jobs: BTreeMap<_, _> = listed.into_iter().map(|job| (job.id, job)).collect();
        let on_lanes = status.lanes.iter().filter_map(|lane| lane.job);
        let next = waiting.iter().take(DETAILED).map(|place| place.job);
        let wanted: BTreeSet<_> = on_lanes.chain(next).filter(|job| job.0 != 0 && !jobs.contains_key(job)).collect();
        for job in wanted {
            jobs.extend(show(client, job).await?.map(|view| (job, view)));
        }
        // Those that wait for memory have no place in a queue, but wait all the same.
        let placed: BTreeSet<_> = waiting.iter().map(|place| place.job).collect();
        let apart = jobs.values().filter(|job| !placed.contains(&job.id)).filter_map(backing_off);
        waiting.extend(apart.inspect(|_| waiting_count += 1));
        self.follow(client, &status, &jobs).await?;
        jobs.retain(|_, job| !matches!(job.state, JobState::Done(_)));
        self.unfinished = jobs.keys().copied().collect();
        let ended = self.last_ended();
        Ok(Snapshot { now_unix_ms: now_unix_ms(), status, waiting, waiting_count, jobs, ended })
    }

    /// Learns which jobs have ended: at first and when others have from a list; then also those that were seen before.
    async fn follow(
        &mut self,
        client: &Client,
        status: &StatusView,
        jobs: &BTreeMap<JobId, JobView>,
    ) -> Result<(), Error> {
        let finished: Vec<_> = status.classes.iter().map(|class| class.finished).collect();
        if self.finished.as_ref() != Some(&finished) {
            self.look_through(client).await?;
            // A long job may have ended that was submitted before all of those.
            let gone: Vec<_> = self.unfinished.iter().filter(|job| !jobs.contains_key(job)).copied().collect();
            for job in gone.into_iter().filter(|job| !self.ended.contains_key(job)).take(MOST_ENDED).collect::<Vec<_>>()
            {
                self.ended.extend(show(client, job).await?.filter(is_done).map(|view| (job, view)));
            }
            self.finished = Some(finished);
        }
        self.ended.extend(jobs.iter().filter(|(_, job)| is_done(job)).map(|(id, job)| (*id, job.clone())));
        Ok(())
    }

    async fn look_through(&mut self, client: &Client) -> Result<(), Error> {
        let (mut before, mut looked, mut found) = (None, 0, 0);
        while looked < LOOKED_THROUGH && found < MOST_ENDED {
            let page = client.list(true, before, LISTED).await?;
            let Some(last) = page.last() else { break };
            (before, looked) = (Some(last.id), looked + page.len());
            for job in page.into_iter().filter(is_done) {
                found += 1;
                self.ended.insert(job.id, job);
            }
        }
        Ok(())
    }

    /// The last to end; the others are forgotten.
    fn last_ended(&mut self) -> Vec<JobView> {
        let mut ended: Vec<_> = std::mem::take(&mut self.ended).into_values().collect();
        ended.sort_by_key(|job| std::cmp::Reverse((ended_unix_ms(job), job.id)));
        ended.truncate(MOST_ENDED);
        self.ended = ended.iter().map(|job| (job.id, job.clone())).collect();
        ended
    }
}

/// A job, unless it has been forgotten meanwhile.
async fn show(client: &Client, job: JobId) -> Result<Option<JobView>, Error> {
    match client.show(job).await {
        Ok(view) => Ok(Some(view)),
        Err(Error::Rejected(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The place of a job that ran out of memory, which has none.
fn backing_off(job: &JobView) -> Option<QueueView> {
    matches!(job.state, JobState::BackingOff { .. }).then(|| QueueView {
        class: job.class.clone(),
        job: job.id,
        lane: None,
        priority: job.spec.priority,
        model: job.spec.model.clone().unwrap_or_default(),
        waited_ms: job.wait_us / 1000,
        starts_in_ms: None,
        ends_in_ms: None,
    })
}

fn is_done(job: &JobView) -> bool {
    matches!(job.state, JobState::Done(_))
}

/// About when a job ended, in milliseconds since the Unix epoch.
fn ended_unix_ms(job: &JobView) -> u64 {
    job.submitted_unix_ms + (job.wait_us + job.run_us) / 1000
}
