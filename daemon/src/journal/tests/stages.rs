//! Jobs that reflect, and their stages, which are rows of their own.

use std::collections::BTreeMap;

use fastrand::Rng;
use gpusched_core::{Part, Role};
use gpusched_shared::{Answer, ImageSpec, JobSpec, Reflect, ReflectEnd, Round, RoundImage, Task, Verdict};

use super::*;
use crate::journal::retention::Excess;

const HOUR_MS: i64 = 3_600_000;

/// A job that reflects.
pub(super) fn reflecting(id: u64, model: &str) -> JobRecord {
    let mut spec = JobSpec::new(Task::Txt2Img(ImageSpec::new("a red circle")));
    spec.model = Some(model.to_owned());
    spec.reflect = Some(Box::new(Reflect { judge: Some("judge".to_owned()), ..Reflect::default() }));
    JobRecord { spec, ..record(id) }
}

fn stage(id: u64, of: u64, round: u8, role: Role) -> JobRecord {
    JobRecord { part: Some(Part { of: JobId(of), round, role }), ..record(id) }
}

/// A round whose picture got a verdict, or none.
pub(super) fn round(number: u8, image: Option<BlobRef>, verdict: Option<Verdict>) -> Round {
    let size = Size { width: 16, height: 16 };
    Round {
        number,
        prompt: "a red circle".to_owned(),
        seed: 1,
        steps: 4,
        guidance: None,
        image: image.map(|blob| RoundImage { blob, size, truncated_tokens: 0 }),
        checks: Vec::new(),
        verdict,
        score: 0.5,
        image_us: 1000,
        check_us: 10,
        rejected_early: false,
    }
}

pub(super) fn reflection(rounds: Vec<Round>) -> Reflection {
    let verdict = rounds.iter().filter_map(|round| round.verdict).next_back();
    Reflection { rounds, best: None, verdict, end: Some(ReflectEnd::Rounds) }
}

pub(super) fn reflected(job: u64, outcome: Outcome, of: Reflection, ended_ms: u64) -> Entry {
    let (job, usage) = (JobId(job), Usage::default());
    let reflection = Some(Box::new(of));
    Entry::Outcome { job, outcome, wait_us: 10, run_us: 20, backoff_us: 5, usage, reflection, unix_ms: ended_ms }
}

fn list(opened: &Opened) -> Vec<JobView> {
    let (reply, answer) = oneshot::channel();
    opened.journal.ask(Query::List { uid: Some(7), before: None, limit: 10, reply });
    answer.blocking_recv().expect("answered")
}

fn internal(reply: Reply) -> String {
    let Reply::RecordFailed(_, Rejection::Internal { reason }) = reply else { panic!("{reply:?}") };
    reason
}

#[test]
fn a_journal_of_version_3_is_read_and_takes_stages() {
    let root = tempfile::tempdir().expect("a directory");
    let database = old(root.path(), 3);
    let insert = "INSERT INTO jobs (id, uid, class, record, submitted_unix_ms, outcome, wait_us, run_us, ended_unix_ms)
                  VALUES (?1, 7, 'light', ?2, 9, ?3, 5, 2, ?4)";
    let of = |id| serde_json::to_string(&record(id)).expect("JSON");
    database.execute(insert, rusqlite::params![1, of(1), "\"cancelled\"", 11]).expect("inserted");
    database.execute(insert, rusqlite::params![2, of(2), None::<String>, None::<i64>]).expect("inserted");
    drop(database);

    let mut opened = open(root.path());
    assert_eq!(opened.recovered.unfinished.iter().map(|job| job.record.id.0).collect::<Vec<_>>(), [2]);
    assert_eq!(opened.submit(stage(3, 2, 1, Role::Image)), Reply::Recorded(JobId(3)));
    opened.end(2, Outcome::Cancelled);
    assert_eq!(
        list(&opened).iter().map(|job| (job.id.0, job.reflection.is_some())).collect::<Vec<_>>(),
        [(2, false), (1, false)]
    );
}

