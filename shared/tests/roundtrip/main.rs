//! Whatever can be said arrives as it was said, and no bytes make the decoder panic.

mod edit;
mod reflection;
mod timeline;

use edit::{region_outcome, region_task, stage};
use gpusched_shared::codec::{decode, encode};
use gpusched_shared::{
    Activity, Answer, AttemptEnd, AttemptView, BlobHash, BlobRef, ClassView, EngineView, Explanation, FailureKind,
    ImageSpec, JobId, JobSpec, JobState, JobView, LaneView, ModelView, OutOfMemory, Outcome, PartitionView,
    PreemptionView, QueueView, Quota, Reason, Rejection, Request, Response, RouteView, RuleView, Size, StatusView,
    StorageView, Task, TimeLimit, Update, Usage, VqaSpec,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use reflection::{phase, quality, reflect, reflection};
use timeline::{cursor, timeline, track};

fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}

fn size() -> impl Strategy<Value = Size> {
    any::<(u32, u32)>().prop_map(|(width, height)| Size { width, height })
}

fn image() -> impl Strategy<Value = ImageSpec> {
    // Not NaN, which no comparison finds equal to itself.
    (text(), any::<Option<u64>>(), any::<Option<u32>>(), of(size()), of(-1e9f32..1e9))
        .prop_map(|(prompt, seed, steps, size, guidance)| ImageSpec { prompt, seed, steps, size, guidance })
}

fn spec() -> impl Strategy<Value = JobSpec> {
    let task = prop_oneof![
        image().prop_map(Task::Txt2Img),
        image().prop_map(Task::Img2Img),
        (text(), any::<u8>()).prop_map(|(question, top)| Task::Vqa(VqaSpec { question, top })),
        region_task(image()),
    ];
    (task, of(text()), any::<(i8, Option<u64>, Option<u64>, Option<u64>)>(), of(reflect())).prop_map(
        |(task, model, (priority, deadline_ms, queue_timeout_ms, run_timeout_ms), reflect)| JobSpec {
            task,
            model,
            priority,
            deadline_ms,
            queue_timeout_ms,
            run_timeout_ms,
            reflect: reflect.map(Box::new),
        },
    )
}

fn blob() -> impl Strategy<Value = BlobRef> {
    any::<([u8; 32], u64)>().prop_map(|(hash, bytes)| BlobRef { hash: BlobHash(hash), bytes })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let oom = (text(), any::<(u64, u64, u64)>()).prop_map(|(partition, (requested_bytes, used_bytes, cap_bytes))| {
        FailureKind::OutOfMemory(OutOfMemory { partition, requested_bytes, used_bytes, cap_bytes })
    });
    let kind = prop_oneof![
        Just(FailureKind::Input),
        Just(FailureKind::Model),
        Just(FailureKind::Engine),
        oom,
        any::<u32>().prop_map(|deaths| FailureKind::Quarantined { deaths }),
        Just(FailureKind::Storage),
        Just(FailureKind::ChecksFailed),
    ];
    let limit = prop_oneof![Just(TimeLimit::Deadline), Just(TimeLimit::QueueTimeout), Just(TimeLimit::RunTimeout)];
    let answer = (text(), 0f32..1.0).prop_map(|(label, score)| Answer { label, score });
    prop_oneof![
        (blob(), size(), any::<u32>()).prop_map(|(blob, size, truncated_tokens)| Outcome::Image {
            blob,
            size,
            truncated_tokens
        }),
        vec(answer, 0..5).prop_map(Outcome::Answers),
        (kind, text()).prop_map(|(kind, message)| Outcome::Failed { kind, message }),
        Just(Outcome::Cancelled),
        limit.prop_map(|limit| Outcome::Expired { limit }),
        region_outcome(blob(), size()),
    ]
}

fn activity() -> impl Strategy<Value = Activity> {
    prop_oneof![
        Just(Activity::Starting),
        any::<(u32, u32)>().prop_map(|(done, of)| Activity::Loading { done, of }),
        any::<(u32, u32)>().prop_map(|(done, of)| Activity::Working { done, of }),
    ]
}

