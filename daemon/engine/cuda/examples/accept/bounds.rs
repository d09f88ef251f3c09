//! How long light work waits for heavy work, and what holding back costs, in time.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Tensor};
use gpusched_engine::device::{Opened, Stream};
use gpusched_engine::{DeviceSpec, GateKind};

use crate::Seen;
use crate::setup::{HEAVY, failed, ms_since, open};

/// Sides of the matrices of a heavy kernel, which takes a GPU of today a fraction of a millisecond.
const SIDE: usize = 4096;
/// Kernels of a block.
const BLOCK: usize = 5;
/// Blocks before anything is measured: by then as many are on their way as may be.
const STEADY: usize = 12;
/// How often each wait is measured.
const TRIALS: usize = 20;
/// What the host adds to a wait, in milliseconds: to launch, and to see that it is done.
const HOST_MS: f64 = 0.5;

/// A heavy and a light lane, with something to compute on.
struct Pair {
    heavy: Arc<dyn Stream>,
    light: Arc<dyn Stream>,
    matrix: Tensor,
    little: Tensor,
    _opened: Opened,
}

impl Pair {
    fn open(gate: GateKind, device: DeviceSpec) -> Result<Self, String> {
        let opened = open(gate, device)?;
        let (heavy, light) = (Arc::clone(&opened.streams[HEAVY]), Arc::clone(&opened.streams[1]));
        let matrix = Tensor::zeros((SIDE, SIDE), DType::BF16, heavy.device()).map_err(failed)?;
        let little = Tensor::zeros(256, DType::F32, light.device()).map_err(failed)?;
        let pair = Self { heavy, light, matrix, little, _opened: opened };
        // Kernels are loaded when they are first used.
        pair.product()?;
        pair.answer()?;
        pair.heavy.synchronize().map_err(failed)?;
        Ok(pair)
    }

    /// A heavy kernel.
    fn product(&self) -> Result<(), String> {
        self.matrix.matmul(&self.matrix).map(drop).map_err(failed)
    }

    /// A light kernel, waited for: in milliseconds.
    fn answer(&self) -> Result<f64, String> {
        let begun = Instant::now();
        self.little.relu().map(drop).map_err(failed)?;
        self.light.synchronize().map_err(failed)?;
        Ok(ms_since(begun))
    }

    /// What a heavy kernel takes, in milliseconds, by the device's clock.
    fn kernel_ms(&self) -> Result<f64, String> {
        let failure = RefCell::new(Ok(()));
        let took = self.heavy.run(&|| (), &mut || {
            *failure.borrow_mut() = (0..BLOCK * STEADY).try_for_each(|_| self.product());
        });
        failure.into_inner()?;
        let took = took.ok_or("the device does not say how long it took")?;
        Ok(took.as_secs_f64() * 1e3 / (BLOCK * STEADY) as f64)
    }
}

/// A light kernel goes before all that is queued on the heavy stream.
pub(crate) fn priorities() -> Result<Vec<Seen>, String> {
    let pair = Pair::open(GateKind::Block, DeviceSpec::default())?;
    let kernel = pair.kernel_ms()?;
    let mut worst = 0.0_f64;
    for _ in 0..TRIALS {
        (0..BLOCK * STEADY).try_for_each(|_| pair.product())?;
        worst = worst.max(pair.answer()?);
        pair.heavy.synchronize().map_err(failed)?;
    }
    let (queue, most) = (kernel * (BLOCK * STEADY) as f64, 2.0 * kernel + HOST_MS);
    Ok(vec![Seen::new(
        format!("light kernel behind {queue:.2} ms of heavy ones"),
        format!("within two kernels of {kernel:.3} ms, and {HOST_MS} ms"),
        format!("{worst:.3} ms at most"),
        worst <= most,
    )])
}

