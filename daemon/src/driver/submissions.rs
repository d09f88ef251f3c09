//! How jobs come in: pictures are shown to the engine, keys looked up in the journal, and only then is the scheduler asked.
//!
//! ```text
//! Ask::Inspect ─▶ engine ─▶ Inspected ─▶ session
//! Ask::Submit ──key──▶ journal ─▶ KeyOf ─▶ known: Accepted or KeyConflict
//!       └───────no key────────────────┴──▶ Input::Submit
//! ```

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use gpusched_core::{Input, Key, Picture, SessionId, Ticket};
use gpusched_engine::Command;
use gpusched_shared::{BlobHash, JobId, JobSpec, Rejection, Size, codec};

use super::Driver;
use crate::blobs::Hold;
use crate::journal::Query;
use crate::server::{Peer, Reply};

/// A submission that waits for the journal to say whether its key is known.
pub(super) struct Pending {
    peer: Peer,
    session: SessionId,
    spec: JobSpec,
    pictures: Vec<Picture>,
    attached: bool,
    key: Key,
}

/// Who waits for a job's number, and what keeps the pictures in the store until it is on record. That is not left to the
/// client's connection, which may be gone by then.
struct Waiting {
    reply: Reply<JobId>,
    _holds: Vec<Hold>,
}

/// Submissions and pictures on their way, by what they are told apart by.
#[derive(Default)]
pub(super) struct Underway {
    last_ticket: u64,
    waiting: HashMap<Ticket, Waiting>,
    pending: HashMap<Ticket, Pending>,
    /// In the order in which the engine looks at them.
    inspections: BTreeMap<u64, Reply<Result<Size, String>>>,
}

impl Driver {
    /// Shows a picture to the engine, which decodes it: what comes from a client is not decoded here.
    pub(super) fn inspect(&mut self, file: OwnedFd, reply: Reply<Result<Size, String>>) {
        // Beside a suspect, a picture that the engine dies of would put the blame on it.
        if !self.engine_state.up || self.scheduler.tries_a_suspect() {
            return drop(reply.send(Err(Rejection::EngineDown)));
        }
        self.underway.last_ticket += 1;
        let ticket = self.underway.last_ticket;
        self.underway.inspections.insert(ticket, reply);
        if let Err(failure) = self.engine.command(Command::Inspect { ticket }, vec![file]) {
            self.inspected(ticket, Err(failure.message));
        }
    }

    pub(super) fn inspected(&mut self, ticket: u64, result: Result<Size, String>) {
        if let Some(reply) = self.underway.inspections.remove(&ticket) {
            let _ = reply.send(Ok(result));
        }
    }

    /// There is no engine any more to look at pictures. It looks at one after the other, so if it may have died of one, it was
    /// the first that waits; true if there was one.
    pub(super) fn give_up_inspections(&mut self, of_one: bool) -> bool {
        let first = if of_one { self.underway.inspections.pop_first() } else { None };
        let of_picture = first.is_some();
        if let Some((_, reply)) = first {
            let _ = reply.send(Ok(Err("the engine died while it looked at it".to_owned())));
        }
        for (_, reply) in std::mem::take(&mut self.underway.inspections) {
            let _ = reply.send(Err(Rejection::EngineDown));
        }
        of_picture
    }

