//! Headers of GGUF files: which tensors there are, in which type, and where.
//!
//! candle has a reader, too, which this does not use: it keeps all metadata, for which a file may make it take 32 times its
//! own size, and divides by an alignment that the file names. Here metadata is passed over, and everything that a file
//! says is checked against its length before anything is read or computed by it. The blocks of numbers themselves are
//! candle's affair.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    str::FromStr,
};

use candle_core::{DType, quantized::GgmlDType};

/// Bytes of a header that are read at most. That of a diffusion transformer takes some ten thousand.
const MAX_HEADER: u64 = 16 << 20;
/// Tensors in a file at most, bytes of a name, and entries of metadata.
const MAX_TENSORS: u64 = 1 << 16;
const MAX_NAME: u64 = 1 << 10;
const MAX_ENTRIES: u64 = 1 << 16;
/// Numbers in a tensor at most: far more than any device holds, and so few that no size overflows.
const MAX_NUMBERS: u64 = 1 << 44;
/// Arrays in arrays.
const MAX_DEPTH: u32 = 4;

/// What a file says about its tensors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Stored>,
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Type of its numbers.
    pub kind: GgmlDType,
    /// Its shape, rows before columns; up to four dimensions, none of them 0.
    pub shape: Vec<u64>,
    /// Where it begins, in bytes from the file's begin.
    pub start: u64,
}

/// A type of numbers in blocks that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quant(GgmlDType);

/// The text is no [`Quant`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of {all}", all = Quant::ALL.map(Quant::name).join(", "))]
pub struct NotAQuant(String);

impl Quant {
    /// All that are supported, the largest first.
    pub const ALL: [Self; 10] = [
        Self(GgmlDType::Q8_0),
        Self(GgmlDType::Q6K),
        Self(GgmlDType::Q5_1),
        Self(GgmlDType::Q5_0),
        Self(GgmlDType::Q5K),
        Self(GgmlDType::Q4_1),
        Self(GgmlDType::Q4_0),
        Self(GgmlDType::Q4K),
        Self(GgmlDType::Q3K),
        Self(GgmlDType::Q2K),
    ];

    /// The one of that type; `None` of a type that has no blocks, or is not supported.
    #[must_use]
    pub fn of(kind: GgmlDType) -> Option<Self> {
        Self::ALL.into_iter().find(|quant| quant.0 == kind)
    }

    /// What it is called, as in `q4_k`.
    #[must_use]
    pub fn name(self) -> &'static str {
        #[expect(clippy::wildcard_enum_match_arm, reason = "there are none but those in ALL")]
        match self.0 {
            GgmlDType::Q8_0 => "q8_0",
            GgmlDType::Q6K => "q6_k",
            GgmlDType::Q5_1 => "q5_1",
            GgmlDType::Q5_0 => "q5_0",
            GgmlDType::Q5K => "q5_k",
            GgmlDType::Q4_1 => "q4_1",
            GgmlDType::Q4_0 => "q4_0",
            GgmlDType::Q4K => "q4_k",
            GgmlDType::Q3K => "q3_k",
            _ => "q2_k",
        }
    }

    /// The bytes of so many rows of so many numbers; `None` if a row is no whole number of blocks.
    #[must_use]
    pub fn bytes(self, rows: u64, columns: u64) -> Option<u64> {
        let block = self.0.block_size() as u64;
        columns.is_multiple_of(block).then(|| rows * (columns / block) * self.0.type_size() as u64)
    }
}

impl FromStr for Quant {
    type Err = NotAQuant;

    fn from_str(text: &str) -> Result<Self, NotAQuant> {
        Self::ALL.into_iter().find(|quant| quant.name() == text).ok_or_else(|| NotAQuant(text.to_owned()))
    }
}

impl Stored {
    /// Numbers in it.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Rows and the bytes of each: everything but the last dimension counts as rows.
    #[must_use]
    pub fn rows(&self) -> (u64, u64) {
        let columns = self.shape.last().copied().unwrap_or(1);
        (self.numbers() / columns, columns / self.kind.block_size() as u64 * self.kind.type_size() as u64)
    }

    /// Bytes of all of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let (rows, each) = self.rows();
        rows * each
    }

    /// Whether it is a matrix of blocks, which can be kept in memory as it is.
    #[must_use]
    pub fn stays_quantised(&self) -> bool {
        self.shape.len() == 2 && Quant::of(self.kind).is_some()
    }

    /// The type of its numbers, if they are not in blocks.
    #[must_use]
    pub fn plain(&self) -> Option<DType> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others have blocks")]
        match self.kind {
            GgmlDType::F32 => Some(DType::F32),
            GgmlDType::F16 => Some(DType::F16),
            GgmlDType::BF16 => Some(DType::BF16),
            _ => None,
        }
    }
}

