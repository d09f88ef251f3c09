//! The experiment: the same jobs alone, together under several queues, and together under one, several times over.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use gpusched_client::{Client, JobId, JobView, Picture, StatusView};
use gpusched_shared::{JobState, TaskKind, Update};
use gpusched_sim::timeline::{MemoryPoint, Span};
use tokio::task::JoinSet;

use super::jobs::{self, Job};
use super::memory::MemoryWatch;
use super::progress::Progress;

/// How often everything is run; what is reported is the median.
pub(super) const REPETITIONS: usize = 3;
/// How many times as long as a question an image shall take.
const HEAVY_TO_LIGHT: f64 = 10.0;
/// Fewest and most diffusion steps that this may lead to; with fewer the shipped model draws badly.
const STEPS: std::ops::RangeInclusive<u32> = 10..=200;
/// Questions of the last run, which come one at a time while images are made.
const PROBES: u32 = 40;

/// A job that has ended, and what came of it.
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) view: JobView,
    pub(super) png: Option<Vec<u8>>,
    /// When it was submitted, in microseconds since its run began.
    pub(super) submitted_us: u64,
    /// When a lane took it, likewise, as far as this client was told.
    pub(super) started_us: u64,
    /// The number of its lane within its class.
    pub(super) lane: u32,
    /// When it was parked, likewise, as far as this client was told: news that it was too slow to read is skipped.
    pub(super) parked: Vec<Span>,
}

impl Finished {
    pub(super) fn is_image(&self) -> bool {
        self.job.is_image()
    }

    /// How it ended: `done`, `failed`, `cancelled` or `expired`.
    pub(super) fn word(&self) -> &'static str {
        match &self.view.state {
            JobState::Done(outcome) => outcome.word(),
            JobState::Queued { .. }
            | JobState::BackingOff { .. }
            | JobState::Running { .. }
            | JobState::Reflecting { .. }
            | JobState::Editing { .. } => "running",
        }
    }
}

/// Jobs that were handed in together, in the order they were, and how long it took from the first submission to the end
/// of the last job.
pub(super) struct Run {
    pub(super) finished: Vec<Finished>,
    pub(super) makespan: Duration,
    /// What the partitions held, each time that it had changed when this client looked.
    pub(super) memory: Vec<MemoryPoint>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    pub(super) heavy: u32,
    pub(super) light: u32,
    /// Diffusion steps of an image; `None` for as many as make it ten times as long as a question.
    pub(super) steps: Option<u32>,
    /// Of the order in which the jobs are handed in.
    pub(super) seed: u64,
}

/// Everything that was run, each [`REPETITIONS`] times but for the last.
pub(super) struct Results {
    pub(super) steps: u32,
    /// A question and an image by themselves.
    pub(super) one_light: Duration,
    pub(super) one_heavy: Duration,
    pub(super) light_alone: Vec<Run>,
    pub(super) heavy_alone: Vec<Run>,
    pub(super) multi_queue: Vec<Run>,
    pub(super) fifo: Vec<Run>,
    /// Images, and questions that came one at a time meanwhile.
    pub(super) probes: Run,
    /// Of the order in which the jobs were handed in.
    pub(super) seed: u64,
    /// The two daemons when all was done: how fast images made way, and what the partitions held.
    pub(super) multi_queue_status: StatusView,
    pub(super) fifo_status: StatusView,
}

impl Results {
    /// Every run.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        let all = [&self.light_alone, &self.heavy_alone, &self.multi_queue, &self.fifo];
        all.into_iter().flatten().chain([&self.probes])
    }
}

