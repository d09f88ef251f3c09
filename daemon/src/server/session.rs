//! One connection: handshake, then requests, each answered by a task of its own.
//!
//! A connection's memory and descriptors are bounded (see [`outbox`](super::outbox)): one frame being read, as many tasks as
//! it may have requests open, and a short queue of responses, at which tasks wait when the client does not read. News of a
//! job is kept as the latest only. So is its time: a client may be silent for ever, but must finish the frames it begins, and
//! read what it asked for.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use gpusched_core::{Picture, SessionId};
use gpusched_shared::codec::{Bounded, Encode};
use gpusched_shared::edit::STAGES_SINCE;
use gpusched_shared::frame::{MAX_REQUEST, MAX_RESPONSE};
use gpusched_shared::socket::{ReadError, Reader, split};
use gpusched_shared::spec::{PRIORITY, check_key, within};
use gpusched_shared::timeline::{MAX_PAGE, TIMELINE_SINCE};
use gpusched_shared::{JobId, Rejection, Request, RequestId, Response, Update, VERSION_MAX, VERSION_MIN, codec};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::complaints::complain;
use super::outbox::{End, Outbox, outbox, write};
use super::peer::Peer;
use super::pictures::Taken;
use super::{Ask, Context, Reply, older, pictures};

/// Submissions with pictures that are taken at a time: further frames are not read meanwhile, so that their descriptors stay
/// with the kernel.
const TAKING: usize = 2;
/// Jobs on one page of a list, at most.
const PAGE: u32 = 100;
/// Places of the queues that are told at once; with the longest names they fit into a frame.
const QUEUE_PAGE: usize = 3000;

/// Serves a connection until it ends.
pub(super) async fn run(
    stream: UnixStream,
    peer: Peer,
    session: SessionId,
    long: Arc<Semaphore>,
    context: &Arc<Context>,
    asks: mpsc::Sender<Ask>,
) {
    let (mut reader, writer) = split(stream, MAX_REQUEST);
    let (out, waiting) = outbox(long);
    let mut writing = tokio::spawn(write(writer, waiting, Duration::from_secs(context.limits.write_timeout_s)));
    let limit = Duration::from_secs(context.limits.handshake_timeout_s);
    let greeted = timeout(limit, greet(&mut reader, &out, context)).await;
    if let Ok(Some(version)) = greeted {
        let client = Client { peer, session, version, context: Arc::clone(context), asks: asks.clone(), out };
        client.requests(&mut reader).await;
        // Every submission of this connection is before this in the queue, so none escapes it.
        let _ = asks.send(Ask::Closed(session)).await;
    } else {
        drop(out);
    }
    // A client that does not read must not keep its connection by it.
    match timeout(limit, &mut writing).await {
        Ok(Ok(End::Over)) => {}
        Ok(Ok(End::Stalled)) => complain(format_args!("a client of uid {} does not read what it asked for", peer.uid)),
        Ok(Err(e)) => tracing::error!("writing: {e}"),
        Err(_) => writing.abort(),
    }
}

/// Reads the Hello and answers it; the version that is spoken from here on. `None` ends the connection.
async fn greet(reader: &mut Reader, out: &Outbox, context: &Context) -> Option<u16> {
    let (id, request) = next(reader, out, context).await?;
    let response = greeting(request, context.limits.open_requests);
    let spoken = if let Response::Welcome { version, .. } = &response { Some(*version) } else { None };
    if out.say(id, response).await { spoken } else { None }
}

/// The answer to a connection's first request: Welcome, or why not.
pub fn greeting(request: Result<Request, Rejection>, max_open_requests: u32) -> Response {
    match request {
        Ok(Request::Hello { least, most, client: _ })
            if least <= VERSION_MAX && most >= VERSION_MIN && least <= most =>
        {
            Response::Welcome {
                version: most.min(VERSION_MAX),
                server: concat!("gpuschedd ", env!("CARGO_PKG_VERSION")).to_owned(),
                max_open_requests,
            }
        }
        Ok(Request::Hello { .. }) => Response::Rejected(Rejection::Version { least: VERSION_MIN, most: VERSION_MAX }),
        Ok(_) => Response::Rejected(Rejection::Handshake),
        Err(rejection) => Response::Rejected(rejection),
    }
}