fn state() -> impl Strategy<Value = JobState> {
    prop_oneof![
        any::<u32>().prop_map(|ahead| JobState::Queued { ahead }),
        (any::<(u32, bool)>(), activity()).prop_map(|((lane, parked), activity)| JobState::Running {
            lane,
            activity,
            parked
        }),
        any::<(u32, u64)>().prop_map(|(retry, within_ms)| JobState::BackingOff { retry, within_ms }),
        (any::<(u8, u8)>(), phase()).prop_map(|((round, of), phase)| JobState::Reflecting { round, of, phase }),
        outcome().prop_map(JobState::Done),
    ]
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<(u64, u32, u64, u64)>().prop_map(|(parked_us, yields, longest_gap_us, peak_bytes)| Usage {
        parked_us,
        yields,
        longest_gap_us,
        peak_bytes,
    })
}

fn view() -> impl Strategy<Value = JobView> {
    let times = any::<(u64, u64, u64, u64)>();
    (any::<(u64, u32, bool, u32, u32)>(), text(), spec(), state(), times, usage(), of(reflection())).prop_map(
        |((id, uid, attached, attempts, retries), class, spec, state, times, usage, reflection)| {
            let (submitted_unix_ms, wait_us, run_us, backoff_us) = times;
            JobView {
                id: JobId(id),
                uid,
                class,
                spec,
                attached,
                state,
                attempts,
                submitted_unix_ms,
                wait_us,
                run_us,
                usage,
                retries,
                backoff_us,
                reflection,
            }
        },
    )
}

fn class() -> impl Strategy<Value = ClassView> {
    (text(), any::<(u32, u32, u32, u64, u64, bool)>(), any::<[u64; 5]>()).prop_map(
        |(
            name,
            (queued, running, backing_off, finished, out_of_memory, paused),
            [cap_bytes, weights_bytes, leased_bytes, live_bytes, peak_bytes],
        )| {
            let partition = PartitionView { cap_bytes, weights_bytes, leased_bytes, live_bytes, peak_bytes };
            ClassView { name, queued, running, backing_off, finished, out_of_memory, paused, partition }
        },
    )
}

fn preemption() -> impl Strategy<Value = PreemptionView> {
    (text(), any::<[u64; 7]>()).prop_map(
        |(class, [parked, p50_us, p99_us, max_us, missed, refused, longest_gap_us])| PreemptionView {
            class,
            parked,
            p50_us,
            p99_us,
            max_us,
            missed,
            refused,
            longest_gap_us,
        },
    )
}

fn status() -> impl Strategy<Value = StatusView> {
    let lane = (text(), any::<(u32, Option<u64>)>()).prop_map(|(class, (index, job))| LaneView {
        class,
        index,
        job: job.map(JobId),
    });
    let model = (text(), text(), any::<u64>(), vec(text(), 0..3)).prop_map(|(name, kind, bytes, resident)| ModelView {
        name,
        kind,
        bytes,
        resident,
    });
    let parts = (vec(class(), 0..4), vec(lane, 0..4), vec(model, 0..4), vec(preemption(), 0..3));
    let engine = any::<(bool, Option<u32>, u64)>().prop_map(|(up, pid, deaths)| EngineView { up, pid, deaths });
    let storage =
        any::<[u64; 5]>().prop_map(|[journal_bytes, blob_bytes, blob_quota_bytes, free_bytes, low_water_bytes]| {
            StorageView { journal_bytes, blob_bytes, blob_quota_bytes, free_bytes, low_water_bytes }
        });
    (text(), any::<(u64, bool)>(), parts, engine, storage).prop_map(
        |(version, (uptime_ms, draining), (classes, lanes, models, preemption), engine, storage)| StatusView {
            version,
            uptime_ms,
            draining,
            classes,
            lanes,
            models,
            preemption,
            engine,
            storage,
        },
    )
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        any::<(u32, u64)>().prop_map(|(jobs, lane_ms)| Reason::Behind { jobs, lane_ms }),
        (text(), any::<u32>()).prop_map(|(class, lanes)| Reason::LanesBusy { class, lanes }),
        any::<u64>().prop_map(|job| Reason::OneAtATime { job: JobId(job) }),
        (text(), any::<(u64, u64, u64)>()).prop_map(|(class, (needs_bytes, free_bytes, cap_bytes))| Reason::Memory {
            class,
            needs_bytes,
            free_bytes,
            cap_bytes
        }),
        (text(), vec(text(), 0..3)).prop_map(|(model, evicts)| Reason::Evicting { model, evicts }),
        (text(), any::<u64>()).prop_map(|(model, at_most_ms)| Reason::Batching { model, at_most_ms }),
        any::<u32>().prop_map(|limit| Reason::RunningQuota { limit }),
        text().prop_map(|class| Reason::Paused { class }),
        Just(Reason::Stopping),
        any::<(u32, u32, u64)>().prop_map(|(retry, budget, within_ms)| Reason::BackingOff { retry, budget, within_ms }),
        Just(Reason::EngineDown),
        any::<u64>().prop_map(|job| Reason::Suspect { job: JobId(job) }),
        vec(text(), 0..3).prop_map(|classes| Reason::Parked { classes }),
    ]
}

