//! What reflecting jobs came to, a row for each that came to a verdict. These rows stay when the jobs are forgotten, so that
//! they tell how well pictures do over a long time; what was asked for is not in them.

use std::collections::BTreeMap;

use gpusched_shared::quality::MAX_POINTS;
use gpusched_shared::{JobId, ModelSuccess, QualityView, Reflection, Success, TrendPoint, Verdict};
use rusqlite::{Connection, Row, Transaction, params};

use super::row::{integer, key};

/// Jobs that are kept; those that ended before are forgotten. Adding these up takes the thread that commits some hundredths
/// of a second, for which others wait.
pub(super) const KEPT: i64 = 20_000;

/// Models that are told of, those with the most jobs.
const MODELS: usize = 100;

/// What a job came to.
fn success(reflection: &Reflection) -> Success {
    let rounds = &reflection.rounds;
    Success {
        jobs: 1,
        first_passed: u64::from(reflection.first_verdict() == Some(Verdict::Pass)),
        passed: u64::from(reflection.verdict == Some(Verdict::Pass)),
        rounds: rounds.iter().filter(|round| round.image.is_some()).count() as u64,
        checks: rounds.iter().map(|round| round.checks.len() as u64).sum(),
        image_us: rounds.iter().map(|round| round.image_us).sum(),
        check_us: rounds.iter().map(|round| round.check_us).sum(),
    }
}

/// Keeps what a job that is on record came to, and forgets what is beyond [`KEPT`].
pub(super) fn keep(
    transaction: &Transaction<'_>,
    job: JobId,
    reflection: &Reflection,
    unix_ms: u64,
) -> rusqlite::Result<()> {
    let success = success(reflection);
    // The models as the daemon chose them. That a record is damaged is told elsewhere.
    let sql = "INSERT INTO quality (job, ended_unix_ms, model, judge, first_passed, passed, rounds, checks, image_us, check_us)
               SELECT id, ?2, coalesce(spec ->> '$.model', ''), coalesce(spec ->> '$.reflect.judge', ''), \
               ?3, ?4, ?5, ?6, ?7, ?8
               FROM (SELECT id, iif(json_valid(record), record, '{}') -> '$.spec' AS spec FROM jobs WHERE id = ?1)";
    transaction.prepare_cached(sql)?.execute(params![
        key(job),
        integer(unix_ms),
        integer(success.first_passed),
        integer(success.passed),
        integer(success.rounds),
        integer(success.checks),
        integer(success.image_us),
        integer(success.check_us)
    ])?;
    let last = transaction.last_insert_rowid();
    transaction.prepare_cached("DELETE FROM quality WHERE id <= ?1")?.execute([last - KEPT])?;
    Ok(())
}

/// What the jobs came to that ended at a time or after it. The trend has at most so many points, and at most
/// [`MAX_POINTS`]; where the jobs cannot be shared out evenly, some of its groups have one more than others.
pub(super) fn view(
    connection: &Connection,
    since_unix_ms: u64,
    window: u32,
    points: u32,
) -> rusqlite::Result<QualityView> {
    // Both statements see the same, for only this connection writes.
    let since = integer(since_unix_ms);
    let count = "SELECT count(*) FROM quality WHERE ended_unix_ms >= ?1";
    let jobs = connection.prepare_cached(count)?.query_row([since], |row| row.get::<_, i64>(0))?.unsigned_abs();
    let points = u64::from(points.min(MAX_POINTS)).min(jobs);
    let (mut trend, mut begun) = (Vec::<TrendPoint>::new(), 0);
    let mut models: BTreeMap<String, Success> = BTreeMap::new();
    let (mut overall, mut recent) = (Success::default(), Success::default());

    let sql = "SELECT model, ended_unix_ms, first_passed, passed, rounds, checks, image_us, check_us FROM quality \
               WHERE ended_unix_ms >= ?1 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([since])?;
    for index in 0..jobs {
        let Some(row) = rows.next()? else { break };
        let success = success_of(row)?;
        overall.add(&success);
        if jobs - index <= u64::from(window) {
            recent.add(&success);
        }
        let model = row.get_ref(0)?.as_str()?;
        match models.get_mut(model) {
            Some(of_model) => of_model.add(&success),
            None => drop(models.insert(model.to_owned(), success)),
        }
        let until_unix_ms = row.get::<_, i64>(1)?.unsigned_abs();
        // With no more points than jobs, each job is of the last group begun or begins the next.
        match trend.last_mut() {
            Some(last) if index * points / jobs < begun => {
                last.until_unix_ms = until_unix_ms;
                last.success.add(&success);
            }
            _ if begun < points => {
                trend.push(TrendPoint { until_unix_ms, success });
                begun += 1;
            }
            _ => {}
        }
    }
    let mut models: Vec<_> = models.into_iter().map(|(model, success)| ModelSuccess { model, success }).collect();
    models.sort_by_key(|of| std::cmp::Reverse(of.success.jobs));
    models.truncate(MODELS);
    Ok(QualityView { overall, recent, window, models, trend })
}

/// From the third column on.
fn success_of(row: &Row<'_>) -> rusqlite::Result<Success> {
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(Success {
        jobs: 1,
        first_passed: number(2)?,
        passed: number(3)?,
        rounds: number(4)?,
        checks: number(5)?,
        image_us: number(6)?,
        check_us: number(7)?,
    })
}
