//! What models are declared to need, against what they are measured to.

use gpusched_engine::Event;
use gpusched_shared::{Declared, JobSpec};

use crate::rig::{FLUX, PLENTY, Rig, SAMPLES_PIXELS, VILT, img2img, txt2img, vqa};

/// Declared may be this many times as much as measured.
const LOOSE: u64 = 4;

fn declared(rig: &Rig, name: &str) -> Declared {
    let models = rig.engine().models();
    models.iter().find(|model| model.name == name).expect("a shipped model").declared
}

fn run_bytes(declared: Declared, pixels: u64) -> u64 {
    declared.run_bytes + declared.run_bytes_per_pixel * pixels
}

#[test]
fn weights_take_what_is_declared() {
    let mut rig = Rig::new();
    for (lane, name, spec) in [(0, FLUX, txt2img(32, 1)), (2, VILT, vqa())] {
        let job = rig.begin(lane, spec, PLENTY);
        let Event::Loaded { bytes, .. } = rig.until(|e| matches!(e, Event::Loaded { .. })) else { unreachable!() };
        let declared = declared(&rig, name).weights_bytes;
        println!("{name}: weights declared {declared}, measured {bytes}");
        assert!(bytes <= declared && declared <= 2 * bytes, "{name}");
        rig.end(job).0.unwrap();
    }
}

#[test]
fn stages_take_what_is_declared() {
    let mut rig = Rig::new();
    let square = |side: u32| u64::from(side) * u64::from(side);
    let mut cases: Vec<(usize, &str, JobSpec, u64)> = Vec::new();
    for side in [32, 64, 96, 128] {
        cases.push((0, FLUX, txt2img(side, 2), square(side)));
        cases.push((0, FLUX, img2img(side, 1), square(side) + SAMPLES_PIXELS));
    }
    cases.push((2, VILT, vqa(), SAMPLES_PIXELS));
    for (lane, name, spec, pixels) in cases {
        let kind = spec.task.kind();
        let measured = rig.run(lane, spec).1.peak_bytes;
        let declared = run_bytes(declared(&rig, name), pixels);
        println!("{kind} of {pixels} pixels: declared {declared}, measured {measured}");
        assert!(measured <= declared && declared <= LOOSE * measured, "{kind} of {pixels} pixels");
    }
}
