//! When heavy work makes way: its gate closes while lighter work runs, but never so long that heavy work starves.
//!
//! A budget says how long the class may still be parked. It holds at most the class's `window`; being parked spends it,
//! not being parked fills it at the rate that keeps the share. Spent, the gate opens, and stays open until a tenth of the
//! window has come back, so that the class gets on in stretches worth having. Hence, for any stretch of time T in which
//! the class has work: it is parked for at most `window` in one go, and it runs for at least
//! `min_share * (T - window)` of it.

use crate::class::GateRule;
use crate::time::Time;

/// The gate of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    rule: GateRule,
    budget_us: u64,
    /// When the budget was right.
    at: Time,
    closed: bool,
    /// Whether the class has jobs that are parked while it is closed.
    occupied: bool,
    /// Lighter work runs, and the gate would be closed if the budget allowed.
    wanted: bool,
    /// The budget is spent and has not come back yet.
    starved: bool,
    refused: u64,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The gate has closed.
    Close,
    /// The gate has opened.
    Open,
}

impl Gate {
    /// An open gate with its whole budget.
    pub fn new(rule: GateRule) -> Self {
        let budget_us = window_us(rule);
        Self { rule, budget_us, at: Time(0), closed: false, occupied: false, wanted: false, starved: false, refused: 0 }
    }

    /// Whether jobs of the class park at their next yield point.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How often lighter work ran beside the class because its minimum share was due.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Decides anew: `wanted` if lighter work runs, `occupied` if the class has jobs on lanes.
    pub fn decide(&mut self, wanted: bool, occupied: bool, now: Time) -> Change {
        self.settle(now);
        self.occupied = occupied;
        let begins = wanted && !self.wanted;
        self.wanted = wanted;
        let was_starved = self.starved;
        self.starved = match self.starved {
            true => self.budget_us < self.worth_closing_us(),
            false => self.budget_us == 0,
        };
        if wanted && occupied && self.starved && (begins || !was_starved) {
            self.refused += 1;
        }
        let closed = wanted && !self.starved;
        match (std::mem::replace(&mut self.closed, closed), closed) {
            (false, true) => Change::Close,
            (true, false) => Change::Open,
            (true, true) | (false, false) => Change::None,
        }
    }

    /// Keeps another share from here on.
    pub fn keep_to(&mut self, rule: GateRule, now: Time) {
        self.settle(now);
        self.rule = rule;
        // Without a share to keep, nothing would ever come back.
        let unlimited = rule.min_share_milli == 0;
        self.budget_us = if unlimited { window_us(rule) } else { self.budget_us.min(window_us(rule)) };
        self.starved &= !unlimited;
    }

    /// The engine is gone, and a fresh one's gates are open.
    pub fn reset(&mut self, now: Time) {
        self.settle(now);
        self.closed = false;
    }

    /// When [`decide`](Self::decide) would say something else though nothing else has happened.
    pub fn next_change(&self) -> Option<Time> {
        let share = u64::from(self.rule.min_share_milli);
        if share == 0 || !self.wanted {
            None
        } else if self.closed {
            self.occupied.then(|| self.at.after(self.budget_us))
        } else {
            // Refilling takes `share` for each `1000 - share` that comes back.
            let missing = self.worth_closing_us().saturating_sub(self.budget_us);
            let rate = 1000_u64.saturating_sub(share);
            (rate > 0).then(|| self.at.after(missing.saturating_mul(share).div_ceil(rate)))
        }
    }

    /// Brings the budget up to `now`.
    fn settle(&mut self, now: Time) {
        let passed = now.since(self.at);
        self.at = self.at.max(now);
        let share = u64::from(self.rule.min_share_milli.min(1000));
        if share == 0 {
            return;
        }
        self.budget_us = if self.closed && self.occupied {
            self.budget_us.saturating_sub(passed)
        } else {
            let back = passed.saturating_mul(1000 - share) / share;
            self.budget_us.saturating_add(back).min(window_us(self.rule))
        };
    }

    fn worth_closing_us(&self) -> u64 {
        // At least 1, or a gate with a window of next to nothing would open and close without end.
        (window_us(self.rule) / 10).max(1)
    }
}

