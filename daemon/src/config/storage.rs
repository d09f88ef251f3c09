//! What the daemon may take of the disk, and what it forgets.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// What the daemon takes of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// The most that stored files may take; beyond it, jobs that come with pictures are refused.
    pub blobs: Size,
    /// No jobs are taken while less than this is free.
    pub low_water: Size,
    /// Room that is kept so that running jobs can finish when the disk is full; 0 keeps none.
    pub reserve: Size,
}

/// When jobs that have ended are forgotten, and their files removed. For each key 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// How long after they ended.
    pub max_age_days: u32,
    /// The most that the journal and the files that only ended jobs need may take together.
    pub max_bytes: Size,
    /// The most jobs.
    pub max_jobs: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { blobs: Size(20 << 30), low_water: Size(256 << 20), reserve: Size(64 << 20) }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { max_age_days: 30, max_bytes: Size(10 << 30), max_jobs: 100_000 }
    }
}

/// A number of bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// Text that is not a number of bytes.
#[derive(Debug, thiserror::Error)]
#[error("a size is a number of bytes such as \"10GiB\" or \"500MB\"; got {0:?}")]
pub struct NotASize(String);

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        text.parse::<ByteSize>().map(|bytes| Self(bytes.as_u64())).map_err(|_| NotASize(text.to_owned()))
    }
}

impl TryFrom<String> for Size {
    type Error = NotASize;

    fn try_from(text: String) -> Result<Self, NotASize> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// Exact, so that what is written down is what was read: the largest unit that divides it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
        let exact = |bits: u32| self.0 != 0 && self.0.is_multiple_of(1 << bits);
        let (bits, unit) = units.into_iter().find(|(bits, _)| exact(*bits)).unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [("0B", 0), ("1B", 1), ("1025B", 1025), ("64MiB", 64 << 20), ("10GiB", 10 << 30)] {
            assert_eq!(text.parse::<Size>().expect("a size"), Size(bytes));
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!("500MB".parse::<Size>().expect("a size"), Size(500_000_000));
        assert!("much".parse::<Size>().expect_err("no size").to_string().contains("got \"much\""));
    }
}
