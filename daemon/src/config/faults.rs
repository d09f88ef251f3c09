//! Faults on purpose, as the file has them. Only a daemon that is started with `--allow-faults` takes any.

use gpusched_engine::Faults;
use serde::{Deserialize, Serialize};

/// What is to go wrong, most of it in the engine. Nothing does by default. What befalls an attempt follows from the seed, the job and
/// the attempt alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsConfig {
    /// Another one draws other attempts.
    pub seed: u64,
    /// Of 100 attempts, how many are told that they are out of memory.
    pub oom_percent: u8,
    /// Of 100 attempts, how many have their lease and their partition's cap lowered to what is in use, so that they do run
    /// out of memory.
    pub squeeze_percent: u8,
    /// Of 100 attempts, how many end the engine's process.
    pub crash_percent: u8,
    /// A stage whose prompt or question contains this ends the engine's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_on: Option<String>,
    /// A stage whose prompt or question contains this hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang_on: Option<String>,
    /// A picture that comes with a job and is so many pixels wide ends the engine's process when that looks at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_on_width: Option<u32>,
    /// Seconds by which the daemon's wall clock is off.
    pub wall_clock_offset_s: i64,
    /// The daemon's driver hangs for good once somebody asks for a job.
    pub driver_hangs: bool,
}

impl FaultsConfig {
    /// True if something is to go wrong.
    pub fn any(&self) -> bool {
        let Self {
            seed: _,
            oom_percent,
            squeeze_percent,
            crash_percent,
            crash_on,
            hang_on,
            crash_on_width,
            wall_clock_offset_s,
            driver_hangs,
        } = self;
        [oom_percent, squeeze_percent, crash_percent].into_iter().any(|percent| *percent > 0)
            || crash_on.is_some()
            || hang_on.is_some()
            || crash_on_width.is_some()
            || *wall_clock_offset_s != 0
            || *driver_hangs
    }

    /// What the engine is told.
    pub fn faults(&self) -> Faults {
        let Self { seed, oom_percent, squeeze_percent, crash_percent, crash_on, hang_on, crash_on_width, .. } =
            self.clone();
        Faults { seed, oom_percent, squeeze_percent, crash_percent, crash_on, hang_on, crash_on_width }
    }

    /// For each key whether its value makes sense, and what would.
    pub(super) fn ranges(&self, in_process: bool) -> [(bool, &'static str, &'static str); 3] {
        let shares = [self.oom_percent, self.squeeze_percent, self.crash_percent].map(u32::from);
        let long_enough = |word: &Option<String>| word.as_ref().is_none_or(|word| !word.is_empty());
        let process = self.crash_percent > 0
            || self.crash_on.is_some()
            || self.hang_on.is_some()
            || self.crash_on_width.is_some();
        [
            (shares.iter().sum::<u32>() <= 100, "the sum of all percentages of [faults]", "at most 100"),
            (
                long_enough(&self.crash_on) && long_enough(&self.hang_on),
                "faults.crash_on and faults.hang_on",
                "not empty",
            ),
            (
                !(process && in_process),
                "[faults] of an engine in process",
                "without crash_percent, crash_on and hang_on",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str, in_process: bool) -> Option<&'static str> {
        let config: FaultsConfig = toml::from_str(text).expect("it is of this shape");
        config.ranges(in_process).into_iter().find(|(ok, ..)| !ok).map(|(_, key, _)| key)
    }

    #[test]
    fn mistakes_are_named_and_faults_noticed() {
        assert_eq!(wrong("oom_percent = 50\nsqueeze_percent = 50", true), None);
        assert_eq!(
            wrong("oom_percent = 50\ncrash_percent = 51", false),
            Some("the sum of all percentages of [faults]")
        );
        assert_eq!(wrong("crash_on = ''", false), Some("faults.crash_on and faults.hang_on"));
        assert_eq!(wrong("hang_on = 'x'", true), Some("[faults] of an engine in process"));
        assert!(!FaultsConfig { seed: 9, ..FaultsConfig::default() }.any());
        for text in ["oom_percent = 1", "squeeze_percent = 1", "crash_percent = 1", "crash_on = 'x'", "hang_on = 'x'"] {
            let config: FaultsConfig = toml::from_str(text).expect("it is of this shape");
            assert!(config.any(), "{text}");
            assert_ne!(config.faults(), Faults::default());
        }
    }
}
