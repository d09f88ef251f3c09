/// Microseconds on a clock that never goes back. The core is told the time, it never asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Microseconds from `earlier` to here, 0 if it is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `us` microseconds from here.
    pub fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// `ms` milliseconds from here.
    pub fn after_ms(self, ms: u64) -> Self {
        self.after(ms.saturating_mul(1000))
    }
}
