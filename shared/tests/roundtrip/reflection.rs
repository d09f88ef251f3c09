//! Anything that can be said of reflection.

use gpusched_shared::{
    Check, Checked, Claim, ModelSuccess, Phase, QualityView, Reflect, ReflectEnd, Reflection, Round, RoundImage,
    Success, TrendPoint, Verdict,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::{activity, blob, size, text};

pub(super) fn reflect() -> impl Strategy<Value = Reflect> {
    let claim = prop_oneof![
        any::<u8>().prop_map(|index| Claim::Object { index }),
        Just(Claim::Count),
        Just(Claim::Relation),
        Just(Claim::Whole),
        Just(Claim::Given),
    ];
    let check = (text(), text(), claim).prop_map(|(question, answer, claim)| Check { question, answer, claim });
    let shares = (of(0f32..1.0), of(0f32..1.0));
    (any::<(Option<u8>, Option<u64>, bool)>(), vec(check, 0..4), of(text()), shares).prop_map(
        |((rounds, lane_ms, strict), checks, judge, (confidence, early))| Reflect {
            rounds,
            checks,
            judge,
            confidence,
            lane_ms,
            strict,
            early,
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Pass), Just(Verdict::Fail)]
}

fn round() -> impl Strategy<Value = Round> {
    let image = (blob(), size(), any::<u32>()).prop_map(|(blob, size, truncated_tokens)| RoundImage {
        blob,
        size,
        truncated_tokens,
    });
    let checked = (text(), text(), of(text()), 0f32..1.0, any::<bool>()).prop_map(
        |(question, expected, answer, confidence, passed)| Checked { question, expected, answer, confidence, passed },
    );
    let floats = (of(0f32..50.0), 0f32..1.0);
    (text(), any::<(u8, u64, u32, u64, u64, bool)>(), floats, of(image), vec(checked, 0..4), of(verdict())).prop_map(
        |(
            prompt,
            (number, seed, steps, image_us, check_us, rejected_early),
            (guidance, score),
            image,
            checks,
            verdict,
        )| Round {
            number,
            prompt,
            seed,
            steps,
            guidance,
            image,
            checks,
            verdict,
            score,
            image_us,
            check_us,
            rejected_early,
        },
    )
}

pub(super) fn reflection() -> impl Strategy<Value = Reflection> {
    let end = prop_oneof![
        Just(ReflectEnd::Passed),
        Just(ReflectEnd::Rounds),
        Just(ReflectEnd::LaneTime),
        Just(ReflectEnd::Ended),
        Just(ReflectEnd::Failed),
        Just(ReflectEnd::Unchecked),
    ];
    (vec(round(), 0..3), any::<Option<u8>>(), of(verdict()), of(end))
        .prop_map(|(rounds, best, verdict, end)| Reflection { rounds, best, verdict, end })
}

pub(super) fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Waiting),
        (activity(), any::<bool>()).prop_map(|(activity, parked)| Phase::Making { activity, parked }),
        any::<(u8, u8)>().prop_map(|(done, of)| Phase::Checking { done, of }),
    ]
}

pub(super) fn quality() -> impl Strategy<Value = QualityView> {
    let success = || {
        any::<[u64; 7]>().prop_map(|[jobs, first_passed, passed, rounds, checks, image_us, check_us]| Success {
            jobs,
            first_passed,
            passed,
            rounds,
            checks,
            image_us,
            check_us,
        })
    };
    let model = (text(), success()).prop_map(|(model, success)| ModelSuccess { model, success });
    let point = (any::<u64>(), success()).prop_map(|(until_unix_ms, success)| TrendPoint { until_unix_ms, success });
    (success(), success(), any::<u32>(), vec(model, 0..3), vec(point, 0..4))
        .prop_map(|(overall, recent, window, models, trend)| QualityView { overall, recent, window, models, trend })
}
