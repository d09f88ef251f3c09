//! A file system for SQLite that records every change on a tape, and else is the usual one.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use rusqlite::ffi;

use crate::tape::{Event, Refusal, Tape};

/// What a file system of ours knows. It stays for the life of the process, as SQLite's list of them does.
struct Shim {
    real: *mut ffi::sqlite3_vfs,
    tape: Arc<Tape>,
}

/// An open file: SQLite's part, ours, and behind it the real file.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    shim: *const Shim,
    /// As on the tape; null for temporary files, which are not recorded. Owned.
    path: *mut PathBuf,
    /// Whether the first sync is to sync the directory as well, as the usual file system does for logs.
    new: bool,
}

/// Makes a file system that records on `tape`; returns its name.
pub(crate) fn register(tape: &Arc<Tape>) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = format!("tape-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let c_name = CString::new(name.clone()).expect("no zero in it");
    // SAFETY: the first call initialises SQLite; the pointers it keeps are to memory that is never freed.
    unsafe {
        assert_eq!(ffi::sqlite3_initialize(), ffi::SQLITE_OK);
        let real = ffi::sqlite3_vfs_find(ptr::null());
        assert!(!real.is_null(), "there is a file system");
        let shim = Box::into_raw(Box::new(Shim { real, tape: Arc::clone(tape) }));
        let ours = ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: c_int::try_from(size_of::<File>()).expect("small") + (*real).szOsFile,
            pNext: ptr::null_mut(),
            zName: c_name.into_raw(),
            pAppData: shim.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            // The rest does not look at the file system that it is called with.
            ..*real
        };
        assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 0), ffi::SQLITE_OK);
    }
    name
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// The code for a refused change.
fn code(refusal: Refusal, broken: c_int) -> c_int {
    match refusal {
        Refusal::Full => ffi::SQLITE_FULL,
        // As the usual file system does it.
        Refusal::Quota => {
            Errno::EDQUOT.set();
            broken
        }
        Refusal::Broken => broken,
    }
}

/// Calls a method of the real file behind ours.
macro_rules! real {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let real = real_file($file);
        (*(*real).pMethods).$method.expect("it is there")(real $(, $argument)*)
    }};
}

/// SAFETY: `file` is one of ours.
unsafe fn real_file(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    unsafe { file.cast::<File>().add(1).cast() }
}

/// Records a change to a file, unless it is a temporary one. SAFETY: `file` is one of ours, and open.
unsafe fn record(file: *mut ffi::sqlite3_file, event: impl FnOnce(PathBuf) -> Event) -> Result<(), Refusal> {
    unsafe {
        let file = file.cast::<File>();
        match (*file).path.as_ref() {
            Some(path) => (*(*file).shim).tape.record(event(path.clone())),
            None => Ok(()),
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives us room for a file of ours, and `register` made what is behind `vfs`.
    unsafe {
        let shim = (*vfs).pAppData.cast::<Shim>().cast_const();
        let path = (!name.is_null()).then(|| PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes())));
        let recorded = path.as_ref().and_then(|path| (*shim).tape.relative(path));
        let new = flags & ffi::SQLITE_OPEN_CREATE != 0 && path.is_some_and(|path| !path.exists());
        (*file).pMethods = ptr::null();
        if let (true, Some(path)) = (new, &recorded)
            && let Err(refusal) = (*shim).tape.record(Event::Create(path.clone()))
        {
            return code(refusal, ffi::SQLITE_CANTOPEN);
        }
        let rc = ((*(*shim).real).xOpen.expect("it is there"))((*shim).real, name, real_file(file), flags, out);
        if rc == ffi::SQLITE_OK {
            let path = recorded.map_or(ptr::null_mut(), |path| Box::into_raw(Box::new(path)));
            let base = ffi::sqlite3_file { pMethods: &raw const METHODS };
            let is_log = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
            file.cast::<File>().write(File { base, shim, path, new: new && is_log });
        }
        rc
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: `register` made what is behind `vfs`; the name ends with a zero.
    unsafe {
        let shim = (*vfs).pAppData.cast::<Shim>().cast_const();
        let path = PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes()));
        if let Some(path) = (*shim).tape.relative(&path) {
            let removed = (*shim).tape.record(Event::Remove(path.clone()));
            let synced = |()| match sync_directory {
                0 => Ok(()),
                _ => (*shim).tape.record(Event::SyncDirectory(parent(&path))),
            };
            if let Err(refusal) = removed.and_then(synced) {
                return code(refusal, ffi::SQLITE_IOERR_DELETE);
            }
        }
        ((*(*shim).real).xDelete.expect("it is there"))((*shim).real, name, sync_directory)
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once; then nobody uses its path any more.
    unsafe {
        let path = (*file.cast::<File>()).path;
        if !path.is_null() {
            drop(Box::from_raw(path));
        }
        real!(file, xClose)
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, count: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite writes `count` bytes from `from`.
    unsafe {
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), count.unsigned_abs() as usize);
        let offset_usize = usize::try_from(offset).expect("small");
        match record(file, |path| Event::Write { path, offset: offset_usize, bytes: bytes.to_vec() }) {
            Ok(()) => real!(file, xWrite, from, count, offset),
            Err(refusal) => code(refusal, ffi::SQLITE_IOERR_WRITE),
        }
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: an open file of ours.
    unsafe {
        let length = usize::try_from(size).expect("small");
        match record(file, |path| Event::Resize { path, length }) {
            Ok(()) => real!(file, xTruncate, size),
            Err(refusal) => code(refusal, ffi::SQLITE_IOERR_TRUNCATE),
        }
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: an open file of ours.
    unsafe {
        let mut synced = record(file, Event::Sync);
        let ours = &mut *file.cast::<File>();
        if synced.is_ok() && std::mem::take(&mut ours.new) {
            synced = record(file, |path| Event::SyncDirectory(parent(&path)));
        }
        match synced {
            Ok(()) => real!(file, xSync, flags),
            Err(refusal) => code(refusal, ffi::SQLITE_IOERR_FSYNC),
        }
    }
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: an open file of ours.
    unsafe {
        if flags & ffi::SQLITE_SHM_LOCK != 0 && (*(*file.cast::<File>()).shim).tape.is_locked() {
            // Unlike BUSY, it is not waited for.
            return ffi::SQLITE_LOCKED;
        }
        real!(file, xShmLock, offset, count, flags)
    }
}

/// Methods that change nothing, and go to the real file as they are.
macro_rules! through {
    ($($name:ident $method:ident ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $type)*) -> $result {
            // SAFETY: an open file of ours.
            unsafe { real!(file, $method $(, $argument)*) }
        }
    )*};
}

through! {
    read xRead (to: *mut c_void, count: c_int, offset: i64) -> c_int;
    file_size xFileSize (size: *mut i64) -> c_int;
    lock xLock (kind: c_int) -> c_int;
    unlock xUnlock (kind: c_int) -> c_int;
    check_reserved_lock xCheckReservedLock (out: *mut c_int) -> c_int;
    file_control xFileControl (op: c_int, argument: *mut c_void) -> c_int;
    sector_size xSectorSize () -> c_int;
    device_characteristics xDeviceCharacteristics () -> c_int;
    shm_map xShmMap (page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_barrier xShmBarrier () -> ();
    shm_unmap xShmUnmap (remove: c_int) -> c_int;
}
