//! A record in which everything happened once or a few times, always the same: what there is to count is known.

use gpusched_client::report::{ClassInfo, Comparison, Latency, Record, Shown};
use gpusched_client::shared::{
    About, AttemptEnd, Checked, LaneSpan, MemoryEvent, MemorySample, Parked, QualityView, ReflectEnd, Reflection,
    Round, RoundImage, StageRole, Success, TaskKind, TrendPoint, Usage,
};
use gpusched_client::{
    Answer, BlobHash, BlobRef, FailureKind, ImageSpec, JobId, JobSpec, JobState, JobView, Outcome, Size, Task, Verdict,
    VqaSpec,
};
use image::RgbImage;

/// When it begins, in milliseconds since the Unix epoch, and how long it is.
pub(crate) const BEGIN: u64 = 1_795_362_000_000;
pub(crate) const LENGTH: u64 = 60_000;

/// What would do harm in a page, if it were taken for more than text.
pub(crate) const HOSTILE: &str = "</style><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> a \"red\" & 'blue' circle";

fn image() -> JobSpec {
    JobSpec::new(Task::Txt2Img(ImageSpec::new(HOSTILE)))
}

fn question() -> JobSpec {
    JobSpec::new(Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 1 }))
}

fn blob() -> BlobRef {
    BlobRef { hash: BlobHash([7; 32]), bytes: 100 }
}

fn made() -> Outcome {
    Outcome::Image { blob: blob(), size: Size { width: 64, height: 64 }, truncated_tokens: 0 }
}

fn job(id: u64, class: &str, spec: JobSpec, at_ms: u64, (wait_ms, run_ms): (u64, u64), outcome: Outcome) -> JobView {
    JobView {
        id: JobId(id),
        uid: 1000,
        class: class.to_owned(),
        spec,
        attached: false,
        state: JobState::Done(outcome),
        attempts: 1,
        submitted_unix_ms: BEGIN + at_ms,
        wait_us: wait_ms * 1000,
        run_us: run_ms * 1000,
        usage: Usage::default(),
        retries: 0,
        backoff_us: 0,
        reflection: None,
    }
}

/// On a lane between two times, and parked between others, in milliseconds since the beginning and since its own.
fn span(lane: &str, job: u64, (from, until): (u64, u64), parked: &[(u64, u64)], end: AttemptEnd) -> LaneSpan {
    let is_image = lane.starts_with("heavy");
    let about = About {
        job: JobId(job),
        attempt: 1,
        role: if job == 4 { StageRole::Image } else { StageRole::Whole },
        round: u8::from(job == 4),
        kind: if is_image { TaskKind::Txt2Img } else { TaskKind::Vqa },
        model: if is_image { "flux2-klein-tiny" } else { "vilt-tiny" }.to_owned(),
        peak_bytes: if is_image { 4_000_000_000 + job * 10_000_000 } else { 300_000_000 },
    };
    LaneSpan {
        lane: lane.to_owned(),
        started_unix_ms: BEGIN + from,
        ended_unix_ms: Some(BEGIN + until),
        end: Some(end),
        parked: parked.iter().map(|&(from, until)| Parked { from_us: from * 1000, until_us: until * 1000 }).collect(),
        about: Some(about),
    }
}

fn sample(at_ms: u64, class: &str, event: MemoryEvent, used_gb: u64) -> MemorySample {
    let (reserved, cap) = if class == "heavy" { (33, 34) } else { (2, 14) };
    MemorySample {
        unix_ms: BEGIN + at_ms,
        class: class.to_owned(),
        event,
        used_bytes: used_gb * 1_000_000_000,
        reserved_bytes: reserved * 1_000_000_000,
        cap_bytes: cap * 1_000_000_000,
        resident_bytes: 0,
    }
}

fn round(number: u8, prompt: &str, answer: &str, verdict: Verdict) -> Round {
    let passed = verdict == Verdict::Pass;
    let check = |question: &str, expected: &str, answer: &str, passed| Checked {
        question: question.to_owned(),
        expected: expected.to_owned(),
        answer: Some(answer.to_owned()),
        confidence: if passed { 0.97 } else { 0.12 },
        passed,
    };
    Round {
        number,
        prompt: prompt.to_owned(),
        seed: u64::from(number),
        steps: 20,
        guidance: None,
        image: Some(RoundImage { blob: blob(), size: Size { width: 64, height: 64 }, truncated_tokens: 0 }),
        checks: vec![
            check("is there a red circle?", "yes", "yes", true),
            check("what color is the circle?", "red", answer, passed),
        ],
        verdict: Some(verdict),
        score: if passed { 0.97 } else { 0.34 },
        image_us: 9_000_000,
        check_us: 400_000,
        rejected_early: false,
    }
}

fn quality() -> QualityView {
    let success = |jobs, first_passed, passed| Success {
        jobs,
        first_passed,
        passed,
        rounds: 2 * jobs,
        checks: 6 * jobs,
        image_us: jobs * 1_000_000,
        check_us: jobs * 100_000,
    };
    let counts = [(10, 4, 7), (10, 5, 8), (10, 5, 9), (10, 7, 9), (10, 6, 10)];
    let point = |(n, (jobs, first, passed)): (u64, _)| TrendPoint {
        until_unix_ms: BEGIN + n * 10_000,
        success: success(jobs, first, passed),
    };
    let trend: Vec<TrendPoint> = (1..).zip(counts).map(point).collect();
    QualityView { overall: success(50, 27, 43), recent: success(50, 27, 43), window: 50, models: Vec::new(), trend }
}

