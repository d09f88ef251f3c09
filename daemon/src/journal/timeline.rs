//! What ran when, and what memory was in use, for those who ask what happened.
//!
//! Attempts stay as long as their jobs. Samples of memory are many and say less the older they are, so the older half of a class's is
//! thinned to one of each kind within a 64th of its age. So the table has a bound, and reaches back the further the coarser.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use gpusched_core::Part;
use gpusched_shared::{About, Cursor, JobId, LaneSpan, MemoryEvent, MemorySample, StageRole, TimelinePage, Track, Uid};
use rusqlite::{Connection, Row, Transaction, params};

use super::read::ReadError;
use super::row::{self, integer};

/// Samples of a class of which the newer half is kept as it is, before the older half is thinned.
pub(super) const SAMPLES: i64 = 10_000;

/// Stretches of time from one age to twice that, of each of which one sample of each kind is kept.
const STRETCHES: f64 = 64.0;

/// After so many new samples they are counted.
const COUNT_AFTER: i64 = 1000;

/// Keeps a sample.
pub(super) fn keep(transaction: &Transaction<'_>, sample: &MemorySample) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO memory (unix_ms, class, event, used_bytes, reserved_bytes, cap_bytes, resident_bytes) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let kept = transaction.prepare_cached(sql)?.execute(params![
        integer(sample.unix_ms),
        sample.class,
        sample.event.word(),
        integer(sample.used_bytes),
        integer(sample.reserved_bytes),
        integer(sample.cap_bytes),
        integer(sample.resident_bytes)
    ])?;
    if transaction.last_insert_rowid() % COUNT_AFTER == 0 {
        thin(transaction, sample)?;
    }
    Ok(kept)
}

/// Thins the older half of a class's samples if there are too many; this one is the newest.
fn thin(transaction: &Transaction<'_>, newest: &MemorySample) -> rusqlite::Result<()> {
    let sql = "SELECT class, count(*) FROM memory GROUP BY class HAVING count(*) > ?1";
    let crowded = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let crowded: Vec<(String, i64)> =
        transaction.prepare_cached(sql)?.query_map([SAMPLES], crowded)?.collect::<Result<_, _>>()?;
    for (class, count) in crowded {
        let sql = "SELECT id, unix_ms, event, used_bytes FROM memory WHERE class = ?1 ORDER BY id LIMIT ?2";
        let old =
            |row: &Row<'_>| Ok(Old { id: row.get(0)?, unix_ms: row.get(1)?, event: row.get(2)?, used: row.get(3)? });
        let old: Vec<Old> = transaction
            .prepare_cached(sql)?
            .query_map(params![class, count - SAMPLES / 2], old)?
            .collect::<Result<_, _>>()?;
        for id in dispensable(&old, integer(newest.unix_ms)) {
            transaction.prepare_cached("DELETE FROM memory WHERE id = ?1")?.execute([id])?;
        }
    }
    Ok(())
}

/// A sample that may go.
struct Old {
    id: i64,
    unix_ms: i64,
    event: String,
    used: i64,
}

/// Which samples of a class may go: in each stretch of time, and of what ran out of memory, what was flushed, and the rest, all
/// but the one with the most in use.
fn dispensable(old: &[Old], now_unix_ms: i64) -> Vec<i64> {
    let mut highest: HashMap<(i64, &str), &Old> = HashMap::new();
    let mut dispensable = Vec::new();
    for sample in old {
        let age_ms = now_unix_ms.saturating_sub(sample.unix_ms).max(1) as f64;
        let kind = match sample.event.as_str() {
            told @ ("out_of_memory" | "flushing" | "flushed") => told,
            _ => "",
        };
        match highest.entry(((age_ms.log2() * STRETCHES) as i64, kind)) {
            Entry::Vacant(place) => {
                place.insert(sample);
            }
            Entry::Occupied(mut place) => {
                let lower = if place.get().used < sample.used { place.insert(sample) } else { sample };
                dispensable.push(lower.id);
            }
        }
    }
    dispensable
}

/// A page, newest first, and where to go on. `uid` may see what its own attempts were about, `None` everyone's.
pub(super) fn page(
    connection: &Connection,
    track: Track,
    uid: Option<Uid>,
    between_unix_ms: (u64, u64),
    before: Option<Cursor>,
    limit: u32,
) -> Result<(TimelinePage, Option<Cursor>), ReadError> {
    match track {
        Track::Lanes => {
            let (spans, next) = lanes(connection, uid, between_unix_ms, before, limit)?;
            Ok((TimelinePage::Lanes(spans), next))
        }
        Track::Memory => {
            let (samples, next) = memory(connection, between_unix_ms, before, limit)?;
            Ok((TimelinePage::Memory(samples), next))
        }
    }
}

/// The first entry of the next page is before this one: nothing is, at first, and nothing is left out.
fn start(before: Option<Cursor>) -> (i64, i64, i64) {
    before.map_or((i64::MAX, i64::MAX, i64::MAX), |at| (integer(at.unix_ms), integer(at.id), i64::from(at.attempt)))
}

