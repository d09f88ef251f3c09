//! What stays of reflecting jobs.

use gpusched_shared::{
    Checked, ModelSuccess, ReflectEnd, Reflection, Success, TimeLimit, TrendPoint, Verdict, quality::MAX_POINTS,
};

use super::stages::{reflected, reflecting, reflection, round};
use super::*;
use crate::journal::quality::{KEPT, view};

const PASS: Option<Verdict> = Some(Verdict::Pass);
const FAIL: Option<Verdict> = Some(Verdict::Fail);

fn ask(opened: &Opened, since_unix_ms: u64, window: u32, points: u32) -> QualityView {
    let (reply, answer) = oneshot::channel();
    opened.journal.ask(Query::Quality { since_unix_ms, window, points, reply });
    answer.blocking_recv().expect("answered")
}

/// Jobs from 1 on, each with a model and the verdicts of its rounds; they end at 100, 200 and so on.
fn with(root: &Path, jobs: &[(&str, &[Option<Verdict>])]) -> Opened {
    let mut opened = open(root);
    let (blob, _hold) = opened.blobs.put_result(b"picture").expect("stored");
    for (id, (model, verdicts)) in (1..).zip(jobs) {
        opened.submit(reflecting(id, model));
        let rounds = (1..).zip(*verdicts).map(|(number, verdict)| round(number, Some(blob), *verdict)).collect();
        opened.journal.write(reflected(id, image(blob), reflection(rounds), 100 * id));
        assert_eq!(opened.reply(), Reply::Concluded(JobId(id)));
    }
    opened
}

fn success(jobs: u64, first_passed: u64, passed: u64, rounds: u64) -> Success {
    Success { jobs, first_passed, passed, rounds, checks: 0, image_us: 1000 * rounds, check_us: 10 * rounds }
}

#[test]
fn jobs_are_added_up_in_all_by_model_and_over_time() {
    let root = tempfile::tempdir().expect("a directory");
    let jobs: [(&str, &[_]); 6] = [
        ("a", &[PASS]),
        ("b", &[FAIL, PASS]),
        ("a", &[FAIL, FAIL]),
        ("a", &[None]),
        ("a", &[FAIL, PASS]),
        ("b", &[PASS]),
    ];
    let opened = with(root.path(), &jobs);
    let all = ask(&opened, 0, 2, 2);
    assert_eq!(all.overall, success(5, 2, 4, 8), "the fourth came to no verdict");
    assert_eq!((all.recent, all.window), (success(2, 1, 2, 3), 2));
    let of = |model: &str, success| ModelSuccess { model: model.to_owned(), success };
    assert_eq!(all.models, [of("a", success(3, 1, 2, 5)), of("b", success(2, 1, 2, 3))]);
    let point = |until_unix_ms, success| TrendPoint { until_unix_ms, success };
    assert_eq!(all.trend, [point(300, success(3, 1, 2, 5)), point(600, success(2, 1, 2, 3))]);

    let late = ask(&opened, 500, 10, 10);
    assert_eq!((late.overall, late.recent), (success(2, 1, 2, 3), success(2, 1, 2, 3)));
    assert_eq!(late.trend.iter().map(|point| point.success.jobs).collect::<Vec<_>>(), [1, 1]);
    let none = ask(&opened, 601, 10, 10);
    assert_eq!((none.overall, none.models, none.trend), (Success::default(), Vec::new(), Vec::new()));
    let bare = ask(&opened, 0, 0, 0);
    assert_eq!((bare.overall.jobs, bare.recent.jobs, bare.trend.len()), (5, 0, 0));
}

#[test]
fn pictures_and_checks_are_counted_as_far_as_they_were_made() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(reflecting(1, "m"));
    let (blob, _hold) = opened.blobs.put_result(b"picture").expect("stored");
    let checked = Checked {
        question: "what?".to_owned(),
        expected: "red".to_owned(),
        answer: None,
        confidence: 0.0,
        passed: false,
    };
    let mut rounds = vec![round(1, Some(blob), FAIL), round(2, None, None)];
    rounds[0].checks = vec![checked; 3];
    let strict = Outcome::Failed { kind: FailureKind::ChecksFailed, message: String::new() };
    opened.journal.write(reflected(1, strict, reflection(rounds), 100));
    opened.reply();
    let expected = Success { checks: 3, image_us: 2000, check_us: 20, ..success(1, 0, 0, 1) };
    assert_eq!(ask(&opened, 0, 1, 1).overall, expected);
}

/// Rows of jobs that ended one millisecond after the other, from one number to another.
fn fill(connection: &Connection, from: i64, to: i64) {
    let sql = "INSERT INTO quality
               WITH RECURSIVE job (n) AS (VALUES (?1) UNION ALL SELECT n + 1 FROM job WHERE n < ?2)
               SELECT n, n, n, 'm', 'judge', 0, n % 2, 1, 1, 1, 1 FROM job";
    connection.execute(sql, [from, to]).expect("inserted");
}

#[test]
fn the_trend_s_groups_differ_by_one_job_at_most() {
    let root = tempfile::tempdir().expect("a directory");
    let store = Store::open(&Settings::default(), store(root.path(), &config())).expect("opened");
    for (from, to) in [(1, 1), (2, 7), (8, 200), (201, 1234)] {
        fill(&store.connection, from, to);
        let jobs = to.unsigned_abs();
        for points in [1, 3, 7, MAX_POINTS, 1000] {
            let trend = view(&store.connection, 0, 10, points).expect("read").trend;
            let groups: Vec<u64> = trend.iter().map(|point| point.success.jobs).collect();
            assert_eq!(groups.len() as u64, u64::from(points.min(MAX_POINTS)).min(jobs));
            assert_eq!(groups.iter().sum::<u64>(), jobs);
            assert!(groups.iter().max() <= groups.iter().min().map(|least| least + 1).as_ref(), "{groups:?}");
            assert_eq!(trend.last().map(|point| point.until_unix_ms), Some(jobs));
        }
    }
}

#[test]
fn of_jobs_that_were_cancelled_nothing_is_learnt() {
    let root = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&Settings::default(), store(root.path(), &config())).expect("opened");
    let of = reflection(vec![round(1, None, FAIL)]);
    let unchecked = Reflection { end: Some(ReflectEnd::Unchecked), ..of.clone() };
    for (id, outcome, of) in [(1, Outcome::Cancelled, of), (2, Outcome::Answers(Vec::new()), unchecked)] {
        store
            .write(&[Entry::Submission(Arc::new(reflecting(id, "m"))), reflected(id, outcome, of, id)])
            .expect("written");
    }
    assert_eq!(view(&store.connection, 0, 1, 1).expect("read").overall.jobs, 0);
}

#[test]
fn the_first_are_forgotten_when_there_are_too_many() {
    let root = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&Settings::default(), store(root.path(), &config())).expect("opened");
    fill(&store.connection, 1, KEPT);
    let id = KEPT.unsigned_abs() + 1;
    let of = reflection(vec![round(1, None, PASS)]);
    let late = Outcome::Expired { limit: TimeLimit::Deadline };
    let entries = [Entry::Submission(Arc::new(reflecting(id, "m"))), reflected(id, late, of, id)];
    store.write(&entries).expect("written");
    let view = view(&store.connection, 0, 1, 1).expect("read");
    assert_eq!((view.overall.jobs, view.recent.passed), (id - 1, 1));
}
