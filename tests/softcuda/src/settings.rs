//! What the device is like and what goes wrong with it: from the environment, and by `softcuda_set` under the same names.

use std::collections::BTreeSet;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;

use crate::status::Status;

/// The names, all of which begin with `SOFTCUDA_`. The crate's documentation says what each means.
const NAMES: [&str; 16] = [
    "DEVICES",
    "NAME",
    "DRIVER",
    "COMPUTE",
    "MEMORY",
    "OTHERS",
    "POOLS",
    "CAP",
    "KERNELS",
    "COPY_GBPS",
    "NUMBERS",
    "QUEUE",
    "OOM_AT",
    "FAULT_AT",
    "FAULT_KERNEL",
    "FAULT",
];

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How many devices there are: none or one.
    pub(crate) devices: i32,
    pub(crate) name: String,
    /// The version of CUDA that the driver knows, as `cuDriverGetVersion` has it: 13000 is 13.0.
    pub(crate) driver: i32,
    /// The compute capability, 80 for 8.0.
    pub(crate) compute: i32,
    /// What the device has, in bytes.
    pub(crate) memory: u64,
    /// What others' processes hold of it, in bytes.
    pub(crate) others: u64,
    pub(crate) pools: bool,
    /// Whether a pool's greatest size is kept to.
    pub(crate) cap: bool,
    pub(crate) kernels: Durations,
    /// Whether kernels compute something, as far as it is known what.
    pub(crate) numbers: bool,
    /// Bytes that a copy over the bus moves in a virtual nanosecond.
    pub(crate) copy_gbps: u64,
    /// How much a stream takes before the call that adds to it waits.
    pub(crate) queue: usize,
    pub(crate) oom_at: Ordinals,
    pub(crate) fault_at: Ordinals,
    /// Only kernels whose names begin so count for `fault_at`.
    pub(crate) fault_kernel: String,
    pub(crate) fault: Status,
    /// What is to go wrong does so only as long as this is empty. It is open from the start, since later the program may have
    /// given up its right to open files.
    once: Option<File>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            devices: 1,
            name: "Software GPU".to_owned(),
            driver: 13_000,
            compute: 80,
            memory: 48 << 30,
            others: 0,
            pools: true,
            cap: true,
            kernels: Durations::default(),
            numbers: false,
            copy_gbps: 16,
            queue: 1024,
            oom_at: Ordinals::default(),
            fault_at: Ordinals::default(),
            fault_kernel: String::new(),
            fault: Status::ILLEGAL_ADDRESS,
            once: None,
        }
    }
}

impl Settings {
    /// The defaults, and over them what the environment says.
    ///
    /// # Errors
    /// A sentence that names a variable whose value makes no sense, or a file that cannot be made.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let mut settings = Self::default();
        if let Some(path) = env::var_os("SOFTCUDA_ONCE") {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            settings.once = Some(file.map_err(|e| format!("SOFTCUDA_ONCE={}: {e}", path.display()))?);
        }
        for name in NAMES {
            let name = format!("SOFTCUDA_{name}");
            if let Ok(value) = env::var(&name) {
                settings.set(&name, &value)?;
            }
        }
        Ok(settings)
    }

    /// Whether what is due goes wrong now: without `SOFTCUDA_ONCE` always, with it for the first process that gets here.
    pub(crate) fn goes_wrong(&self, due: bool) -> bool {
        let Some(mut once) = self.once.as_ref().filter(|_| due) else { return due };
        once.metadata().is_ok_and(|file| file.len() == 0) && once.write_all(b"1\n").is_ok()
    }

    /// Sets one of them.
    ///
    /// # Errors
    /// A sentence, for a name that there is not or a value that makes no sense. Nothing is changed then.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{name}={value} makes no sense to the software driver");
        match name.strip_prefix("SOFTCUDA_").ok_or_else(wrong)? {
            "DEVICES" => self.devices = value.parse().ok().filter(|n| (0..=1).contains(n)).ok_or_else(wrong)?,
            "NAME" => value.clone_into(&mut self.name),
            "DRIVER" => self.driver = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
            "COMPUTE" => self.compute = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
            "MEMORY" => self.memory = bytes(value).ok_or_else(wrong)?,
            "OTHERS" => self.others = bytes(value).ok_or_else(wrong)?,
            "POOLS" => self.pools = switch(value, "0", "1").ok_or_else(wrong)?,
            "CAP" => self.cap = switch(value, "ignored", "enforced").ok_or_else(wrong)?,
            "KERNELS" => self.kernels.add(value).ok_or_else(wrong)?,
            "COPY_GBPS" => self.copy_gbps = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
            "NUMBERS" => self.numbers = switch(value, "0", "1").ok_or_else(wrong)?,
            "QUEUE" => self.queue = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
            "OOM_AT" => self.oom_at = Ordinals::parse(value).ok_or_else(wrong)?,
            "FAULT_AT" => self.fault_at = Ordinals::parse(value).ok_or_else(wrong)?,
            "FAULT_KERNEL" => value.clone_into(&mut self.fault_kernel),
            "FAULT" => {
                self.fault = match value {
                    "illegal-address" => Status::ILLEGAL_ADDRESS,
                    "assert" => Status::ASSERT,
                    "launch-failed" => Status::LAUNCH_FAILED,
                    _ => return Err(wrong()),
                };
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

fn switch(value: &str, off: &str, on: &str) -> Option<bool> {
    (value == on || value == off).then_some(value == on)
}

/// `48G`, `512M`, `64K` or bytes; powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, text.chars().last()?),
        None => (text, ' '),
    };
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        _ => 0,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// How long kernels take, by name.
#[derive(Clone, Debug)]
pub(crate) struct Durations(Vec<(String, u64)>);

impl Default for Durations {
    fn default() -> Self {
        Self(vec![("*".to_owned(), 10_000)])
    }
}

impl Durations {
    /// Virtual nanoseconds. Of the patterns that match, the one that was set last decides.
    pub(crate) fn of(&self, kernel: &str) -> u64 {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => kernel.starts_with(start),
            None => kernel == pattern,
        };
        self.0.iter().rev().find(|(pattern, _)| matches(pattern)).map_or(0, |(_, ns)| *ns)
    }

    /// `PATTERN=NANOSECONDS,...` in front of what there is. A pattern is a name, or the beginning of names and a `*`.
    fn add(&mut self, text: &str) -> Option<()> {
        let each = text
            .split(',')
            .map(|item| item.split_once('=').and_then(|(pattern, ns)| Some((pattern, ns.parse().ok()?))));
        for (pattern, ns) in each.collect::<Option<Vec<(&str, u64)>>>()? {
            self.0.retain(|(known, _)| known != pattern);
            self.0.push((pattern.to_owned(), ns));
        }
        Some(())
    }
}

