//! What the engine computes on: the CPU, by this very program, or an NVIDIA GPU, by an executable of its own, which is asked
//! what there is. This program links nothing of CUDA, so that what is missing is a sentence, and no error of the loader.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
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
    /// What it is called.
    pub name: String,
    /// The driver's version, or nothing.
    pub driver: String,
    /// The version of CUDA that the driver is for.
    pub cuda: String,
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
            (BackendChoice::Cuda, None) => {
                format!("{PROGRAM} is not beside gpuschedd: build it, or name it with engine.cuda.program")
            }
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

    /// What it is, as the labels of a metric.
    pub fn labels(&self) -> [(&'static str, String); 4] {
        let of = |backend: &str, device: &str, driver: &str, cuda: &str| {
            [("backend", backend), ("device", device), ("driver", driver), ("cuda", cuda)]
                .map(|(label, value)| (label, value.to_owned()))
        };
        match self {
            Self::Cpu => of("cpu", "", "", ""),
            Self::Cuda(gpu) => of("cuda", &gpu.name, &gpu.driver, &gpu.cuda),
        }
    }

    /// The configuration as it is on this backend.
    pub fn apply(&self, config: &Config) -> Config {
        let mut config = config.clone();
        match self {
            Self::Cpu => {
                config.device_bytes = Some(config.memory_bytes());
                for class in config.classes.iter_mut().filter(|class| class.gate == Gate::Kernel) {
                    tracing::warn!(
                        "class {}: a CPU has no kernels to make way between, so it does between blocks",
                        class.name
                    );
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
    let program = Program(File::open(path).map_err(|e| format!("{} cannot be used: {e}", path.display()))?);
    let facts = ask(path, cuda.device).and_then(|said| said.facts()).map_err(|why| format!("{PROGRAM}: {why}"))?;
    let own = env!("CARGO_PKG_VERSION");
    if facts.version != own {
        return Err(format!(
            "{} is of version {}, and this is {own}: install one of both",
            path.display(),
            facts.version
        ));
    }
    let budget_bytes = facts.free_bytes.saturating_sub(cuda.overhead.0);
    tracing::info!("the engine computes on {facts}, with {} for all classes", Bytes(budget_bytes));
    if let Some(others) = facts.others() {
        tracing::warn!("the GPU is not this daemon's alone, and the classes get less for it: {others}");
    }
    Ok(Gpu { program, name: facts.name, driver: facts.driver.unwrap_or_default(), cuda: facts.cuda, budget_bytes })
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_ref().map_or_else(String::new, |driver| format!("driver {driver}, "));
        write!(f, "{} ({driver}CUDA {}, {})", self.name, self.cuda, Bytes(self.total_bytes))
    }
}

impl Facts {
    /// What others hold, if anybody does.
    fn others(&self) -> Option<String> {
        let each = self.tenants.iter().map(|Tenant { pid, bytes }| format!("process {pid} {}", Bytes(*bytes)));
        let each = each.collect::<Vec<_>>().join(", ");
        let taken = Bytes(self.total_bytes.saturating_sub(self.free_bytes));
        (!self.tenants.is_empty()).then(|| format!("{taken} are in use ({each})"))
    }
}

/// How the executable ended that was asked what there is, and what it said.
#[derive(Debug)]
struct Said {
    ended: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Said {
    fn facts(&self) -> Result<Facts, String> {
        if !self.ended.success() {
            return Err(explain(&self.stderr).unwrap_or_else(|| format!("it ended with {}", self.ended)));
        }
        match serde_json::from_str(&self.stdout) {
            Ok(Probed::Ready(facts)) => Ok(facts),
            Ok(Probed::Missing(why)) => Err(why),
            Err(e) => Err(format!("it says what makes no sense: {e}")),
        }
    }
}

/// Asks the executable what there is.
fn ask(program: &Path, ordinal: u32) -> Result<Said, String> {
    let mut command = Command::new(program);
    command.args(["probe", &ordinal.to_string()]).env_remove("NOTIFY_SOCKET");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("cannot be started: {e}"))?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let ended = end(&mut child)?;
    let text = |read: JoinHandle<Vec<u8>>| String::from_utf8_lossy(&read.join().unwrap_or_default()).into_owned();
    Ok(Said { ended, stdout: text(stdout), stderr: text(stderr) })
}

/// Reads a child's output to its end, as much as is looked at; the rest is thrown away.
fn drain(output: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
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
fn end(child: &mut Child) -> Result<ExitStatus, String> {
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
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn said(code: i32, stdout: &str, stderr: &str) -> Said {
        Said { ended: ExitStatus::from_raw(code << 8), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }

    #[test]
    fn what_there_is_is_read_and_told() {
        let json = r#"{"ready": {"version": "0.1.0", "name": "A GPU", "compute": "9.0", "cuda": "13.0", "driver": "580",
            "total_bytes": 51539607552, "free_bytes": 48318382080, "tenants": [{"pid": 7, "bytes": 3221225472}]}}"#;
        let facts = said(0, json, "").facts().expect("there is a GPU");
        assert_eq!(facts.to_string(), "A GPU (driver 580, CUDA 13.0, 48.0 GiB)");
        assert_eq!(facts.others().expect("somebody"), "3.0 GiB are in use (process 7 3.0 GiB)");
        let alone = Facts { tenants: Vec::new(), driver: None, ..facts };
        assert_eq!((alone.to_string().as_str(), alone.others()), ("A GPU (CUDA 13.0, 48.0 GiB)", None));
    }

    #[test]
    fn what_is_missing_is_one_sentence() {
        let loader =
            "x: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file";
        for (said, why) in [
            (said(127, "", loader), "there is no libcuda.so.1 on this machine; it comes with NVIDIA's driver"),
            (said(0, r#"{"missing": "there is no GPU"}"#, ""), "there is no GPU"),
            (said(0, "nonsense", ""), "it says what makes no sense: "),
            (said(1, "", "one\nanother\n\n"), "another"),
            (said(3, "", ""), "it ended with exit status: 3"),
        ] {
            let told = said.facts().expect_err("there is none");
            assert!(told.starts_with(why), "{told}");
        }
    }

    #[test]
    fn who_must_have_a_gpu_is_refused_and_who_need_not_has_the_cpu() {
        let mut config = Config::default();
        config.engine.cuda.program = Some("/nowhere/engine".into());
        config.engine.backend = BackendChoice::Cuda;
        let refused = Backend::choose(&config).expect_err("there is none").to_string();
        assert!(refused.starts_with("/nowhere/engine cannot be used: ") && refused.ends_with("\"auto\""), "{refused}");
        for (backend, program) in
            [(BackendChoice::Auto, Some("/nowhere/engine")), (BackendChoice::Auto, None), (BackendChoice::Cpu, None)]
        {
            config.engine.backend = backend;
            config.engine.cuda.program = program.map(Into::into);
            assert!(matches!(Backend::choose(&config), Ok(Backend::Cpu)), "{backend:?}");
        }
    }

    #[test]
    fn partitions_are_shares_of_what_the_gpu_has_and_kernels_are_blocks_without_one() {
        let mut config = Config::default();
        config.classes[0].gate = Gate::Kernel;
        let cpu = Backend::Cpu.apply(&config);
        assert_eq!(cpu.classes[0].gate, Gate::Block);
        let program = Program(File::open("/dev/null").expect("it is there"));
        let (name, driver, cuda) = ("A GPU".to_owned(), String::new(), "13.0".to_owned());
        let backend = Backend::Cuda(Gpu { program, name, driver, cuda, budget_bytes: 10 << 30 });
        let values = backend.labels().map(|(_, value)| value);
        assert_eq!(values, ["cuda", "A GPU", "", "13.0"]);
        let gpu = backend.apply(&config);
        assert_eq!((gpu.classes[0].gate, gpu.partitions()[0].cap_bytes), (Gate::Kernel, 6 << 30));
    }
}
