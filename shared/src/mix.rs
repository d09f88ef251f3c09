//! Numbers that look random and are always the same: what is drawn from a seed, a job and an attempt can be drawn again.

/// From one state of SplitMix64 (Steele, Lea and Flood 2014) to the next.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number that SplitMix64 makes of a state: states that follow each other become unrelated numbers.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_first_number_of_the_reference() {
        // The published generator with seed 0 begins with this.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
