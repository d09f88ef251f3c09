//! Numbers of 16 bits. (The crate for this needs a dozen others, which would have to be built before anything can be linked.)

pub(super) fn bf16_to_f64(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// To the nearest, and of two that are as near to the even one.
pub(super) fn f64_to_bf16(value: f64) -> u16 {
    let bits = (value as f32).to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 1;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

pub(super) fn f16_to_f64(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// To the nearest, and of two that are as near to the even one.
pub(super) fn f64_to_f16(value: f64) -> u16 {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let size = value.abs();
    if size.is_nan() {
        return sign | 0x7e00;
    }
    // The halves as numbers of the smallest steps that are between them where this one is; a carry goes into the exponent.
    let exponent = if size < 2_f64.powi(-14) { -14 } else { (size.to_bits() >> 52).cast_signed() as i32 - 1023 };
    let steps = (size.min(1e6) * 2_f64.powi(10 - exponent)).round_ties_even();
    if exponent > 15 || (exponent == 15 && steps >= 2048.0) {
        return sign | 0x7c00;
    }
    let hidden = if exponent == -14 { 0 } else { (exponent + 14) as u16 * 1024 };
    sign | (hidden + steps as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_and_others_go_to_the_nearest() {
        for bits in 0..=u16::MAX {
            if !f16_to_f64(bits).is_nan() {
                assert_eq!(f64_to_f16(f16_to_f64(bits)), bits);
            }
            if !bf16_to_f64(bits).is_nan() {
                assert_eq!(f64_to_bf16(bf16_to_f64(bits)), bits);
            }
        }
        let f16 = |value| f16_to_f64(f64_to_f16(value));
        assert_eq!([f16(1.0 + 1.0 / 2048.0), f16(1.0 + 3.0 / 2048.0)], [1.0, 1.0 + 4.0 / 2048.0]);
        assert_eq!(
            [f16(65519.0), f16(65520.0), f16(-1e9), f16(1e-9)],
            [65504.0, f64::INFINITY, f64::NEG_INFINITY, 0.0]
        );
        let bf16 = |value| bf16_to_f64(f64_to_bf16(value));
        assert_eq!([bf16(1.0 + 1.0 / 256.0), bf16(1.0 + 3.0 / 256.0)], [1.0, 1.0 + 4.0 / 256.0]);
        assert!(f16(f64::NAN).is_nan() && bf16(f64::NAN).is_nan());
    }
}