/// Runs everything. Both daemons are up all the time, so that what is compared is run right after each other.
pub(super) async fn run(multi_queue: &Client, fifo: &Client, mix: Mix) -> anyhow::Result<Results> {
    let (one_light, one_heavy, steps) = warm_up(multi_queue, mix.steps).await?;
    warm_up(fifo, Some(steps)).await?;
    let images = || jobs::images(mix.heavy, steps).collect::<Vec<_>>();
    let mixed = || jobs::shuffled(images().into_iter().chain(jobs::questions(mix.light)), mix.seed);
    let questions_as_mixed = || mixed().into_iter().filter(|job| !job.is_image()).collect::<Vec<_>>();
    let (mut light_alone, mut heavy_alone, mut together, mut in_one) = (vec![], vec![], vec![], vec![]);
    for round in 1..=REPETITIONS {
        let name = |what: &str| format!("{what}, {round} of {REPETITIONS}");
        in_one.push(all_at_once(fifo, mixed(), &[], &name("both, one queue")).await?);
        let both = all_at_once(multi_queue, mixed(), &[], &name("both, several queues")).await?;
        // Alone, questions come at the same moments as they came beside images: any closer together they would be in each
        // other's way more than there.
        let moments: Vec<u64> = both.finished.iter().filter(|d| !d.is_image()).map(|d| d.submitted_us).collect();
        together.push(both);
        light_alone.push(all_at_once(multi_queue, questions_as_mixed(), &moments, &name("questions alone")).await?);
        heavy_alone.push(all_at_once(multi_queue, images(), &[], &name("images alone")).await?);
    }
    let probes = probe(multi_queue, images(), mix.seed).await?;
    Ok(Results {
        steps,
        one_light,
        one_heavy,
        light_alone,
        heavy_alone,
        multi_queue: together,
        fifo: in_one,
        probes,
        seed: mix.seed,
        multi_queue_status: multi_queue.status().await?,
        fifo_status: fifo.status().await?,
    })
}

/// Loads the models and finds out how long one job takes by itself, and how many steps make an image as long as it shall
/// be.
async fn warm_up(client: &Client, steps: Option<u32>) -> anyhow::Result<(Duration, Duration, u32)> {
    let question = || jobs::questions(1);
    let image = |steps| jobs::images(1, steps);
    let probe_steps = steps.unwrap_or(20);
    let progress = Progress::new("loading models, warming up", 12);
    for _ in 0..2 {
        one(client, question(), &progress).await?;
        one(client, image(probe_steps), &progress).await?;
    }
    let mut light = Vec::new();
    for _ in 0..5 {
        light.push(one(client, question(), &progress).await?);
    }
    let light = median(light);
    // What an image takes beside its steps is small, and found by taking none but a few.
    let (few, many) = (one(client, image(2), &progress).await?, one(client, image(probe_steps), &progress).await?);
    let step = many.saturating_sub(few).as_secs_f64() / f64::from(probe_steps.saturating_sub(2).max(1));
    let rest = (few.as_secs_f64() - 2.0 * step).max(0.0);
    let wanted = ((HEAVY_TO_LIGHT * light.as_secs_f64() - rest) / step.max(1e-6)).round() as u32;
    let steps = steps.unwrap_or(wanted.clamp(*STEPS.start(), *STEPS.end()));
    let mut heavy = Vec::new();
    for _ in 0..3 {
        heavy.push(one(client, image(steps), &progress).await?);
    }
    Ok((light, median(heavy), steps))
}

/// How long a lane holds the one job of `jobs`.
async fn one(client: &Client, jobs: impl Iterator<Item = Job>, progress: &Progress) -> anyhow::Result<Duration> {
    let mut held = Duration::ZERO;
    for job in jobs {
        let pictures = job.pictures()?;
        held = Duration::from_micros(through(client, job, pictures, Instant::now()).await?.view.run_us);
        progress.job_ended();
    }
    Ok(held)
}

