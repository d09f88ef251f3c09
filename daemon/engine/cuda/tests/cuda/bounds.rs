//! How long lighter work waits for heavier work on the device, on the virtual clock, and what holding back costs the host.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Module as _, Tensor};
use gpusched_engine::device::{Opened, Stream};
use gpusched_engine::{DeviceSpec, GateKind, Setup};

use crate::rig::{MIB, open, place, setup};
use crate::soft::{Done, Turn};

/// What a kernel takes, in virtual nanoseconds.
const KERNEL: u64 = 1_000_000;
/// Kernels of a block.
const BLOCK: u64 = 5;
/// Blocks before anything is measured: by then as many are on their way as may be.
const STEADY: u64 = 12;

fn lanes(gate: GateKind, device: DeviceSpec) -> (Opened, Arc<dyn Stream>, Arc<dyn Stream>) {
    let setup = setup(gate, 1, [256 * MIB, 64 * MIB]);
    let overhead_bytes = setup.device.overhead_bytes;
    let opened = open(&Setup { device: DeviceSpec { overhead_bytes, ..device }, ..setup });
    let (heavy, light) = (Arc::clone(&opened.streams[0]), Arc::clone(&opened.streams[1]));
    (opened, heavy, light)
}

/// A tensor of a lane, to launch kernels on.
fn tensor(lane: &Arc<dyn Stream>) -> Tensor {
    Tensor::zeros(256, DType::F32, &place(lane)).expect("there is room")
}

/// One kernel.
fn launch(on: &Tensor) {
    drop(on.relu().expect("there is room"));
}

/// The next kernel on the light lane's stream that began at or after `from`: when.
fn first_kernel(turn: &Turn, light: &Arc<dyn Stream>, from: u64) -> u64 {
    light.synchronize().expect("well");
    let of_light = turn.trace().into_iter().filter(|done| done.is_kernel() && done.priority < 0 && done.begin >= from);
    of_light.map(|done| done.begin).min().expect("it has run")
}

/// How long the light lane waits for its first kernel that arrives when the heavy lane has launched `offset` kernels of a
/// block: if it launches at once, or only when the heavy lane has parked.
fn wait_for_blocks(turn: &Turn, ahead: u32, offset: u64, at_once: bool) -> u64 {
    let spec = DeviceSpec { blocks_ahead: ahead, ..DeviceSpec::default() };
    let (_opened, heavy, light) = lanes(GateKind::Block, spec);
    let (of_heavy, of_light) = (tensor(&heavy), tensor(&light));
    for _ in 0..STEADY {
        (0..BLOCK).for_each(|_| launch(&of_heavy));
        heavy.keep_up().expect("well");
    }
    (0..offset).for_each(|_| launch(&of_heavy));
    let arrival = turn.now();
    if at_once {
        launch(&of_light);
    }
    // The gate closes: the heavy lane goes on to its next yield point, and parks there with nothing left on the device.
    (offset..BLOCK).for_each(|_| launch(&of_heavy));
    heavy.keep_up().expect("well");
    heavy.synchronize().expect("well");
    if !at_once {
        launch(&of_light);
    }
    first_kernel(turn, &light, arrival) - arrival
}

#[test]
fn a_gate_between_blocks_bounds_the_wait_by_the_blocks_ahead() {
    let turn = Turn::take();
    turn.kernels_take(KERNEL);
    for ahead in [1_u32, 2, 4] {
        let most =
            |at_once| (0..BLOCK).map(|offset| wait_for_blocks(&turn, ahead, offset, at_once)).max().expect("some");
        let (at_once, parked) = (most(true), most(false));
        let (block, bound) = (BLOCK * KERNEL, (u64::from(ahead) + 1) * BLOCK * KERNEL);
        println!(
            "K = {ahead}: first light kernel after {at_once} ns at most, {parked} ns once the heavy lane has parked; bound {bound} ns"
        );
        assert!(at_once <= KERNEL, "by its priority it goes before all that is queued: {at_once}");
        assert!(parked <= bound, "K = {ahead}: {parked} of {bound}");
        // Were the host not ahead of the device at all, the bound would say nothing.
        assert!(parked > u64::from(ahead) * block, "K = {ahead}: {parked}");
    }
}

#[test]
fn without_a_bound_the_wait_is_as_long_as_the_queue() {
    let turn = Turn::take();
    turn.kernels_take(KERNEL);
    let (_opened, heavy, _light) = lanes(GateKind::None, DeviceSpec::default());
    let of_heavy = tensor(&heavy);
    let arrival = turn.now();
    for _ in 0..STEADY {
        (0..BLOCK).for_each(|_| launch(&of_heavy));
        heavy.keep_up().expect("well");
    }
    assert_eq!(turn.now(), arrival, "nobody waited");
    heavy.synchronize().expect("well");
    assert!(turn.now() - arrival >= STEADY * BLOCK * KERNEL);
}

/// How many kernels of the heavy lane are on their way as the gate closes before its kernel number `at`.
fn kernels_in_the_way(turn: &Turn, ahead: u32, at: u64) -> u64 {
    let spec = DeviceSpec { kernels_ahead: ahead, ..DeviceSpec::default() };
    let (_opened, heavy, light) = lanes(GateKind::Kernel, spec);
    let (of_heavy, of_light) = (tensor(&heavy), tensor(&light));
    heavy.synchronize().expect("well");
    let (launched, waited) = (Cell::new(0), Cell::new(0));
    let pause = || {
        launched.set(launched.get() + 1);
        if launched.get() == at {
            let arrival = turn.now();
            heavy.synchronize().expect("well");
            waited.set(turn.now() - arrival);
            launch(&of_light);
            assert!(first_kernel(turn, &light, arrival) - arrival <= waited.get());
        }
    };
    heavy.run(&pause, &mut || (0..at + 10).for_each(|_| launch(&of_heavy)));
    assert_eq!(launched.get(), at + 10, "every kernel asks");
    waited.get().div_ceil(KERNEL)
}

