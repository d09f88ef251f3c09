//! What the engine computes on: the CPU, by this very program, or an NVIDIA GPU, by an executable of its own, which is asked
//! what there is. This program links nothing of CUDA, so that what is missing is a sentence, and no error of the loader.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gpusched_shared::Bytes;
use serde::Deserialize;

use crate::config::{BackendChoice, Config, ENGINE_CUDA as PROGRAM, Gate};

/// How long it may take to say what there is: a driver that has to wake a GPU takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether it has said it.
const LOOK: Duration = Duration::from_millis(5);

/// The most that is read of what it says, in bytes.
const ANSWER: u64 = 64 * 1024;

/// What the engine computes on.
#[derive(Debug)]
pub enum Backend {
    /// The CPU.
    Cpu,
    /// A GPU.
    Cuda(Gpu),
}

/// A GPU that can be used.
#[derive(Debug)]
pub struct Gpu {
    /// The executable, held so that all engines are of one version, whatever happens on the disk.
    pub program: Program,
    /// What the partitions may take together, in bytes.
    pub budget_bytes: u64,
}

/// An executable that is held by a descriptor.
#[derive(Debug)]
pub struct Program(File);

impl Program {
    /// By which this process starts it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Why there is no GPU for an engine that is to have one.
#[derive(Debug, thiserror::Error)]
#[error("{0}; or set engine.backend = \"cpu\" or \"auto\"")]
pub struct NoGpu(String);

/// What the executable says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Probed {
    Ready(Facts),
    Missing(String),
}

/// What is known of a GPU. See the executable's own type of this name.
#[derive(Debug, Deserialize)]
struct Facts {
    version: String,
    name: String,
    cuda: String,
    driver: Option<String>,
    total_bytes: u64,
    free_bytes: u64,
    tenants: Vec<Tenant>,
}

#[derive(Debug, Deserialize)]
struct Tenant {
    pid: u32,
    bytes: u64,
}

impl Backend {
    /// What the configuration asks for, and what there is. Says in the log what that is, and why.
    ///
    /// # Errors
    /// [`NoGpu`], if the configuration wants one and nothing else.
    pub fn choose(config: &Config) -> Result<Self, NoGpu> {
        let engine = &config.engine;
        let why = match (engine.backend, engine.cuda.executable()) {
            (BackendChoice::Cpu, _) => return Ok(Self::Cpu),
            // Its daemon was built or packaged without: nothing that anybody would have to be told.
            (BackendChoice::Auto, None) => return Ok(Self::Cpu),
            (BackendChoice::Auto, Some(_)) if engine.in_process => return Ok(Self::Cpu),
            (BackendChoice::Cuda, None) => format!("{PROGRAM} is not beside gpuschedd: build it, or name it with engine.cuda.program"),
            (BackendChoice::Auto | BackendChoice::Cuda, Some(path)) => match gpu(&path, config) {
                Ok(gpu) => return Ok(Self::Cuda(gpu)),
                Err(why) => why,
            },
        };
        if engine.backend == BackendChoice::Cuda {
            return Err(NoGpu(why));
        }
        tracing::warn!("the engine computes on the CPU: {why}");
        Ok(Self::Cpu)
    }

    /// The configuration as it is on this backend.
    pub fn apply(&self, config: &Config) -> Config {
        let mut config = config.clone();
        match self {
            Self::Cpu => {
                config.device_bytes = Some(config.memory_bytes());
                for class in config.classes.iter_mut().filter(|class| class.gate == Gate::Kernel) {
                    tracing::warn!("class {}: a CPU has no kernels to make way between, so it does between blocks", class.name);
                    class.gate = Gate::Block;
                }
            }
            Self::Cuda(gpu) => config.device_bytes = Some(gpu.budget_bytes),
        }
        config
    }
}

/// The GPU, or in one sentence what is missing.
fn gpu(path: &Path, config: &Config) -> Result<Gpu, String> {
    let cuda = &config.engine.cuda;
    let file = File::open(path).map_err(|e| format!("{} cannot be used: {e}", path.display()))?;
    let program = Program(file);
    let facts = ask(&program.path(), cuda.device).map_err(|why| format!("{PROGRAM}: {why}"))?;
    let own = env!("CARGO_PKG_VERSION");
    if facts.version != own {
        return Err(format!("{} is of version {}, and this is {own}: install one of both", path.display(), facts.version));
    }
    let Facts { name, total_bytes, free_bytes, tenants, .. } = &facts;
    let budget_bytes = free_bytes.saturating_sub(cuda.overhead.0);
    let driver = facts.driver.as_ref().map_or_else(String::new, |driver| format!("driver {driver}, "));
    let (budget, total) = (Bytes(budget_bytes), Bytes(*total_bytes));
    tracing::info!("the engine computes on {name} ({driver}CUDA {}), with {budget} of {total} for all classes", facts.cuda);
    let taken = total_bytes.saturating_sub(*free_bytes);
    if !tenants.is_empty() {
        let each = tenants.iter().map(|Tenant { pid, bytes }| format!("process {pid} {}", Bytes(*bytes)));
        let each = each.collect::<Vec<_>>().join(", ");
        let taken = Bytes(taken);
        tracing::warn!("the GPU is not this daemon's alone, and the classes get less for it: {taken} are in use ({each})");
    }
    Ok(Gpu { program, budget_bytes })
}