/// Hands all jobs in, each as soon as the one before is accepted, which keeps them in order, but none before its moment
/// (in microseconds since the first, where there is one); and follows them to their ends.
async fn all_at_once(client: &Client, jobs: Vec<Job>, moments: &[u64], name: &str) -> anyhow::Result<Run> {
    let progress = Progress::new(name, jobs.len());
    // Drawn and encoded before the clock runs.
    let jobs: Vec<_> = jobs.into_iter().map(|job| Ok((job.pictures()?, job))).collect::<anyhow::Result<_>>()?;
    let began = Instant::now();
    let watching = MemoryWatch::start(client, began);
    let mut running = JoinSet::new();
    for (place, (pictures, job)) in jobs.into_iter().enumerate() {
        if let Some(moment) = moments.get(place) {
            tokio::time::sleep_until((began + Duration::from_micros(*moment)).into()).await;
        }
        let submitted_us = since_us(began);
        let id = client.submit(job.spec(), pictures, true).await?;
        let client = client.clone();
        running.spawn(async move { anyhow::Ok((place, follow(&client, id, job, began, submitted_us).await?)) });
    }
    let mut finished = Vec::new();
    while let Some(job) = running.join_next().await {
        finished.push(job.context("a task of the demo failed")??);
        progress.job_ended();
    }
    let makespan = began.elapsed();
    let memory = watching.stop().await?;
    finished.sort_by_key(|(place, _)| *place);
    let mut run = Run { finished: finished.into_iter().map(|(_, finished)| finished).collect(), makespan, memory };
    fetch(client, &mut run).await?;
    Ok(run)
}

/// Images, and questions one at a time meanwhile: each a random moment after the last was answered, so that it meets
/// images wherever they happen to be.
async fn probe(client: &Client, images: Vec<Job>, seed: u64) -> anyhow::Result<Run> {
    let progress = Progress::new("questions one by one, beside images", PROBES as usize);
    let began = Instant::now();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut background = JoinSet::new();
    let mut finished = Vec::new();
    for job in jobs::questions(PROBES) {
        if background.is_empty() {
            for image in &images {
                let (client, image) = (client.clone(), image.clone());
                background.spawn(async move { through(&client, image, Vec::new(), began).await });
            }
        }
        tokio::time::sleep(Duration::from_micros(random.u64(5_000..30_000))).await;
        let pictures = job.pictures()?;
        finished.push(through(client, job, pictures, began).await?);
        progress.job_ended();
        while let Some(done) = background.try_join_next() {
            finished.push(done.context("a task of the demo failed")??);
        }
    }
    while let Some(done) = background.join_next().await {
        finished.push(done.context("a task of the demo failed")??);
    }
    let mut run = Run { finished, makespan: began.elapsed(), memory: Vec::new() };
    fetch(client, &mut run).await?;
    Ok(run)
}

/// Hands a job in and follows it to its end.
async fn through(client: &Client, job: Job, pictures: Vec<Picture>, began: Instant) -> anyhow::Result<Finished> {
    let submitted_us = since_us(began);
    let id = client.submit(job.spec(), pictures, true).await?;
    follow(client, id, job, began, submitted_us).await
}

/// Follows a job to its end.
async fn follow(client: &Client, id: JobId, job: Job, began: Instant, submitted_us: u64) -> anyhow::Result<Finished> {
    let mut watch = client.watch(id).await?;
    let (mut lane, mut started, mut parked, mut since) = (0, None, Vec::new(), None);
    while let Some(update) = watch.next().await? {
        match update {
            Update::Queued { .. }
            | Update::BackingOff { .. }
            | Update::Reflecting { .. }
            | Update::Editing { .. }
            | Update::Writing { .. } => {}
            Update::Running { parked: now_parked, lane: on, .. } => {
                lane = on;
                started.get_or_insert_with(|| since_us(began));
                if now_parked {
                    since = since.or_else(|| Some(since_us(began)));
                } else {
                    parked.extend(since.take().map(|from_us| Span { from_us, until_us: since_us(began) }));
                }
            }
            Update::Done(view) => {
                // Either news may be late, of its start and of its end.
                let latest = since_us(began).saturating_sub(view.run_us);
                let started_us = started.map_or(latest, |started| latest.min(started));
                return Ok(Finished { job, view, png: None, submitted_us, started_us, lane, parked });
            }
        }
    }
    anyhow::bail!("job {id} ended without an outcome")
}

fn since_us(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Fetches the pictures, when nothing is being timed any more.
async fn fetch(client: &Client, run: &mut Run) -> anyhow::Result<()> {
    for done in run.finished.iter_mut().filter(|done| done.view.spec.task.kind() != TaskKind::Vqa) {
        done.png = client.fetch_bytes(done.view.id).await.ok();
    }
    Ok(())
}

/// The middle one; of an even number the upper of the two.
pub(super) fn median<T: PartialOrd + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}
