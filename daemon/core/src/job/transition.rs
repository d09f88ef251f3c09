//! Every state with every event: what follows. Total, pure, and snapshotted in full by a test, so that a change of
//! behaviour is a change of that table.

use gpusched_shared::Outcome;

use crate::job::state::{Ending, State};
use crate::lane::LaneId;

/// What can happen to one job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its submission is durable.
    Recorded,
    /// It got a lane.
    Assigned(LaneId),
    /// The lane has begun.
    Started,
    /// The lane is done with it.
    Finished(Outcome),
    /// The lane left it at a yield point.
    Interrupted,
    /// The engine died under it.
    EngineLost,
    /// It shall end.
    End(Ending),
    /// Its outcome is durable.
    Concluded,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// A new state.
    To(State),
    /// Nothing: the event comes too late to matter, or has been taken care of.
    Ignore,
    /// This cannot happen if the shell and the engine keep their word. Nothing changes; the shell logs it, tests fail.
    Impossible,
}

/// What follows `event` in `state`.
pub fn next(state: &State, event: &Event) -> Next {
    use Next::{Ignore, Impossible, To};
    match state {
        State::Recording(doom) => match event {
            Event::Recorded => To(doom.map_or(State::Queued, |ending| State::Concluding(ending.outcome()))),
            Event::End(ending) => doom.map_or(To(State::Recording(Some(*ending))), |_| Ignore),
            Event::EngineLost => Ignore,
            Event::Assigned(_) | Event::Started | Event::Finished(_) | Event::Interrupted | Event::Concluded => {
                Impossible
            }
        },
        State::Queued => match event {
            Event::Assigned(lane) => To(State::Launching(*lane)),
            Event::End(ending) => To(State::Concluding(ending.outcome())),
            Event::EngineLost => Ignore,
            Event::Recorded | Event::Started | Event::Finished(_) | Event::Interrupted | Event::Concluded => Impossible,
        },
        State::Launching(lane) => match event {
            Event::Started => To(State::Running(*lane)),
            // A lane may fail before it begins, for instance where the model cannot be loaded.
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::Interrupted | Event::EngineLost => To(State::Queued),
            Event::End(ending) => To(State::Stopping(*lane, *ending)),
            Event::Recorded | Event::Assigned(_) | Event::Concluded => Impossible,
        },
        State::Running(lane) => match event {
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::Interrupted | Event::EngineLost => To(State::Queued),
            Event::End(ending) => To(State::Stopping(*lane, *ending)),
            Event::Recorded | Event::Assigned(_) | Event::Started | Event::Concluded => Impossible,
        },
        State::Stopping(_, ending) => match event {
            // Finished beats cancelled: the work is done, so its owner gets it.
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::Interrupted | Event::EngineLost => To(State::Concluding(ending.outcome())),
            Event::Started | Event::End(_) => Ignore,
            Event::Recorded | Event::Assigned(_) | Event::Concluded => Impossible,
        },
        State::Concluding(outcome) => match event {
            Event::Concluded => To(State::Done(outcome.clone())),
            Event::End(_) | Event::EngineLost => Ignore,
            Event::Recorded | Event::Assigned(_) | Event::Started | Event::Finished(_) | Event::Interrupted => {
                Impossible
            }
        },
        State::Done(_) => match event {
            Event::End(_) | Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Assigned(_)
            | Event::Started
            | Event::Finished(_)
            | Event::Interrupted
            | Event::Concluded => Impossible,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// One of each, in the order of a life.
    fn states() -> Vec<State> {
        let lane = LaneId(0);
        vec![
            State::Recording(None),
            State::Recording(Some(Ending::Expired)),
            State::Queued,
            State::Launching(lane),
            State::Running(lane),
            State::Stopping(lane, Ending::Cancelled),
            State::Concluding(Outcome::Cancelled),
            State::Done(Outcome::Cancelled),
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Recorded,
            Event::Assigned(LaneId(1)),
            Event::Started,
            Event::Finished(Outcome::Answers(Vec::new())),
            Event::Interrupted,
            Event::EngineLost,
            Event::End(Ending::Cancelled),
            Event::Concluded,
        ]
    }

    #[test]
    fn table() {
        let mut table = String::new();
        for state in states() {
            writeln!(table, "{state:?}").expect("a String takes it");
            for event in events() {
                writeln!(table, "    {:<28} {:?}", format!("{event:?}"), next(&state, &event))
                    .expect("a String takes it");
            }
        }
        insta::assert_snapshot!(table);
    }
}