/// Which of a row of events something happens at, counted from when that was set; the first is 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ordinals {
    each: BTreeSet<u64>,
    from: Option<u64>,
    seen: u64,
}

impl Ordinals {
    /// `5`, `5,7` or `5+`, which is the fifth and all that follow; nothing at all is never.
    fn parse(text: &str) -> Option<Self> {
        let mut ordinals = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (number, on) = item.strip_suffix('+').map_or((item, false), |number| (number, true));
            let number = number.parse().ok().filter(|n| *n > 0)?;
            if on {
                ordinals.from = Some(number);
            } else {
                ordinals.each.insert(number);
            }
        }
        Some(ordinals)
    }

    /// Counts an event, and says whether it is one of these.
    pub(crate) fn next(&mut self) -> bool {
        self.seen += 1;
        self.each.contains(&self.seen) || self.from.is_some_and(|from| self.seen >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused_with_a_sentence() {
        let mut settings = Settings::default();
        settings.set("SOFTCUDA_MEMORY", "24G").unwrap();
        settings.set("SOFTCUDA_OTHERS", "512M").unwrap();
        settings.set("SOFTCUDA_CAP", "ignored").unwrap();
        assert_eq!((settings.memory, settings.others, settings.cap), (24 << 30, 512 << 20, false));
        for (name, value) in
            [("SOFTCUDA_MEMORY", "much"), ("SOFTCUDA_CAP", "yes"), ("SOFTCUDA_X", "1"), ("CAP", "ignored")]
        {
            assert_eq!(settings.set(name, value), Err(format!("{name}={value} makes no sense to the software driver")));
        }
    }

    #[test]
    fn with_a_file_things_go_wrong_once() {
        let file = nix::sys::memfd::memfd_create("once", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        let settings = Settings { once: Some(file.into()), ..Settings::default() };
        assert_eq!([false, true, true].map(|due| settings.goes_wrong(due)), [false, true, false]);
        assert_eq!([false, true, true].map(|due| Settings::default().goes_wrong(due)), [false, true, true]);
    }

    #[test]
    fn the_pattern_set_last_decides() {
        let mut durations = Durations::default();
        durations.add("gemm*=200,badd_f32=3").unwrap();
        assert_eq!([durations.of("gemm_ex"), durations.of("badd_f32"), durations.of("badd_f16")], [200, 3, 10_000]);
        durations.add("*=5").unwrap();
        assert_eq!(durations.of("gemm_ex"), 5);
        assert_eq!(durations.add("gemm"), None);
    }

    #[test]
    fn ordinals_are_single_or_from_one_on() {
        let mut ordinals = Ordinals::parse("2,5+").unwrap();
        assert_eq!((1..8).filter(|_| ordinals.next()).collect::<Vec<_>>(), [2, 5, 6, 7]);
        assert!(!Ordinals::parse("").unwrap().next());
        assert!(Ordinals::parse("0").is_none() && Ordinals::parse("x").is_none());
    }
}
