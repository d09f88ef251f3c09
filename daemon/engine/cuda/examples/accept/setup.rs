//! Lanes and partitions for the checks: one heavy lane, four light ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Tensor};
use gpusched_engine::device::{Device as _, Opened, Stream};
use gpusched_engine::{DeviceSpec, GateKind, LaneSpec, PartitionSpec, Setup};
use gpusched_engine_cuda::{Cuda, Loss};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const HEAVY: usize = 0;
pub(crate) const LIGHT: usize = 1;
/// Of the heavy and of the light partition.
pub(crate) const CAPS: [u64; 2] = [2048 * MIB, 512 * MIB];

pub(crate) fn setup(gate: GateKind, device: DeviceSpec) -> Setup {
    let lane =
        |class: &str, class_index, index| LaneSpec { class: class.to_owned(), class_index, index, threads: 1, nice: 0 };
    let partition = |name: &str, cap_bytes, gate| PartitionSpec { name: name.to_owned(), cap_bytes, gate };
    Setup {
        lanes: std::iter::once(lane("heavy", HEAVY, 0))
            .chain((0..4).map(|index| lane("light", LIGHT, index)))
            .collect(),
        partitions: vec![partition("heavy", CAPS[HEAVY], gate), partition("light", CAPS[LIGHT], GateKind::None)],
        models: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/weights")],
        device,
        ..Setup::default()
    }
}

pub(crate) fn open(gate: GateKind, device: DeviceSpec) -> Result<Opened, String> {
    Cuda::new(Loss::Stay).open(&setup(gate, device))
}

/// So many bytes on a lane.
pub(crate) fn bytes(lane: &Arc<dyn Stream>, count: u64) -> candle_core::Result<Tensor> {
    let count = usize::try_from(count).map_err(candle_core::Error::wrap)?;
    Tensor::zeros(count, DType::U8, lane.device())
}

/// What a computation says that failed.
pub(crate) fn failed(error: candle_core::Error) -> String {
    format!("the device fails: {error}")
}

/// Milliseconds since then.
pub(crate) fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
