//! The lock of the device. Front and engine hold it together, and it is free only when both are gone: an engine whose front
//! died may still be at work, and two of them are one too many.
//!
//! While it is locked the file says which process the engine is, so that a front that comes later can end it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::process::{Handle, stat};

/// How often to look whether a lock is free whose holder is not known.
const LOOK: Duration = Duration::from_millis(20);

/// How long a process that is killed takes to be gone, at the most.
const DYING: Duration = Duration::from_secs(10);

/// Bytes of what is written in the file. Always as many, so that what stood there before is gone with one write.
const LENGTH: usize = 32;

/// Why the device was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The file cannot be used.
    #[error("cannot use {}: {source}; see to the state directory", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody has it who does not let go, and of whom nothing is known.
    #[error("the engine of an earlier daemon holds {} and does not end; find it with `fuser {}` and end it", .0.display(), .0.display())]
    Held(PathBuf),
    /// The engine of an earlier daemon cannot be ended.
    #[error("the engine of an earlier daemon (process {pid}) holds {} and cannot be ended: {source}", path.display())]
    Stuck {
        /// The file.
        path: PathBuf,
        /// Its process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// Takes the device whose lock is at `path`. An engine that an earlier front left behind has `patience` to end by itself, as
/// it does when it finds its front gone; then it is killed.
///
/// # Errors
/// [`DeviceError`]
pub fn take_device(path: &Path, patience: Duration) -> Result<File, DeviceError> {
    let failed = |source| DeviceError::File { path: path.into(), source };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    let until = Instant::now() + patience;
    while !lock(&file).map_err(failed)? {
        let left = until.saturating_duration_since(Instant::now());
        let Some((pid, engine)) = holder(&file) else {
            // It may be about to be written, or the holder about to go.
            if left.is_zero() {
                return Err(DeviceError::Held(path.into()));
            }
            std::thread::sleep(LOOK.min(left));
            continue;
        };
        let stuck = |source| DeviceError::Stuck { path: path.into(), pid, source };
        if !engine.wait(left).map_err(stuck)? {
            tracing::warn!(PID = pid, "the engine of an earlier daemon has not ended by itself: killed");
            engine.kill().map_err(stuck)?;
            if !engine.wait(DYING).map_err(stuck)? {
                return Err(stuck(io::ErrorKind::TimedOut.into()));
            }
        }
        // A process lets go of its files before it is seen to have ended; another hand may still be on this one.
        return if lock(&file).map_err(failed)? { Ok(file) } else { Err(DeviceError::Held(path.into())) };
    }
    Ok(file)
}

/// Writes into the lock which process the engine is.
pub(super) fn name_holder(file: &File, pid: u32) -> io::Result<()> {
    let started = stat(pid).map_or(0, |stat| stat.started);
    file.write_all_at(format!("{pid:>10} {started:>20}\n").as_bytes(), 0)
}

/// The process that the file names, if that is still the one that it named.
fn holder(file: &File) -> Option<(u32, Handle)> {
    let mut line = [0; LENGTH];
    file.read_exact_at(&mut line, 0).ok()?;
    let (pid, started) = std::str::from_utf8(&line).ok()?.trim().split_once(' ')?;
    let (pid, started): (u32, u64) = (pid.parse().ok()?, started.trim().parse().ok()?);
    // Held before it is looked at: from here on the number cannot become another's.
    let handle = Handle::open(pid).ok()?;
    (stat(pid)?.started == started).then_some((pid, handle))
}

/// Locks the file, if nobody has. The lock is the open file's, and of whoever is given its descriptor.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    struct Bench {
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().expect("a directory") }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("engine.lock")
        }

        /// A process that holds the lock as an engine does, its front being gone, and is named in it as `started` says.
        fn orphan(&self, named: impl FnOnce(&File, u32)) -> Child {
            let file = take_device(&self.path(), LONG).expect("nobody has it");
            let input = Stdio::from(file.try_clone().expect("a descriptor"));
            let child = Command::new("sleep").arg("1000").stdin(input).spawn().expect("it starts");
            named(&file, child.id());
            child
        }
    }

    fn end(mut child: Child) {
        let _ = child.kill();
        let _ = child.wait();
    }

    #[test]
    fn a_device_that_nobody_has_is_taken_at_once_and_one_that_is_taken_is_not() {
        let bench = Bench::new();
        let held = take_device(&bench.path(), LONG).expect("nobody has it");
        assert!(matches!(take_device(&bench.path(), Duration::ZERO), Err(DeviceError::Held(_))));
        drop(held);
        take_device(&bench.path(), Duration::ZERO).expect("nobody has it any more");
    }

    #[test]
    fn an_engine_that_does_not_end_by_itself_is_killed() {
        let bench = Bench::new();
        let child = bench.orphan(|file, pid| name_holder(file, pid).expect("written"));
        take_device(&bench.path(), Duration::ZERO).expect("it is ended");
        let mut child = child;
        let status = child.wait().expect("it has ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn an_engine_that_ends_by_itself_is_waited_for() {
        let bench = Bench::new();
        let mut child = bench.orphan(|file, pid| name_holder(file, pid).expect("written"));
        let pid = child.id();
        let path = bench.path();
        let taking = std::thread::spawn(move || take_device(&path, LONG).map(drop));
        // Not by us, as far as the other thread can tell.
        let signalled = Command::new("kill").args(["-TERM", &pid.to_string()]).status().expect("it runs");
        assert!(signalled.success());
        taking.join().expect("no panic").expect("it has ended");
        let status = child.wait().expect("it has ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "not killed");
    }

    #[test]
    fn another_process_of_the_same_number_is_left_alone() {
        let bench = Bench::new();
        // The number is right, and the time is not: as if the engine had died and its number been given away.
        let child = bench.orphan(|file, pid| {
            let started = stat(pid).expect("it is there").started + 1;
            file.write_all_at(format!("{pid:>10} {started:>20}\n").as_bytes(), 0).expect("written");
        });
        assert!(matches!(take_device(&bench.path(), Duration::ZERO), Err(DeviceError::Held(_))));
        assert!(stat(child.id()).is_some_and(|stat| stat.state != 'Z'), "it lives");
        end(child);
    }
}
