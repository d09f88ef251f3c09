//! Partitions: that they are kept apart, and what the driver says of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gpusched_engine::device::Diagnosis;
use gpusched_engine::{DeviceSpec, GateKind};
use gpusched_engine_cuda::facts::probe;
use gpusched_shared::Bytes;

use crate::Seen;
use crate::setup::{CAPS, HEAVY, LIGHT, MIB, bytes, failed, open};

/// What there is.
pub(crate) fn facts() -> Result<Vec<Seen>, String> {
    let facts = probe(0)?;
    let (total, free) = (Bytes(facts.total_bytes), Bytes(facts.free_bytes));
    let driver = facts.driver.as_deref().unwrap_or("not told");
    let others = facts.tenants.len();
    Ok(vec![
        Seen::new("device", "its name", format!("{}, compute {}", facts.name, facts.compute), !facts.name.is_empty()),
        Seen::new("driver", "CUDA 12.2 or later", format!("{driver}, CUDA {}", facts.cuda), true),
        Seen::new("memory", "more free than the checks need", format!("{free} of {total}"), facts.free_bytes > 4 << 30),
        Seen::new("others", "nobody", format!("{others} processes"), others == 0),
    ])
}

/// With `reserve`, the partitions are taken from the start. To open them tries the routes and the caps, too.
pub(crate) fn reservation() -> Result<Vec<Seen>, String> {
    let before = probe(0)?.free_bytes;
    let opened = open(GateKind::Block, DeviceSpec { reserve: true, ..DeviceSpec::default() })?;
    let after = probe(0)?.free_bytes;
    let held = [HEAVY, LIGHT].map(|class| opened.pools[class].held_bytes());
    drop(bytes(&opened.streams[HEAVY], 1024 * MIB).map_err(failed)?);
    opened.pools.iter().for_each(|pool| pool.flush());
    let flushed = [HEAVY, LIGHT].map(|class| opened.pools[class].held_bytes());
    let taken = before.saturating_sub(after);
    let most = CAPS.iter().sum::<u64>() + (2 << 30);
    Ok(vec![
        Seen::new("routes, caps", "each lane draws on its pool, and no pool gives more than its cap", "tried", true),
        Seen::new("held from the start", format!("{CAPS:?}"), format!("{held:?}"), held == CAPS),
        Seen::new("held after a flush", format!("{CAPS:?}"), format!("{flushed:?}"), flushed == CAPS),
        Seen::new(
            "taken of the device",
            "the partitions, and libraries less than 2 GiB",
            Bytes(taken).to_string(),
            taken >= CAPS.iter().sum() && taken <= most,
        ),
    ])
}

/// Numbers that look random, between 1 and `most`.
fn sizes(seed: u64, most: u64) -> impl Iterator<Item = u64> {
    (seed..).map(move |i| 1 + gpusched_shared::mix::mix(i) % most)
}

/// Four light lanes hammer their cap; the heavy one gets all that it was promised.
pub(crate) fn contention() -> Result<Vec<Seen>, String> {
    const ALLOCATIONS: usize = 10_000;
    let opened = open(GateKind::Block, DeviceSpec::default())?;
    let (over, refused, given) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut heavy_refused = 0;
    std::thread::scope(|scope| {
        for lane in 1..=4 {
            let stream = &opened.streams[lane];
            let (over, refused, given) = (&over, &refused, &given);
            scope.spawn(move || {
                let mut held = Vec::new();
                for size in sizes(lane as u64 * 1_000_000, 32 * MIB) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    given.fetch_add(1, Ordering::Relaxed);
                    match bytes(stream, size).map_err(|e| stream.diagnose(&e)) {
                        Ok(tensor) => held.push(tensor),
                        Err(Diagnosis::OutOfMemory(_)) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            held.truncate(held.len() / 2);
                        }
                        Err(Diagnosis::Lost | Diagnosis::Well) => return,
                    }
                }
            });
        }
        let (mut held, mut holds) = (VecDeque::new(), 0);
        for size in sizes(7, 64 * MIB).take(ALLOCATIONS) {
            match bytes(&opened.streams[HEAVY], size) {
                Ok(tensor) => held.push_back((size, tensor)),
                Err(_) => {
                    heavy_refused += 1;
                    continue;
                }
            }
            holds += size;
            while holds > CAPS[HEAVY] / 2 {
                let Some((size, _)) = held.pop_front() else { break };
                holds -= size;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let peaks = [HEAVY, LIGHT].map(|class| opened.pools[class].peak_held_bytes());
    let (refused, given) = (refused.into_inner(), given.into_inner());
    Ok(vec![
        Seen::new(
            format!("of {ALLOCATIONS} heavy allocations refused"),
            "0",
            heavy_refused.to_string(),
            heavy_refused == 0,
        ),
        Seen::new(format!("of {given} light allocations refused"), "some", refused.to_string(), refused > 0),
        Seen::new("held at most", format!("no more than {CAPS:?}"), format!("{peaks:?}"), peaks <= CAPS),
    ])
}

/// Without `reserve`, what nobody uses goes back to the device.
pub(crate) fn flush() -> Result<Vec<Seen>, String> {
    let opened = open(GateKind::Block, DeviceSpec::default())?;
    let before = probe(0)?.free_bytes;
    let some = bytes(&opened.streams[HEAVY], 1024 * MIB).map_err(failed)?;
    opened.streams[HEAVY].synchronize().map_err(failed)?;
    let (held, during) = (opened.pools[HEAVY].held_bytes(), probe(0)?.free_bytes);
    drop(some);
    opened.pools[HEAVY].flush();
    let (left, after) = (opened.pools[HEAVY].held_bytes(), probe(0)?.free_bytes);
    Ok(vec![
        Seen::new("held for 1 GiB", "1 GiB or a little more", Bytes(held).to_string(), held >= 1024 * MIB),
        Seen::new("the device has less by", "as much", Bytes(before - during.min(before)).to_string(), {
            before.saturating_sub(during) >= 1024 * MIB
        }),
        Seen::new("held after a flush", "0", left.to_string(), left == 0),
        Seen::new("the device has as before", Bytes(before).to_string(), Bytes(after).to_string(), after >= before),
    ])
}
