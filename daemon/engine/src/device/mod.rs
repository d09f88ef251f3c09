//! What lanes compute on, as far as that differs: the CPU ([`Cpu`]), or a device that another crate brings, so that this one
//! links none of its libraries.
//!
//! ```text
//!  Device ──open──▶ a Pool for each partition    where its bytes come from, and go when it is flushed
//!                   a Stream for each lane       what its stages compute on, and how far they may run ahead
//! ```
//!
//! Accounts count in the same way everywhere: whoever hands out a device's memory charges it to the [`Owner`] that works on
//! the thread. So leases, footprints and peaks are one code, whatever the bytes are of.

mod cpu;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Error, Tensor};
use gpusched_shared::codec::{Decode, Encode};
use rayon::ThreadPool;

use crate::Setup;
use crate::account::{self, Index};

pub use cpu::Cpu;

/// How a device other than the CPU is used.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeviceSpec {
    /// Which of several, from 0.
    pub ordinal: u32,
    /// Blocks of a model that a class with a gate may have queued on the device beside the one that it is queuing.
    pub blocks_ahead: u32,
    /// Kernels that a class whose gate is between kernels may have queued on the device.
    pub kernels_ahead: u32,
    /// Whether partitions are taken from the device at the start, and kept.
    pub reserve: bool,
    /// What may be taken beside the partitions, for workspaces of libraries, in bytes.
    pub overhead_bytes: u64,
    /// Whether lanes of a class that cannot use the same tensors have them over the same memory, where a model can be had so.
    pub share_weights: bool,
}

impl Default for DeviceSpec {
    fn default() -> Self {
        Self {
            ordinal: 0,
            blocks_ahead: 2,
            kernels_ahead: 16,
            reserve: false,
            overhead_bytes: 1 << 30,
            share_weights: true,
        }
    }
}

/// What an engine's process ends with whose device is lost: a context that is broken stays so until its process is gone.
pub const LOST_EXIT: i32 = 70;

/// What an engine computes on.
pub trait Device: Debug + Send + Sync {
    /// The type in which numbers are computed that files store as `stored`.
    fn compute_type(&self, stored: DType) -> DType;

    /// Whether the lanes of a class can use the same tensors. If not, each has its own, by [`Stream::share`] or loaded by itself.
    fn shares_weights(&self) -> bool;

    /// Makes the memory of all partitions and the streams of all lanes. Called once, before any lane works.
    ///
    /// # Errors
    /// What is missing or does not do what it should, as a sentence for a person.
    fn open(&self, setup: &Setup) -> Result<Opened, String>;

    /// The device is of no more use to anybody in this process, says a lane.
    fn lost(&self, why: &str);
}

/// A device that is ready.
#[derive(Debug)]
pub struct Opened {
    /// One for each partition, in the setup's order.
    pub pools: Vec<Arc<dyn Pool>>,
    /// One for each lane, in the setup's order.
    pub streams: Vec<Arc<dyn Stream>>,
}

/// Where the memory of a partition comes from.
pub trait Pool: Debug + Send + Sync {
    /// What it has taken from the system, in use or not, in bytes; 0 where that is not known.
    fn held_bytes(&self) -> u64;

    /// The most of that at once, in bytes; 0 where that is not known.
    fn peak_held_bytes(&self) -> u64;

    /// Gives back what is not in use. May wait for what its lanes compute.
    fn flush(&self);
}

/// What a lane computes on. Its methods are called by the lane's own threads, but for [`Self::device`].
pub trait Stream: Debug + Send + Sync {
    /// Where its tensors live.
    fn device(&self) -> &candle_core::Device;

    /// A tensor of this lane's over the memory of another lane's of its class, which is free when the last of them is gone. What
    /// the other lane has written there is there already.
    ///
    /// # Errors
    /// If it is not a whole tensor of the device's.
    fn share(&self, tensor: &Tensor) -> Result<Tensor, Error>;

    /// Makes everything take what it keeps for good, so that it is not counted as a stage's.
    ///
    /// # Errors
    /// Those of the trial computation; the lane works as well without.
    fn warm_up(&self, threads: &ThreadPool) -> Result<(), Error>;

    /// Runs `work`, a stage, and calls `pause` wherever a lane whose gate is between kernels may park. Returns how long the
    /// device was at it, if it says.
    fn run(&self, pause: &dyn Fn(), work: &mut dyn FnMut()) -> Option<Duration>;

    /// The stage has come to a yield point: waits while the device is too far behind for its gate to hold what it promises.
    ///
    /// # Errors
    /// Those of the device.
    fn keep_up(&self) -> Result<(), Error>;

    /// Waits until everything that was begun on the lane is done.
    ///
    /// # Errors
    /// Those of the device.
    fn synchronize(&self) -> Result<(), Error>;

    /// What an error says of the device.
    fn diagnose(&self, error: &Error) -> Diagnosis;
}

/// What an error says of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diagnosis {
    /// So many bytes could not be had; 0 if it is not known how many.
    OutOfMemory(u64),
    /// Nothing in this process can use it any more.
    Lost,
    /// Nothing.
    Well,
}

/// Whom memory is charged to. It is credited to the same, whichever thread frees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(Index);

impl Owner {
    /// Whom the calling thread works for: its lane, or the model that its lane loads; or nobody.
    pub fn current() -> Self {
        Self(account::current())
    }

    /// It holds so many bytes more.
    pub fn charge(self, bytes: u64) {
        account::charge(self.0, bytes);
    }

    /// It holds so many bytes less.
    pub fn credit(self, bytes: u64) {
        account::credit(self.0, bytes);
    }
}
