//! A lane on the device: a stream of its own.

use std::sync::Arc;
use std::time::Duration;

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DriverError};
use candle_core::{DType, Device, Error, Tensor};
use gpusched_engine::device::{self, Diagnosis};
use gpusched_engine::{DeviceSpec, GateKind};
use rayon::ThreadPool;

use crate::errors;
use crate::flight::Flight;
use crate::rein;
use crate::route;
use crate::share;

/// Sides of the matrices of the trial computation.
const TRIAL: usize = 256;

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    device: Device,
    stream: Arc<CudaStream>,
    /// Blocks on their way, if its class has a gate.
    blocks: Option<Flight>,
    /// Kernels on their way, if its gate is between kernels.
    kernels: Option<Flight>,
}

impl Lane {
    /// A lane on `stream`, which is that of candle's `device`.
    pub(crate) fn new(device: Device, stream: Arc<CudaStream>, gate: GateKind, spec: &DeviceSpec) -> Self {
        let blocks = (gate != GateKind::None).then(|| Flight::new(Arc::clone(&stream), spec.blocks_ahead, 1));
        // An event costs about as much as a launch, so not after each; with four of them a wait is for a quarter at most.
        let stride = spec.kernels_ahead / 4;
        let kernels = (gate == GateKind::Kernel).then(|| Flight::new(Arc::clone(&stream), spec.kernels_ahead, stride));
        Self { device, stream, blocks, kernels }
    }

    /// A small computation, after which libraries have taken what they keep for good: cuBLAS takes its workspace at the first
    /// product, and kernels are loaded when they are first used.
    pub(crate) fn try_out(&self) -> Result<(), Error> {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let square = Tensor::ones((TRIAL, TRIAL), dtype, &self.device)?;
            drop(square.matmul(&square)?);
        }
        device::Stream::synchronize(self)
    }

    fn begin(&self) -> Result<CudaEvent, DriverError> {
        let event = self.stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        event.record(&self.stream)?;
        Ok(event)
    }

    fn since(&self, begun: &CudaEvent) -> Result<Duration, DriverError> {
        let ended = self.begin()?;
        let ms = begun.elapsed_ms(&ended)?;
        Ok(Duration::try_from_secs_f32(ms / 1000.0).unwrap_or_default())
    }
}

impl device::Stream for Lane {
    fn device(&self) -> &Device {
        &self.device
    }

    fn share(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        share::share(tensor, (self.device.as_cuda_device()?, &self.stream))
    }

    /// It was tried out before there were threads.
    fn warm_up(&self, _threads: &ThreadPool) -> Result<(), Error> {
        Ok(())
    }

    fn run(&self, pause: &dyn Fn(), work: &mut dyn FnMut()) -> Option<Duration> {
        let begun = self.begin();
        match &self.kernels {
            Some(flight) => rein::hold(pause, flight, work),
            None => work(),
        }
        // What was refused and did not end the stage says nothing of the next.
        route::take_refused();
        begun.and_then(|begun| self.since(&begun)).ok()
    }

    fn keep_up(&self) -> Result<(), Error> {
        let Some(blocks) = &self.blocks else { return Ok(()) };
        blocks.begun().and_then(|()| blocks.wait(0)).w()
    }

    fn synchronize(&self) -> Result<(), Error> {
        // Not candle's own, which forgets what kind of error it was.
        self.stream.synchronize().w()
    }

    fn diagnose(&self, error: &Error) -> Diagnosis {
        if errors::is_out_of_memory(error) {
            return Diagnosis::OutOfMemory(route::take_refused().unwrap_or(0));
        }
        // Whatever it was, a context that is broken says so again.
        let broken = || self.stream.synchronize().is_err_and(errors::leaves_nothing);
        if errors::is_sticky(error) || broken() { Diagnosis::Lost } else { Diagnosis::Well }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Its handle may be another stream's soon.
        route::made(self.stream.cu_stream() as usize, None);
    }
}
