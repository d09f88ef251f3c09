//! cuRAND, as far as candle calls it. The numbers are of the distribution asked for and depend on the seed alone, but they
//! are not cuRAND's.

use super::{DEFAULT_STREAM, gpu, put};
use crate::model::engine::Work;
use crate::model::library::Library;
use crate::status::Status;

/// `curandStatus_t`.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Answer(i32);

impl From<Result<(), Status>> for Answer {
    fn from(result: Result<(), Status>) -> Self {
        Self(match result {
            Ok(()) => 0,
            Err(Status::NOT_INITIALIZED | Status::INVALID_HANDLE) => 101,
            Err(Status::OUT_OF_MEMORY) => 102,
            Err(Status::INVALID_VALUE) => 104,
            Err(_) => 201,
        })
    }
}

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0 and up to 1, as cuRAND has it.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller's, with mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

#[unsafe(no_mangle)]
extern "C" fn curandCreateGenerator(handle: Option<&mut usize>, _kind: i32) -> Answer {
    let mut gpu = gpu();
    let library = Library { stream: DEFAULT_STREAM, workspace: None, state: 0 };
    gpu.alive().and_then(|()| put(handle, gpu.libraries.insert(library))).into()
}

#[unsafe(no_mangle)]
extern "C" fn curandDestroyGenerator(handle: usize) -> Answer {
    gpu().libraries.remove(handle).map(|_| ()).ok_or(Status::NOT_INITIALIZED).into()
}

#[unsafe(no_mangle)]
extern "C" fn curandSetStream(handle: usize, on: usize) -> Answer {
    super::set_stream(handle, on).into()
}

#[unsafe(no_mangle)]
extern "C" fn curandSetPseudoRandomGeneratorSeed(handle: usize, seed: u64) -> Answer {
    let mut gpu = gpu();
    let set = gpu.libraries.get_mut(handle).map(|library| library.state = seed);
    set.ok_or(Status::NOT_INITIALIZED).into()
}

#[unsafe(no_mangle)]
extern "C" fn curandSetGeneratorOffset(handle: usize, offset: u64) -> Answer {
    let mut gpu = gpu();
    let set = gpu.libraries.get_mut(handle).map(|library| library.state = library.state.wrapping_add(offset));
    set.ok_or(Status::NOT_INITIALIZED).into()
}

/// Fills `count` numbers at `place` when the stream gets there.
fn fill<T: 'static>(
    handle: usize,
    name: &str,
    place: u64,
    count: usize,
    draw: impl Fn(&mut Numbers) -> T + Send + 'static,
) -> Answer {
    let mut gpu = gpu();
    let submitted = (|| {
        let library = gpu.libraries.get_mut(handle).ok_or(Status::NOT_INITIALIZED)?;
        let (on, mut numbers) = (library.stream, Numbers(library.state));
        library.state = Numbers(library.state ^ count as u64).next();
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Status::INVALID_VALUE)? as u64;
        gpu.touch(on, place, bytes)?;
        let effect = move || {
            let first = place as *mut T;
            for n in 0..count {
                // SAFETY: The engine has made sure that all of them are mapped; nothing else is at work on the device.
                unsafe { first.add(n).write(draw(&mut numbers)) };
            }
            Ok(())
        };
        let work = Work { bytes, ranges: vec![(place, bytes)], effect: Some(Box::new(effect)), ..Work::default() };
        gpu.launch_work(on, name, work).map(|_| ())
    })();
    submitted.into()
}

#[unsafe(no_mangle)]
extern "C" fn curandGenerateUniform(handle: usize, place: u64, count: usize) -> Answer {
    // So near to 1 that it is rounded to 1 is not above it.
    fill(handle, "curandGenerateUniform", place, count, |numbers| numbers.uniform() as f32)
}

#[unsafe(no_mangle)]
extern "C" fn curandGenerateUniformDouble(handle: usize, place: u64, count: usize) -> Answer {
    fill(handle, "curandGenerateUniformDouble", place, count, Numbers::uniform)
}

#[unsafe(no_mangle)]
extern "C" fn curandGenerateNormal(handle: usize, place: u64, count: usize, mean: f32, deviation: f32) -> Answer {
    let draw = move |numbers: &mut Numbers| numbers.normal() as f32 * deviation + mean;
    fill(handle, "curandGenerateNormal", place, count, draw)
}

#[unsafe(no_mangle)]
extern "C" fn curandGenerateNormalDouble(handle: usize, place: u64, count: usize, mean: f64, deviation: f64) -> Answer {
    let draw = move |numbers: &mut Numbers| numbers.normal() * deviation + mean;
    fill(handle, "curandGenerateNormalDouble", place, count, draw)
}
