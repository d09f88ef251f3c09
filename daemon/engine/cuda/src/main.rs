//! The executable: the engine of a daemon at the other end of standard input, or what there is, for the daemon to choose by.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use gpusched_engine::child;
use gpusched_engine::device::Device;
use gpusched_engine::sandbox::May;
use gpusched_engine_cuda::facts::{Facts, probe};
use gpusched_engine_cuda::{Cuda, Loss};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const USAGE: &str = "\
The engine of gpusched for NVIDIA GPUs. gpuschedd starts it where [engine] backend in its configuration says so.

Usage: gpusched-engine-cuda probe [GPU]     what there is, or what is missing, as JSON
       gpusched-engine-cuda --version";

/// What `probe` prints.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Probed {
    /// The engine can run.
    Ready(Facts),
    /// It cannot, and why.
    Missing(String),
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["probe"] => say(0),
        ["probe", ordinal] => match ordinal.parse() {
            Ok(ordinal) => say(ordinal),
            Err(_) => Err(format!("{ordinal} is no number of a GPU")),
        },
        ["engine"] => engine(),
        ["--version"] => {
            println!("gpusched-engine-cuda {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        ["--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("gpusched-engine-cuda: {why}");
            ExitCode::FAILURE
        }
    }
}

fn say(ordinal: u32) -> Result<(), String> {
    let probed = probe(ordinal).map_or_else(Probed::Missing, Probed::Ready);
    let text = serde_json::to_string(&probed).map_err(|e| e.to_string())?;
    writeln!(std::io::stdout(), "{text}").map_err(|e| e.to_string())
}

/// As `gpuschedd engine`, on the GPU.
fn engine() -> Result<(), String> {
    log();
    let link = std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("there is no standard input: {e}"))?;
    let device: Arc<dyn Device> = Arc::new(Cuda::new(Loss::Exit));
    child::run_on(device, &files(), link, || {}).map_err(|e| e.to_string())
}

/// What the driver takes beside what any engine reads: its devices, and where it keeps kernels that it has translated.
fn files() -> Vec<(PathBuf, May)> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let nodes = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("nvidia")));
    let mut files: Vec<_> = nodes.map(|path| (path, May::Drive)).collect();
    if let Some(cache) = std::env::var_os("CUDA_CACHE_PATH").filter(|cache| Path::new(cache).is_dir()) {
        files.push((cache.into(), May::Keep));
    }
    files
}

/// The log: to the journal where that is what standard error is connected to, with names of fields as the daemon has them.
fn log() {
    let filter = EnvFilter::try_from_env("GPUSCHED_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let registry = tracing_subscriber::registry().with(filter);
    match journal {
        Some(journal) => registry.with(journal.with_field_prefix(None)).init(),
        None => registry
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false))
            .init(),
    }
}
