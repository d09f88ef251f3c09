//! Who makes way for whom: keeps each class's gate as [`crate::policy::preemption`] wants it.

use std::collections::VecDeque;

use gpusched_shared::Activity;

use crate::effect::Effect;
use crate::job::state::State;
use crate::plan::Policy;
use crate::policy::preemption::{Change, Gate};
use crate::scheduler::Scheduler;
use crate::time::Time;

impl Scheduler {
    /// Decides every gate anew. A gate that closes goes before everything else there is to do: what it makes way for
    /// is being launched just now.
    pub(crate) fn update_gates(&mut self, now: Time, effects: &mut VecDeque<Effect>) {
        for class in 0..self.gates.len() {
            let Some(mut gate) = self.gates[class] else { continue };
            let wanted = self.makes_way_for(class).next().is_some();
            let occupied = self.lanes.jobs(class).next().is_some();
            match gate.decide(wanted, occupied, now) {
                Change::None => {}
                Change::Close => effects.push_front(Effect::Gate { class, closed: true }),
                Change::Open => effects.push_back(Effect::Gate { class, closed: false }),
            }
            self.gates[class] = Some(gate);
        }
    }

    /// When a gate wants to open or close though nothing else happens.
    pub(crate) fn next_gate_change(&self) -> Option<Time> {
        self.gates.iter().flatten().filter_map(Gate::next_change).min()
    }

    /// The classes that work on something which `class` makes way for. A job that waits for the disk, as its model is
    /// loaded, needs no way made.
    pub(crate) fn makes_way_for(&self, class: usize) -> impl Iterator<Item = usize> + '_ {
        let classes = self.plan.classes();
        let own = classes[class].priority;
        let above = move |other: &usize| classes[*other].priority > own && self.plan.policy == Policy::MultiQueue;
        (0..classes.len()).filter(above).filter(|other| {
            self.lanes.jobs(*other).filter_map(|id| self.jobs.get(&id)).any(|job| match job.state {
                State::Launching(_) | State::Running(_) | State::Stopping(..) => {
                    !matches!(job.activity, Activity::Loading { .. })
                }
                State::Recording(_)
                | State::Queued
                | State::BackingOff
                | State::Parked(_)
                | State::Storing
                | State::Underway
                | State::Ceasing(_)
                | State::Concluding(_)
                | State::Done(_) => false,
            })
        })
    }
}