/// What the executable says there is.
fn ask(program: &Path, ordinal: u32) -> Result<Facts, String> {
    let mut command = Command::new(program);
    command.args(["probe", &ordinal.to_string()]).env_remove("NOTIFY_SOCKET");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("cannot be started: {e}"))?;
    let (said, complained) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let ended = end(&mut child)?;
    let text = |read: std::thread::JoinHandle<Vec<u8>>| String::from_utf8_lossy(&read.join().unwrap_or_default()).into_owned();
    let (said, complained) = (text(said), text(complained));
    if !ended.success() {
        return Err(explain(&complained).unwrap_or_else(|| format!("it ended with {ended}")));
    }
    match serde_json::from_str(&said) {
        Ok(Probed::Ready(facts)) => Ok(facts),
        Ok(Probed::Missing(why)) => Err(why),
        Err(e) => Err(format!("it says what makes no sense: {e}")),
    }
}

/// Reads a child's output to its end, as much as is looked at; the rest is thrown away.
fn drain(output: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut output) = output {
            let _ = output.by_ref().take(ANSWER).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        }
        bytes
    })
}

/// Waits for a child's end, and brings it about if it takes too long.
fn end(child: &mut Child) -> Result<std::process::ExitStatus, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not say what there is within {} s: killed", PATIENCE.as_secs()));
            }
            Err(e) => return Err(format!("cannot be waited for: {e}")),
        }
    }
}

/// What the loader complains of, as a sentence, or the last that the executable said.
fn explain(complained: &str) -> Option<String> {
    let missing = complained.lines().find_map(|line| line.split_once("error while loading shared libraries: "));
    if let Some((_, missing)) = missing {
        let library = missing.split(':').next().unwrap_or(missing);
        let from = if library.starts_with("libcuda.") || library.starts_with("libnvidia") {
            "it comes with NVIDIA's driver"
        } else {
            "it comes with NVIDIA's CUDA libraries"
        };
        return Some(format!("there is no {library} on this machine; {from}"));
    }
    complained.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A configuration whose executable is this script.
    fn with(script: &str, directory: &Path) -> Config {
        let path = directory.join(PROGRAM);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let mut config = Config::default();
        config.engine.backend = BackendChoice::Cuda;
        config.engine.cuda.program = Some(path);
        config
    }

    fn facts(version: &str) -> String {
        format!(
            "echo '{{\"ready\": {{\"version\": \"{version}\", \"name\": \"A GPU\", \"compute\": \"9.0\", \"cuda\": \"13.0\", \
             \"driver\": \"580\", \"total_bytes\": 51539607552, \"free_bytes\": 48318382080, \"tenants\": [{{\"pid\": 7, \
             \"bytes\": 3221225472}}]}}}}'"
        )
    }

    #[test]
    fn what_others_hold_is_not_promised_to_classes() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = with(&facts(env!("CARGO_PKG_VERSION")), directory.path());
        let backend = Backend::choose(&config).expect("there is a GPU");
        let Backend::Cuda(gpu) = &backend else { panic!("{backend:?}") };
        assert_eq!(gpu.budget_bytes, (45 << 30) - (1 << 30));
        let config = backend.apply(&config);
        assert_eq!(config.partitions()[0].cap_bytes, gpu.budget_bytes * 60 / 100);
    }

    #[test]
    fn what_is_missing_is_one_sentence() {
        let directory = tempfile::tempdir().expect("a directory");
        let loader = "echo 'x: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such \
                      file or directory' >&2; exit 127";
        for (script, why) in [
            (loader, "there is no libcuda.so.1 on this machine; it comes with NVIDIA's driver"),
            ("echo '{\"missing\": \"there is no GPU\"}'", "gpusched-engine-cuda: there is no GPU"),
            ("echo nonsense", "it says what makes no sense"),
            ("kill -9 $$", "signal: 9"),
            (&facts("0.0.9"), "is of version 0.0.9, and this is"),
        ] {
            let mut config = with(script, directory.path());
            let refused = Backend::choose(&config).expect_err("there is none").to_string();
            assert!(refused.contains(why) && refused.ends_with("\"auto\""), "{refused}");
            config.engine.backend = BackendChoice::Auto;
            assert!(matches!(Backend::choose(&config), Ok(Backend::Cpu)), "{script}");
        }
        let mut config = Config::default();
        config.engine.cuda.program = Some(directory.path().join("nothing"));
        config.engine.backend = BackendChoice::Cuda;
        assert!(Backend::choose(&config).is_err());
    }

    #[test]
    fn without_a_gpu_kernels_are_blocks() {
        let mut config = Config::default();
        config.classes[0].gate = Gate::Kernel;
        assert_eq!(Backend::Cpu.apply(&config).classes[0].gate, Gate::Block);
    }
}
