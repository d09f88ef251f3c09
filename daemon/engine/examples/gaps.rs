//! Prints how long a picture takes between its yield points, by where the yield point before was: median and longest.
//!
//! `cargo run --release --example gaps -- DIRECTORY [SIDE [THREADS]]`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use gpusched_models::{Interrupted, Site, Unobserved, YieldPoint, flux2};

#[global_allocator]
static ALLOCATOR: gpusched_engine::Allocator = gpusched_engine::Allocator;

/// Notes the time since the last site.
struct Clock {
    last: RefCell<(String, Instant)>,
    gaps: RefCell<BTreeMap<String, Vec<Duration>>>,
    vae: RefCell<u32>,
}

impl Clock {
    fn new() -> Self {
        Self {
            last: RefCell::new(("begin".to_owned(), Instant::now())),
            gaps: RefCell::default(),
            vae: RefCell::default(),
        }
    }

    fn note(&self, next: String) {
        let now = Instant::now();
        let (from, since) = self.last.replace((next, now));
        self.gaps.borrow_mut().entry(from).or_default().push(now - since);
    }
}

impl YieldPoint for Clock {
    fn reach(&self, site: Site) -> Result<(), Interrupted> {
        self.note(match site {
            Site::WeightFile { .. } => "weight file".to_owned(),
            Site::TextEncoderBlock => "text encoder block".to_owned(),
            Site::Step { done, total } if done == total => "last step".to_owned(),
            Site::Step { .. } => "step".to_owned(),
            Site::Block => "block".to_owned(),
            Site::Token { .. } => "token".to_owned(),
            Site::VaeStage => {
                *self.vae.borrow_mut() += 1;
                format!("vae stage {:2}", self.vae.borrow())
            }
        });
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which model's directory?")?;
    let side = arguments.next().map_or(Ok(64), |side| side.parse())?;
    let threads = arguments.next().map_or(Ok(2), |threads| threads.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let model = flux2::Pipeline::load(Path::new(&dir), &Device::Cpu, DType::F32, &Unobserved)?;
    let request = flux2::Request {
        prompt: "a red circle",
        references: &[],
        width: side,
        height: side,
        steps: 20,
        guidance: 3.0,
        seed: 1,
    };
    let mut all: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for _ in 0..10 {
        let gaps = pool.install(|| {
            let clock = Clock::new();
            let made = model.generate(&request, &clock);
            clock.note(String::new());
            made.map(|_| clock.gaps.into_inner())
        })?;
        for (from, gaps) in gaps {
            all.entry(from).or_default().extend(gaps);
        }
    }
    println!("{:22} {:>6} {:>10} {:>10}", "after", "gaps", "median", "longest");
    for (from, mut gaps) in all {
        gaps.sort_unstable();
        let median = gaps[gaps.len() / 2];
        println!(
            "{from:22} {:6} {:>7.0} us {:>7.0} us",
            gaps.len(),
            median.as_secs_f64() * 1e6,
            gaps[gaps.len() - 1].as_secs_f64() * 1e6
        );
    }
    Ok(())
}
