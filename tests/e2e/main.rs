//! gpuschedd and gpuctl as they are shipped, over a real socket, with real models.

mod cli;
mod harness;
mod hostile;
mod jobs;
mod pictures;
mod restart;
mod scheduling;
