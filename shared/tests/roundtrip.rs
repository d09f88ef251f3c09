//! Whatever can be said arrives as it was said, and no bytes make the decoder panic.

use gpusched_shared::codec::{decode, encode};
use gpusched_shared::view::{Activity, ClassView, LaneView, ModelView};
use gpusched_shared::{
    Answer, BlobHash, BlobRef, FailureKind, ImageSpec, JobId, JobSpec, JobState, JobView, Outcome, Rejection, Request,
    Response, Size, StatusView, Task, Update, VqaSpec,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

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
    ];
    (task, of(text()), any::<Option<u64>>()).prop_map(|(task, model, deadline_ms)| JobSpec { task, model, deadline_ms })
}

fn blob() -> impl Strategy<Value = BlobRef> {
    any::<([u8; 32], u64)>().prop_map(|(hash, bytes)| BlobRef { hash: BlobHash(hash), bytes })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let kind = prop_oneof![Just(FailureKind::Input), Just(FailureKind::Model), Just(FailureKind::Engine)];
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
        Just(Outcome::Expired),
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
        (any::<u32>(), activity()).prop_map(|(lane, activity)| JobState::Running { lane, activity }),
        outcome().prop_map(JobState::Done),
    ]
}

fn view() -> impl Strategy<Value = JobView> {
    (any::<(u64, u32, bool, u32)>(), text(), spec(), state(), any::<(u64, u64, u64)>()).prop_map(
        |((id, uid, attached, attempts), class, spec, state, (submitted_unix_ms, wait_ms, run_ms))| {
            let id = JobId(id);
            JobView { id, uid, class, spec, attached, state, attempts, submitted_unix_ms, wait_ms, run_ms }
        },
    )
}

fn status() -> impl Strategy<Value = StatusView> {
    let class = (text(), any::<(u32, u32, u64)>()).prop_map(|(name, (queued, running, finished))| ClassView {
        name,
        queued,
        running,
        finished,
    });
    let lane = (text(), any::<(u32, Option<u64>)>()).prop_map(|(class, (index, job))| LaneView {
        class,
        index,
        job: job.map(JobId),
    });
    let model = (text(), text(), any::<(u64, bool)>()).prop_map(|(name, kind, (bytes, resident))| ModelView {
        name,
        kind,
        bytes,
        resident,
    });
    (text(), any::<(u64, bool)>(), vec(class, 0..4), vec(lane, 0..4), vec(model, 0..4)).prop_map(
        |(version, (uptime_ms, draining), classes, lanes, models)| StatusView {
            version,
            uptime_ms,
            draining,
            classes,
            lanes,
            models,
        },
    )
}

fn rejection() -> impl Strategy<Value = Rejection> {
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
        (text(), any::<u32>()).prop_map(|(class, limit)| Rejection::QueueFull { class, limit }),
        any::<u64>().prop_map(|job| Rejection::NoSuchJob { job: JobId(job) }),
        Just(Rejection::Draining),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let job = any::<u64>().prop_map(JobId);
    prop_oneof![
        (any::<(u16, u16)>(), text()).prop_map(|((least, most), client)| Request::Hello { least, most, client }),
        (spec(), any::<(u8, bool)>()).prop_map(|(spec, (pictures, attached))| Request::Submit {
            spec,
            pictures,
            attached
        }),
        job.clone().prop_map(Request::Watch),
        job.clone().prop_map(Request::Cancel),
        job.clone().prop_map(Request::Show),
        job.prop_map(Request::Fetch),
        any::<(bool, Option<u64>, u32)>().prop_map(|(ended, before, limit)| Request::List {
            ended,
            before: before.map(JobId),
            limit
        }),
        Just(Request::Status),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let update = prop_oneof![
        any::<u32>().prop_map(|ahead| Update::Queued { ahead }),
        (any::<u32>(), activity()).prop_map(|(lane, activity)| Update::Running { lane, activity }),
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
