//! gpuschedd, the daemon. `ARCHITECTURE.md` beside this crate's manifest is the map.

pub mod backend;
pub mod blobs;
pub mod clock;
pub mod config;
pub mod confine;
pub mod demo;
pub mod disk;
pub mod driver;
pub mod journal;
pub mod models;
pub mod serve;
pub mod server;
pub mod signals;
pub mod supervisor;
pub mod systemd;
pub mod telemetry;
