//! How much memory the device has. For the CPU that is the machine's, or less where a control group allows less; a GPU has to be
//! asked, and that is not the configuration's to do.

use std::fs;
use std::path::Path;

use nix::sys::sysinfo::sysinfo;

use super::{BackendChoice, Config};

impl Config {
    /// Whether the engine can only be the CPU's.
    pub(super) fn is_for_cpu(&self) -> bool {
        match self.engine.backend {
            BackendChoice::Cpu => true,
            BackendChoice::Auto => self.engine.in_process || self.engine.cuda.executable().is_none(),
            BackendChoice::Cuda => false,
        }
    }

    /// What partitions are shares of, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.device_bytes.unwrap_or_else(of_cpu)
    }
}

/// Bytes of memory that the CPU engine may use in all; 0 if the system does not say.
fn of_cpu() -> u64 {
    let machine = sysinfo().map_or(0, |info| info.ram_total());
    cgroup_limit().map_or(machine, |limit| limit.min(machine))
}

/// The least `memory.max` of this process's control group (version 2) and those around it.
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(group).join("memory.max")).ok()?;
        text.trim().parse().ok()
    };
    Path::new(own).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_some() {
        assert!(super::of_cpu() > 1 << 26, "this runs in more than 64 MiB");
    }
}