/// The next request, or why it is none. `None` when the connection is of no more use; the client has been told why.
async fn next(reader: &mut Reader, out: &Outbox, context: &Context) -> Option<(RequestId, Result<Request, Rejection>)> {
    let limit_s = context.limits.frame_timeout_s;
    let frame = match reader.begun().await {
        Ok(true) => timeout(Duration::from_secs(limit_s), reader.next_frame()).await,
        Ok(false) => return None,
        Err(e) => Ok(Err(e)),
    };
    let Ok(frame) = frame else {
        let reason = format!("a frame was begun, and not complete {limit_s} s later");
        out.say(0, Response::Rejected(Rejection::Malformed { reason })).await;
        return None;
    };
    match frame {
        Ok(Some(frame)) => {
            let request = codec::decode(&frame.payload).map_err(|e| Rejection::Malformed { reason: e.to_string() });
            Some((frame.id, request))
        }
        Ok(None) => None,
        Err(ReadError::TooLarge(e)) => {
            let rejection = Rejection::FrameTooLarge { bytes: e.length as u64, limit: e.limit as u64 };
            out.say(e.id, Response::Rejected(rejection)).await;
            None
        }
        Err(e @ ReadError::TooManyDescriptors) => {
            let rejection = Rejection::Malformed { reason: e.to_string() };
            out.say(0, Response::Rejected(rejection)).await;
            None
        }
        Err(ReadError::Io(_)) => None,
    }
}

/// A client that has said Hello.
struct Client {
    peer: Peer,
    session: SessionId,
    /// Of the protocol, as spoken on this connection.
    version: u16,
    context: Arc<Context>,
    asks: mpsc::Sender<Ask>,
    out: Outbox,
}

impl Client {
    async fn requests(self, reader: &mut Reader) {
        let client = Arc::new(self);
        let limits = &client.context.limits;
        let open = Arc::new(Semaphore::new(limits.open_requests as usize));
        let taking = Arc::new(Semaphore::new(TAKING));
        let mut tasks = JoinSet::new();
        loop {
            let read = tokio::select! {
                read = next(reader, &client.out, &client.context) => read,
                // The client does not read.
                () = client.out.closed() => break,
                () = client.context.closes() => {
                    // The driver has answered what it will answer: those answers still go out, to those who read them.
                    let answers = async { while tasks.join_next().await.is_some() {} };
                    let _ = timeout(Duration::from_secs(limits.handshake_timeout_s), answers).await;
                    return;
                }
            };
            let Some((id, request)) = read else { break };
            while tasks.try_join_next().is_some() {}
            let refuse = |rejection| client.out.say(id, Response::Rejected(rejection));
            let request = match request {
                Ok(request) => request,
                Err(rejection) => {
                    refuse(rejection).await;
                    if reader.has_strays() {
                        break;
                    }
                    continue;
                }
            };
            // Descriptors belong to this frame whether or not the request is carried out.
            let wanted = if let Request::Submit { pictures, .. } = &request { usize::from(*pictures) } else { 0 };
            let descriptors = reader.take_descriptors(wanted);
            if reader.has_strays() {
                // Whose they are is anybody's guess, and a wrong guess runs a job on the wrong picture.
                let reason = "descriptors came with a frame that takes none or fewer".to_owned();
                refuse(Rejection::Malformed { reason }).await;
                break;
            }
            let Ok(place) = Arc::clone(&open).try_acquire_owned() else {
                refuse(Rejection::TooManyRequests { limit: limits.open_requests }).await;
                continue;
            };
            let taken = if descriptors.is_empty() { None } else { Arc::clone(&taking).acquire_owned().await.ok() };
            let client = Arc::clone(&client);
            let submits = matches!(request, Request::Submit { .. });
            tasks.spawn(async move {
                let _place = place;
                match client.serve(id, request, descriptors, taken).await {
                    // Silence, and then the end of the connection: whoever may ask the next daemon does.
                    Ok(()) | Err(Unanswered::Ending) => {}
                    Err(Unanswered::Refused(rejection)) => {
                        if submits {
                            (client.context.refused)(&rejection);
                        }
                        client.out.say(id, Response::Rejected(rejection)).await;
                    }
                }
            });
        }
        // Tasks that have not reached the driver yet never will; what has reached it is before our Closed.
        tasks.shutdown().await;
    }

