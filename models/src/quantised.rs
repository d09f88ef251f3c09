//! A GGUF file as the weights of a part, read as its layers are built.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use candle_core::{
    DType, Device, Result as Built, Tensor,
    quantized::{QStorage, QTensor},
};

use crate::{
    error::{Error, Result},
    gguf::{Header, Stored},
    linear::{Linear, MAX_BAND, apart},
    loader::{BETWEEN_YIELDS, Progress},
};

/// What a tensor of the file is called here, and which of its rows go by that name, one range after the other.
pub type Renamed = (String, Vec<Range<u64>>);

/// An open file.
///
/// Layers take their rows from it as they are built, so that beside the weights themselves no more than a band of one
/// matrix is held in memory.
pub struct QuantisedFile<'a> {
    path: PathBuf,
    file: RefCell<File>,
    tensors: BTreeMap<String, Place>,
    device: Device,
    dtype: DType,
    progress: &'a Progress<'a>,
    since_yield: Cell<usize>,
    /// The first thing that went wrong: a layer's constructor returns candle's errors, which cannot carry it.
    failed: RefCell<Option<Error>>,
}

/// Rows of a tensor of the file.
struct Place {
    stored: Stored,
    rows: Vec<Range<u64>>,
}

/// Reads the header of the file at `path`.
///
/// # Errors
///
/// [`Error::Missing`] if it cannot be opened, [`Error::Weights`] if it is no such file or damaged.
pub fn read_header(path: &Path) -> Result<Header> {
    open(path).map(|(_, header)| header)
}

fn open(path: &Path) -> Result<(File, Header)> {
    let unreadable = |e| Error::missing(path, e);
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let header = Header::read(std::io::BufReader::new(&file), length).map_err(|reason| Error::weights(path, reason))?;
    Ok((file, header))
}

impl<'a> QuantisedFile<'a> {
    /// Opens the file at `path`, for layers on `device` that compute in `dtype`. `rename` says what each of its tensors is
    /// called here.
    ///
    /// # Errors
    ///
    /// As [`read_header`], and [`Error::Interrupted`].
    pub fn open(
        path: &Path,
        device: &Device,
        dtype: DType,
        rename: impl Fn(&str, &Stored) -> Vec<Renamed>,
        progress: &'a Progress<'a>,
    ) -> Result<Self> {
        progress.before_file()?;
        let (file, header) = open(path)?;
        let mut tensors = BTreeMap::new();
        for (name, stored) in header.tensors {
            for (name, rows) in rename(&name, &stored) {
                let place = Place { stored: stored.clone(), rows };
                if tensors.insert(name.clone(), place).is_some() {
                    return Err(Error::weights(path, format!("has {name} twice, under different names")));
                }
            }
        }
        let (since_yield, failed) = (Cell::new(0), RefCell::new(None));
        let (path, file, device) = (path.to_owned(), RefCell::new(file), device.clone());
        Ok(Self { path, file, tensors, device, dtype, progress, since_yield, failed })
    }

    /// The outcome of building a module from this file, with what went wrong as it was found.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] for a missing or misshapen tensor, [`Error::Missing`] where the file could not be read,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn outcome<T>(&self, built: Built<T>) -> Result<T> {
        let built = built.map_err(|e| self.failed.take().unwrap_or(Error::Device(e)))?;
        self.progress.file_done();
        Ok(built)
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn vector(&self, name: &str, size: usize) -> Built<Tensor> {
        let place = self.find(name, &[size])?;
        let bytes = self.read(place, 0, 1)?;
        let values = match place.stored.plain() {
            Some(plain) => Tensor::from_raw_buffer(&bytes, plain, &[size], &self.device)?,
            None => self.blocks(place, &bytes, &[size])?.dequantize(&self.device)?,
        };
        values.to_dtype(self.dtype)
    }

    pub(crate) fn layers<const N: usize>(&self, name: &str, input: usize, outputs: [usize; N]) -> Built<[Linear; N]> {
        let place = self.find(name, &[outputs.iter().sum(), input])?;
        apart(outputs, |start, count| match place.stored.plain() {
            Some(plain) => {
                let bytes = self.read(place, start, count)?;
                let weight = Tensor::from_raw_buffer(&bytes, plain, &[count, input], &self.device)?;
                Ok(Linear::dense(weight.to_dtype(self.dtype)?))
            }
            None => {
                let band = (MAX_BAND / input).max(1);
                let bands = (start..start + count).step_by(band).map(|first| {
                    let rows = band.min(start + count - first);
                    self.blocks(place, &self.read(place, first, rows)?, &[rows, input])
                });
                Ok(Linear::quantised(bands.collect::<Built<_>>()?))
            }
        })
    }

    fn blocks(&self, place: &Place, bytes: &[u8], shape: &[usize]) -> Built<QTensor> {
        QTensor::new(QStorage::from_data(Cow::Borrowed(bytes), &self.device, place.stored.kind)?, shape)
    }

    fn find(&self, name: &str, shape: &[usize]) -> Built<&Place> {
        let refuse = |reason: String| Err(self.keep(Error::weights(&self.path, reason)));
        let Some(place) = self.tensors.get(name) else {
            return refuse(format!("lacks {name}, by this name and by that of the original checkpoint"));
        };
        let mut there = place.stored.shape.clone();
        if let [rows, _] = there.as_mut_slice() {
            *rows = place.rows.iter().map(|range| range.end - range.start).sum();
        }
        let wanted: Vec<_> = shape.iter().map(|&side| side as u64).collect();
        if there == wanted {
            return Ok(place);
        }
        refuse(format!("has {name} in the shape {there:?}; the configuration asks for {wanted:?}"))
    }

    /// The bytes of `count` rows, from row `first` on.
    fn read(&self, place: &Place, first: usize, count: usize) -> Built<Vec<u8>> {
        self.read_rows(place, first as u64, count as u64).map_err(|e| self.keep(e))
    }

    fn read_rows(&self, place: &Place, first: u64, count: u64) -> Result<Vec<u8>> {
        let (_, each) = place.stored.rows();
        let mut bytes = vec![0; (count * each) as usize];
        if self.since_yield.replace(self.since_yield.get() + bytes.len()) > BETWEEN_YIELDS {
            self.since_yield.set(0);
            self.progress.before_file()?;
        }
        let (mut skip, mut wanted) = (first, bytes.as_mut_slice());
        for range in &place.rows {
            let length = range.end - range.start;
            let from = range.start + skip.min(length);
            skip = skip.saturating_sub(length);
            let here = ((range.end - from) * each).min(wanted.len() as u64) as usize;
            let (part, rest) = wanted.split_at_mut(here);
            wanted = rest;
            let mut file = self.file.borrow_mut();
            file.seek(SeekFrom::Start(place.stored.start + from * each))
                .and_then(|_| file.read_exact(part))
                .map_err(|e| Error::missing(&self.path, e))?;
        }
        Ok(bytes)
    }

    fn keep(&self, error: Error) -> candle_core::Error {
        let said = candle_core::Error::msg(error.to_string());
        self.failed.borrow_mut().get_or_insert(error);
        said
    }
}
