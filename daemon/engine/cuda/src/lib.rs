//! The engine on an NVIDIA GPU.
//!
//! Each lane has a CUDA stream of its own: of low priority where its class makes way for others, of high priority where it
//! does not. Each class has a memory pool with a hard cap, from which every allocation on the streams of its lanes comes.
//!
//! candle knows neither: it makes streams of one priority and takes memory from the device's one pool. So this crate defines
//! a few functions of CUDA itself (`interpose`), which the linker prefers to the driver's: each looks up what is to be done
//! for the stream at hand (`route`) and calls the driver's own. candle stays as it is published.
//!
//! | module | what |
//! | --- | --- |
//! | `device` | sets everything up, and checks that all of it does what is said here, or refuses |
//! | `pool` | the memory of a class: cap, reservation, flush, what it holds |
//! | `stream` | a lane: how far it may run ahead, how long the device was at its stage |
//! | `flight` | what is on its way to the device, by events; `rein` holds a lane back before each kernel |
//! | `route`, `interpose` | which stream belongs where, and the functions that obey |
//! | `blocks` | who holds which allocation, for the engine's accounts and for what is shared |
//! | `share` | weights of several lanes over the same memory |
//! | `errors` | which errors mean that memory ran out, and which that the device is lost |
//! | `facts` | what there is: the driver, the device, who else has memory on it |

mod blocks;
mod check;
mod device;
mod errors;
pub mod facts;
mod flight;
mod interpose;
mod pool;
mod rein;
mod route;
mod share;
mod stream;

pub use device::{Cuda, Loss};