    /// A connection has ended. What it asked for and the scheduler has not heard of was promised to nobody; later it could
    /// be bound to a connection that is gone.
    pub(super) fn forget_pending(&mut self, session: SessionId) {
        let theirs = self.underway.pending.extract_if(|_, pending| pending.session == session);
        for (ticket, _) in theirs {
            self.underway.waiting.remove(&ticket);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the question")]
    pub(super) fn submit(
        &mut self,
        peer: Peer,
        session: SessionId,
        spec: JobSpec,
        pictures: Vec<Picture>,
        attached: bool,
        key: Option<String>,
        holds: Vec<Hold>,
        reply: Reply<JobId>,
    ) {
        let key = match key.map(|name| fingerprint(&spec, &pictures).map(|fingerprint| Key { name, fingerprint })) {
            Some(Err(rejection)) => return drop(reply.send(Err(rejection))),
            Some(Ok(key)) => Some(key),
            None => None,
        };
        self.underway.last_ticket += 1;
        let ticket = Ticket(self.underway.last_ticket);
        self.underway.waiting.insert(ticket, Waiting { reply, _holds: holds });
        match key {
            Some(key) => {
                self.journal.ask(Query::KeyOf { ticket, uid: peer.uid, key: key.name.clone() });
                let pending = Pending { peer, session, spec, pictures, attached, key };
                self.underway.pending.insert(ticket, pending);
            }
            None => self.hand_over(ticket, peer, session, spec, pictures, attached, None),
        }
    }

    /// The journal says which job that has been on record has the key. Its answers come in the order of its commits, so if
    /// there was none, any job with the key that came before is still live, and the scheduler knows it.
    pub(super) fn key_of(&mut self, ticket: Ticket, found: Option<(JobId, BlobHash)>) {
        let Some(Pending { peer, session, spec, pictures, attached, key }) = self.underway.pending.remove(&ticket)
        else {
            return;
        };
        match found {
            // A live one may have to be attached to another connection.
            Some((job, _)) if self.scheduler.class_of(job).is_some() => {}
            Some((job, fingerprint)) => {
                let known = fingerprint == key.fingerprint;
                return self.reply(ticket, if known { Ok(job) } else { Err(Rejection::KeyConflict { job }) });
            }
            None => {}
        }
        self.hand_over(ticket, peer, session, spec, pictures, attached, Some(key));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the question")]
    fn hand_over(
        &mut self,
        ticket: Ticket,
        peer: Peer,
        session: SessionId,
        spec: JobSpec,
        pictures: Vec<Picture>,
        attached: bool,
        key: Option<Key>,
    ) {
        let resolved = random_seed().and_then(|seed| self.scheduler.catalog().resolve(spec, seed));
        let spec = match resolved {
            Ok(spec) => spec,
            Err(rejection) => return self.reply(ticket, Err(rejection)),
        };
        let (uid, unix_ms, boot) = (peer.uid, self.clock.unix_ms(), self.clock.boot());
        self.input(Input::Submit { ticket, uid, session, spec, pictures, attached, key, unix_ms, boot });
    }

    pub(super) fn reply(&mut self, ticket: Ticket, answer: Result<JobId, Rejection>) {
        if let Some(Waiting { reply, .. }) = self.underway.waiting.remove(&ticket) {
            let _ = reply.send(answer);
        }
    }
}

/// What tells two requests apart: the job as it was asked for, and the bytes of its pictures.
fn fingerprint(spec: &JobSpec, pictures: &[Picture]) -> Result<BlobHash, Rejection> {
    let failed = |e: codec::CodecError| Rejection::Internal { reason: e.to_string() };
    let mut bytes = codec::encode(spec).map_err(failed)?;
    pictures.iter().for_each(|picture| bytes.extend_from_slice(&picture.blob.hash.0));
    Ok(BlobHash::of(&bytes))
}

fn random_seed() -> Result<u64, Rejection> {
    // 32 bits are enough for a seed and short enough to read out.
    getrandom::u32().map(u64::from).map_err(|e| Rejection::Internal { reason: format!("no random numbers: {e}") })
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{BlobRef, ImageSpec, Task};

    use super::*;

    #[test]
    fn requests_are_told_apart_by_all_that_was_asked_for() {
        let spec = |prompt: &str| JobSpec::new(Task::Img2Img(ImageSpec::new(prompt)));
        let picture = |byte| Picture { blob: BlobRef { hash: BlobHash([byte; 32]), bytes: 1 }, pixels: 1 };
        let of = |prompt, pictures: &[Picture]| fingerprint(&spec(prompt), pictures).expect("it is short");
        assert_eq!(of("a", &[picture(1)]), of("a", &[picture(1)]));
        let all = [of("a", &[picture(1)]), of("b", &[picture(1)]), of("a", &[picture(2)]), of("a", &[])];
        assert!(all.iter().enumerate().all(|(i, one)| all[..i].iter().all(|other| other != one)), "{all:?}");
    }
}
