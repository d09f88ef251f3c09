//! Holds a lane back before each kernel: while its gate is closed, and while as many kernels as are allowed are on their way.
//! Model code knows nothing of it; it is called by [`interpose`](crate::interpose).

use std::cell::Cell;
use std::ptr;

use crate::flight::Flight;

/// What a lane that is held back is held back by.
struct Rein<'a> {
    pause: &'a dyn Fn(),
    flight: &'a Flight,
}

thread_local! {
    /// That of the stage that the thread runs, or null.
    static REIN: Cell<*const Rein<'static>> = const { Cell::new(ptr::null()) };
}

/// Runs `work` with every kernel that it launches on this thread held back: by `pause`, and to what `flight` allows.
pub(crate) fn hold(pause: &dyn Fn(), flight: &Flight, work: &mut dyn FnMut()) {
    let rein = Rein { pause, flight };
    let _restore = Restore(REIN.replace(ptr::from_ref(&rein).cast()));
    work();
}

/// Puts back what was there before, however `work` ends.
struct Restore(*const Rein<'static>);

impl Drop for Restore {
    fn drop(&mut self) {
        REIN.set(self.0);
    }
}

/// Does something with the thread's rein, if it is on one; without it meanwhile, for what is done then may itself launch.
fn with(action: impl FnOnce(&Rein<'_>)) {
    let rein = REIN.replace(ptr::null());
    let _restore = Restore(rein);
    // SAFETY: `hold` is still on this thread's stack: it takes the pointer away as it ends.
    if let Some(rein) = unsafe { rein.as_ref() } {
        action(rein);
    }
}

/// A kernel is about to be launched by the calling thread. An error of the device's is met again by whoever launches.
pub(crate) fn before() {
    with(|rein| {
        (rein.pause)();
        let _ = rein.flight.wait(1);
    });
}

/// It has been.
pub(crate) fn after() {
    with(|rein| {
        let _ = rein.flight.begun();
    });
}