impl Header {
    /// Reads the begin of a file of `length` bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, as a sentence. Memory and time are bounded whatever it says.
    pub fn read(file: impl Read, length: u64) -> Result<Self, String> {
        let mut input = Input { left: file.take(MAX_HEADER.min(length)), read: 0 };
        if input.array::<4>()? != *b"GGUF" {
            return Err("is not a GGUF file: it does not begin with GGUF".to_owned());
        }
        let version = input.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("is of GGUF version {version}; 2 and 3 are supported, in little endian"));
        }
        let tensors = input.count("tensors", MAX_TENSORS)?;
        let entries = input.count("entries of metadata", MAX_ENTRIES)?;
        let mut alignment = 32;
        for _ in 0..entries {
            let key = input.name("a key of its metadata")?;
            let kind = input.u32()?;
            if key == "general.alignment" && kind == U32 {
                alignment = u64::from(input.u32()?);
            } else {
                input.pass_over(kind, 0)?;
            }
        }
        if !alignment.is_power_of_two() || alignment > MAX_HEADER {
            return Err(format!("aligns tensors to {alignment} bytes, which is no power of two or too many"));
        }
        let mut header = Self::default();
        for _ in 0..tensors {
            let (name, stored) = input.tensor(alignment)?;
            if header.tensors.insert(name.clone(), stored).is_some() {
                return Err(format!("has two tensors called {name:?}"));
            }
        }
        let data = input.read.next_multiple_of(alignment);
        header.place(data, length)?;
        Ok(header)
    }

    /// Offsets from `data` on to places in the file, where each tensor must have one of its own.
    fn place(&mut self, data: u64, length: u64) -> Result<(), String> {
        let mut places: Vec<_> = self.tensors.iter_mut().collect();
        places.sort_by_key(|(_, stored)| stored.start);
        let mut free = data;
        for (name, stored) in places {
            let start = data.checked_add(stored.start);
            let end = start.and_then(|start| start.checked_add(stored.bytes()));
            let (Some(start), Some(end)) = (start, end.filter(|end| *end <= length)) else {
                return Err(format!("is cut short: {name:?} lies beyond its {length} bytes"));
            };
            if start < free {
                return Err(format!("has {name:?} in the place of another tensor"));
            }
            stored.start = start;
            free = end;
        }
        Ok(())
    }
}

/// Types of metadata that are told apart here; all others have a fixed size.
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value of metadata; `None` if that is not fixed.
fn size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

struct Input<R> {
    left: io::Take<R>,
    read: u64,
}

impl<R: Read> Input<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.left.read_exact(bytes).map_err(|e| {
            let ended = e.kind() == io::ErrorKind::UnexpectedEof;
            if ended { self.short() } else { format!("cannot be read: {e}") }
        })?;
        self.read += bytes.len() as u64;
        Ok(())
    }

    fn short(&self) -> String {
        format!("is cut short, or its header is larger than {MAX_HEADER} bytes: nothing after byte {}", self.read)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, of: &str, most: u64) -> Result<u64, String> {
        let count = self.u64()?;
        if count <= most { Ok(count) } else { Err(format!("claims to have {count} {of}; up to {most} are read")) }
    }

    fn name(&mut self, of: &str) -> Result<String, String> {
        let length = self.u64()?;
        if length > MAX_NAME {
            return Err(format!("has a name of {length} bytes for {of}; up to {MAX_NAME} are read"));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| format!("has a name for {of} that is no text"))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        let skipped = io::copy(&mut (&mut self.left).take(bytes), &mut io::sink());
        let skipped = skipped.map_err(|e| format!("cannot be read: {e}"))?;
        self.read += skipped;
        if skipped == bytes { Ok(()) } else { Err(self.short()) }
    }

    /// A value of metadata. Each takes bytes of the header, so that its bound bounds this as well.
    fn pass_over(&mut self, kind: u32, depth: u32) -> Result<(), String> {
        if let Some(bytes) = size(kind) {
            return self.skip(bytes);
        }
        match kind {
            STRING => {
                let length = self.u64()?;
                self.skip(length)
            }
            ARRAY if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if let Some(bytes) = size(kind) {
                    return self.skip(bytes.saturating_mul(count));
                }
                (0..count).try_for_each(|_| self.pass_over(kind, depth + 1))
            }
            _ => Err(format!("has metadata of type {kind}, which is unknown, or arrays in too many arrays")),
        }
    }

    /// A tensor, with the offset that it says as its start.
    fn tensor(&mut self, alignment: u64) -> Result<(String, Stored), String> {
        let name = self.name("a tensor")?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(format!("gives {name:?} {dimensions} dimensions; 1 to 4 are supported"));
        }
        let mut shape = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let kind = supported(self.u32()?).map_err(|kind| format!("stores {name:?} as {kind}"))?;
        let numbers = shape.iter().try_fold(1u64, |all, &side| all.checked_mul(side));
        if numbers.is_none_or(|numbers| !(1..=MAX_NUMBERS).contains(&numbers)) {
            return Err(format!("gives {name:?} the impossible shape {shape:?}"));
        }
        let (columns, block) = (shape.last().copied().unwrap_or(1), kind.block_size() as u64);
        if !columns.is_multiple_of(block) {
            return Err(format!("has rows of {columns} numbers in {name:?}, which are no whole blocks of {block}"));
        }
        let start = self.u64()?;
        if !start.is_multiple_of(alignment) {
            return Err(format!("has {name:?} at {start}, which is not aligned to {alignment}"));
        }
        Ok((name, Stored { kind, shape, start }))
    }
}

/// A type by its number in the format.
fn supported(number: u32) -> Result<GgmlDType, String> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => {
            let names = Quant::ALL.map(Quant::name).join(", ");
            return Err(format!("type {number}, which is not supported; f32, f16, bf16, {names} are"));
        }
    })
}
