//! Submissions that may be repeated: whoever asks again with the same key, for instance because the connection broke before
//! the answer came, gets the job there is.

use std::collections::VecDeque;
use std::sync::Arc;

use gpusched_shared::{JobId, Rejection};

use crate::effect::{Effect, JobRecord};
use crate::input::{SessionId, Ticket};
use crate::job::state::State;
use crate::scheduler::Scheduler;
use crate::timers::Timer;

impl Scheduler {
    /// Answers a submission whose key a live job of the same owner has; false if there is none. Jobs that have ended are
    /// the journal's, and the shell has asked there.
    pub(crate) fn repeated(
        &mut self,
        asked: &JobRecord,
        ticket: Ticket,
        session: SessionId,
        effects: &mut VecDeque<Effect>,
    ) -> bool {
        let Some(key) = &asked.key else { return false };
        let Some(id) = self.keys.get(&(asked.uid, key.name.clone())).copied() else { return false };
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        if job.record.key.as_ref().is_none_or(|known| known.fingerprint != key.fingerprint) {
            effects.push_back(Effect::Reject(ticket, Rejection::KeyConflict { job: id }));
            return true;
        }
        // Before it is on record it is promised to nobody.
        if matches!(job.state, State::Recording(_)) {
            job.tickets.push(ticket);
        } else {
            effects.push_back(Effect::Accept(ticket, id));
        }
        self.attach(id, asked.attached, session, effects);
        true
    }

    /// From here on a job belongs to the connection that asked for it last.
    fn attach(&mut self, id: JobId, attached: bool, session: SessionId, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.timers.clear(job.reattach_until.take(), Timer::Reattach(id));
        let before = job.session.replace(session);
        if job.record.attached != attached {
            Arc::make_mut(&mut job.record).attached = attached;
            effects.push_back(Effect::Amend(Arc::clone(&job.record)));
        }
        if let Some(before) = before {
            self.leave_session(id, before);
        }
        self.sessions.entry(session).or_default().insert(id);
    }

    /// A connection has nothing to do with a job any more.
    pub(crate) fn leave_session(&mut self, id: JobId, session: SessionId) {
        if let Some(theirs) = self.sessions.get_mut(&session) {
            theirs.remove(&id);
            if theirs.is_empty() {
                self.sessions.remove(&session);
            }
        }
    }
}
