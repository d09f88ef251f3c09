//! What candle's kernels compute, for those that our models launch: with `SOFTCUDA_NUMBERS=1` the device works with numbers.
//!
//! A kernel is known by its name, whose end is the type of its elements, and by its arguments. What is not here leaves memory
//! as it is.

mod array;
mod elementwise;
mod half;
pub(crate) mod product;
mod reduction;
mod rotation;
mod shape;

use crate::model::engine::Effect;
use array::Type;

pub(crate) use array::Type as Element;

/// A launch of a kernel.
#[derive(Debug)]
pub(crate) struct Call {
    /// The arguments' bits.
    arguments: Vec<u64>,
    /// The blocks of the grid's first dimension.
    blocks: usize,
}

impl Call {
    /// # Safety
    /// The arguments are a kernel's of candle. The memory that the kernel's source uses for them is there when the effect of this
    /// call is, and nobody else is at it.
    pub(crate) unsafe fn new(arguments: Vec<u64>, blocks: u32) -> Self {
        Self { arguments, blocks: blocks as usize }
    }

    /// What the kernel does, if that is known.
    pub(crate) fn effect(self, kernel: &str) -> Option<Effect> {
        let (root, kind) = kernel.rsplit_once('_')?;
        let kind = Type::named(kind)?;
        if let Some(from) = root.strip_prefix("cast_") {
            return self.cast(Type::named(from)?, kind);
        }
        if let Some(ids) = root.strip_prefix("is_") {
            return self.index_select(Type::named(ids)?, kind);
        }
        if let Some(ids) = root.strip_prefix("where_") {
            return self.choose(Type::named(ids)?, kind);
        }
        match root {
            "affine" => self.affine(kind),
            "const_set" => self.constant(kind),
            "copy2d" => self.copy2d(kind),
            "fast_sum" | "fast_sum_small" | "fast_min" | "fast_max" | "fast_argmin" | "fast_argmax" => {
                self.reduce(root, kind)
            }
            "im2col" => self.patches(kind),
            "layernorm" => self.layer_norm(kind),
            "rmsnorm" => self.rms_norm(kind),
            "rope" => self.rotate_halves(kind),
            "rope_i" => self.rotate_pairs(kind),
            "softmax" => self.softmax(kind),
            "upsample_nearest2d" => self.enlarge(kind),
            "upowf" => self.unary_with(kind, f64::powf),
            "uelu" => self.unary_with(kind, |x, alpha| if x > 0.0 { x } else { alpha * x.exp_m1() }),
            _ => match (elementwise::unary(root), elementwise::binary(root), elementwise::comparison(root)) {
                (Some(op), ..) => self.unary(kind, op),
                (_, Some(op), _) => self.binary(kind, kind, op),
                (.., Some(op)) => self.binary(kind, Type::U8, op),
                _ => None,
            },
        }
    }
}
