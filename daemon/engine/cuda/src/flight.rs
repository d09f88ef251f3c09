//! What a lane has handed to its device and does not know to be done: counted by events, so that the host does not run ahead
//! of the device further than a gate allows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DriverError};

/// See the [module's documentation](self). What is counted (blocks, kernels) is its owner's business.
#[derive(Debug)]
pub(crate) struct Flight {
    stream: Arc<CudaStream>,
    /// At most so many may be on their way.
    most: u64,
    /// After how many to record an event.
    stride: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    done: u64,
    /// Up to which count each event stands, the oldest first.
    marks: VecDeque<(u64, CudaEvent)>,
    /// Events to be used again.
    spare: Vec<CudaEvent>,
}

impl Flight {
    /// At most `most`, which is at least 1, with an event after each `stride`, which is not more than that.
    pub(crate) fn new(stream: Arc<CudaStream>, most: u32, stride: u32) -> Self {
        Self { stream, most: u64::from(most.max(1)), stride: u64::from(stride.max(1)), state: Mutex::default() }
    }

    /// One more has been handed to the device.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) fn begun(&self) -> Result<(), DriverError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.begun += 1;
        if state.begun.is_multiple_of(self.stride) {
            let event = match state.spare.pop() {
                Some(event) => event,
                None => self.stream.context().new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?,
            };
            event.record(&self.stream)?;
            let begun = state.begun;
            state.marks.push_back((begun, event));
        }
        Ok(())
    }

    /// Waits until not more than the limit are on their way, less what is about to be handed over.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) fn wait(&self, about_to_begin: u64) -> Result<(), DriverError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.begun - state.done + about_to_begin > self.most {
            let Some((done, event)) = state.marks.pop_front() else { break };
            event.synchronize()?;
            state.done = done;
            state.spare.push(event);
        }
        Ok(())
    }
}