fn lanes(
    connection: &Connection,
    uid: Option<Uid>,
    (since, until): (u64, u64),
    before: Option<Cursor>,
    limit: u32,
) -> Result<(Vec<LaneSpan>, Option<Cursor>), ReadError> {
    let sql = r#"SELECT a.job, a.attempt, a.lane, a.started_unix_ms, a.ended_unix_ms, a."end", a.parked, a.peak_bytes,
                     jobs.uid, jobs.record
                 FROM attempts AS a JOIN jobs ON jobs.id = a.job
                 WHERE a.started_unix_ms >= ?1 AND a.started_unix_ms < ?2
                     AND (a.started_unix_ms, a.job, a.attempt) < (?3, ?4, ?5)
                 ORDER BY a.started_unix_ms DESC, a.job DESC, a.attempt DESC LIMIT ?6"#;
    let mut statement = connection.prepare_cached(sql)?;
    let (unix_ms, id, attempt) = start(before);
    let mut rows = statement.query(params![integer(since), integer(until), unix_ms, id, attempt, limit])?;
    let (mut spans, mut last, mut read) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        let (job, attempt): (i64, u32) = (row.get(0)?, row.get(1)?);
        last = Some(Cursor { unix_ms: number(row, 3)?, id: job.unsigned_abs(), attempt });
        read += 1;
        match span(row, job, attempt, uid) {
            Ok(span) => spans.push(span),
            Err(ReadError::Row(e)) => {
                tracing::error!("journal: {e}; it is left out. `gpuschedd journal check` says more");
            }
            Err(database) => return Err(database),
        }
    }
    Ok((spans, last.filter(|_| read == limit)))
}

fn span(row: &Row<'_>, job: i64, attempt: u32, uid: Option<Uid>) -> Result<LaneSpan, ReadError> {
    let end: Option<String> = row.get(5)?;
    let parked: Option<String> = row.get(6)?;
    let is_own = uid.is_none_or(|uid| row.get::<_, i64>(8).is_ok_and(|owner| owner == i64::from(uid)));
    let about = if is_own { Some(about(row, job, attempt)?) } else { None };
    Ok(LaneSpan {
        lane: row.get(2)?,
        started_unix_ms: number(row, 3)?,
        ended_unix_ms: row.get::<_, Option<i64>>(4)?.map(i64::unsigned_abs),
        end: end.map(|text| row::attempt_end(job, &text)).transpose()?,
        parked: parked.map(|text| row::parked(job, &text)).transpose()?.unwrap_or_default(),
        about,
    })
}

fn about(row: &Row<'_>, job: i64, attempt: u32) -> Result<About, ReadError> {
    let record: String = row.get(9)?;
    let row::Brief { spec, part } = row::brief(job, &record)?;
    let (of, round, role) = match part {
        Some(Part { of, round, role }) => (of, round, role.told()),
        None => (JobId(job.unsigned_abs()), 0, StageRole::Whole),
    };
    Ok(About {
        job: of,
        attempt,
        role,
        round,
        kind: spec.task.kind(),
        model: spec.model.unwrap_or_default(),
        peak_bytes: number(row, 7)?,
    })
}

fn memory(
    connection: &Connection,
    (since, until): (u64, u64),
    before: Option<Cursor>,
    limit: u32,
) -> Result<(Vec<MemorySample>, Option<Cursor>), ReadError> {
    let sql = "SELECT id, unix_ms, class, event, used_bytes, reserved_bytes, cap_bytes, resident_bytes FROM memory \
               WHERE unix_ms >= ?1 AND unix_ms < ?2 AND (unix_ms, id) < (?3, ?4) \
               ORDER BY unix_ms DESC, id DESC LIMIT ?5";
    let mut statement = connection.prepare_cached(sql)?;
    let (unix_ms, id, _) = start(before);
    let mut rows = statement.query(params![integer(since), integer(until), unix_ms, id, limit])?;
    let (mut samples, mut last, mut read) = (Vec::new(), None, 0);
    while let Some(row) = rows.next()? {
        last = Some(Cursor { unix_ms: number(row, 1)?, id: number(row, 0)?, attempt: 0 });
        read += 1;
        let word: String = row.get(3)?;
        let Some(event) = MemoryEvent::ALL.into_iter().find(|event| event.word() == word) else {
            tracing::error!("journal: a sample of memory has event {word:?}, which is none; it is left out");
            continue;
        };
        samples.push(MemorySample {
            unix_ms: number(row, 1)?,
            class: row.get(2)?,
            event,
            used_bytes: number(row, 4)?,
            reserved_bytes: number(row, 5)?,
            cap_bytes: number(row, 6)?,
            resident_bytes: number(row, 7)?,
        });
    }
    Ok((samples, last.filter(|_| read == limit)))
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}
