//! Elements in device memory, and where in it they are.

use super::Call;
use super::half;

/// The type of an element, as candle's kernels and cuBLAS know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    U8,
    U32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Type {
    /// By the end of a kernel's name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "u8" => Self::U8,
            "u32" => Self::U32,
            "i64" => Self::I64,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => return None,
        })
    }

    /// By a `cudaDataType`.
    pub(crate) fn numbered(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F64,
            2 => Self::F16,
            14 => Self::Bf16,
            _ => return None,
        })
    }

    /// # Safety
    /// There is such an element at this address, aligned.
    pub(crate) unsafe fn load(self, address: u64) -> f64 {
        // SAFETY: By this function's own condition.
        unsafe {
            match self {
                Self::U8 => f64::from(*(address as *const u8)),
                Self::U32 => f64::from(*(address as *const u32)),
                Self::I64 => *(address as *const i64) as f64,
                Self::F16 => half::f16_to_f64(*(address as *const u16)),
                Self::Bf16 => half::bf16_to_f64(*(address as *const u16)),
                Self::F32 => f64::from(*(address as *const f32)),
                Self::F64 => *(address as *const f64),
            }
        }
    }

    /// # Safety
    /// There is room for such an element at this address, aligned.
    unsafe fn store(self, address: u64, value: f64) {
        // SAFETY: By this function's own condition.
        unsafe {
            match self {
                Self::U8 => *(address as *mut u8) = value as u8,
                Self::U32 => *(address as *mut u32) = value as u32,
                Self::I64 => *(address as *mut i64) = value as i64,
                Self::F16 => *(address as *mut u16) = half::f64_to_f16(value),
                Self::Bf16 => *(address as *mut u16) = half::f64_to_bf16(value),
                Self::F32 => *(address as *mut f32) = value as f32,
                Self::F64 => *(address as *mut f64) = value,
            }
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// Elements from an address on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array {
    address: u64,
    kind: Type,
}

impl Array {
    /// # Safety
    /// Whatever is asked for by `get` or `set` is there, and nobody else is at it.
    pub(super) unsafe fn new(address: u64, kind: Type) -> Self {
        Self { address, kind }
    }

    pub(super) fn get(self, at: usize) -> f64 {
        // SAFETY: By the condition that this was made under.
        unsafe { self.kind.load(self.address + at as u64 * self.kind.bytes()) }
    }

    pub(super) fn set(self, at: usize, value: f64) {
        // SAFETY: By the condition that this was made under.
        unsafe { self.kind.store(self.address + at as u64 * self.kind.bytes(), value) };
    }
}

/// How elements lie: nothing at all if one after another.
#[derive(Debug)]
pub(super) struct Layout(Option<(Vec<usize>, Vec<usize>)>);

impl Layout {
    /// The place of an element in memory by its place in order.
    pub(super) fn place(&self, mut at: usize) -> usize {
        let Some((dims, strides)) = &self.0 else { return at };
        dims.iter().zip(strides).rev().fold(0, |place, (dim, stride)| {
            let within = at % dim;
            at /= dim;
            place + within * stride
        })
    }
}

impl Call {
    /// An argument that is a size.
    pub(super) fn size(&self, at: usize) -> Option<usize> {
        usize::try_from(*self.arguments.get(at)?).ok()
    }

    /// An argument that is a number of a type.
    pub(super) fn number(&self, at: usize, kind: Type) -> Option<f64> {
        let bits = self.arguments.get(at)?;
        // SAFETY: A number of this type is at the beginning of its bits.
        Some(unsafe { kind.load(std::ptr::from_ref(bits) as u64) })
    }

    /// An argument that is the address of elements.
    pub(super) fn array(&self, at: usize, kind: Type) -> Option<Array> {
        // SAFETY: By the condition that this call was made under.
        Some(unsafe { Array::new(*self.arguments.get(at)?, kind) })
    }

    /// The `which`-th layout of those that have their sizes in common, from an argument that is the address of the sizes and of all
    /// the strides. It is read when the kernel runs.
    pub(super) fn layout(&self, dims: usize, info: usize, which: usize) -> Layout {
        let Some(address) = self.arguments.get(info).filter(|address| **address != 0) else { return Layout(None) };
        // SAFETY: By the condition that this call was made under; candle's sizes have 64 bits, like addresses.
        let info = unsafe { std::slice::from_raw_parts(*address as *const usize, dims * (which + 2)) };
        let (sizes, strides) = (&info[..dims], &info[dims * (which + 1)..]);
        // As the kernels have it, which then do not look at the sizes: they may be another array's.
        let dense = sizes
            .iter()
            .zip(strides)
            .rev()
            .try_fold(1, |expected, (size, stride)| (*size <= 1 || *stride == expected).then_some(expected * size));
        Layout(dense.is_none().then(|| (sizes.to_vec(), strides.to_vec())))
    }
}
