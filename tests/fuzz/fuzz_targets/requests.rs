//! What a hostile client may send: any bytes, in any pieces. What decodes must encode to the same bytes.

#![no_main]

use gpusched_shared::frame::{Frames, MAX_REQUEST};
use gpusched_shared::{Request, codec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut frames = Frames::new(MAX_REQUEST);
    for piece in pieces {
        frames.push(&piece);
        while let Ok(Some(frame)) = frames.next_frame() {
            if let Ok(request) = codec::decode::<Request>(&frame.payload) {
                assert_eq!(codec::encode(&request).expect("it was decoded"), frame.payload);
                if let Request::Submit { spec, pictures, .. } = request {
                    let _ = spec.validate(usize::from(pictures));
                }
            }
        }
    }
});
