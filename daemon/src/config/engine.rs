//! The engine's process and how it is watched, as the file has it.

use serde::{Deserialize, Serialize};

use super::cuda::{BackendChoice, CudaConfig};

/// Where the engine lives, when it is taken for stuck, and how soon a new one follows a dead one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// What it computes on: `auto`, `cpu` or `cuda`.
    pub backend: BackendChoice,
    /// Whether the engine is threads of the daemon itself, which then dies with it.
    pub in_process: bool,
    /// From one sign of life to the next, in milliseconds.
    pub heartbeat_ms: u64,
    /// Milliseconds without a sign of life after which the engine is replaced.
    pub heartbeat_timeout_ms: u64,
    /// Seconds that a lane may compute without coming to a yield point.
    pub running_timeout_s: u64,
    /// Seconds that a lane may load a model without getting further.
    pub loading_timeout_s: u64,
    /// Seconds that a lane may be parked in one go.
    pub parked_timeout_s: u64,
    /// Milliseconds from the death of an engine to the start of the next; twice as long after each that died soon.
    pub restart_base_ms: u64,
    /// Seconds that it takes at most. An engine that lived for so long did not die soon.
    pub restart_ceiling_s: u64,
    /// How an NVIDIA GPU is used.
    pub cuda: CudaConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            backend: BackendChoice::default(),
            in_process: false,
            heartbeat_ms: 250,
            heartbeat_timeout_ms: 5000,
            running_timeout_s: 60,
            loading_timeout_s: 300,
            parked_timeout_s: 3700,
            restart_base_ms: 100,
            restart_ceiling_s: 10,
            cuda: CudaConfig::default(),
        }
    }
}

impl EngineConfig {
    /// For each key whether its value makes sense, and what would; `longest_window_s` is the longest that a class may be
    /// parked in one go.
    pub(super) fn ranges(&self, longest_window_s: u32) -> [(bool, &'static str, &'static str); 8] {
        let timeout = |seconds: u64| (1..=86_400).contains(&seconds);
        [
            (
                !self.in_process || self.backend != BackendChoice::Cuda,
                "engine.backend",
                "\"auto\" or \"cpu\" where engine.in_process is set, for that links no CUDA",
            ),
            ((10..=60_000).contains(&self.heartbeat_ms), "engine.heartbeat_ms", "10 to 60000"),
            (
                (self.heartbeat_ms.saturating_mul(4)..=3_600_000).contains(&self.heartbeat_timeout_ms),
                "engine.heartbeat_timeout_ms",
                "at least four times engine.heartbeat_ms, and at most 3600000",
            ),
            (timeout(self.running_timeout_s), "engine.running_timeout_s", "1 to 86400"),
            (timeout(self.loading_timeout_s), "engine.loading_timeout_s", "1 to 86400"),
            (
                timeout(self.parked_timeout_s) && self.parked_timeout_s > u64::from(longest_window_s),
                "engine.parked_timeout_s",
                "at most 86400, and more than the min_share_window_s of every class",
            ),
            ((1..=60_000).contains(&self.restart_base_ms), "engine.restart_base_ms", "1 to 60000"),
            ((1..=3600).contains(&self.restart_ceiling_s), "engine.restart_ceiling_s", "1 to 3600"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Option<&'static str> {
        let config: EngineConfig = toml::from_str(text).expect("it is of this shape");
        config.ranges(60).into_iter().find(|(ok, ..)| !ok).map(|(_, key, _)| key)
    }

    #[test]
    fn the_default_makes_sense_and_mistakes_are_named() {
        assert_eq!(wrong(""), None);
        assert_eq!(wrong("in_process = true\nbackend = 'cuda'"), Some("engine.backend"));
        assert_eq!(wrong("heartbeat_ms = 0"), Some("engine.heartbeat_ms"));
        assert_eq!(wrong("heartbeat_ms = 1000\nheartbeat_timeout_ms = 3999"), Some("engine.heartbeat_timeout_ms"));
        assert_eq!(wrong("running_timeout_s = 0"), Some("engine.running_timeout_s"));
        assert_eq!(wrong("loading_timeout_s = 100000"), Some("engine.loading_timeout_s"));
        assert_eq!(wrong("parked_timeout_s = 60"), Some("engine.parked_timeout_s"));
        assert_eq!(wrong("parked_timeout_s = 61"), None);
        assert_eq!(wrong("restart_base_ms = 0"), Some("engine.restart_base_ms"));
        assert_eq!(wrong("restart_ceiling_s = 0"), Some("engine.restart_ceiling_s"));
        assert!(toml::from_str::<EngineConfig>("heartbeat = 1").is_err());
    }
}