#[test]
fn no_stage_is_made_twice_or_for_no_job() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    for id in [1, 2] {
        opened.submit(reflecting(id, "m"));
    }
    assert_eq!(opened.submit(stage(3, 1, 1, Role::Check(0))), Reply::Recorded(JobId(3)));
    // In one transaction with others, which do not suffer.
    for record in [stage(4, 1, 1, Role::Check(0)), stage(5, 9, 1, Role::Image), stage(6, 2, 1, Role::Check(0))] {
        opened.journal.write(Entry::Submission(Arc::new(record)));
    }
    let twice = internal(opened.reply());
    assert_eq!(twice, "stage 1/check/0 of job 1 is on record as job 3, it is not made twice");
    assert_eq!(internal(opened.reply()), "job 9 is not on record, so it takes no stage 1/image");
    assert_eq!(opened.reply(), Reply::Recorded(JobId(6)), "another job's is another");
    for (id, of, round, role) in [(7, 1, 1, Role::Check(1)), (8, 1, 2, Role::Check(0)), (9, 1, 1, Role::Image)] {
        assert_eq!(opened.submit(stage(id, of, round, role)), Reply::Recorded(JobId(id)));
    }
    // Also after it has ended, and after a restart.
    opened.end(3, Outcome::Cancelled);
    drop(opened);
    assert!(internal(open(root.path()).submit(stage(10, 1, 1, Role::Check(0)))).contains("not made twice"));
}

#[test]
fn stages_of_accepted_jobs_are_taken_where_others_are_refused() {
    let root = tempfile::tempdir().expect("a directory");
    open(root.path()).submit(reflecting(1, "m"));
    let low = StorageConfig { low_water: Bytes(1 << 60), ..config() };
    let mut opened = open_with(root.path(), &Settings::default(), &low).expect("opened");
    assert!(matches!(opened.submit(record(2)), Reply::RecordFailed(_, Rejection::DiskFull { .. })));
    assert_eq!(opened.submit(stage(3, 1, 1, Role::Image)), Reply::Recorded(JobId(3)));
}

#[test]
fn lists_have_neither_stages_nor_rounds_but_both_can_be_shown() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(reflecting(1, "m"));
    opened.submit(stage(2, 1, 1, Role::Image));
    let (blob, _hold) = opened.blobs.put_result(b"picture").expect("stored");
    opened.end(2, image(blob));
    let of = reflection(vec![round(1, Some(blob), Some(Verdict::Fail))]);
    opened.journal.write(reflected(1, image(blob), of.clone(), now_ms()));
    assert_eq!(opened.reply(), Reply::Concluded(JobId(1)));

    let listed = list(&opened);
    assert_eq!(listed.iter().map(|job| job.id.0).collect::<Vec<_>>(), [1]);
    assert_eq!(listed[0].reflection, Some(Reflection { rounds: Vec::new(), ..of.clone() }));
    assert_eq!(opened.show(1).expect("there").reflection, Some(of));
    assert_eq!(opened.show(2), None, "nobody knows of a stage");
    drop(opened);
    let report = check(root.path(), |_, _| {}).expect("looked at");
    assert_eq!((report.is_sound(), report.jobs, report.stages), (true, 1, 1), "{report:?}");
}

#[test]
fn a_job_is_told_its_ended_stages_after_a_restart() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(reflecting(1, "m"));
    let (blob, _hold) = opened.blobs.put_result(b"picture").expect("stored");
    let of_picture = |id, index| {
        let pictures = vec![Picture { blob, pixels: 4 }];
        JobRecord { pictures, ..stage(id, 1, 1, Role::Check(index)) }
    };
    let stages = [stage(2, 1, 1, Role::Image), of_picture(3, 1), of_picture(4, 0), of_picture(5, 2)];
    for record in stages.clone() {
        opened.submit(record);
    }
    let usage = Usage { parked_us: 5, ..Usage::default() };
    let answers = Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 0.5 }]);
    for (id, outcome) in [(2, image(blob)), (3, answers.clone()), (4, Outcome::Cancelled)] {
        opened.journal.write(Entry::Outcome {
            job: JobId(id),
            outcome,
            wait_us: 10,
            run_us: 20,
            backoff_us: 0,
            usage,
            reflection: None,
            unix_ms: now_ms(),
        });
        opened.reply();
    }
    drop((opened, _hold));

    let unfinished = open(root.path()).recovered.unfinished;
    let ended = [(0, image(blob)), (2, Outcome::Cancelled), (1, answers)].map(|(stage, outcome)| {
        let JobRecord { part, spec, .. } = stages[stage].clone();
        let part = part.expect("a stage");
        EndedPart { part, spec, outcome, wait_us: 10, backoff_us: 0, run_us: 20, usage }
    });
    let waiting = |record: JobRecord, ended: &[EndedPart], damage| Recovering {
        record,
        retry_at_unix_ms: None,
        ended: ended.to_vec(),
        damage,
    };
    let [first, last] = [unfinished[0].record.clone(), stages[3].clone()];
    assert_eq!(unfinished, [waiting(first, &ended, None), waiting(last, &[], None)]);

    fs::write(store(root.path(), &config()).path(blob.hash), b"rotten!").expect("written");
    let damages: Vec<_> = open(root.path()).recovered.unfinished.iter().map(|job| job.damage.is_some()).collect();
    assert_eq!(damages, [false, true], "a stage's picture is looked at, as any job's");
}

