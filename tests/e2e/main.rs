//! gpuschedd and gpuctl as they are shipped, over a real socket, with real models.

mod analyze;
mod cli;
mod crash;
mod cuda;
mod doctor;
mod flood;
mod harness;
mod healing;
mod hostile;
mod jobs;
mod journal;
mod journald;
mod lasting;
mod manual;
mod metrics;
mod models;
mod pictures;
mod poison;
mod reflection;
mod report;
mod restart;
mod scheduling;
mod slow;
mod stop;
mod stress;
mod top;
