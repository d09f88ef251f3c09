//! What a picture takes in memory, against what is said beforehand, in full and in half precision.
//!
//! One test only: what is counted is the whole process.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::path::Path;

use candle_core::{DType, Device, quantized::GgmlDType};
use counting::{live, peak};
use gpusched_models::{Unobserved, flux2};

/// Estimates may be this many times what is measured.
const LOOSE: u64 = 4;

#[test]
fn a_picture_takes_what_is_said_beforehand() {
    // On one thread: what each keeps for itself depends on which of them happened to be needed.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let quantised = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/flux2-klein-tiny");
    common::quantise(&shipped, quantised.path(), GgmlDType::Q8_0);
    pool.install(|| {
        compare(&shipped, &[DType::F32, DType::F16]);
        compare(quantised.path(), &[DType::F32]);
    });
}

fn compare(dir: &Path, dtypes: &[DType]) {
    let breakdown = flux2::breakdown(dir).unwrap();
    let footprint = breakdown.footprint();
    for &dtype in dtypes {
        let number = dtype.size_in_bytes() as u64;
        let before = live();
        let pipeline = flux2::Pipeline::load(dir, &Device::Cpu, dtype, &Unobserved).unwrap();
        // Tokenizers make tables when they are first used.
        pipeline.tokenizer().encode("a red circle").unwrap();
        let weights = live() - before;
        let said = footprint.parameters * number + footprint.quantised_bytes + footprint.tables_bytes;
        println!("{dtype:?}: weights {weights}, said {said}");
        assert!(weights <= said && said <= 2 * weights, "{dtype:?}: weights {weights}, said {said}");

        // With the first picture, which is not looked at, the thread makes what it keeps.
        for (count, side) in (0..).zip([128, 64, 128]) {
            let (prompt, references) = ("a red circle", &[][..]);
            let (width, height, steps, guidance, seed) = (side, side, 1, 3.0, 1);
            let request = flux2::Request { prompt, references, width, height, steps, guidance, seed };
            let (made, measured) = peak(|| pipeline.generate(&request, &Unobserved));
            made.unwrap();
            if count == 0 {
                continue;
            }
            let pixels = u64::from(side) * u64::from(side);
            let said = (footprint.run_numbers + footprint.run_numbers_per_pixel * pixels) * number;
            println!("{dtype:?}, {side} x {side}: measured {measured}, said {said}");
            assert!(measured <= said && said <= LOOSE * measured, "{dtype:?} {side}: {measured}, said {said}");
        }
    }
}
