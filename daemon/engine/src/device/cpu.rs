//! The CPU: memory is the process's, and whatever is computed is done when the call returns.

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device as Place, Error, Tensor};
use rayon::ThreadPool;

use super::{Device, Diagnosis, Opened, Pool, Stream};
use crate::Setup;
use crate::allocator;
use crate::memory::resident_bytes;

/// The CPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Device for Cpu {
    fn compute_type(&self, _stored: DType) -> DType {
        // Weights are stored in half precision and computed in full: on a CPU the best trade of size, speed and accuracy.
        DType::F32
    }

    fn shares_weights(&self) -> bool {
        true
    }

    fn open(&self, setup: &Setup) -> Result<Opened, String> {
        let pools = setup.partitions.iter().map(|_| Arc::new(Self) as Arc<dyn Pool>);
        let streams = setup.lanes.iter().map(|_| Arc::new(Self) as Arc<dyn Stream>);
        Ok(Opened { pools: pools.collect(), streams: streams.collect() })
    }

    fn lost(&self, _why: &str) {}
}

impl Pool for Cpu {
    /// The process's, for there is one heap for all partitions.
    fn held_bytes(&self) -> u64 {
        resident_bytes().unwrap_or(0)
    }

    fn peak_held_bytes(&self) -> u64 {
        0
    }

    fn flush(&self) {
        allocator::trim();
    }
}

impl Stream for Cpu {
    fn device(&self) -> &Place {
        &Place::Cpu
    }

    fn share(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        Ok(tensor.clone())
    }

    /// Each thread packs matrices into a buffer as large as a cache.
    fn warm_up(&self, threads: &ThreadPool) -> Result<(), Error> {
        let product = |_: rayon::BroadcastContext<'_>| {
            // Tall, so that the left matrix is packed piece by piece.
            let tall = Tensor::zeros((4096, 8), DType::F32, &Place::Cpu)?;
            tall.matmul(&tall.narrow(0, 0, 8)?).map(drop)
        };
        threads.broadcast(product).into_iter().collect()
    }

    fn run(&self, _pause: &dyn Fn(), work: &mut dyn FnMut()) -> Option<Duration> {
        work();
        None
    }

    fn keep_up(&self) -> Result<(), Error> {
        Ok(())
    }

    fn synchronize(&self) -> Result<(), Error> {
        Ok(())
    }

    fn diagnose(&self, _error: &Error) -> Diagnosis {
        Diagnosis::Well
    }
}
