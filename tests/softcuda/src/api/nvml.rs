//! NVML, as far as `nvml-wrapper` calls it: what the device is, its memory, and who uses it.
//!
//! It sees this process and the other tenant that the environment tells of, but no other process that has the software driver
//! loaded: each has a device of its own.

use std::ffi::c_char;
use std::process;

use super::{CONTEXT, gpu};

/// `nvmlReturn_t`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Answer(i32);

impl Answer {
    const SUCCESS: Self = Self(0);
    const INVALID_ARGUMENT: Self = Self(2);
    const INSUFFICIENT_SIZE: Self = Self(7);
    const DRIVER_NOT_LOADED: Self = Self(9);
}

/// The number of the process that holds `SOFTCUDA_OTHERS`: one that Linux never gives.
const OTHER: u32 = u32::MAX - 1;

/// The version of a driver that has CUDA 13.0.
const DRIVER: &str = "580.65.06";

#[repr(C)]
struct Memory {
    version: u32,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

#[repr(C)]
struct OldMemory {
    total: u64,
    free: u64,
    used: u64,
}

#[repr(C)]
struct Process {
    pid: u32,
    used: u64,
    instance: u32,
    compute_instance: u32,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Answer {
    if gpu().settings.devices == 0 { Answer::DRIVER_NOT_LOADED } else { Answer::SUCCESS }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: u32) -> Answer {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Answer {
    Answer::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(_answer: i32) -> *const c_char {
    c"refused by the software driver".as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: Option<&mut u32>) -> Answer {
    put(count, gpu().settings.devices.unsigned_abs())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: Option<&mut usize>) -> Answer {
    if index == 0 { put(device, CONTEXT) } else { Answer::INVALID_ARGUMENT }
}

/// # Safety
/// `text` has room for `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, room: u32) -> Answer {
    // SAFETY: By this function's own condition.
    unsafe { write(text, room, DRIVER) }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: Option<&mut i32>) -> Answer {
    put(version, gpu().settings.driver)
}

/// # Safety
/// `text` has room for `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(device: usize, text: *mut c_char, room: u32) -> Answer {
    let name = gpu().settings.name.clone();
    // SAFETY: By this function's own condition.
    if device == CONTEXT { unsafe { write(text, room, &name) } } else { Answer::INVALID_ARGUMENT }
}

/// # Safety
/// `text` has room for `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(device: usize, text: *mut c_char, room: u32) -> Answer {
    let [a, b, c, d, e, f, g, h, rest @ ..] = super::device::UUID;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (tail, node) = rest.split_at(2);
    let uuid = format!("GPU-{}-{}-{}-{}-{}", hex(&[a, b, c, d]), hex(&[e, f]), hex(&[g, h]), hex(tail), hex(node));
    // SAFETY: By this function's own condition.
    if device == CONTEXT { unsafe { write(text, room, &uuid) } } else { Answer::INVALID_ARGUMENT }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: usize,
    major: Option<&mut i32>,
    minor: Option<&mut i32>,
) -> Answer {
    let compute = gpu().settings.compute;
    match put(major, compute / 10) {
        Answer::SUCCESS if device == CONTEXT => put(minor, compute % 10),
        _ => Answer::INVALID_ARGUMENT,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: usize, memory: Option<&mut Memory>) -> Answer {
    let Some(memory) = memory.filter(|_| device == CONTEXT) else { return Answer::INVALID_ARGUMENT };
    let gpu = gpu();
    let (total, free) = (gpu.settings.memory, gpu.room());
    *memory = Memory { version: memory.version, total, reserved: 0, free, used: total - free };
    Answer::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: usize, memory: Option<&mut OldMemory>) -> Answer {
    let gpu = gpu();
    let (total, free) = (gpu.settings.memory, gpu.room());
    drop(gpu);
    put(memory.filter(|_| device == CONTEXT), OldMemory { total, free, used: total - free })
}

/// # Safety
/// `processes` has room for `count`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: usize,
    count: Option<&mut u32>,
    processes: *mut Process,
) -> Answer {
    let Some(count) = count.filter(|_| device == CONTEXT) else { return Answer::INVALID_ARGUMENT };
    let gpu = gpu();
    let others = gpu.settings.others;
    let own = gpu.settings.memory.saturating_sub(others).saturating_sub(gpu.room());
    let each =
        [(process::id(), own, gpu.retained > 0), (OTHER, others, others > 0)].into_iter().filter(|(.., there)| *there);
    let each: Vec<_> =
        each.map(|(pid, used, _)| Process { pid, used, instance: u32::MAX, compute_instance: u32::MAX }).collect();
    let room = std::mem::replace(count, each.len() as u32) as usize;
    if each.len() > room || (processes.is_null() && !each.is_empty()) {
        return Answer::INSUFFICIENT_SIZE;
    }
    for (at, process) in each.into_iter().enumerate() {
        // SAFETY: There is room for `room`, and no more than that there are.
        unsafe { processes.add(at).write(process) };
    }
    Answer::SUCCESS
}

fn put<T>(place: Option<&mut T>, value: T) -> Answer {
    match place {
        Some(place) => {
            *place = value;
            Answer::SUCCESS
        }
        None => Answer::INVALID_ARGUMENT,
    }
}

/// # Safety
/// `text` has room for `room` bytes.
unsafe fn write(text: *mut c_char, room: u32, value: &str) -> Answer {
    if text.is_null() {
        return Answer::INVALID_ARGUMENT;
    }
    if value.len() >= room as usize {
        return Answer::INSUFFICIENT_SIZE;
    }
    // SAFETY: It is shorter than what there is room for.
    unsafe {
        text.copy_from_nonoverlapping(value.as_ptr().cast(), value.len());
        text.add(value.len()).write(0);
    }
    Answer::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn the_device_and_the_other_tenant_are_seen() {
        // The other tests of this process do not use the device that all of it shares.
        gpu().settings.set("SOFTCUDA_OTHERS", "5G").unwrap();
        assert!(nvmlInit_v2() == Answer::SUCCESS);
        let (mut count, mut device) = (0, 0);
        assert!(nvmlDeviceGetCount_v2(Some(&mut count)) == Answer::SUCCESS && count == 1);
        assert!(nvmlDeviceGetHandleByIndex_v2(1, Some(&mut device)) == Answer::INVALID_ARGUMENT);
        assert!(nvmlDeviceGetHandleByIndex_v2(0, Some(&mut device)) == Answer::SUCCESS);
        let mut memory = Memory { version: 2, total: 0, reserved: 0, free: 0, used: 0 };
        assert!(nvmlDeviceGetMemoryInfo_v2(device, Some(&mut memory)) == Answer::SUCCESS);
        assert_eq!((memory.version, memory.total, memory.used, memory.free), (2, 48 << 30, 5 << 30, 43 << 30));

        let empty = || Process { pid: 0, used: 0, instance: 0, compute_instance: 0 };
        let (mut count, mut processes) = (0, [empty(), empty()]);
        // SAFETY: There is room for as many as is said.
        unsafe {
            assert!(
                nvmlDeviceGetComputeRunningProcesses_v3(device, Some(&mut count), std::ptr::null_mut())
                    == Answer::INSUFFICIENT_SIZE
            );
            assert_eq!(count, 1);
            assert!(
                nvmlDeviceGetComputeRunningProcesses_v3(device, Some(&mut count), processes.as_mut_ptr())
                    == Answer::SUCCESS
            );
        }
        assert_eq!((processes[0].pid, processes[0].used), (OTHER, 5 << 30));

        let mut text = [1; 64];
        // SAFETY: There is as much room as is said, and a zero at the end of what is written.
        unsafe {
            assert!(nvmlDeviceGetUUID(device, text.as_mut_ptr(), 8) == Answer::INSUFFICIENT_SIZE);
            assert!(nvmlDeviceGetUUID(device, text.as_mut_ptr(), 64) == Answer::SUCCESS);
            let uuid = CStr::from_ptr(text.as_ptr()).to_str().unwrap();
            assert_eq!(uuid, "GPU-736f6674-7761-7265-2064-726976657221");
        }
    }
}
