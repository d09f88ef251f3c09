//! Which job arrives next.

use std::collections::VecDeque;

use gpusched_core::Time;

use crate::random::Random;
use crate::scenario::{ArrivalSpec, KindSpec, Order, Scenario, When};

/// All streams of arrivals, merged.
#[derive(Debug)]
pub(crate) struct Arrivals {
    streams: Vec<Stream>,
    /// Draws the order of what arrives at the same time, if it is to be drawn.
    order: Option<Random>,
}

#[derive(Debug)]
struct Stream {
    /// When the next arrive, and how many at that time.
    next: Option<(Time, u64)>,
    rest: Rest,
}

/// What comes after the next.
#[derive(Debug)]
enum Rest {
    Nothing,
    Every {
        every_us: u64,
        left: u64,
    },
    Random {
        mean_us: f64,
        until: Time,
        random: Random,
    },
    /// One for each that has ended.
    Closed {
        think_us: u64,
        left: u64,
    },
    /// One each time that `every` of the leader have ended, from the first on.
    Follow {
        leader: usize,
        every: u64,
        delay_us: u64,
        left: u64,
        ended: u64,
        due: VecDeque<Time>,
    },
}

impl Arrivals {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let order = match scenario.order {
            Order::Seeded => Some(Random::of(scenario.seed, u64::MAX)),
            Order::AsGiven => None,
        };
        let streams = scenario.arrivals.iter().zip(0..);
        Self { streams: streams.map(|(arrival, index)| Stream::of(scenario, arrival, index)).collect(), order }
    }

    /// When the next job arrives, as far as that is known.
    pub(crate) fn next(&self) -> Option<Time> {
        self.streams.iter().filter_map(|stream| Some(stream.next?.0)).min()
    }

    /// Takes the next arrival; the answer is its stream.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let at = self.next()?;
        let ready = |stream: &Stream| stream.next.filter(|(time, _)| *time == at).map_or(0, |(_, count)| count);
        let chosen = match &mut self.order {
            None => self.streams.iter().position(|stream| ready(stream) > 0)?,
            // Each that is ready is as likely as any other: that shuffles them.
            Some(order) => {
                let mut place = order.below(self.streams.iter().map(ready).sum());
                self.streams.iter().position(|stream| {
                    let here = ready(stream);
                    let found = place < here;
                    place = place.saturating_sub(here);
                    found
                })?
            }
        };
        self.streams[chosen].pass();
        Some(chosen)
    }

    /// A job of a stream has ended, or was refused.
    pub(crate) fn ended(&mut self, stream: usize, now: Time) {
        for (index, other) in self.streams.iter_mut().enumerate() {
            match &mut other.rest {
                Rest::Closed { think_us, left } if index == stream && *left > 0 => {
                    *left -= 1;
                    other.next = Some((now.after(*think_us), 1));
                }
                Rest::Follow { leader, every, delay_us, left, ended, due } if *leader == stream && *left > 0 => {
                    if ended.is_multiple_of(*every) {
                        *left -= 1;
                        due.push_back(now.after(*delay_us));
                        other.next = other.next.or_else(|| due.pop_front().map(|at| (at, 1)));
                    }
                    *ended += 1;
                }
                Rest::Nothing
                | Rest::Every { .. }
                | Rest::Random { .. }
                | Rest::Closed { .. }
                | Rest::Follow { .. } => {}
            }
        }
    }
}

impl Stream {
    fn of(scenario: &Scenario, arrival: &ArrivalSpec, index: u64) -> Self {
        let counted = |count: u64, start: Time, at_once: u64| (count > 0).then_some((start, at_once));
        let at_random = |mean_us: f64, start: Time, for_us: u64| {
            let mut random = Random::of(scenario.seed, index << 32);
            let first = start.after(random.exponential_us(mean_us));
            let until = start.after(for_us);
            Self { next: (first < until).then_some((first, 1)), rest: Rest::Random { mean_us, until, random } }
        };
        match &arrival.when {
            When::AtOnce { count, start_s } => {
                Self { next: counted(*count, Time(start_s.us()), *count), rest: Rest::Nothing }
            }
            When::Every { every_s, count, start_s } => Self {
                next: counted(*count, Time(start_s.us()), 1),
                rest: Rest::Every { every_us: every_s.us(), left: count.saturating_sub(1) },
            },
            When::Poisson { per_s, start_s, for_s } => at_random(1e6 / per_s, Time(start_s.us()), for_s.us()),
            When::Load { load, start_s, for_s } => {
                let run_us = scenario.kind(&arrival.kind).map_or(0.0, KindSpec::mean_us);
                at_random(run_us / load, Time(start_s.us()), for_s.us())
            }
            When::Closed { count, think_s, start_s } => Self {
                next: counted(*count, Time(start_s.us()), 1),
                rest: Rest::Closed { think_us: think_s.us(), left: count.saturating_sub(1) },
            },
            When::Follow { stream, every, count, delay_s } => {
                let leader = scenario.arrivals.iter().position(|other| other.stream() == stream);
                let rest = leader.map_or(Rest::Nothing, |leader| Rest::Follow {
                    leader,
                    every: *every,
                    delay_us: delay_s.us(),
                    left: *count,
                    ended: 0,
                    due: VecDeque::new(),
                });
                Self { next: None, rest }
            }
        }
    }

    /// One of the next has arrived.
    fn pass(&mut self) {
        let Some((at, count)) = self.next else { return };
        self.next = if count > 1 {
            Some((at, count - 1))
        } else {
            match &mut self.rest {
                Rest::Nothing | Rest::Closed { .. } => None,
                Rest::Every { every_us, left } => left.checked_sub(1).map(|fewer| {
                    *left = fewer;
                    (at.after(*every_us), 1)
                }),
                Rest::Random { mean_us, until, random } => {
                    let next = at.after(random.exponential_us(*mean_us));
                    (next < *until).then_some((next, 1))
                }
                Rest::Follow { due, .. } => due.pop_front().map(|at| (at, 1)),
            }
        };
    }
}
