//! Configurations and weights of a Hugging Face directory.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use safetensors::{Dtype, tensor::Metadata};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    yield_point::{Site, YieldPoint},
};

/// Reads a JSON file; keys that `T` does not name are ignored.
///
/// # Errors
///
/// [`Error::Missing`] without the file, [`Error::Config`] if it is not what `T` expects.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|e| Error::missing(path, e))?;
    serde_json::from_slice(&text).map_err(|e| Error::config(path, e.to_string()))
}

/// As [`read_json`], or `None` without the file.
///
/// # Errors
///
/// As [`read_json`], but for the missing file.
pub fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.try_exists().map_err(|e| Error::missing(path, e))? { read_json(path).map(Some) } else { Ok(None) }
}

/// Bound on every size that a file gives: far above any real model, low enough that no product of sizes overflows.
const MAX_SIZE: usize = 1 << 20;

/// Refuses a value that is none of those supported.
pub(crate) fn require<T: PartialEq + std::fmt::Debug>(
    path: &Path,
    key: &str,
    value: &T,
    supported: &[T],
) -> Result<()> {
    if supported.contains(value) {
        return Ok(());
    }
    let supported = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" or ");
    Err(Error::config(path, format!("{key} is {value:?}; only {supported} is supported")))
}

/// Refuses a size of 0, or beyond all reason.
pub(crate) fn require_size(path: &Path, key: &str, value: usize) -> Result<()> {
    if (1..=MAX_SIZE).contains(&value) {
        return Ok(());
    }
    Err(Error::config(path, format!("{key} is {value}; 1 to {MAX_SIZE} is supported")))
}

/// The weight files of one component: a single safetensors file or the shards named by an index.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    dir: PathBuf,
    paths: Vec<PathBuf>,
}

impl WeightFiles {
    /// Looks in `dir` for what diffusers' and transformers' `save_pretrained` write, the unsharded file first.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is none, [`Error::Config`] for an unusable index.
    pub fn find(dir: &Path) -> Result<Self> {
        for stem in ["diffusion_pytorch_model", "model"] {
            let single = dir.join(format!("{stem}.safetensors"));
            if single.is_file() {
                return Ok(Self { dir: dir.to_owned(), paths: vec![single] });
            }
            let index = dir.join(format!("{stem}.safetensors.index.json"));
            if index.is_file() {
                return Ok(Self { dir: dir.to_owned(), paths: shards(dir, &index)? });
            }
        }
        Err(Error::missing(&dir.join("model.safetensors"), ErrorKind::NotFound.into()))
    }

    /// Number of files.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.paths.len() as u32
    }

    /// Their size on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if one is not there.
    pub fn bytes(&self) -> Result<u64> {
        self.paths.iter().map(|p| Ok(std::fs::metadata(p).map_err(|e| Error::missing(p, e))?.len())).sum()
    }

    /// How many numbers the tensors have for whose names `keep` holds. Reads the files' headers only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] and [`Error::Weights`] for unusable files.
    pub fn parameters(&self, keep: &dyn Fn(&str) -> bool) -> Result<u64> {
        let mut parameters = 0u64;
        for path in &self.paths {
            let (_, header) = Header::open(path)?;
            let kept =
                header.metadata.tensors().into_iter().filter(|(name, info)| keep(name) && !is_integer(info.dtype));
            for (_, info) in kept {
                let elements = info.shape.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
                parameters = parameters.saturating_add(elements);
            }
        }
        Ok(parameters)
    }

    /// The type in which most numbers are stored; `F32` if there are none. Reads the files' headers only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] and [`Error::Weights`] for unusable files.
    pub fn stored_type(&self) -> Result<DType> {
        let mut bytes: Vec<(DType, usize)> = Vec::new();
        for path in &self.paths {
            let (_, header) = Header::open(path)?;
            for (_, info) in header.metadata.tensors() {
                let Some(stored) = float_type(info.dtype) else { continue };
                let (start, end) = info.data_offsets;
                let size = end.saturating_sub(start) / stored.size_in_bytes();
                match bytes.iter_mut().find(|(known, _)| *known == stored) {
                    Some((_, sum)) => *sum = sum.saturating_add(size),
                    None => bytes.push((stored, size)),
                }
            }
        }
        Ok(bytes.into_iter().max_by_key(|(_, numbers)| *numbers).map_or(DType::F32, |(stored, _)| stored))
    }

    /// Reads all tensors for whose names `keep` holds, as `dtype` on `device`.
    ///
    /// Tensors are read one at a time, so that beside the weights themselves no more than the largest of them is held
    /// in memory. Integer tensors (position tables, batch counters) are left out: no model here needs them.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] and [`Error::Weights`] for unusable files, [`Error::Interrupted`], [`Error::Device`].
    pub fn load(
        &self,
        device: &Device,
        dtype: DType,
        keep: &dyn Fn(&str) -> bool,
        progress: &Progress<'_>,
    ) -> Result<VarBuilder<'static>> {
        let mut tensors = HashMap::new();
        for path in &self.paths {
            progress.before_file()?;
            read_file(path, device, dtype, keep, progress, &mut tensors)?;
            progress.file_done();
        }
        Ok(VarBuilder::from_tensors(tensors, dtype, device))
    }

    /// The outcome of building a module from these weights: a missing or misshapen tensor is the files' fault.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] where the device failed, [`Error::Weights`] for any other error in `built`.
    pub fn check<T>(&self, built: candle_core::Result<T>) -> Result<T> {
        built.map_err(|e| {
            if of_device(&e) {
                return Error::Device(e);
            }
            let reason = if let candle_core::Error::WithBacktrace { inner, .. } = e { *inner } else { e };
            Error::weights(&self.dir, reason.to_string())
        })
    }
}

