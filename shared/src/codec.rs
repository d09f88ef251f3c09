//! Values to bytes and back: bincode's format (fixed-width little-endian integers, `u64` lengths, `u32` enum tags).
//!
//! The only file that names the crate behind it.

pub use wincode::{SchemaRead as Decode, SchemaWrite as Encode};

use wincode::SchemaReadOwned;
use wincode::config::Configuration;
use wincode::int_encoding::{FixInt, LittleEndian};
use wincode::len::BincodeLen;

use crate::frame::MAX_RESPONSE;

/// No sequence may claim more memory than the largest payload, whatever its length prefix says.
pub type Bounded = Configuration<true, MAX_RESPONSE, BincodeLen, LittleEndian, FixInt, u32>;

const BOUNDED: Bounded = Configuration::default().with_preallocation_size_limit::<MAX_RESPONSE>();

/// Why a value could not become bytes, or bytes a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this protocol version: {0}")]
pub struct CodecError(String);

/// The bytes of `value`.
///
/// # Errors
/// If a sequence in it is larger than [`MAX_RESPONSE`].
pub fn encode<T>(value: &T) -> Result<Vec<u8>, CodecError>
where
    T: Encode<Bounded, Src = T>,
{
    wincode::config::serialize(value, BOUNDED).map_err(|e| CodecError(e.to_string()))
}

/// The value in `bytes`.
///
/// # Errors
/// If they are not a `T`, or more than a `T`.
pub fn decode<T>(bytes: &[u8]) -> Result<T, CodecError>
where
    T: SchemaReadOwned<Bounded, Dst = T>,
{
    wincode::config::deserialize_exact(bytes, BOUNDED).map_err(|e| CodecError(e.to_string()))
}
