//! What a hostile client may hand over as a picture.

#![no_main]

use gpusched_models::Picture;
use libfuzzer_sys::fuzz_target;

const MAX_PIXELS: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = Picture::decode(bytes, MAX_PIXELS) {
        let pixels = u64::from(picture.width()) * u64::from(picture.height());
        assert!(pixels <= MAX_PIXELS);
        assert_eq!(picture.rgb().len() as u64, 3 * pixels);
    }
});
