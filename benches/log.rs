//! Whether the log holds up light work: how long a light job takes, from being handed in to its answer, while the daemon
//! logs next to nothing, 10,000 lines a second, and as many to a journal that takes none. `cargo bench --workspace --bench log`, as root: each
//! daemon has a journal's socket of its own, in a mount namespace.
//!
//! All three do the same work beside that: clients change the priority of a waiting job as often, of which the
//! daemon logs a line each, if it is to. They take turns, so that what else the machine does befalls all.

use std::env;
use std::error::Error;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gpusched_client::blocking::Client;
use gpusched_client::{JobId, Picture, txt2img, vqa};
use tempfile::TempDir;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Lines a second that are asked for, so that 10,000 come also where the machine is busy.
const LINES: u64 = 12_000;
/// Connections that ask for them.
const FLOODERS: u64 = 12;
/// How often the daemons take turns, and light jobs of each turn.
const TURNS: usize = 6;
const JOBS: usize = 12;
/// How long a daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

const INSIDE: &str = r#"
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal || exit 9
JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec setpriv --pdeathsig KILL "$@"
"#;

struct Daemon {
    name: &'static str,
    process: Child,
    socket: PathBuf,
    /// What waits while its priority changes.
    waiting: JobId,
    circle: Vec<u8>,
    latencies: Vec<Duration>,
    asked: u64,
    flooded: Duration,
    received: Arc<AtomicU64>,
    /// Kept, so that there is a journal, where nobody reads it.
    _journal: Option<UnixDatagram>,
    _directory: TempDir,
}

impl Daemon {
    /// With a journal that is read or not.
    fn start(programs: &Path, name: &'static str, level: &str, is_read: bool) -> Done<Self> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let (socket, journal, config) = (at("gpusched.sock"), at("journal"), at("gpusched.toml"));
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights").canonicalize()?;
        std::fs::create_dir(&journal)?;
        let state = at("state");
        std::fs::write(&config, format!("socket = {socket:?}\nstate_dir = {state:?}\nmodels = [{models:?}]\n"))?;
        let received = Arc::new(AtomicU64::new(0));
        let journal_socket = UnixDatagram::bind(journal.join("socket"))?;
        let unread = if is_read {
            let received = Arc::clone(&received);
            std::thread::spawn(move || {
                let mut entry = vec![0; 1 << 18];
                while journal_socket.recv(&mut entry).is_ok() {
                    received.fetch_add(1, Ordering::Relaxed);
                }
            });
            None
        } else {
            Some(journal_socket)
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", INSIDE]).arg(&journal);
        command.arg(programs.join("gpuschedd")).args(["serve", "--config"]).arg(&config).env("GPUSCHED_LOG", level);
        let process = command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).spawn()?;
        let mut daemon = Self {
            name,
            process,
            socket,
            waiting: JobId(0),
            circle: std::fs::read(models.join("flux2-klein-tiny/samples.png"))?,
            latencies: Vec::new(),
            asked: 0,
            flooded: Duration::ZERO,
            received,
            _journal: unread,
            _directory: directory,
        };
        let began = Instant::now();
        let client = loop {
            match Client::connect(&daemon.socket) {
                Ok(client) => break client,
                Err(_) if began.elapsed() < PATIENCE && daemon.process.try_wait()?.is_none() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => return Err(format!("{name}: {e}").into()),
            }
        };
        client.pause("heavy")?;
        daemon.waiting = client.submit(txt2img("a red circle"), Vec::new(), false)?;
        // Its model is in memory, and what the journal's socket holds is in it.
        daemon.turn(2)?;
        daemon.latencies.clear();
        (daemon.asked, daemon.flooded) = (0, Duration::ZERO);
        daemon.received.store(0, Ordering::Relaxed);
        Ok(daemon)
    }

    /// Runs so many light jobs one after the other, in the flood.
    fn turn(&mut self, jobs: usize) -> Done<()> {
        let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let flooders: Vec<JoinHandle<Done<u64>>> = (0..FLOODERS)
            .map(|_| {
                let (socket, waiting, stop) = (self.socket.clone(), self.waiting, Arc::clone(&stop));
                std::thread::spawn(move || flood(&socket, waiting, &stop))
            })
            .collect();
        let client = Client::connect(&self.socket)?;
        for _ in 0..jobs {
            let circle = Picture::from_bytes(&self.circle)?;
            let handed_in = Instant::now();
            let job = client.submit(vqa("what color is the shape?"), vec![circle], false)?;
            client.wait(job)?;
            self.latencies.push(handed_in.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        for flooder in flooders {
            self.asked += flooder.join().map_err(|_| "a client died")??;
        }
        self.flooded += began.elapsed();
        Ok(())
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Changes a job's priority at its share of the rate until told to stop; how often that was.
fn flood(socket: &Path, job: JobId, stop: &AtomicBool) -> Done<u64> {
    let client = Client::connect(socket)?;
    let (began, mut asked) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = began.elapsed().as_micros() as u64 * LINES / FLOODERS / 1_000_000;
        if asked < due {
            client.set_priority(job, (asked % 100) as i8)?;
            asked += 1;
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(asked)
}

/// Where the programs are, fresh from the same profile as this one.
fn programs() -> Done<PathBuf> {
    if let Some(directory) = env::var_os("GPUSCHED_BIN_DIR") {
        return Ok(directory.into());
    }
    let own = env::current_exe()?;
    let directory = own.ancestors().nth(2).ok_or("this program lies in no target directory")?;
    let status = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--workspace", "--bins", "--quiet"])
        .args((!directory.ends_with("debug")).then_some("--release"))
        .status()?;
    if status.success() { Ok(directory.to_owned()) } else { Err("cargo could not build the programs".into()) }
}

fn main() -> Done<()> {
    let programs = programs()?;
    let mut daemons = [
        Daemon::start(&programs, "quiet", "error", true)?,
        Daemon::start(&programs, "10,000 lines a second", "info", true)?,
        Daemon::start(&programs, "the same, journal blocked", "info", false)?,
    ];
    for _ in 0..TURNS {
        for daemon in &mut daemons {
            daemon.turn(JOBS)?;
        }
    }
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let quiet = daemons[0].percentile(50);
    println!(
        "{:<28}{:>8}{:>12}{:>12}{:>12}{:>14}{:>14}",
        "log", "jobs", "p50", "p95", "p50/quiet", "asked/s", "logged/s"
    );
    for daemon in &daemons {
        let seconds = daemon.flooded.as_secs_f64();
        println!(
            "{:<28}{:>8}{:>9.2} ms{:>9.2} ms{:>12.2}{:>14.0}{:>14.0}",
            daemon.name,
            daemon.latencies.len(),
            ms(daemon.percentile(50)),
            ms(daemon.percentile(95)),
            daemon.percentile(50).as_secs_f64() / quiet.as_secs_f64(),
            daemon.asked as f64 / seconds,
            daemon.received.load(Ordering::Relaxed) as f64 / seconds
        );
    }
    Ok(())
}