fn compared() -> Comparison {
    let latency = |class: &str, wait_s: f64, run_s: f64| Latency {
        class: class.to_owned(),
        jobs: 5,
        wait_mean_us: wait_s * 1e6,
        run_mean_us: run_s * 1e6,
        p99_us: (wait_s * 2e6) as u64 + (run_s * 1e6) as u64,
    };
    Comparison {
        title: "10 images and 5 questions, made up".to_owned(),
        fifo: vec![latency("heavy", 0.6, 19.6), latency("light", 15.3, 1.6)],
        multi_queue: vec![latency("heavy", 0.0, 20.4), latency("light", 0.0, 1.6)],
        baseline: None,
    }
}

/// A PNG file of a circle.
fn circle(color: [u8; 3]) -> Vec<u8> {
    let picture = RgbImage::from_fn(64, 64, |x, y| {
        let inside = (f64::from(x) - 31.5).hypot(f64::from(y) - 31.5) < 18.0;
        image::Rgb(if inside { color } else { [240, 240, 235] })
    });
    let mut png = Vec::new();
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).expect("a picture");
    png
}

/// Four images one after the other and six answers beside them, three flushes, memory that ran out once, one image made in two rounds.
pub(crate) fn record() -> Record {
    let class = |name: &str, lanes, cap_gb: u64, makes_way| ClassInfo {
        name: name.to_owned(),
        lanes,
        cap_bytes: cap_gb * 1_000_000_000,
        makes_way,
    };
    let done = AttemptEnd::Done;
    let heavy = [
        span("heavy-0", 1, (500, 15_000), &[(3_000, 4_600), (9_000, 10_500)], done),
        span("heavy-0", 2, (15_200, 24_000), &[], AttemptEnd::OutOfMemory),
        span("heavy-0", 2, (26_000, 42_000), &[(4_000, 6_000)], done),
        span("heavy-0", 4, (42_300, 58_000), &[(5_000, 6_500)], done),
    ];
    let light = [
        (0, 3_500, 5_100),
        (1, 9_500, 11_000),
        (0, 30_000, 31_900),
        (2, 30_300, 32_000),
        (0, 47_400, 48_800),
        (3, 47_300, 48_700),
    ];
    let light = light
        .iter()
        .enumerate()
        .map(|(n, &(lane, from, until))| span(&format!("light-{lane}"), 10 + n as u64, (from, until), &[], done));
    let flush =
        |at| [sample(at, "heavy", MemoryEvent::Flushing, 31), sample(at + 50, "heavy", MemoryEvent::Flushed, 30)];
    let used = |at, used| sample(at, "heavy", MemoryEvent::Looked, used);
    let mut memory = vec![sample(0, "heavy", MemoryEvent::Loaded, 30), sample(0, "light", MemoryEvent::Loaded, 1)];
    memory.extend(flush(400));
    memory.extend([used(4_000, 32), used(8_000, 33), used(14_900, 33), used(15_100, 31)]);
    memory.extend([used(20_000, 33), sample(24_000, "heavy", MemoryEvent::OutOfMemory, 34)]);
    memory.extend(flush(25_900));
    memory.extend([used(30_000, 32), used(41_900, 33)]);
    memory.extend(flush(42_200));
    memory.extend([used(46_000, 32), used(57_900, 33), sample(58_100, "heavy", MemoryEvent::Ended, 30)]);
    memory.extend((0..6).map(|n| sample(3_600 + n * 9_000, "light", MemoryEvent::Began, 1 + n % 2)));
    memory.sort_by_key(|sample| sample.unix_ms);

    let answer = || Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 0.9 }]);
    let failed = Outcome::Failed { kind: FailureKind::Input, message: "no".to_owned() };
    let reflection = Reflection {
        rounds: vec![round(1, HOSTILE, "blue", Verdict::Fail), round(2, "a red circle, red", "red", Verdict::Pass)],
        best: Some(2),
        verdict: Some(Verdict::Pass),
        end: Some(ReflectEnd::Passed),
    };
    let reflected = JobView { reflection: Some(reflection), ..job(4, "heavy", image(), 42_000, (300, 15_700), made()) };
    let mut jobs = vec![
        job(1, "heavy", image(), 200, (300, 14_500), made()),
        job(2, "heavy", image(), 300, (14_900, 24_800), made()),
        job(3, "heavy", image(), 400, (0, 0), Outcome::Cancelled),
        JobView { reflection: None, ..reflected.clone() },
        job(5, "light", question(), 500, (0, 10), failed),
    ];
    jobs.extend((0..6).map(|n| job(10 + n, "light", question(), 3_500 + n * 9_000, (0, 1_600), answer())));
    Record {
        title: "gpuschedd, made up".to_owned(),
        policy: "multi-queue".to_owned(),
        since_unix_ms: BEGIN,
        until_unix_ms: BEGIN + LENGTH,
        classes: vec![class("heavy", 1, 34, true), class("light", 4, 14, false)],
        spans: heavy.into_iter().chain(light).collect(),
        memory,
        jobs,
        quality: Some(quality()),
        shown: vec![Shown { job: reflected, pictures: vec![(1, circle([60, 80, 200])), (2, circle([210, 50, 50]))] }],
        comparison: Some(compared()),
        left_out: vec!["This was made up by a test.".to_owned()],
    }
}
