//! What keys do, and what the screen looks like.

mod keys;
mod screens;

use gpusched_client::shared::{
    Activity, Answer, ClassView, EngineView, LaneView, PartitionView, Phase, StorageView, Usage,
};
use gpusched_client::{
    BlobHash, BlobRef, FailureKind, JobId, JobState, JobView, Outcome, QueueView, Reflection, Size, StatusView,
    Verdict, txt2img, vqa,
};

use super::snapshot::Snapshot;
use super::state::{Event, Key, State};
use super::theme::Theme;

/// The moment of every snapshot.
const NOW_UNIX_MS: u64 = 1_796_000_000_000;

fn picture(id: u64, prompt: &str, state: JobState) -> JobView {
    JobView {
        id: JobId(id),
        uid: 1000,
        class: "heavy".to_owned(),
        spec: txt2img(prompt).steps(20).seed(1).size(64, 64).model("flux").into(),
        attached: false,
        state,
        attempts: 1,
        submitted_unix_ms: NOW_UNIX_MS - 90_000,
        wait_us: 12_340_000,
        run_us: 8_100_000,
        usage: Usage::default(),
        retries: 0,
        backoff_us: 0,
        reflection: None,
    }
}

fn question(id: u64, text: &str, state: JobState) -> JobView {
    JobView { class: "light".to_owned(), spec: vqa(text).model("vilt").into(), ..picture(id, "", state) }
}

fn working(done: u32, parked: bool) -> JobState {
    JobState::Running { lane: 0, activity: Activity::Working { done, of: 20 }, parked }
}

fn made() -> JobState {
    let blob = BlobRef { hash: BlobHash([7; 32]), bytes: 1500 };
    JobState::Done(Outcome::Image { blob, size: Size { width: 64, height: 64 }, truncated_tokens: 0 })
}

fn place(view: &JobView, starts_in_ms: Option<u64>) -> QueueView {
    QueueView {
        class: view.class.clone(),
        job: view.id,
        lane: None,
        priority: view.spec.priority,
        model: view.spec.model.clone().unwrap_or_default(),
        waited_ms: 12_340,
        starts_in_ms,
        ends_in_ms: None,
    }
}

fn class(name: &str, queued: u32, running: u32, finished: u64) -> ClassView {
    ClassView {
        name: name.to_owned(),
        queued,
        running,
        backing_off: 0,
        finished,
        out_of_memory: 0,
        paused: false,
        partition: PartitionView { cap_bytes: 14 << 30, weights_bytes: 1 << 29, ..PartitionView::default() },
    }
}

/// A daemon that has just begun.
fn idle() -> Snapshot {
    let lane = |class: &str, index| LaneView { class: class.to_owned(), index, job: None };
    let lanes = std::iter::once(lane("heavy", 0)).chain((0..4).map(|index| lane("light", index)));
    let status = StatusView {
        version: "0.1.0".to_owned(),
        uptime_ms: 4200,
        draining: false,
        classes: vec![class("heavy", 0, 0, 0), class("light", 0, 0, 0)],
        lanes: lanes.collect(),
        models: Vec::new(),
        preemption: Vec::new(),
        engine: EngineView { up: true, pid: Some(4711), deaths: 0 },
        storage: StorageView {
            journal_bytes: 3 << 20,
            blob_bytes: 120 << 20,
            blob_quota_bytes: 20 << 30,
            free_bytes: 90 << 30,
            low_water_bytes: 256 << 20,
        },
    };
    Snapshot {
        now_unix_ms: NOW_UNIX_MS,
        status,
        waiting: Vec::new(),
        waiting_count: 0,
        jobs: [].into(),
        ended: Vec::new(),
    }
}

/// A daemon with its hands full: a parked picture, checks of another, someone else's question, queues, and a history.
fn busy() -> Snapshot {
    let mut seen = idle();
    let status = &mut seen.status;
    status.uptime_ms = 7_500_000;
    status.engine.deaths = 1;
    status.classes[0] = ClassView {
        backing_off: 1,
        out_of_memory: 5,
        partition: PartitionView {
            cap_bytes: 34 << 30,
            weights_bytes: 8 << 30,
            leased_bytes: 17 << 30,
            live_bytes: 24 << 30,
            peak_bytes: 30 << 30,
        },
        ..class("heavy", 3, 1, 40)
    };
    status.classes[1] = ClassView { paused: true, ..class("light", 2, 3, 1234) };
    for (lane, job) in [(0, 7), (1, 12), (2, 9), (3, 0)] {
        status.lanes[lane].job = Some(JobId(job));
    }

    let mut first = picture(7, "a red circle left of a blue square", working(13, true));
    first.usage.yields = 2;
    let running = JobState::Running { lane: 0, activity: Activity::Starting, parked: false };
    let asked = question(12, "what color is the shape?", running);
    let checking = JobState::Reflecting { round: 2, of: 4, phase: Phase::Checking { done: 3, of: 5 } };
    let reflecting = picture(9, "a green triangle", checking);
    let next = picture(10, "two yellow squares", JobState::Queued { ahead: 0 });
    let mut later = picture(
        11,
        "画像: a very long prompt that does not fit on a line of a small screen, whatever one does",
        JobState::Queued { ahead: 1 },
    );
    later.spec.priority = -5;
    let again = picture(8, "a huge picture", JobState::BackingOff { retry: 2, within_ms: 12_000 });
    seen.waiting = vec![place(&next, Some(8_400)), place(&later, Some(41_000)), place(&again, None)];
    seen.waiting.push(QueueView {
        class: "light".to_owned(),
        job: JobId(0),
        model: String::new(),
        ..place(&again, None)
    });
    seen.waiting_count = 4;
    seen.jobs = [first, asked, reflecting, next, later, again].map(|job| (job.id, job)).into();

    let failed = JobState::Done(Outcome::Failed { kind: FailureKind::Engine, message: "it\u{1b}[31mdied".to_owned() });
    let answer = Answer { label: "red".to_owned(), score: 0.9 };
    let mut passed = picture(3, "a blue square", made());
    passed.reflection = Some(Reflection { rounds: Vec::new(), best: Some(1), verdict: Some(Verdict::Pass), end: None });
    seen.ended = vec![
        question(6, "how many shapes are there?", JobState::Done(Outcome::Answers(vec![answer]))),
        picture(5, "a cat", JobState::Done(Outcome::Cancelled)),
        picture(4, "a dog", failed),
        passed,
    ];
    seen
}

/// A state that has seen this.
fn seeing(snapshot: Snapshot) -> State {
    let mut state = State::new(Theme::PLAIN, true);
    assert_eq!(state.update(Event::Seen(Box::new(snapshot))), None);
    state
}

/// Types these keys; none of them may do anything to the daemon.
fn type_keys(state: &mut State, keys: &str) {
    for key in keys.chars() {
        assert_eq!(state.update(Event::Key(Key::Character(key))), None, "{key}");
    }
}