/// Counts weight files over all components of a model and tells the observer.
pub struct Progress<'a> {
    observer: &'a dyn YieldPoint,
    done: Cell<u32>,
    total: u32,
}

impl<'a> Progress<'a> {
    /// `total` files are to be read.
    pub fn new(observer: &'a dyn YieldPoint, total: u32) -> Self {
        Self { observer, done: Cell::new(0), total }
    }

    /// All files are read.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn finish(self) -> Result<()> {
        self.before_file()
    }

    pub(crate) fn before_file(&self) -> Result<()> {
        Ok(self.observer.reach(Site::WeightFile { done: self.done.get(), total: self.total })?)
    }

    pub(crate) fn file_done(&self) {
        self.done.set(self.done.get() + 1);
    }
}

/// Whether an error is a device's, whatever has been said around it.
fn of_device(error: &candle_core::Error) -> bool {
    use candle_core::Error as E;
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these have another error in them")]
    match error {
        E::Cuda(_) => true,
        E::Context { inner, .. } | E::WithPath { inner, .. } | E::WithBacktrace { inner, .. } => of_device(inner),
        E::WrappedContext { wrapped, .. } => wrapped.downcast_ref().is_some_and(of_device),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

fn shards(dir: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let names: BTreeSet<String> = read_json::<Index>(index)?.weight_map.into_values().collect();
    for name in &names {
        // A model directory is data from elsewhere: it does not get to name files outside itself.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Error::config(index, format!("weight_map names {name:?}, which is not a plain file name")));
        }
    }
    if names.is_empty() {
        return Err(Error::config(index, "weight_map is empty"));
    }
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// Bytes read within one file after which the observer is asked again.
pub(crate) const BETWEEN_YIELDS: usize = 256 << 20;
/// The format's own limit on its header, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The begin of a safetensors file.
struct Header {
    metadata: Metadata,
    /// Where the tensors begin, in bytes from the file's begin.
    data_start: u64,
    file_length: u64,
}

impl Header {
    fn open(path: &Path) -> Result<(File, Self)> {
        let unreadable = |e| Error::missing(path, e);
        let mut file = File::open(path).map_err(unreadable)?;
        let file_length = file.metadata().map_err(unreadable)?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length).map_err(unreadable)?;
        let header_length = u64::from_le_bytes(length);
        if header_length > MAX_HEADER || header_length + 8 > file_length {
            return Err(Error::weights(path, "not a safetensors file, or cut short"));
        }
        let mut header = vec![0u8; header_length as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let metadata = serde_json::from_slice(&header).map_err(|e| Error::weights(path, e.to_string()))?;
        Ok((file, Self { metadata, data_start: header_length + 8, file_length }))
    }
}

fn read_file(
    path: &Path,
    device: &Device,
    dtype: DType,
    keep: &dyn Fn(&str) -> bool,
    progress: &Progress<'_>,
    tensors: &mut HashMap<String, Tensor>,
) -> Result<()> {
    let unreadable = |e| Error::missing(path, e);
    let (mut file, header) = Header::open(path)?;
    let Header { metadata, data_start, file_length } = header;

    let mut found: Vec<_> = metadata.tensors().into_iter().filter(|(name, _)| keep(name)).collect();
    found.sort_by_key(|(_, info)| info.data_offsets);
    let mut since_yield = 0;
    let mut bytes = Vec::new();
    for (name, info) in found {
        let Some(stored) = float_type(info.dtype) else {
            if is_integer(info.dtype) {
                continue;
            }
            return Err(Error::weights(path, format!("{name} is stored as {:?}, which is not supported", info.dtype)));
        };
        let (start, end) = info.data_offsets;
        let elements = info.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let expected = elements.and_then(|n| n.checked_mul(stored.size_in_bytes()));
        if end < start || Some(end - start) != expected || end as u64 > file_length - data_start {
            return Err(Error::weights(path, format!("{name} lies outside the file, or the file is cut short")));
        }
        if since_yield > BETWEEN_YIELDS {
            progress.before_file()?;
            since_yield = 0;
        }
        since_yield += end - start;
        bytes.resize(end - start, 0);
        file.seek(SeekFrom::Start(data_start + start as u64)).map_err(unreadable)?;
        file.read_exact(&mut bytes).map_err(unreadable)?;
        let tensor = Tensor::from_raw_buffer(&bytes, stored, &info.shape, device)?.to_dtype(dtype)?;
        tensors.insert(name, tensor);
    }
    Ok(())
}

fn float_type(stored: Dtype) -> Option<DType> {
    [(Dtype::F32, DType::F32), (Dtype::F16, DType::F16), (Dtype::BF16, DType::BF16), (Dtype::F64, DType::F64)]
        .into_iter()
        .find_map(|(from, to)| (from == stored).then_some(to))
}

fn is_integer(stored: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    [BOOL, U8, I8, U16, I16, U32, I32, U64, I64].contains(&stored)
}