#[test]
fn a_stage_that_cannot_be_read_ends_its_job_and_a_job_that_has_ended_its_stages() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    for id in 1..=4 {
        opened.submit(reflecting(id, "m"));
        opened.submit(stage(10 * id, id, 1, Role::Image));
        opened.submit(stage(10 * id + 1, id, 1, Role::Check(0)));
    }
    // Of job 1 an ended stage cannot be read, of job 2 one that has not ended, job 3 cannot, and job 4 has ended.
    opened.end(10, Outcome::Cancelled);
    opened.end(4, Outcome::Cancelled);
    drop(opened);
    let database = Connection::open(root.path().join(FILE)).expect("opened");
    database.execute("UPDATE jobs SET record = '{' WHERE id IN (10, 20, 3)", []).expect("damaged");
    drop(database);
    let said = check(root.path(), |_, _| {}).expect("looked at").problems.join("\n");
    assert!(said.contains("job 40 has not ended, but job 4 has, whose stage it is"), "{said}");

    let opened = open(root.path());
    let damages = opened.recovered.unfinished.iter().map(|job| (job.record.id.0, job.damage.clone()));
    let told = |of, stage| Some(format!("a stage of job {of} is damaged: row of job {stage}: record cannot be read"));
    for ((id, damage), (expected, of, stage)) in damages.zip([(1, 1, 10), (2, 2, 20), (11, 1, 10), (21, 2, 20)]) {
        assert_eq!(id, expected);
        assert!(damage.clone().unwrap_or_default().starts_with(&told(of, stage).expect("text")), "{id}: {damage:?}");
    }
    assert_eq!(opened.recovered.unfinished.len(), 4);
    drop(opened);
    let database = Connection::open(root.path().join(FILE)).expect("opened");
    let sql = "SELECT count(*) FROM jobs WHERE id IN (30, 31, 40, 41) AND outcome = '\"cancelled\"'";
    let cancelled: i64 = database.query_row(sql, [], |row| row.get(0)).expect("counted");
    assert_eq!(cancelled, 4, "nobody waits for them any more");
    drop(database);
    // A stage that has ended does not make its job's next recovery better.
    assert!(open(root.path()).recovered.unfinished.iter().all(|job| job.damage.is_some()));
}

#[test]
fn a_stage_without_its_job_is_found() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(reflecting(1, "m"));
    opened.submit(stage(2, 1, 1, Role::Image));
    drop(opened);
    let database = Connection::open(root.path().join(FILE)).expect("opened");
    database.pragma_update(None, "foreign_keys", false).expect("set");
    database.execute("DELETE FROM jobs WHERE id = 1", []).expect("deleted");
    drop(database);
    let problems = check(root.path(), |_, _| {}).expect("looked at").problems;
    let lone = "job 2 is a stage of job 1, which is not there: bring back a backup of the state directory";
    assert_eq!(problems, [lone]);
}

/// A journal to which jobs come at random, and what it should hold: of each job its stages and whether it has ended.
struct Random {
    rng: Rng,
    store: Store,
    blobs: Arc<Blobs>,
    jobs: BTreeMap<u64, (BTreeSet<u64>, bool)>,
    next: u64,
}

impl Random {
    fn open(root: &Path, seed: u64) -> Self {
        let blobs = store(root, &config());
        // What has just ended is spared, so it lives an hour later.
        let settings = Settings { clock: Clock::new(HOUR_MS), ..Settings::default() };
        let store = Store::open(&settings, Arc::clone(&blobs)).expect("opened");
        Self { rng: Rng::with_seed(seed), store, blobs, jobs: BTreeMap::new(), next: 1 }
    }

