//! Sets the device up.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::result::device::set_mem_pool;
use candle_core::cuda_backend::cudarc::driver::result::stream::get_priority_range;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream};
use candle_core::{DType, Device};
use gpusched_engine::device::{self, LOST_EXIT, Opened};
use gpusched_engine::{DeviceSpec, GateKind, LaneSpec, PartitionSpec, Setup};
use gpusched_shared::Bytes;
use nix::libc;

use crate::errors::sentence;
use crate::pool::{GRAIN, Pool, RawPool};
use crate::route::{self, Wish};
use crate::stream::Lane;
use crate::{check, facts};

/// What happens when the device is lost to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process ends at once, with [`LOST_EXIT`], and its parent starts another.
    Exit,
    /// The stage that met it fails, and so will all others.
    Stay,
}

/// An NVIDIA GPU.
#[derive(Debug)]
pub struct Cuda {
    loss: Loss,
}

impl Cuda {
    /// The device that a setup names, when it is opened.
    pub fn new(loss: Loss) -> Self {
        Self { loss }
    }
}

impl device::Device for Cuda {
    fn compute_type(&self, stored: DType) -> DType {
        // Half precision is what such devices are made for; double is not.
        if matches!(stored, DType::F16 | DType::BF16) { stored } else { DType::F32 }
    }

    fn shares_weights(&self) -> bool {
        // A tensor belongs to a stream, and streams to lanes. Tensors of several may be over the same memory.
        false
    }

    fn open(&self, setup: &Setup) -> Result<Opened, String> {
        let Setup { lanes, partitions, device: spec, .. } = setup;
        let context = facts::context(spec.ordinal)?;
        check::pools(&context)?;
        let free = check::free_bytes(&context);
        let misc = misc(&context, spec)?;
        let pools: Vec<_> =
            partitions.iter().map(|class| pool(class, &context, &misc, spec)).collect::<Result<_, _>>()?;
        // All of them before there is any work: to make one waits for the whole device.
        let made: Vec<_> = lanes
            .iter()
            .map(|lane| stream(lane, (&partitions[lane.class_index], &pools[lane.class_index]), spec))
            .collect::<Result<_, _>>()?;
        for (class, pool) in pools.iter().enumerate() {
            let own = lanes.iter().zip(&made).filter(|(lane, _)| lane.class_index == class);
            let streams: Vec<_> = own.map(|(_, (_, stream))| Arc::clone(stream)).collect();
            let first = streams.first().map(Arc::clone);
            pool.belongs_to(streams);
            if let Some(stream) = first {
                settle(&partitions[class].name, pool, &stream, spec.reserve)?;
            }
        }
        let mut streams: Vec<Arc<dyn device::Stream>> = Vec::with_capacity(lanes.len());
        for (lane, (device, stream)) in lanes.iter().zip(made) {
            let made = Lane::new(device, stream, partitions[lane.class_index].gate, spec);
            made.try_out().map_err(|e| format!("lane {lane} cannot compute: {e}"))?;
            streams.push(Arc::new(made));
        }
        let held = pools.iter().map(|pool| device::Pool::held_bytes(&**pool)).sum::<u64>();
        tell(&context, free.saturating_sub(check::free_bytes(&context)).saturating_sub(held), spec);
        Ok(Opened { pools: pools.into_iter().map(|pool| pool as Arc<dyn device::Pool>).collect(), streams })
    }

    fn lost(&self, why: &str) {
        tracing::error!("the GPU is lost to this process: {why}");
        if self.loss == Loss::Exit {
            // Not by way of what libraries have registered for the end: they would wait for the device.
            // SAFETY: It does nothing but end the process.
            unsafe { libc::_exit(LOST_EXIT) }
        }
    }
}

/// What everything that is no lane's comes from: a small pool instead of the device's own, which has no limit.
fn misc(context: &CudaContext, spec: &DeviceSpec) -> Result<Arc<RawPool>, String> {
    let refused = |e| format!("the GPU has no memory pool for what is no class's: {}", sentence(e));
    let pool = RawPool::new(context.cu_device(), spec.overhead_bytes.max(GRAIN)).map_err(refused)?;
    // SAFETY: Device and pool are there.
    unsafe { set_mem_pool(context.cu_device(), pool.handle()) }.map_err(refused)?;
    Ok(Arc::new(pool))
}

fn pool(
    class: &PartitionSpec,
    context: &Arc<CudaContext>,
    misc: &Arc<RawPool>,
    spec: &DeviceSpec,
) -> Result<Arc<Pool>, String> {
    let pool = Pool::new(&class.name, class.cap_bytes, spec.reserve, context, misc);
    pool.map(Arc::new).map_err(|e| format!("class {} gets no memory pool: {}", class.name, sentence(e)))
}

/// The device of a lane as candle has it, and its stream.
fn stream(
    lane: &LaneSpec,
    (class, pool): (&PartitionSpec, &Arc<Pool>),
    spec: &DeviceSpec,
) -> Result<(Device, Arc<CudaStream>), String> {
    let (least, greatest) = get_priority_range().map_err(|e| format!("no priorities of streams: {}", sentence(e)))?;
    // Who makes way goes after whoever it makes way for.
    let priority = if class.gate == GateKind::None { greatest } else { least };
    route::wish(Wish { priority, pool: pool.raw.handle() as usize });
    let device = Device::new_cuda_with_stream(spec.ordinal as usize);
    route::take_wish();
    let device = device.map_err(|e| format!("lane {lane} gets no stream on the GPU: {e}"))?;
    let Device::Cuda(cuda) = &device else { return Err(format!("lane {lane} is on no GPU")) };
    // SAFETY: No tensor leaves its lane, which is of one thread at a time. Memory that tensors of several lanes have is only read
    // once they do, and freed after all of them (`share`).
    unsafe { cuda.disable_event_tracking() };
    let stream = cuda.cuda_stream();
    check::is_routed(&lane.to_string(), &device, &stream, pool)?;
    Ok((device, stream))
}

/// Sees whether a class's cap is kept, and takes its memory if it is to have it from the start.
fn settle(class: &str, pool: &Pool, stream: &CudaStream, reserve: bool) -> Result<(), String> {
    // What was tried out on its lanes is in the way of one piece as large as the cap.
    pool.empty(0).map_err(|e| format!("class {class}'s memory cannot be emptied: {}", sentence(e)))?;
    check::cap_is_kept(class, pool, stream)?;
    if reserve { check::reserve(class, pool, stream) } else { Ok(()) }
}

/// Says in the log what there is, and what libraries have taken beside the classes.
fn tell(context: &CudaContext, overhead_bytes: u64, spec: &DeviceSpec) {
    let name = context.name().unwrap_or_else(|_| "the GPU".to_owned());
    let (free, taken) = (Bytes(check::free_bytes(context)), Bytes(overhead_bytes));
    tracing::info!("{name}: {free} free; libraries have taken {taken} beside the classes");
    if overhead_bytes > spec.overhead_bytes {
        let kept = Bytes(spec.overhead_bytes);
        tracing::warn!(
            "that is more than the {kept} of engine.cuda.overhead: raise it, or a class may not get all of its partition"
        );
    }
}