fn explanation() -> impl Strategy<Value = Explanation> {
    (view(), vec(reason(), 0..4), any::<(Option<u64>, Option<u64>)>())
        .prop_map(|(job, reasons, (starts_in_ms, ends_in_ms))| Explanation { job, reasons, starts_in_ms, ends_in_ms })
}

fn place() -> impl Strategy<Value = QueueView> {
    (text(), text(), any::<(u64, Option<u32>, i8, u64, Option<u64>, Option<u64>)>()).prop_map(
        |(class, model, (job, lane, priority, waited_ms, starts_in_ms, ends_in_ms))| {
            let job = JobId(job);
            QueueView { class, job, lane, priority, model, waited_ms, starts_in_ms, ends_in_ms }
        },
    )
}

fn route() -> impl Strategy<Value = RouteView> {
    let rule = (text(), of(text())).prop_map(|(rule, fails)| RuleView { rule, fails });
    (of(text()), vec(rule, 0..4), any::<(u64, u64, Option<u64>)>()).prop_map(
        |(class, rules, (run_bytes, weights_bytes, run_ms))| RouteView {
            class,
            rules,
            run_bytes,
            weights_bytes,
            run_ms,
        },
    )
}

fn attempt() -> impl Strategy<Value = AttemptView> {
    let end = prop_oneof![
        Just(AttemptEnd::Done),
        Just(AttemptEnd::Failed),
        Just(AttemptEnd::Stopped),
        Just(AttemptEnd::OutOfMemory),
        Just(AttemptEnd::EngineLost),
    ];
    (text(), any::<(u32, u64, Option<u64>)>(), of(end)).prop_map(
        |(lane, (attempt, started_unix_ms, ended_unix_ms), end)| AttemptView {
            attempt,
            lane,
            started_unix_ms,
            ended_unix_ms,
            end,
        },
    )
}