    /// One of few files, so that jobs share them; or none.
    fn result(&mut self) -> (Outcome, Option<crate::blobs::Hold>) {
        let content = self.rng.u8(..12);
        if content >= 8 {
            return (Outcome::Cancelled, None);
        }
        let (blob, hold) = self.blobs.put_result(&[content; 100]).expect("stored");
        (image(blob), Some(hold))
    }

    /// A job with some stages, which has ended or not.
    fn come(&mut self) {
        let id = self.next;
        let mut entries = vec![Entry::Submission(Arc::new(reflecting(id, "m")))];
        let stages: BTreeSet<u64> = (id + 1..=id + self.rng.u64(..4)).collect();
        self.next = id + stages.len() as u64 + 1;
        let (mut rounds, mut holds) = (Vec::new(), Vec::new());
        for (number, &stage_id) in (1..).zip(&stages) {
            entries.push(Entry::Submission(Arc::new(stage(stage_id, id, number, Role::Image))));
            let (outcome, hold) = self.result();
            holds.extend(hold);
            rounds.push(round(number, outcome.blob(), Some(Verdict::Fail)));
            entries.push(ended(stage_id, outcome, now_ms()));
        }
        let has_ended = self.rng.bool();
        if has_ended {
            let outcome = rounds.last().and_then(|round| round.image).map_or(Outcome::Cancelled, |of| image(of.blob));
            entries.push(reflected(id, outcome, reflection(rounds), now_ms()));
        }
        let replies = self.store.write(&entries).expect("written");
        assert!(replies.iter().all(|reply| !matches!(reply, Reply::RecordFailed(..))), "{replies:?}");
        self.jobs.insert(id, (stages, has_ended));
    }

    /// Forgets some, and looks what is left.
    fn forget(&mut self, root: &Path) {
        let some = |rng: &mut Rng| if rng.bool() { rng.u64(..4) } else { 0 };
        let excess = Excess { oldest: some(&mut self.rng), with_files: some(&mut self.rng), before_unix_ms: 0 };
        self.store.forget(excess).expect("forgotten");
        let mut statement = self.store.connection.prepare("SELECT id, parent FROM jobs").expect("prepared");
        let number = |id: i64| id.unsigned_abs();
        let rows = statement
            .query_map([], |row| Ok((row.get(0).map(number)?, row.get::<_, Option<i64>>(1)?.map(number))))
            .expect("read");
        let there: BTreeMap<u64, Option<u64>> = rows.collect::<Result<_, _>>().expect("rows");
        drop(statement);
        let newest = there.keys().next_back().copied();
        assert_eq!(newest, Some(self.next - 1), "the newest row stays");
        for (id, (stages, has_ended)) in std::mem::take(&mut self.jobs) {
            let is_there = there.contains_key(&id);
            assert!(is_there || has_ended, "job {id} has not ended and is forgotten");
            for stage in &stages {
                assert_eq!(there.get(stage), is_there.then_some(&Some(id)), "stage {stage} of job {id}");
            }
            if is_there {
                self.jobs.insert(id, (stages, has_ended));
            }
        }
        let ended = self.jobs.values().filter(|(_, has_ended)| *has_ended).count();
        assert_eq!(self.store.kept(&RetentionConfig::default()).expect("counted").jobs, ended as u64);
        self.store.collect().expect("removed");
        let report = check(root, |_, _| {}).expect("looked at");
        assert!(report.is_sound() && report.orphans == 0, "{report:?}");
    }
}

#[test]
fn forgetting_leaves_no_stage_without_its_job_and_no_file_without_a_row() {
    for seed in 0..12 {
        let root = tempfile::tempdir().expect("a directory");
        let mut random = Random::open(root.path(), seed);
        let quality = |random: &Random| -> i64 {
            let sql = "SELECT count(*) FROM quality";
            random.store.connection.query_row(sql, [], |row| row.get(0)).expect("counted")
        };
        for _ in 0..8 {
            for _ in 0..random.rng.u64(1..4) {
                random.come();
            }
            let before = quality(&random);
            random.forget(root.path());
            assert_eq!(quality(&random), before, "what they came to is not forgotten with them");
        }
    }
}