fn window_us(rule: GateRule) -> u64 {
    // A share of everything leaves nothing to be parked for.
    if rule.min_share_milli >= 1000 { 0 } else { rule.window_ms.saturating_mul(1000) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: GateRule = GateRule { min_share_milli: 200, window_ms: 1000 };

    #[test]
    fn closes_for_lighter_work_and_opens_after_it() {
        let mut gate = Gate::new(RULE);
        assert_eq!(gate.decide(true, true, Time(5)), Change::Close);
        assert_eq!(gate.decide(true, true, Time(6)), Change::None);
        assert!(gate.is_closed());
        assert_eq!(gate.decide(false, true, Time(7)), Change::Open);
        assert_eq!(gate.refused(), 0);
    }

    #[test]
    fn opens_when_the_budget_is_spent_until_a_tenth_is_back() {
        let mut gate = Gate::new(RULE);
        gate.decide(true, true, Time(0));
        assert_eq!(gate.next_change(), Some(Time(1_000_000)));
        assert_eq!(gate.decide(true, true, Time(999_999)), Change::None);
        assert_eq!(gate.decide(true, true, Time(1_000_000)), Change::Open);
        assert_eq!(gate.refused(), 1);
        // 100 ms come back at 4 ms for each ms of running: after 25 ms.
        assert_eq!(gate.next_change(), Some(Time(1_025_000)));
        assert_eq!(gate.decide(false, true, Time(1_010_000)), Change::None);
        assert_eq!(gate.next_change(), None);
        assert_eq!(gate.decide(true, true, Time(1_011_000)), Change::None);
        assert_eq!(gate.refused(), 2, "new work that ran beside it");
        assert_eq!(gate.decide(true, true, Time(1_024_999)), Change::None);
        assert_eq!(gate.decide(true, true, Time(1_025_000)), Change::Close);
        assert_eq!(gate.next_change(), Some(Time(1_125_000)));
        assert_eq!(gate.refused(), 2);
    }

    #[test]
    fn an_empty_class_spends_nothing() {
        let mut gate = Gate::new(RULE);
        gate.decide(true, false, Time(0));
        assert_eq!(gate.next_change(), None);
        gate.decide(true, true, Time(5_000_000));
        assert_eq!(gate.next_change(), Some(Time(6_000_000)));
    }

    #[test]
    fn shares_of_nothing_and_of_everything() {
        let mut gate = Gate::new(GateRule { min_share_milli: 0, ..RULE });
        gate.decide(true, true, Time(0));
        assert_eq!(gate.next_change(), None);
        assert_eq!(gate.decide(true, true, Time(u64::MAX)), Change::None);
        let mut gate = Gate::new(GateRule { min_share_milli: 1000, ..RULE });
        assert_eq!(gate.decide(true, true, Time(0)), Change::None);
        assert_eq!((gate.is_closed(), gate.next_change()), (false, None));
    }

    #[test]
    fn a_gate_that_starves_closes_again_once_there_is_no_share_to_keep() {
        let mut gate = Gate::new(GateRule { min_share_milli: 1000, ..RULE });
        assert_eq!(gate.decide(true, true, Time(0)), Change::None);
        gate.keep_to(GateRule { min_share_milli: 0, ..RULE }, Time(1));
        assert_eq!(gate.decide(true, true, Time(1)), Change::Close);
    }

    proptest! {
        /// However lighter work comes and goes: over every stretch of time the class gets what the module promises.
        #[test]
        fn the_share_is_kept(
            share in 1u32..1000,
            window_ms in 1u64..100,
            spans in proptest::collection::vec((any::<bool>(), 1u64..200_000), 1..60),
        ) {
            let mut gate = Gate::new(GateRule { min_share_milli: share, window_ms });
            let (mut now, mut wanted) = (Time(0), false);
            // Each stretch: how long it was, and whether the class was parked.
            let mut stretches = Vec::new();
            for (next, mut left) in spans {
                gate.decide(next, true, now);
                wanted = next;
                while left > 0 {
                    let step = gate.next_change().map_or(left, |at| at.since(now).min(left));
                    prop_assert!(step > 0, "time moves on");
                    stretches.push((step, gate.is_closed()));
                    now = now.after(step);
                    left -= step;
                    gate.decide(wanted, true, now);
                }
            }
            prop_assert!(wanted || !gate.is_closed());
            let window = window_ms as f64 * 1000.0;
            for from in 0..stretches.len() {
                let (mut whole, mut run, mut parked) = (0.0, 0.0, 0.0f64);
                for (length, closed) in &stretches[from..] {
                    whole += *length as f64;
                    if *closed { parked += *length as f64 } else { run += *length as f64; parked = 0.0 }
                    prop_assert!(parked <= window, "parked {parked} in one go");
                    let least = f64::from(share) / 1000.0 * (whole - window);
                    // One microsecond is lost to whole numbers at each change.
                    prop_assert!(run + stretches.len() as f64 >= least, "ran {run} of {whole}");
                }
            }
        }
    }
}
