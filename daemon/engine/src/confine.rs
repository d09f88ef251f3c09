//! What an engine in a process of its own may do, and how everything else is dropped. It runs the code that decodes
//! strangers' pictures, so it has nothing that such code could want.
//!
//! | may | by |
//! | --- | --- |
//! | read model directories, and what any process reads of the system | Landlock |
//! | use its device's files, if it has one other than the CPU | Landlock |
//! | read and write the descriptors it is given, make memfds up to a size, map memory, start threads, set their niceness | |
//!
//! | may not | by |
//! | --- | --- |
//! | write, make, remove or run any file; read any other | Landlock |
//! | open, connect or accept sockets, also by way of io_uring | seccomp |
//! | signal other processes | Landlock |
//! | run programs, look into other processes, mount, load modules, take on another user, gain privileges | seccomp, no new privileges |
//! | leave core files, have more descriptors than it needs | resource limits |
//!
//! Both filters hold for threads started after them. [`sandbox`](crate::sandbox) has the lists.

use std::io;
use std::path::PathBuf;

use rustix::process::Resource;

use crate::sandbox::{May, Others, Sandbox, limit, reachable};
use crate::sealed::MAX_SEALED_BYTES;

/// Descriptors it may have: pictures of stages, weights being loaded, and a few of its own.
const MAX_DESCRIPTORS: u64 = 4096;

/// Models, their components, their files: models are often kept elsewhere, and their files yet elsewhere.
const LINKED: usize = 3;

/// Why it may still do what it should not.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A limit could not be set.
    #[error("cannot limit what the engine may do: {0}")]
    Limits(io::Error),
}

/// Drops what the calling process has no need of, for the calling thread and those that it starts. Returns what the kernel
/// could not enforce, for a person; the engine is as good without, only less safe. `device` is what its device takes.
///
/// # Errors
/// [`ConfineError`] where what any Linux can do fails.
pub fn confine(models: &[PathBuf], device: &[(PathBuf, May)]) -> Result<Vec<String>, ConfineError> {
    limit(&[(Resource::Core, 0), (Resource::Nofile, MAX_DESCRIPTORS), (Resource::Fsize, MAX_SEALED_BYTES)])
        .map_err(ConfineError::Limits)?;
    let readable = models.iter().flat_map(|directory| reachable(directory, LINKED));
    let files = readable.map(|path| (path, May::Read)).chain(device.iter().cloned()).collect();
    Ok(Sandbox { files, others: Others::None }.enter())
}
