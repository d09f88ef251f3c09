//! gpuschedd and gpuctl as they are shipped, over a real socket, with real models.

mod cli;
mod crash;
mod flood;
mod harness;
mod healing;
mod hostile;
mod jobs;
mod journal;
mod lasting;
mod pictures;
mod poison;
mod reflection;
mod report;
mod restart;
mod scheduling;
mod slow;
mod stop;
mod stress;