#[test]
fn a_gate_between_kernels_bounds_the_wait_by_kernels() {
    let turn = Turn::take();
    turn.kernels_take(KERNEL);
    for ahead in [4_u32, 16, 64] {
        let at = |offset: u64| kernels_in_the_way(&turn, ahead, 3 * u64::from(ahead) + offset);
        let most = (1..=u64::from(ahead).min(20)).map(at).max().expect("some");
        println!("N = {ahead}: {most} kernels in the way at most");
        assert!(most <= u64::from(ahead), "{most} of {ahead}");
        assert!(2 * most > u64::from(ahead), "{most} of {ahead}: the host waits for the device more than it has to");
    }
}

/// What candle multiplies quantised weights with is linked, and launched by the runtime; it is no less in the way.
#[test]
fn kernels_by_the_runtime_are_held_back_as_well() {
    let turn = Turn::take();
    turn.kernels_take(KERNEL);
    let (_opened, heavy, _light) = lanes(GateKind::Kernel, DeviceSpec { kernels_ahead: 4, ..DeviceSpec::default() });
    let weights = Tensor::zeros((64, 256), DType::F32, &candle_core::Device::Cpu).expect("memory");
    let weights = QTensor::quantize_onto(&weights, GgmlDType::Q4_0, &place(&heavy)).expect("there is room");
    let weights = QMatMul::from_qtensor(weights).expect("there is room");
    let row = Tensor::zeros((1, 256), DType::F32, &place(&heavy)).expect("there is room");
    heavy.synchronize().expect("well");
    turn.forget();
    let (asked, behind) = (Cell::new(0), Cell::new(0));
    let begun = turn.now();
    let pause = || {
        asked.set(asked.get() + 1);
        // Kernels begun before this one, less those that are over by now.
        let over = (turn.now() - begun) / KERNEL;
        behind.set(behind.get().max((asked.get() - 1_u64).saturating_sub(over)));
    };
    heavy.run(&pause, &mut || (0..8).for_each(|_| drop(weights.forward(&row).expect("there is room"))));
    heavy.synchronize().expect("well");
    let kernels: Vec<_> = turn.trace().into_iter().filter(Done::is_kernel).collect();
    let linked = kernels.iter().filter(|done| done.name.starts_with("launch_")).count();
    assert!(linked >= 8, "{kernels:?}");
    assert_eq!(asked.get(), kernels.len() as u64, "every kernel asks, {linked} of them by the runtime");
    assert!((3..=4).contains(&behind.get()), "{} in the way", behind.get());
}

#[test]
fn the_light_lane_goes_before_what_the_heavy_one_has_queued() {
    let turn = Turn::take();
    turn.kernels_take(KERNEL);
    let (_opened, heavy, light) = lanes(GateKind::None, DeviceSpec::default());
    // Neither has a gate, so both are of one priority: in the order in which they came.
    let (of_heavy, of_light) = (tensor(&heavy), tensor(&light));
    turn.forget();
    (0..20).for_each(|_| launch(&of_heavy));
    launch(&of_light);
    light.synchronize().expect("well");
    assert_eq!(turn.trace().iter().filter(|done| done.is_kernel()).count(), 21);
    drop((heavy, light, of_heavy, of_light));

    let (_opened, heavy, light) = lanes(GateKind::Block, DeviceSpec { blocks_ahead: 4, ..DeviceSpec::default() });
    let (of_heavy, of_light) = (tensor(&heavy), tensor(&light));
    turn.forget();
    (0..20).for_each(|_| launch(&of_heavy));
    launch(&of_light);
    light.synchronize().expect("well");
    let kernels = turn.trace().iter().filter(|done| done.is_kernel()).count();
    assert!(kernels <= 2, "the one that was running, and its own: {kernels}");
}

/// What a launch takes of the host, in nanoseconds, as the median of several rounds.
fn overhead(turn: &Turn, gate: GateKind) -> f64 {
    const LAUNCHES: u32 = 1000;
    const ROUNDS: usize = 5;
    let (_opened, heavy, _light) = lanes(gate, DeviceSpec { kernels_ahead: 16, ..DeviceSpec::default() });
    let on = tensor(&heavy);
    heavy.synchronize().expect("well");
    turn.forget();
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            heavy.run(&|| (), &mut || (0..LAUNCHES).for_each(|_| launch(&on)));
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(LAUNCHES)
        })
        .collect();
    let launched = turn.trace().iter().filter(|done| done.is_kernel()).count();
    assert_eq!(launched, ROUNDS * LAUNCHES as usize, "{gate:?}: each launch arrives, and once");
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Printed, not judged: it is the host's time over a driver in software, of which only the difference says something.
#[test]
fn no_launch_is_lost_and_what_holding_back_costs_is_told() {
    let turn = Turn::take();
    turn.kernels_take(1);
    let [free, block, kernel] = [GateKind::None, GateKind::Block, GateKind::Kernel].map(|gate| overhead(&turn, gate));
    println!(
        "a launch takes the host {free:.0} ns without a gate, {block:.0} ns with one between blocks, {kernel:.0} ns between kernels"
    );
}
