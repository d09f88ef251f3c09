//! What the software driver is asked beside CUDA. Its functions are found by name, so that this links with any driver, and says
//! so where it is another.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;

/// A turn with the device; others wait. Nothing of what an earlier one set is left.
pub(crate) struct Turn {
    _turn: MutexGuard<'static, ()>,
}

impl Turn {
    pub(crate) fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = Self { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) };
        for (name, value) in [
            ("KERNELS", "*=10000"),
            ("POOLS", "1"),
            ("CAP", "enforced"),
            ("OOM_AT", ""),
            ("FAULT_AT", ""),
            ("NUMBERS", "0"),
        ] {
            turn.set(name, value);
        }
        turn.forget();
        turn
    }

    /// Sets what `SOFTCUDA_name` in the environment could have set.
    pub(crate) fn set(&self, name: &str, value: &str) {
        type Set = unsafe extern "C" fn(*const c_char, *const c_char) -> i32;
        let text = |text: String| CString::new(text).expect("no zeros");
        let (name, value) = (text(format!("SOFTCUDA_{name}")), text(value.to_owned()));
        // SAFETY: The driver's function is of this type; both are strings.
        let set =
            unsafe { std::mem::transmute::<*mut c_void, Set>(function("softcuda_set"))(name.as_ptr(), value.as_ptr()) };
        assert_eq!(set, 0, "{name:?} = {value:?}");
    }

    /// Every kernel takes so long.
    pub(crate) fn kernels_take(&self, ns: u64) {
        self.set("KERNELS", &format!("*={ns}"));
    }

    /// Virtual nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        type Now = unsafe extern "C" fn() -> u64;
        // SAFETY: The driver's function is of this type.
        unsafe { std::mem::transmute::<*mut c_void, Now>(function("softcuda_now"))() }
    }

    /// Forgets what has been traced.
    pub(crate) fn forget(&self) {
        type Clear = unsafe extern "C" fn();
        // SAFETY: The driver's function is of this type.
        unsafe { std::mem::transmute::<*mut c_void, Clear>(function("softcuda_trace_clear"))() }
    }

    /// What the device has done, in order.
    pub(crate) fn trace(&self) -> Vec<Done> {
        type Trace = unsafe extern "C" fn(*mut u8, usize) -> usize;
        // SAFETY: The driver's function is of this type.
        let trace = unsafe { std::mem::transmute::<*mut c_void, Trace>(function("softcuda_trace")) };
        // SAFETY: There is no room and none is said to be.
        let mut text = vec![0; unsafe { trace(std::ptr::null_mut(), 0) }];
        // SAFETY: There is as much room as is said.
        let written = unsafe { trace(text.as_mut_ptr(), text.len()) };
        text.truncate(written);
        String::from_utf8(text).expect("text").lines().map(Done::parse).collect()
    }
}

/// The driver's function of this name.
fn function(name: &str) -> *mut c_void {
    let name = CString::new(name).expect("no zeros");
    // SAFETY: The name is a string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    assert!(
        !found.is_null(),
        "no {name:?} here: these tests need the software driver, tests/softcuda/suite.sh runs them"
    );
    found
}

/// Something that the device has done, on the virtual clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) stream: u32,
    pub(crate) priority: i32,
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Done {
    /// A line: when it was submitted, began and ended, its stream and the stream's priority, its kind, name and bytes.
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split(' ').collect();
        let [_, begin, end, stream, priority, kind, name, ..] = fields.as_slice() else { panic!("{line:?}") };
        let number = |text: &str| text.parse().expect("a number");
        Self {
            begin: number(begin),
            end: number(end),
            stream: stream.parse().expect("a number"),
            priority: priority.parse().expect("a number"),
            kind: (*kind).to_owned(),
            name: (*name).to_owned(),
        }
    }

    pub(crate) fn is_kernel(&self) -> bool {
        self.kind == "kernel"
    }
}
