//! Pictures on their way to the daemon: as descriptors, never as bytes in a frame.
//!
//! The daemon takes two kinds, because neither lets it see other bytes later than it checked: a regular file opened for
//! reading, which it copies at once, and a memory file sealed against change. Whatever is neither is copied into the
//! second here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use gpusched_shared::spec::MAX_IMAGE_BYTES;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::Error;

/// One picture for a job: a PNG, JPEG or WebP file, as a descriptor.
#[derive(Debug)]
pub struct Picture(OwnedFd);

impl Picture {
    /// The picture file at `path`. A pipe or device is read to its end first.
    ///
    /// # Errors
    /// [`Error::Picture`] if it cannot be opened or read, is a directory, or is longer than
    /// [`MAX_IMAGE_BYTES`] and no regular file (those the daemon measures).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::try_open(path).map_err(|source| Error::Picture { path: path.to_owned(), source })
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            Ok(Self(file.into()))
        } else if kind.is_dir() {
            Err(io::Error::from(io::ErrorKind::IsADirectory))
        } else {
            Self::from_reader(file)
        }
    }

    /// A picture file held in memory.
    ///
    /// # Errors
    /// If the system gives no memory file.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"gpusched-picture", flags)?);
        file.write_all(bytes)?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self(file.into()))
    }

    /// A picture file read to its end, for example from standard input.
    ///
    /// # Errors
    /// If reading fails, or after [`MAX_IMAGE_BYTES`].
    pub fn from_reader(reader: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        reader.take(MAX_IMAGE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_IMAGE_BYTES {
            let reason = format!("longer than {MAX_IMAGE_BYTES} bytes, which is the most");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Self::from_bytes(&bytes)
    }

    /// The same picture once more, to hand it in with another job. Both are one file: nothing is copied.
    ///
    /// # Errors
    /// If the process has as many descriptors as it may.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl From<Picture> for OwnedFd {
    fn from(picture: Picture) -> Self {
        picture.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn memory_is_sealed() {
        let picture = Picture::from_bytes(b"picture").expect("a memory file");
        let mut file = File::from(OwnedFd::from(picture));
        file.rewind().expect("seekable");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(1).is_err());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("readable");
        assert_eq!(bytes, b"picture");
    }

    #[test]
    fn errors_name_the_file() {
        let error = Picture::open("/nonexistent/x.png").expect_err("no such file");
        assert!(error.to_string().starts_with("cannot read picture /nonexistent/x.png: No such file"), "{error}");
        assert!(Picture::open("/").is_err());
    }

    #[test]
    fn what_is_no_file_is_copied() {
        let picture = Picture::open("/dev/null").expect("readable");
        assert!(File::from(OwnedFd::from(picture)).metadata().expect("metadata").is_file());
    }
}
