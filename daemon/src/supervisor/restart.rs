//! How soon a new engine follows one that died.

use std::time::Duration;

use crate::config::EngineConfig;

/// Pauses that become longer with each engine that dies soon.
#[derive(Debug, Clone)]
pub(super) struct Restart {
    base: Duration,
    ceiling: Duration,
    /// Engines in a row that died soon.
    soon: u32,
}

impl Restart {
    pub(super) fn new(config: &EngineConfig) -> Self {
        Self {
            base: Duration::from_millis(config.restart_base_ms),
            ceiling: Duration::from_secs(config.restart_ceiling_s),
            soon: 0,
        }
    }

    /// How long to wait after an engine that lived for so long, or never came to live.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= self.ceiling {
            self.soon = 0;
        }
        let factor = 2_u32.saturating_pow(self.soon);
        self.soon = self.soon.saturating_add(1);
        self.base.saturating_mul(factor).min(self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_ceiling_and_begin_anew_after_a_long_life() {
        let mut restart = Restart::new(&EngineConfig::default());
        let mut after = |lived_ms| restart.after(Duration::from_millis(lived_ms)).as_millis();
        let pauses: Vec<_> = (0..9).map(|_| after(50)).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(after(9999), 10_000);
        assert_eq!(after(10_000), 100);
        assert_eq!(after(0), 200);
    }

    #[test]
    fn however_many_die_the_pause_is_the_ceiling() {
        let mut restart = Restart { soon: u32::MAX, ..Restart::new(&EngineConfig::default()) };
        assert_eq!(restart.after(Duration::ZERO), Duration::from_secs(10));
    }
}