/// Between blocks: from the light work's arrival, through the heavy lane's next yield point, to its first kernel.
pub(crate) fn blocks() -> Result<Vec<Seen>, String> {
    let mut seen = Vec::new();
    for ahead in [1_u32, 2, 4] {
        let pair = Pair::open(GateKind::Block, DeviceSpec { blocks_ahead: ahead, ..DeviceSpec::default() })?;
        let block = pair.kernel_ms()? * BLOCK as f64;
        let mut worst = 0.0_f64;
        for trial in 0..TRIALS {
            for _ in 0..STEADY {
                (0..BLOCK).try_for_each(|_| pair.product())?;
                pair.heavy.keep_up().map_err(failed)?;
            }
            let offset = trial % BLOCK;
            (0..offset).try_for_each(|_| pair.product())?;
            let arrival = Instant::now();
            (offset..BLOCK).try_for_each(|_| pair.product())?;
            pair.heavy.keep_up().map_err(failed)?;
            pair.heavy.synchronize().map_err(failed)?;
            pair.answer()?;
            worst = worst.max(ms_since(arrival));
        }
        let most = f64::from(ahead + 1) * block + HOST_MS;
        seen.push(Seen::new(
            format!("K = {ahead}, blocks of {block:.2} ms"),
            format!("within {most:.2} ms: K + 1 blocks, and {HOST_MS} ms"),
            format!("{worst:.2} ms at most"),
            worst <= most,
        ));
    }
    Ok(seen)
}

/// Between kernels: as many as are on their way.
pub(crate) fn kernels() -> Result<Vec<Seen>, String> {
    let mut seen = Vec::new();
    for ahead in [4_u32, 16, 64] {
        let pair = Pair::open(GateKind::Kernel, DeviceSpec { kernels_ahead: ahead, ..DeviceSpec::default() })?;
        let kernel = pair.kernel_ms()?;
        let most = f64::from(ahead) * kernel + HOST_MS;
        let (launched, worst) = (Cell::new(0_u32), Cell::new(0.0_f64));
        let failure = RefCell::new(Ok(()));
        let pause = || {
            launched.set(launched.get() + 1);
            // Not at a multiple, so that it is seen at every distance from an event.
            if launched.get().is_multiple_of(3 * ahead + 1) {
                let arrival = Instant::now();
                let answered = pair.heavy.synchronize().map_err(failed).and_then(|()| pair.answer());
                worst.set(worst.get().max(ms_since(arrival)));
                if let Err(why) = answered {
                    *failure.borrow_mut() = Err(why);
                }
            }
        };
        let all = (3 * ahead as usize + 1) * TRIALS;
        pair.heavy.run(&pause, &mut || {
            if let Err(why) = (0..all).try_for_each(|_| pair.product()) {
                *failure.borrow_mut() = Err(why);
            }
        });
        failure.into_inner()?;
        seen.push(Seen::new(
            format!("N = {ahead}, kernels of {kernel:.3} ms"),
            format!("within {most:.2} ms: N kernels, and {HOST_MS} ms; every kernel asked"),
            format!("{:.2} ms at most; {} of {all} asked", worst.get(), launched.get()),
            worst.get() <= most && launched.get() as usize == all,
        ));
    }
    Ok(seen)
}

/// What the host takes for a launch, by the kind of gate. XSched reports less than 3.4 % for its first level.
pub(crate) fn launches() -> Result<Vec<Seen>, String> {
    const LAUNCHES: u32 = 2000;
    let mut cost = Vec::new();
    for gate in [GateKind::None, GateKind::Block, GateKind::Kernel] {
        let pair = Pair::open(gate, DeviceSpec::default())?;
        let on = Tensor::zeros(256, DType::F32, pair.heavy.device()).map_err(failed)?;
        let mut rounds = Vec::new();
        for _ in 0..5 {
            pair.heavy.synchronize().map_err(failed)?;
            let begun = Instant::now();
            pair.heavy.run(&|| (), &mut || (0..LAUNCHES).for_each(|_| drop(on.relu())));
            rounds.push(ms_since(begun) * 1e3 / f64::from(LAUNCHES));
        }
        rounds.sort_by(f64::total_cmp);
        cost.push(rounds[rounds.len() / 2]);
    }
    let (free, block, kernel) = (cost[0], cost[1], cost[2]);
    let product = Pair::open(GateKind::None, DeviceSpec::default())?.kernel_ms()? * 1e3;
    let share = 100.0 * (kernel - free).max(0.0) / product.max(free);
    Ok(vec![Seen::new(
        "a launch",
        "between kernels less than 3.4 % of a kernel more than without a gate",
        format!(
            "{free:.2} us without a gate, {block:.2} us between blocks, {kernel:.2} us between kernels; kernels of {product:.0} us: {share:.1} %"
        ),
        share < 3.4,
    )])
}
