//! How jobs that ran out of memory are tried again.

use gpusched_core::Retry;
use serde::{Deserialize, Serialize};

/// Exponential backoff with full jitter; freed memory ends a wait sooner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// How often a job is tried again before it fails.
    pub budget: u32,
    /// The bound of the first wait, in milliseconds.
    pub base_ms: u64,
    /// What each bound is of the one before, in percent.
    pub factor_percent: u64,
    /// The bound that no wait exceeds, in milliseconds.
    pub ceiling_ms: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let Retry { base_ms, factor_milli, ceiling_ms, budget, seed: _ } = Retry::default();
        Self { budget, base_ms, factor_percent: factor_milli / 10, ceiling_ms }
    }
}

impl RetryConfig {
    /// What makes no sense: whether it is well, the key, and what it may be.
    pub(super) fn ranges(&self) -> [(bool, &'static str, &'static str); 4] {
        [
            (self.budget <= 1000, "retry.budget", "0 to 1000"),
            ((1..=86_400_000).contains(&self.base_ms), "retry.base_ms", "1 to 86400000"),
            ((100..=10_000).contains(&self.factor_percent), "retry.factor_percent", "100 to 10000"),
            (
                (self.base_ms..=86_400_000).contains(&self.ceiling_ms),
                "retry.ceiling_ms",
                "from retry.base_ms to 86400000",
            ),
        ]
    }

    /// What the scheduler knows of it; `seed` decides about the jitter.
    pub fn rule(&self, seed: u64) -> Retry {
        let Self { budget, base_ms, factor_percent, ceiling_ms } = *self;
        Retry { base_ms, factor_milli: factor_percent * 10, ceiling_ms, budget, seed }
    }
}
