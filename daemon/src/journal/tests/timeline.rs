//! What ran when, and what memory was in use.

use gpusched_core::{Part, Role};
use gpusched_shared::{Cursor, LaneSpan, MemoryEvent, MemorySample, Parked, StageRole, TaskKind, TimelinePage, Track};

use super::*;
use crate::journal::timeline::SAMPLES;

const ALWAYS: (u64, u64) = (0, u64::MAX);

impl Opened {
    fn page(
        &self,
        track: Track,
        uid: Option<Uid>,
        between_unix_ms: (u64, u64),
        before: Option<Cursor>,
        limit: u32,
    ) -> (TimelinePage, Option<Cursor>) {
        let (reply, answer) = oneshot::channel();
        self.journal.ask(Query::Timeline { track, uid, between_unix_ms, before, limit, reply });
        answer.blocking_recv().expect("an answer")
    }

    fn spans(&self, uid: Option<Uid>, between: (u64, u64), limit: u32) -> Vec<LaneSpan> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let (TimelinePage::Lanes(spans), next) = self.page(Track::Lanes, uid, between, before, limit) else {
                panic!("lanes were asked for")
            };
            all.extend(spans);
            before = next;
            if before.is_none() {
                return all;
            }
        }
    }

    fn samples(&self, limit: u32) -> Vec<MemorySample> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let (TimelinePage::Memory(samples), next) = self.page(Track::Memory, None, ALWAYS, before, limit) else {
                panic!("memory was asked for")
            };
            all.extend(samples);
            before = next;
            if before.is_none() {
                return all;
            }
        }
    }

    fn ran(&self, job: u64, attempt: u32, (from, until): (u64, u64), end: AttemptEnd, stay: Stay) {
        let job = JobId(job);
        self.journal.write(Entry::Attempt { job, attempt, lane: "light-0".to_owned(), unix_ms: from });
        self.journal.write(Entry::AttemptEnd { job, attempt, end, stay, unix_ms: until });
    }
}

fn sample(unix_ms: u64, event: MemoryEvent, used_bytes: u64) -> MemorySample {
    let class = "light".to_owned();
    MemorySample { unix_ms, class, event, used_bytes, reserved_bytes: 20, cap_bytes: 30, resident_bytes: 0 }
}

