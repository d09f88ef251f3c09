//! Asks a daemon for its record, page by page and within bounds.

use gpusched_shared::quality::MAX_POINTS;
use gpusched_shared::timeline::MAX_PAGE;
use gpusched_shared::{Cursor, JobView, LaneSpan, MemorySample, StatusView, TimelinePage, Track};

use super::gallery;
use super::record::{ClassInfo, Record};
use crate::{Client, Error};

/// The most attempts, and the most jobs, the newest ones.
pub const MAX_ENTRIES: usize = 20_000;

/// Jobs of one page of a list.
const JOBS: u32 = 100;

/// Points of the trend of quality.
const POINTS: u32 = 40;

/// Jobs that the recent rate is of.
const WINDOW: u32 = 50;

/// What the daemon knows of a stretch of time, in milliseconds since the Unix epoch, but for the pictures of rounds. The caller
/// sees what its own jobs were about, admins what everyone's were.
///
/// # Errors
/// [`Error`] if the daemon cannot be asked, or is older than this.
pub async fn collect(client: &Client, since_unix_ms: u64, until_unix_ms: u64) -> Result<Record, Error> {
    let between = (since_unix_ms, until_unix_ms);
    let status = client.status().await?;
    let mut left_out = Vec::new();
    let (policy, mut spans) = spans(client, between, &mut left_out).await?;
    let mut memory = memory(client, between).await?;
    let mut jobs = jobs(client, between, &mut left_out).await?;
    spans.reverse();
    memory.reverse();
    jobs.reverse();
    let mut quality = client.quality(since_unix_ms, WINDOW, POINTS.min(MAX_POINTS)).await?;
    let points = quality.trend.len();
    quality.trend.retain(|point| point.until_unix_ms <= until_unix_ms);
    if quality.trend.len() < points {
        left_out.push("How often pictures passed is counted up to now, and not up to the end of this page.".to_owned());
    }
    Ok(Record {
        title: client.server().to_owned(),
        policy,
        since_unix_ms,
        until_unix_ms,
        classes: classes(&status),
        spans,
        memory,
        jobs,
        quality: (quality.overall.jobs > 0).then_some(quality),
        shown: Vec::new(),
        comparison: None,
        left_out,
    })
}

/// Adds pictures of the rounds of the newest jobs that reflected.
///
/// # Errors
/// [`Error`] if the daemon cannot be asked.
pub async fn add_pictures(client: &Client, record: &mut Record) -> Result<(), Error> {
    let reflecting = record.jobs.iter().rev().filter(|job| job.reflection.is_some()).map(|job| job.id);
    let ids: Vec<_> = reflecting.collect();
    record.shown = gallery::fetch(client, &ids).await?;
    if ids.len() > record.shown.len() {
        record.left_out.push(format!(
            "Of {} jobs with rounds the newest {} are shown with pictures.",
            ids.len(),
            record.shown.len()
        ));
    }
    Ok(())
}

/// The classes as a status has them.
pub fn classes(status: &StatusView) -> Vec<ClassInfo> {
    let class = |class: &gpusched_shared::ClassView| ClassInfo {
        name: class.name.clone(),
        lanes: u32::try_from(status.lanes.iter().filter(|lane| lane.class == class.name).count()).unwrap_or(u32::MAX),
        cap_bytes: class.partition.cap_bytes,
        makes_way: status.preemption.iter().any(|preemption| preemption.class == class.name),
    };
    status.classes.iter().map(class).collect()
}

async fn spans(
    client: &Client,
    between: (u64, u64),
    left_out: &mut Vec<String>,
) -> Result<(String, Vec<LaneSpan>), Error> {
    let (mut all, mut before): (Vec<LaneSpan>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let view = client.timeline(Track::Lanes, between, before, MAX_PAGE).await?;
        let TimelinePage::Lanes(page) = view.page else { return Err(other_page()) };
        all.extend(page);
        before = view.next;
        if before.is_some() && all.len() >= MAX_ENTRIES {
            all.truncate(MAX_ENTRIES);
            left_out.push(format!("There were more than {MAX_ENTRIES} attempts; the newest {MAX_ENTRIES} are here."));
            return Ok((view.policy, all));
        }
        if before.is_none() {
            return Ok((view.policy, all));
        }
    }
}

/// The daemon keeps no more of these than it tells.
async fn memory(client: &Client, between: (u64, u64)) -> Result<Vec<MemorySample>, Error> {
    let (mut all, mut before): (Vec<MemorySample>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let view = client.timeline(Track::Memory, between, before, MAX_PAGE).await?;
        let TimelinePage::Memory(page) = view.page else { return Err(other_page()) };
        all.extend(page);
        before = view.next;
        if before.is_none() || all.len() >= 2 * MAX_ENTRIES {
            return Ok(all);
        }
    }
}

async fn jobs(
    client: &Client,
    (since_unix_ms, until_unix_ms): (u64, u64),
    left_out: &mut Vec<String>,
) -> Result<Vec<JobView>, Error> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = client.list(true, before, JOBS).await?;
        let Some(last) = page.last() else { return Ok(all) };
        let is_over = last.submitted_unix_ms < since_unix_ms;
        before = Some(last.id);
        let is_within = |job: &JobView| (since_unix_ms..until_unix_ms).contains(&job.submitted_unix_ms);
        all.extend(page.into_iter().filter(is_within));
        if is_over {
            return Ok(all);
        }
        if all.len() >= MAX_ENTRIES {
            all.truncate(MAX_ENTRIES);
            left_out.push(format!("There were more than {MAX_ENTRIES} jobs; the newest {MAX_ENTRIES} are here."));
            return Ok(all);
        }
    }
}

fn other_page() -> Error {
    Error::Protocol("it told of something else than was asked for".to_owned())
}
