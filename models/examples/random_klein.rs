//! A FLUX.2 klein of full size whose weights are random numbers: what a published model takes of time and memory can be seen
//! with it where the model itself cannot be downloaded. What it paints is noise.
//!
//! ```text
//! cargo run --release --package gpusched-models --example random_klein -- NAME DIR
//! ```
//!
//! NAME is one of `gpuctl models --plan`'s, such as flux2-klein-4b, which takes 16 GB of disk. Tokenizer and schedule are those of
//! the tiny model beside this program's sources.

use std::borrow::Cow;
use std::path::Path;
use std::process::ExitCode;

use gpusched_models::Census;
use gpusched_models::flux2::published::{Counts, PUBLISHED, Published};
use safetensors::{Dtype, View};

/// Random numbers that all tensors are made of, over and over.
const NOISE: usize = (1 << 20) + 7;

type Failure = Box<dyn std::error::Error>;

/// A tensor of bf16, made when it is written.
struct Random<'a> {
    shape: &'a [usize],
    kind: Kind,
    noise: &'a [f32],
}

/// What a tensor holds.
#[derive(Clone, Copy)]
enum Kind {
    Zeros,
    Ones,
    /// Of variance 1 / fan-in, so that what goes through stays of one size.
    Noise,
}

impl Kind {
    fn of(name: &str, shape: &[usize]) -> Self {
        match shape {
            [] | [_] if name.ends_with("bias") || name.ends_with("running_mean") => Self::Zeros,
            [] | [_] => Self::Ones,
            [_, ..] => Self::Noise,
        }
    }
}

impl View for Random<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = self.data_len() / 2;
        let bf16 = |number: f32| ((number.to_bits() >> 16) as u16).to_le_bytes();
        let bytes = match self.kind {
            Kind::Zeros => bf16(0.0).repeat(numbers),
            Kind::Ones => bf16(1.0).repeat(numbers),
            Kind::Noise => {
                let fan_in: usize = self.shape.iter().skip(1).product();
                let scale = (fan_in as f32).sqrt().recip();
                let scaled: Vec<u8> = self.noise.iter().flat_map(|number| bf16(number * scale)).collect();
                scaled.iter().copied().cycle().take(2 * numbers).collect()
            }
        };
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        2 * self.shape.iter().product::<usize>()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, dir] = arguments.as_slice() else {
        eprintln!("usage: random_klein NAME DIR");
        return ExitCode::from(2);
    };
    let Some(published) = Published::find(name) else {
        eprintln!("random_klein: no {name}; there are {}", PUBLISHED.map(|published| published.name).join(", "));
        return ExitCode::from(2);
    };
    match write(published, Path::new(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("random_klein: {dir}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn write(published: &Published, dir: &Path) -> Result<(), Failure> {
    for (path, json) in published.files()? {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
        std::fs::write(path, serde_json::to_vec_pretty(&json)?)?;
    }
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/flux2-klein-tiny");
    for part in ["tokenizer", "scheduler"] {
        std::fs::create_dir_all(dir.join(part))?;
        for file in std::fs::read_dir(tiny.join(part))? {
            let file = file?;
            std::fs::copy(file.path(), dir.join(part).join(file.file_name()))?;
        }
    }
    let noise = noise();
    let Counts { text_encoder, transformer, vae } = published.counts()?;
    for (path, census) in [
        ("text_encoder/model.safetensors", text_encoder),
        ("transformer/diffusion_pytorch_model.safetensors", transformer),
        ("vae/diffusion_pytorch_model.safetensors", vae),
    ] {
        part(&dir.join(path), &census, &noise)?;
    }
    Ok(())
}

fn part(path: &Path, census: &Census, noise: &[f32]) -> Result<(), Failure> {
    println!("{}: {} million numbers", path.display(), census.parameters() / 1_000_000);
    let tensors = census
        .tensors()
        .iter()
        .map(|(name, shape)| (name.clone(), Random { shape, kind: Kind::of(name, shape), noise }));
    safetensors::serialize_to_file(tensors, None, path)?;
    Ok(())
}

/// Numbers of mean 0 and variance 1, the same each time.
fn noise() -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // The steps of xorshift64, by Marsaglia.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
    };
    // The sum of twelve is nearly normal.
    (0..NOISE).map(|_| (0..12).map(|_| next()).sum()).collect()
}
