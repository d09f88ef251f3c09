//! One of the driver's functions, taken over as a program may: candle gives all its streams the same priority, and here they get
//! the one that their thread wishes for. What is here is called although candle is linked with the driver.

use std::cell::Cell;

thread_local! {
    static PRIORITY: Cell<i32> = const { Cell::new(0) };
}

unsafe extern "C" {
    fn cuStreamCreateWithPriority(stream: *mut usize, flags: u32, priority: i32) -> i32;
}

/// Runs something that makes streams, with this priority.
pub(crate) fn with_priority<T>(priority: i32, make: impl FnOnce() -> T) -> T {
    PRIORITY.set(priority);
    let made = make();
    PRIORITY.set(0);
    made
}

/// # Safety
/// As the driver's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut usize, flags: u32) -> i32 {
    // SAFETY: By this function's own condition.
    unsafe { cuStreamCreateWithPriority(stream, flags, PRIORITY.get()) }
}