    async fn serve(
        &self,
        id: RequestId,
        request: Request,
        descriptors: Vec<OwnedFd>,
        taken: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Unanswered> {
        let peer = self.peer;
        match request {
            Request::Hello { .. } => Err(Rejection::Handshake.into()),
            Request::Submit { spec, pictures, attached, key } => {
                spec.validate(usize::from(pictures))?;
                key.as_deref().map_or(Ok(()), check_key)?;
                if descriptors.len() != usize::from(pictures) {
                    let reason =
                        format!("{} descriptors came with a frame that announces {pictures}", descriptors.len());
                    return Err(Rejection::Malformed { reason }.into());
                }
                let limit = Duration::from_secs(self.context.limits.picture_timeout_s);
                let Context { blobs, readers, .. } = &*self.context;
                let stored = pictures::take(descriptors, blobs, readers, limit).await?;
                drop(taken);
                let pictures = self.inspected(&stored).await?;
                let session = self.session;
                let holds = stored.into_iter().map(|stored| stored.hold).collect();
                let submit = |reply| Ask::Submit { peer, session, spec, pictures, holds, attached, key, reply };
                self.short(id, submit, Response::Accepted).await
            }
            Request::Watch(job) => self.watch(id, job).await,
            Request::Cancel(job) => {
                let mut news = self.ask(|reply| Ask::Cancel(peer, job, reply)).await?;
                loop {
                    let update = news.borrow_and_update().clone();
                    if let Update::Done(view) = update {
                        self.say(id, Response::Job(view)).await;
                        return Ok(());
                    }
                    changed(&mut news).await?;
                }
            }
            Request::Show(job) => self.short(id, |reply| Ask::Show(peer, job, reply), Response::Job).await,
            Request::List { ended, before, limit } => {
                let limit = limit.min(PAGE);
                let list = |reply| Ask::List { peer, ended, before, limit, reply };
                self.long(id, list, |jobs| Response::Jobs(fitting(jobs))).await
            }
            Request::Fetch { job, round } => {
                let room = self.out.room().await?;
                let (blob, file) = self.ask(|reply| Ask::Fetch { peer, job, round, reply }).await?;
                self.out.say_long(id, Response::File(blob), Some(file), room).await;
                Ok(())
            }
            Request::Status => self.long(id, |reply| Ask::Status(peer, reply), Response::Status).await,
            Request::Explain(job) => self.long(id, |reply| Ask::Explain(peer, job, reply), Response::Explanation).await,
            Request::History(job) => self.long(id, |reply| Ask::History(peer, job, reply), Response::History).await,
            Request::Stages(_) if self.version < STAGES_SINCE => {
                Err(unknown("Stages", STAGES_SINCE, self.version).into())
            }
            Request::Stages(job) => {
                self.long(id, |reply| Ask::Stages(peer, job, reply), |stages| Response::Stages(fitting(stages))).await
            }
            Request::Queue => {
                let first = |mut queue: Vec<_>| {
                    queue.truncate(QUEUE_PAGE);
                    Response::Queue(queue)
                };
                self.long(id, |reply| Ask::Queue(peer, reply), first).await
            }
            Request::Route(spec) => {
                spec.validate(*spec.task.pictures().start())?;
                self.long(id, |reply| Ask::Route(peer, spec, reply), Response::Route).await
            }
            Request::SetPriority { job, priority } => {
                within("priority", priority, PRIORITY)?;
                self.short(id, |reply| Ask::SetPriority(peer, job, priority, reply), Response::Job).await
            }
            Request::Pause { class, paused } => {
                self.long(id, |reply| Ask::Pause { peer, class, paused, reply }, Response::Status).await
            }
            Request::Quality { since_unix_ms, window, points } => {
                let quality = |reply| Ask::Quality { since_unix_ms, window, points, reply };
                self.long(id, quality, Response::Quality).await
            }
            Request::Timeline { .. } if self.version < TIMELINE_SINCE => {
                Err(unknown("Timeline", TIMELINE_SINCE, self.version).into())
            }
            Request::Timeline { track, since_unix_ms, until_unix_ms, before, limit } => {
                let (between_unix_ms, limit) = ((since_unix_ms, until_unix_ms), limit.min(MAX_PAGE));
                let ask = |reply| Ask::Timeline { peer, track, between_unix_ms, before, limit, reply };
                self.long(id, ask, Response::Timeline).await
            }
            Request::Drain(on) => self.long(id, |reply| Ask::Drain(peer, on, reply), Response::Status).await,
        }
    }

    /// Has the engine look at stored pictures.
    async fn inspected(&self, stored: &[Taken]) -> Result<Vec<Picture>, Unanswered> {
        let mut pictures = Vec::with_capacity(stored.len());
        for (index, Taken { blob, .. }) in (0u8..).zip(stored) {
            let file = self.context.blobs.get(blob.hash);
            let file =
                file.map_err(|e| Rejection::Internal { reason: format!("cannot read a stored picture: {e}") })?;
            // Never closed.
            let _place = self.context.inspections.acquire().await;
            let size = self.ask(|reply| Ask::Inspect(file.into(), reply)).await?;
            let size = size.map_err(|reason| Rejection::BadImage { index, reason })?;
            pictures.push(Picture { blob: *blob, pixels: u64::from(size.width) * u64::from(size.height) });
        }
        Ok(pictures)
    }

    /// Asks the driver, and passes on a short answer.
    async fn short<T>(
        &self,
        id: RequestId,
        question: impl FnOnce(Reply<T>) -> Ask,
        response: impl FnOnce(T) -> Response,
    ) -> Result<(), Unanswered> {
        let answer = self.ask(question).await?;
        self.say(id, response(answer)).await;
        Ok(())
    }

    /// Asks the driver once a long answer may be made.
    async fn long<T>(
        &self,
        id: RequestId,
        question: impl FnOnce(Reply<T>) -> Ask,
        response: impl FnOnce(T) -> Response,
    ) -> Result<(), Unanswered> {
        let room = self.out.room().await?;
        let answer = self.ask(question).await?;
        self.out.say_long(id, older::fit(response(answer), self.version), None, room).await;
        Ok(())
    }

    /// Says what is short; whether it was what it is, and no refusal in its place.
    async fn say(&self, id: RequestId, response: Response) -> bool {
        let said = older::fit(response, self.version);
        let is_it = !matches!(said, Response::Rejected(_));
        self.out.say(id, said).await;
        is_it
    }

    async fn watch(&self, id: RequestId, job: JobId) -> Result<(), Unanswered> {
        let mut news = self.ask(|reply| Ask::Watch(self.peer, job, reply)).await?;
        loop {
            let update = news.borrow_and_update().clone();
            let last = matches!(update, Update::Done(_));
            if !self.say(id, Response::Update(update)).await || last {
                return Ok(());
            }
            changed(&mut news).await?;
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let sent = self.asks.send(question(reply)).await;
        match (sent, answer.await) {
            (Ok(()), Ok(answer)) => Ok(answer?),
            // The driver ends its ear before it drops what it has not answered.
            (Err(_), _) => Err(Unanswered::Ending),
            (Ok(()), Err(_)) if self.asks.is_closed() => Err(Unanswered::Ending),
            (Ok(()), Err(_)) => {
                Err(Unanswered::Refused(Rejection::Internal { reason: "no answer from the journal".to_owned() }))
            }
        }
    }
}

/// Why a request does not get what it asked for.
enum Unanswered {
    /// It must not, or cannot.
    Refused(Rejection),
    /// The daemon ends, and what would have been the answer is not known. To say that it refuses would be wrong: a job may
    /// be on record, and goes on after the next start.
    Ending,
}

impl From<Rejection> for Unanswered {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

/// That a request is of a later version than is spoken.
fn unknown(request: &str, since: u16, version: u16) -> Rejection {
    Rejection::Malformed { reason: format!("{request} is of version {since}, and version {version} is spoken") }
}

/// As many of the entries, from the first, as fit into one frame; of jobs the client asks for the rest with `before`.
fn fitting<T: Encode<Bounded, Src = T>>(mut entries: Vec<T>) -> Vec<T> {
    let mut room = MAX_RESPONSE - 64;
    let fitting = entries.iter().map_while(|entry| {
        room = room.checked_sub(codec::encode(entry).ok()?.len())?;
        Some(())
    });
    let count = fitting.count();
    entries.truncate(count);
    entries
}

/// Waits for more news of a job.
async fn changed(news: &mut watch::Receiver<Update>) -> Result<(), Unanswered> {
    // The last news of a job is that it has ended; that there is no more of it means that nobody is left to tell it.
    news.changed().await.map_err(|_| Unanswered::Ending)
}
