//! The software driver's own functions, and the trace.

unsafe extern "C" {
    /// Virtual nanoseconds.
    #[link_name = "softcuda_now"]
    pub(crate) safe fn now() -> u64;
    /// Forgets the trace so far.
    #[link_name = "softcuda_trace_clear"]
    pub(crate) safe fn forget();
    /// The number by which the trace calls a stream.
    #[link_name = "softcuda_stream"]
    pub(crate) safe fn stream(handle: usize) -> u32;
    fn softcuda_trace(text: *mut u8, room: usize) -> usize;
}

/// A line of the trace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) submitted: u64,
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) stream: u32,
    pub(crate) priority: i32,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// What the device has done since the trace was last forgotten.
pub(crate) fn trace() -> Vec<Ran> {
    // SAFETY: Without room nothing is written.
    let mut text = vec![0; unsafe { softcuda_trace(std::ptr::null_mut(), 0) }];
    // SAFETY: There is as much room as is said.
    let all = unsafe { softcuda_trace(text.as_mut_ptr(), text.len()) };
    assert_eq!(all, text.len(), "nothing ran meanwhile");
    String::from_utf8(text).expect("text").lines().map(parse).collect()
}

fn parse(line: &str) -> Ran {
    let fields: Vec<_> = line.split(' ').collect();
    let [submitted, begin, end, stream, priority, kind, name, bytes] = fields[..] else { panic!("{line}") };
    let number = |text: &str| text.parse().expect("a number");
    Ran {
        submitted: number(submitted),
        begin: number(begin),
        end: number(end),
        stream: stream.parse().expect("a number"),
        priority: priority.parse().expect("a number"),
        kind: kind.to_owned(),
        name: name.to_owned(),
        bytes: number(bytes),
    }
}
