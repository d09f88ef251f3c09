//! Records every change to the disk, and what was promised in between. Can have the disk fail, or be full, or the database
//! be locked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpusched_core::Part;
use gpusched_daemon::disk::{Change, Witness};
use gpusched_shared::{JobId, Outcome};
use nix::errno::Errno;

/// What happened, in order. Paths are relative to the state directory.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create(PathBuf),
    Write { path: PathBuf, offset: usize, bytes: Vec<u8> },
    Resize { path: PathBuf, length: usize },
    Sync(PathBuf),
    SyncDirectory(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
    MakeDirectory(PathBuf),
    Promise(Promise),
}

/// What somebody was told, or may rely on.
#[derive(Debug, Clone)]
pub(crate) enum Promise {
    /// The job is on record; `power` if that survives loss of power.
    Accepted { job: JobId, power: bool },
    /// The job has ended like this.
    Ended(JobId, Outcome),
    /// A stage has ended like this, which its job relies on for as long as it has not ended itself.
    StageEnded(Part, Outcome),
    /// What was written so far has been synced.
    Synced,
    /// These may be forgotten from now on.
    MayGo(BTreeSet<JobId>),
}

/// Why a change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    /// As full, but for this user alone.
    Quota,
    Broken,
}

#[derive(Debug)]
pub(crate) struct Tape {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    changes: usize,
    /// The change that fails, counted from 0.
    broken_at: Option<usize>,
    has_failed: bool,
    /// Bytes by which files may grow, and what is said if they would by more.
    room: Option<(u64, Refusal)>,
    lengths: BTreeMap<PathBuf, u64>,
    locked: bool,
}

impl Tape {
    pub(crate) fn new(root: &Path, broken_at: Option<usize>) -> Arc<Self> {
        let state = State { broken_at, ..State::default() };
        Arc::new(Self { root: root.into(), state: Mutex::new(state) })
    }

    pub(crate) fn promise(&self, promise: Promise) {
        self.lock().events.push(Event::Promise(promise));
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Changes that were made or refused.
    pub(crate) fn changes(&self) -> usize {
        self.lock().changes
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes.map(|bytes| (bytes, Refusal::Full));
    }

    pub(crate) fn set_quota(&self, bytes: u64) {
        self.lock().room = Some((bytes, Refusal::Quota));
    }

    /// Has another program lock the database, or unlock it again.
    pub(crate) fn set_locked(&self, locked: bool) {
        self.lock().locked = locked;
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.lock().locked
    }

    /// A path as it stands on the tape; `None` if it is elsewhere.
    pub(crate) fn relative(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }

    /// Records a change that is about to be made, unless it is refused.
    pub(crate) fn record(&self, event: Event) -> Result<(), Refusal> {
        let state = &mut *self.lock();
        let number = state.changes;
        state.changes += 1;
        if state.broken_at == Some(number) {
            state.has_failed = true;
            return Err(Refusal::Broken);
        }
        state.account(&event)?;
        state.events.push(event);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the bytes by which a file grows from the room there is.
    fn account(&mut self, event: &Event) -> Result<(), Refusal> {
        let (path, length) = match event {
            Event::Write { path, offset, bytes } => {
                let length = self.lengths.get(path).copied().unwrap_or(0);
                (path.clone(), length.max((offset + bytes.len()) as u64))
            }
            Event::Resize { path, length } => (path.clone(), *length as u64),
            Event::Remove(path) => (path.clone(), 0),
            Event::Rename { from, to } => {
                let moved = self.lengths.remove(from).unwrap_or(0);
                self.lengths.insert(to.clone(), moved);
                return Ok(());
            }
            Event::Create(_)
            | Event::Sync(_)
            | Event::SyncDirectory(_)
            | Event::MakeDirectory(_)
            | Event::Promise(_) => return Ok(()),
        };
        let before = self.lengths.get(&path).copied().unwrap_or(0);
        if let Some((room, refusal)) = self.room {
            let left = (room + before).checked_sub(length).ok_or(refusal)?;
            self.room = Some((left, refusal));
        }
        self.lengths.insert(path, length);
        Ok(())
    }
}

impl Witness for Tape {
    fn before(&self, change: Change<'_>) -> io::Result<()> {
        let path = |path: &Path| self.relative(path).expect("it changes nothing elsewhere");
        let event = match change {
            Change::Create(of) => Event::Create(path(of)),
            Change::Write { path: of, bytes } => Event::Write { path: path(of), offset: 0, bytes: bytes.to_vec() },
            Change::Sync(of) => Event::Sync(path(of)),
            Change::SyncDirectory(of) => Event::SyncDirectory(path(of)),
            Change::Rename { from, to } => Event::Rename { from: path(from), to: path(to) },
            Change::Remove(of) => Event::Remove(path(of)),
            Change::MakeDirectory(of) => Event::MakeDirectory(path(of)),
            Change::Allocate { path: of, bytes } => {
                Event::Resize { path: path(of), length: usize::try_from(bytes).expect("small") }
            }
        };
        self.record(event).map_err(|refusal| match refusal {
            Refusal::Full => Errno::ENOSPC.into(),
            Refusal::Quota => Errno::EDQUOT.into(),
            Refusal::Broken => Errno::EIO.into(),
        })
    }

    fn free_bytes(&self, measured: u64) -> u64 {
        // The file system has room when a quota is used up.
        match self.lock().room {
            Some((left, Refusal::Full | Refusal::Broken)) => left,
            Some((_, Refusal::Quota)) | None => measured,
        }
    }
}