fn rejection() -> impl Strategy<Value = Rejection> {
    let quota = prop_oneof![Just(Quota::QueuedPerUid), Just(Quota::RunningPerUid), Just(Quota::JobsPerConnection)];
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(least, most)| Rejection::Version { least, most }),
        Just(Rejection::Handshake),
        text().prop_map(|reason| Rejection::Malformed { reason }),
        (text(), any::<(u8, u8, u8)>()).prop_map(|(task, (least, most, got))| Rejection::WrongImageCount {
            task,
            least,
            most,
            got
        }),
        (text(), any::<(u32, u64)>()).prop_map(|(class, (limit, retry_after_ms))| Rejection::QueueFull {
            class,
            limit,
            retry_after_ms
        }),
        (quota, any::<u32>()).prop_map(|(quota, limit)| Rejection::QuotaExceeded { quota, limit }),
        (text(), text(), any::<[u64; 3]>()).prop_map(|(class, model, [weights_bytes, run_bytes, cap_bytes])| {
            Rejection::NeverFits { class, model, weights_bytes, run_bytes, cap_bytes }
        }),
        text().prop_map(|action| Rejection::NotAllowed { action }),
        (text(), text()).prop_map(|(name, available)| Rejection::NoSuchClass { name, available }),
        (any::<u64>(), text()).prop_map(|(job, state)| Rejection::HasEnded { job: JobId(job), state }),
        any::<u64>().prop_map(|job| Rejection::NoSuchJob { job: JobId(job) }),
        any::<u64>().prop_map(|job| Rejection::KeyConflict { job: JobId(job) }),
        any::<(u64, u64)>()
            .prop_map(|(free_bytes, low_water_bytes)| Rejection::DiskFull { free_bytes, low_water_bytes }),
        any::<u64>().prop_map(|quota_bytes| Rejection::StoreFull { quota_bytes }),
        Just(Rejection::EngineDown),
        Just(Rejection::Draining),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let job = any::<u64>().prop_map(JobId);
    prop_oneof![
        (any::<(u16, u16)>(), text()).prop_map(|((least, most), client)| Request::Hello { least, most, client }),
        (spec(), any::<(u8, bool)>(), of(text())).prop_map(|(spec, (pictures, attached), key)| Request::Submit {
            spec,
            pictures,
            attached,
            key
        }),
        job.clone().prop_map(Request::Watch),
        job.clone().prop_map(Request::Cancel),
        job.clone().prop_map(Request::Show),
        any::<(u64, Option<u8>)>().prop_map(|(job, round)| Request::Fetch { job: JobId(job), round }),
        job.clone().prop_map(Request::Explain),
        job.clone().prop_map(Request::History),
        job.prop_map(Request::Stages),
        any::<(u64, i8)>().prop_map(|(job, priority)| Request::SetPriority { job: JobId(job), priority }),
        any::<(bool, Option<u64>, u32)>().prop_map(|(ended, before, limit)| Request::List {
            ended,
            before: before.map(JobId),
            limit
        }),
        Just(Request::Status),
        Just(Request::Queue),
        spec().prop_map(Request::Route),
        (text(), any::<bool>()).prop_map(|(class, paused)| Request::Pause { class, paused }),
        any::<bool>().prop_map(Request::Drain),
        any::<(u64, u32, u32)>().prop_map(|(since_unix_ms, window, points)| Request::Quality {
            since_unix_ms,
            window,
            points
        }),
        (track(), any::<(u64, u64, u32)>(), of(cursor())).prop_map(
            |(track, (since_unix_ms, until_unix_ms, limit), before)| Request::Timeline {
                track,
                since_unix_ms,
                until_unix_ms,
                before,
                limit
            }
        ),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let update = prop_oneof![
        any::<u32>().prop_map(|ahead| Update::Queued { ahead }),
        (any::<(u32, bool)>(), activity()).prop_map(|((lane, parked), activity)| Update::Running {
            lane,
            activity,
            parked
        }),
        any::<(u32, u64)>().prop_map(|(retry, within_ms)| Update::BackingOff { retry, within_ms }),
        (any::<(u8, u8)>(), phase()).prop_map(|((round, of), phase)| Update::Reflecting { round, of, phase }),
        view().prop_map(Update::Done),
    ];
    prop_oneof![
        (any::<(u16, u32)>(), text()).prop_map(|((version, max_open_requests), server)| Response::Welcome {
            version,
            server,
            max_open_requests
        }),
        rejection().prop_map(Response::Rejected),
        any::<u64>().prop_map(|job| Response::Accepted(JobId(job))),
        update.prop_map(Response::Update),
        view().prop_map(Response::Job),
        vec(view(), 0..4).prop_map(Response::Jobs),
        blob().prop_map(Response::File),
        status().prop_map(Response::Status),
        explanation().prop_map(Response::Explanation),
        vec(place(), 0..4).prop_map(Response::Queue),
        route().prop_map(Response::Route),
        vec(attempt(), 0..4).prop_map(Response::History),
        quality().prop_map(Response::Quality),
        timeline().prop_map(Response::Timeline),
        vec(stage(spec(), outcome()), 0..4).prop_map(Response::Stages),
    ]
}

proptest! {
    #[test]
    fn requests_arrive_as_they_were_sent(request in request()) {
        let bytes = encode(&request).expect("encodable");
        prop_assert_eq!(decode::<Request>(&bytes).expect("decodable"), request);
    }

    #[test]
    fn responses_arrive_as_they_were_sent(response in response()) {
        let bytes = encode(&response).expect("encodable");
        prop_assert_eq!(decode::<Response>(&bytes).expect("decodable"), response);
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused(request in request(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&request).expect("encodable");
        prop_assert!(decode::<Request>(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(decode::<Request>(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode::<Request>(&bytes);
        let _ = decode::<Response>(&bytes);
    }

    /// Random bytes seldom get past the first tag: spoil good messages, too.
    #[test]
    fn no_spoilt_message_makes_the_decoder_panic(
        response in response(),
        spoil in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&response).expect("encodable");
        let length = bytes.len();
        for (at, byte) in spoil {
            bytes[at.index(length)] = byte;
        }
        let _ = decode::<Response>(&bytes);
    }
}
