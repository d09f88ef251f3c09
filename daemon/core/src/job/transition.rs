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
    /// Its submission is durable, and it has a program.
    Begun,
    /// It got a lane.
    Assigned(LaneId),
    /// The lane has begun.
    Started,
    /// The lane has stopped at a yield point, to go on later.
    Parked,
    /// The lane goes on.
    Resumed,
    /// The lane is done with it, and what it made is on its way to the store.
    Made,
    /// Its outcome is known.
    Finished(Outcome),
    /// The lane left it at a yield point.
    Interrupted,
    /// Its lane left it because it ran out of memory; it shall be tried again.
    BackOff,
    /// The time has come to try it again.
    Retry,
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
            Event::Begun => To(doom.map_or(State::Underway, |ending| State::Concluding(ending.outcome()))),
            Event::End(ending) => doom.map_or(To(State::Recording(Some(*ending))), |_| Ignore),
            Event::EngineLost => Ignore,
            Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Finished(_)
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Queued => match event {
            Event::Assigned(lane) => To(State::Launching(*lane)),
            Event::End(ending) => To(State::Concluding(ending.outcome())),
            // Its turn came, and it was found that it can never run, or must not.
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::BackingOff => match event {
            Event::Retry => To(State::Queued),
            Event::End(ending) => To(State::Concluding(ending.outcome())),
            Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Finished(_)
            | Event::Interrupted
            | Event::BackOff
            | Event::Concluded => Impossible,
        },
        State::Launching(lane) => match event {
            Event::Started => To(State::Running(*lane)),
            // A lane may fail before it begins, for instance where it cannot be reached.
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::Interrupted | Event::EngineLost => To(State::Queued),
            Event::BackOff => To(State::BackingOff),
            Event::End(ending) => To(State::Stopping(*lane, *ending)),
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Running(lane) => match event {
            Event::Parked => To(State::Parked(*lane)),
            Event::Made => To(State::Storing),
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::Interrupted | Event::EngineLost => To(State::Queued),
            Event::BackOff => To(State::BackingOff),
            Event::End(ending) => To(State::Stopping(*lane, *ending)),
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Resumed
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Parked(lane) => match event {
            Event::Resumed => To(State::Running(*lane)),
            Event::Interrupted | Event::EngineLost => To(State::Queued),
            // A stage goes on before it ends, but where it panics on its way.
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::BackOff => To(State::BackingOff),
            Event::End(ending) => To(State::Stopping(*lane, *ending)),
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Made
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Stopping(_, ending) => match event {
            // Finished beats cancelled: the work is done, so its owner gets it.
            Event::Made => To(State::Storing),
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::Interrupted | Event::BackOff | Event::EngineLost => To(State::Concluding(ending.outcome())),
            Event::Started | Event::Parked | Event::Resumed | Event::End(_) => Ignore,
            Event::Recorded | Event::Begun | Event::Assigned(_) | Event::Retry | Event::Concluded => Impossible,
        },
        State::Storing => match event {
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::End(_) | Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Underway => match event {
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::End(ending) => To(State::Ceasing(*ending)),
            Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Ceasing(_) => match event {
            // Its last stage has ended.
            Event::Finished(outcome) => To(State::Concluding(outcome.clone())),
            Event::End(_) | Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry
            | Event::Concluded => Impossible,
        },
        State::Concluding(outcome) => match event {
            Event::Concluded => To(State::Done(outcome.clone())),
            Event::End(_) | Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Finished(_)
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry => Impossible,
        },
        State::Done(_) => match event {
            Event::End(_) | Event::EngineLost => Ignore,
            Event::Recorded
            | Event::Begun
            | Event::Assigned(_)
            | Event::Started
            | Event::Parked
            | Event::Resumed
            | Event::Made
            | Event::Finished(_)
            | Event::Interrupted
            | Event::BackOff
            | Event::Retry
            | Event::Concluded => Impossible,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use gpusched_shared::TimeLimit;

    use super::*;

    /// One of each, in the order of a life.
    fn states() -> Vec<State> {
        let lane = LaneId(0);
        vec![
            State::Recording(None),
            State::Recording(Some(Ending::Expired(TimeLimit::Deadline))),
            State::Queued,
            State::BackingOff,
            State::Launching(lane),
            State::Running(lane),
            State::Parked(lane),
            State::Stopping(lane, Ending::Cancelled),
            State::Storing,
            State::Underway,
            State::Ceasing(Ending::Cancelled),
            State::Concluding(Outcome::Cancelled),
            State::Done(Outcome::Cancelled),
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Recorded,
            Event::Begun,
            Event::Assigned(LaneId(1)),
            Event::Started,
            Event::Parked,
            Event::Resumed,
            Event::Made,
            Event::Finished(Outcome::Answers(Vec::new())),
            Event::Interrupted,
            Event::BackOff,
            Event::Retry,
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
