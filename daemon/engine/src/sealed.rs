//! Files in memory that nobody can change any more, for what is too large for a message.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use gpusched_shared::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// The largest such file, in bytes.
pub(crate) const MAX_SEALED_BYTES: u64 = 256 << 20;

/// Without these it could change while it is read.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK);

/// Why such a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is another kind of file, or not sealed.
    #[error("the file that came with a message is not a sealed memfd")]
    NotSealed,
    /// It is too large.
    #[error("the file that came with a message has {}, the limit is {}", Bytes(*.0), Bytes(MAX_SEALED_BYTES))]
    TooLarge(u64),
    /// It cannot be read.
    #[error("the file that came with a message cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A file of these bytes.
pub(crate) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    if bytes.len() as u64 > MAX_SEALED_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut file = File::from(memfd_create("gpusched", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SEALS | SealFlags::SEAL)?;
    Ok(file.into())
}

/// The bytes of such a file.
pub(crate) fn unseal(file: OwnedFd) -> Result<Vec<u8>, UnsealError> {
    let file = File::from(file);
    match fcntl_get_seals(&file) {
        Ok(seals) if seals.contains(SEALS) => {}
        Ok(_) | Err(_) => return Err(UnsealError::NotSealed),
    }
    let length = file.metadata()?.len();
    if length > MAX_SEALED_BYTES {
        return Err(UnsealError::TooLarge(length));
    }
    // Fits: the limit does.
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_cannot_be_written() {
        let file = File::from(seal(b"picture").unwrap());
        assert!(file.write_at(b"P", 0).is_err());
        assert!(file.set_len(3).is_err());
        assert_eq!(unseal(file.into()).unwrap(), b"picture");
    }

    #[test]
    fn what_is_not_sealed_or_too_large_is_refused() {
        let plain = tempfile::tempfile().unwrap();
        assert!(matches!(unseal(plain.into()), Err(UnsealError::NotSealed)));
        let open = || memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(unseal(open()), Err(UnsealError::NotSealed)));
        let large = File::from(open());
        large.set_len(MAX_SEALED_BYTES + 1).unwrap();
        fcntl_add_seals(&large, SEALS).unwrap();
        assert!(matches!(unseal(large.into()), Err(UnsealError::TooLarge(length)) if length == MAX_SEALED_BYTES + 1));
    }
}
