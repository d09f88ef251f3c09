//! Scaled dot-product attention and the shapes around it.

use candle_core::{Result, Tensor};
use candle_nn::ops::softmax_last_dim;

/// Scores held at once, in elements. A picture of a megapixel has over 4,000 tokens; with two references the scores
/// of all heads would take many gigabytes, so queries are taken in slices.
pub(crate) const MAX_SCORES: usize = 1 << 28;

/// `softmax(scale * q k^T + mask) v`, heads side by side: (B, H, T, D) queries and (B, H, S, D) keys and values give
/// (B, T, H * D).
///
/// All three are contiguous; `mask` is added to the scores and broadcasts to (B, H, T, S).
///
/// # Errors
///
/// If the shapes do not agree, or the device fails.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    attend_in_slices(q, k, v, mask, scale, MAX_SCORES)
}

/// (B, T, H * D) to (B, T, H, D).
///
/// # Errors
///
/// If the last axis is not a multiple of `size`.
pub fn split_heads(xs: &Tensor, size: usize) -> Result<Tensor> {
    let (batch, tokens, width) = xs.dims3()?;
    xs.reshape((batch, tokens, width / size, size))
}

/// (B, T, H, D) to a contiguous (B, H, T, D).
///
/// # Errors
///
/// If the tensor is of another rank, or the device fails.
pub fn heads_first(xs: &Tensor) -> Result<Tensor> {
    xs.transpose(1, 2)?.contiguous()
}

fn attend_in_slices(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    scale: f64,
    max_scores: usize,
) -> Result<Tensor> {
    let (batch, heads, queries, size) = q.dims4()?;
    let keys = k.dim(2)?;
    let q = (q * scale)?;
    let k = k.t()?;
    let slice = (max_scores / (batch * heads * keys).max(1)).max(1);
    let mut parts = Vec::with_capacity(queries.div_ceil(slice));
    for start in (0..queries).step_by(slice) {
        let length = slice.min(queries - start);
        let scores = q.narrow(2, start, length)?.contiguous()?.matmul(&k)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(&mask.narrow(2, start, length)?)?,
            None => scores,
        };
        parts.push(softmax_last_dim(&scores)?.matmul(v)?);
    }
    let mixed = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(&parts, 2)? };
    mixed.transpose(1, 2)?.reshape((batch, queries, heads * size))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn slices_change_nothing() {
        let draw = |seed, shape: (usize, usize, usize, usize)| {
            let count = shape.0 * shape.1 * shape.2 * shape.3;
            Tensor::from_vec(crate::noise::standard_normal(seed, count), shape, &Device::Cpu).unwrap()
        };
        let (q, k, v) = (draw(1, (2, 3, 7, 4)), draw(2, (2, 3, 5, 4)), draw(3, (2, 3, 5, 4)));
        for mask in [None, Some(draw(4, (2, 1, 7, 5)))] {
            let of = |max| attend_in_slices(&q, &k, &v, mask.as_ref(), 0.5, max).unwrap();
            let whole = of(usize::MAX);
            assert_eq!(whole.dims(), [2, 7, 12]);
            for max in [1, 60, 100, 209] {
                let off = (of(max) - &whole).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(off < 1e-6, "{max}: {off}");
            }
        }
    }
}