#[test]
fn what_ran_is_told_page_by_page_and_to_others_only_where() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(JobRecord { uid: 7, ..record(1) });
    opened.submit(JobRecord { uid: 8, ..record(2) });
    let part = Part { of: JobId(1), round: 2, role: Role::Check(0) };
    opened.submit(JobRecord { uid: 7, part: Some(part), ..record(3) });
    let stay = Stay { parked: vec![Parked { from_us: 5, until_us: 9 }], peak_bytes: 77 };
    opened.ran(1, 1, (100, 110), AttemptEnd::OutOfMemory, Stay::default());
    // Two at one moment, as fast failures are.
    opened.ran(1, 2, (120, 120), AttemptEnd::Failed, Stay::default());
    opened.ran(1, 3, (120, 130), AttemptEnd::Done, stay.clone());
    opened.ran(2, 1, (120, 140), AttemptEnd::Done, Stay::default());
    opened.ran(3, 1, (150, 160), AttemptEnd::Done, Stay::default());
    opened.journal.write(Entry::Attempt { job: JobId(2), attempt: 2, lane: "light-0".to_owned(), unix_ms: 170 });

    for limit in [1, 2, 3, 5, 6, 400] {
        let starts: Vec<_> = opened.spans(None, ALWAYS, limit).iter().map(|span| span.started_unix_ms).collect();
        assert_eq!(starts, [170, 150, 120, 120, 120, 100], "pages of {limit}");
    }
    let within: Vec<_> = opened.spans(None, (120, 170), 2).iter().map(|span| span.started_unix_ms).collect();
    assert_eq!(within, [150, 120, 120, 120]);

    let own = opened.spans(Some(7), ALWAYS, 400);
    let owned: Vec<_> = own.iter().map(|span| span.about.as_ref().map(|about| (about.job.0, about.attempt))).collect();
    assert_eq!(owned, [None, Some((1, 1)), None, Some((1, 3)), Some((1, 2)), Some((1, 1))]);
    assert_eq!((own[0].lane.as_str(), own[0].ended_unix_ms, own[0].end), ("light-0", None, None));
    assert_eq!((&own[3].parked, own[3].ended_unix_ms), (&stay.parked, Some(130)));
    let about = own[3].about.as_ref().expect("own");
    assert_eq!((about.role, about.round, about.kind, about.peak_bytes), (StageRole::Whole, 0, TaskKind::Vqa, 77));
    let check = own[1].about.as_ref().expect("own");
    assert_eq!((check.role, check.round), (StageRole::Check, 2), "a stage is told as its job's");
    assert!(opened.spans(None, ALWAYS, 400).iter().all(|span| span.about.is_some()), "admins see all");
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(record(1));
    opened.submit(record(2));
    opened.ran(1, 1, (100, 110), AttemptEnd::Done, Stay::default());
    opened.ran(2, 1, (120, 130), AttemptEnd::Done, Stay::default());
    assert_eq!(opened.spans(None, ALWAYS, 1).len(), 2);
    let database = Connection::open(root.path().join(FILE)).expect("opened");
    database.execute("UPDATE attempts SET parked = '[1]' WHERE job = 1", []).expect("spoilt");
    assert_eq!(opened.spans(None, ALWAYS, 1).iter().map(|span| span.started_unix_ms).collect::<Vec<_>>(), [120]);
    let report = check(root.path(), |_, _| {}).expect("looked at");
    assert!(report.problems[0].contains("parked"), "{report:?}");
}

#[test]
fn samples_of_memory_are_thinned_but_for_peaks_and_what_happened() {
    let root = tempfile::tempdir().expect("a directory");
    let opened = open(root.path());
    let (peak, oom) = (101, 205);
    let many = u64::try_from(20 * SAMPLES).expect("a number");
    for n in 0..many {
        let event = if n == oom { MemoryEvent::OutOfMemory } else { MemoryEvent::Looked };
        let used = if n == peak { 29 } else { 10 };
        opened.journal.write(Entry::Memory(sample(n, event, used)));
    }
    let kept = opened.samples(400);
    assert!(i64::try_from(kept.len()).expect("a number") <= SAMPLES + 1000, "{}", kept.len());
    let newest: Vec<_> = kept.iter().take(1000).map(|sample| sample.unix_ms).collect();
    assert_eq!(newest, (many - 1000..many).rev().collect::<Vec<_>>(), "the newest are all there");
    assert!(kept.iter().any(|sample| (sample.unix_ms, sample.used_bytes) == (peak, 29)));
    assert!(kept.iter().any(|sample| (sample.unix_ms, sample.event) == (oom, MemoryEvent::OutOfMemory)));
    let between = |from, until| kept.iter().filter(|sample| (from..until).contains(&sample.unix_ms)).count();
    assert!(between(0, many / 4) > 10 && between(many / 2, 3 * many / 4) > 30, "and the old, coarser");
}

#[test]
fn flushes_of_version_4_are_kept() {
    let root = tempfile::tempdir().expect("a directory");
    old(root.path(), 4)
        .execute_batch("INSERT INTO flushes VALUES (5, 'heavy', 9, 4, 90, 40), (7, 'heavy', 8, 3, 80, 30)")
        .expect("inserted");
    let kept = open(root.path()).samples(3);
    let told: Vec<_> =
        kept.iter().map(|kept| (kept.unix_ms, kept.event, kept.used_bytes, kept.resident_bytes)).collect();
    let (before, after) = (MemoryEvent::Flushing, MemoryEvent::Flushed);
    assert_eq!(told, [(7, after, 3, 30), (7, before, 8, 80), (5, after, 4, 40), (5, before, 9, 90)]);
}
