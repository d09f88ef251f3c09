//! One connection: handshake, then requests, each answered by a task of its own.
//!
//! A connection's memory is bounded: one frame being read, as many tasks as it may have requests open, and a short queue
//! of responses, at which tasks wait when the client does not read. News of a job is kept as the latest only.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use gpusched_core::{Picture, SessionId};
use gpusched_shared::frame::{Frame, MAX_REQUEST, MAX_RESPONSE};
use gpusched_shared::socket::{ReadError, Reader, Writer, split};
use gpusched_shared::spec::{PRIORITY, check_key, within};
use gpusched_shared::{
    JobId, JobView, Rejection, Request, RequestId, Response, Update, VERSION_MAX, VERSION_MIN, codec,
};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::peer::Peer;
use super::pictures::Taken;
use super::{Ask, Context, Reply, pictures};

/// Responses that may wait for a slow client.
const QUEUED_RESPONSES: usize = 16;
/// Jobs on one page of a list, at most.
const PAGE: u32 = 100;
/// Places of the queues that are told at once; with the longest names they fit into a frame.
const QUEUE_PAGE: usize = 3000;

/// A response on its way out, and the file that goes with it.
type Outgoing = (RequestId, Response, Option<File>);

/// Serves a connection until it ends.
pub(super) async fn run(
    stream: UnixStream,
    peer: Peer,
    session: SessionId,
    context: &Arc<Context>,
    asks: mpsc::Sender<Ask>,
) {
    let (mut reader, writer) = split(stream, MAX_REQUEST);
    let (out, outgoing) = mpsc::channel(QUEUED_RESPONSES);
    let mut writing = tokio::spawn(write(writer, outgoing));
    let limit = Duration::from_secs(context.limits.handshake_timeout_s);
    let greeted = tokio::time::timeout(limit, greet(&mut reader, &out, context)).await;
    if matches!(greeted, Ok(true)) {
        let client = Client { peer, session, context: Arc::clone(context), asks: asks.clone(), out };
        client.requests(&mut reader).await;
        // Every submission of this connection is before this in the queue, so none escapes it.
        let _ = asks.send(Ask::Closed(session)).await;
    } else {
        drop(out);
    }
    // A client that does not read must not keep its connection by it.
    if tokio::time::timeout(limit, &mut writing).await.is_err() {
        writing.abort();
    }
}

async fn write(writer: Writer, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some((id, response, file)) = outgoing.recv().await {
        let payload = match codec::encode(&response) {
            Ok(payload) if payload.len() <= MAX_RESPONSE => payload,
            Ok(_) | Err(_) => {
                let reason = "the answer is larger than a frame".to_owned();
                let Ok(payload) = codec::encode(&Response::Rejected(Rejection::Internal { reason })) else { return };
                payload
            }
        };
        let descriptors: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        if writer.send(&Frame { id, payload }, &descriptors).await.is_err() {
            return;
        }
    }
}

/// Reads the Hello and answers it. False ends the connection.
async fn greet(reader: &mut Reader, out: &mpsc::Sender<Outgoing>, context: &Context) -> bool {
    let Some((id, request)) = next(reader, out).await else { return false };
    let response = match request {
        Ok(Request::Hello { least, most, client: _ }) if least <= VERSION_MAX && most >= VERSION_MIN => {
            Response::Welcome {
                version: most.min(VERSION_MAX),
                server: concat!("gpuschedd ", env!("CARGO_PKG_VERSION")).to_owned(),
                max_open_requests: context.limits.open_requests,
            }
        }
        Ok(Request::Hello { .. }) => Response::Rejected(Rejection::Version { least: VERSION_MIN, most: VERSION_MAX }),
        Ok(_) => Response::Rejected(Rejection::Handshake),
        Err(rejection) => Response::Rejected(rejection),
    };
    let welcome = matches!(response, Response::Welcome { .. });
    out.send((id, response, None)).await.is_ok() && welcome
}

/// The next request, or why it is none. `None` when the connection is of no more use; the client has been told why.
async fn next(reader: &mut Reader, out: &mpsc::Sender<Outgoing>) -> Option<(RequestId, Result<Request, Rejection>)> {
    match reader.next_frame().await {
        Ok(Some(frame)) => {
            let request = codec::decode(&frame.payload).map_err(|e| Rejection::Malformed { reason: e.to_string() });
            Some((frame.id, request))
        }
        Ok(None) => None,
        Err(ReadError::TooLarge(e)) => {
            let rejection = Rejection::FrameTooLarge { bytes: e.length as u64, limit: e.limit as u64 };
            let _ = out.send((e.id, Response::Rejected(rejection), None)).await;
            None
        }
        Err(e @ ReadError::TooManyDescriptors) => {
            let rejection = Rejection::Malformed { reason: e.to_string() };
            let _ = out.send((0, Response::Rejected(rejection), None)).await;
            None
        }
        Err(ReadError::Io(_)) => None,
    }
}

/// A client that has said Hello.
struct Client {
    peer: Peer,
    session: SessionId,
    context: Arc<Context>,
    asks: mpsc::Sender<Ask>,
    out: mpsc::Sender<Outgoing>,
}

impl Client {
    async fn requests(self, reader: &mut Reader) {
        let client = Arc::new(self);
        let open = Arc::new(Semaphore::new(client.context.limits.open_requests as usize));
        let mut tasks = JoinSet::new();
        loop {
            let read = tokio::select! {
                read = next(reader, &client.out) => read,
                () = client.context.closes() => {
                    // The driver has answered what it will answer: those answers still go out.
                    while tasks.join_next().await.is_some() {}
                    return;
                }
            };
            let Some((id, request)) = read else { break };
            while tasks.try_join_next().is_some() {}
            let refuse = |rejection| client.out.send((id, Response::Rejected(rejection), None));
            let request = match request {
                Ok(request) => request,
                Err(rejection) => {
                    let _ = refuse(rejection).await;
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
                let _ = refuse(Rejection::Malformed { reason }).await;
                break;
            }
            let Ok(place) = Arc::clone(&open).try_acquire_owned() else {
                let limit = client.context.limits.open_requests;
                let _ = refuse(Rejection::TooManyRequests { limit }).await;
                continue;
            };
            let client = Arc::clone(&client);
            tasks.spawn(async move {
                let _place = place;
                if let Err(rejection) = client.serve(id, request, descriptors).await {
                    client.say(id, Response::Rejected(rejection)).await;
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
        descriptors: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(), Rejection> {
        let peer = self.peer;
        match request {
            Request::Hello { .. } => Err(Rejection::Handshake),
            Request::Submit { spec, pictures, attached, key } => {
                spec.validate(usize::from(pictures))?;
                key.as_deref().map_or(Ok(()), check_key)?;
                if descriptors.len() != usize::from(pictures) {
                    let reason =
                        format!("{} descriptors came with a frame that announces {pictures}", descriptors.len());
                    return Err(Rejection::Malformed { reason });
                }
                let limit = Duration::from_secs(self.context.limits.picture_timeout_s);
                let Context { blobs, readers, .. } = &*self.context;
                let taken = pictures::take(descriptors, blobs, readers, limit).await?;
                let pictures = self.inspected(&taken).await?;
                let session = self.session;
                let job = self.ask(|reply| Ask::Submit { peer, session, spec, pictures, attached, key, reply }).await?;
                // From here on the journal keeps them.
                drop(taken);
                self.say(id, Response::Accepted(job)).await;
                Ok(())
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
            Request::Show(job) => {
                let view = self.ask(|reply| Ask::Show(peer, job, reply)).await?;
                self.say(id, Response::Job(view)).await;
                Ok(())
            }
            Request::List { ended, before, limit } => {
                let limit = limit.min(PAGE);
                let jobs = self.ask(|reply| Ask::List { peer, ended, before, limit, reply }).await?;
                self.say(id, Response::Jobs(fitting(jobs))).await;
                Ok(())
            }
            Request::Fetch(job) => {
                let (blob, file) = self.ask(|reply| Ask::Fetch(peer, job, reply)).await?;
                let _ = self.out.send((id, Response::File(blob), Some(file))).await;
                Ok(())
            }
            Request::Status => {
                let status = self.ask(|reply| Ask::Status(peer, reply)).await?;
                self.say(id, Response::Status(status)).await;
                Ok(())
            }
            Request::Explain(job) => {
                let explanation = self.ask(|reply| Ask::Explain(peer, job, reply)).await?;
                self.say(id, Response::Explanation(explanation)).await;
                Ok(())
            }
            Request::History(job) => {
                let attempts = self.ask(|reply| Ask::History(peer, job, reply)).await?;
                self.say(id, Response::History(attempts)).await;
                Ok(())
            }
            Request::Queue => {
                let mut queue = self.ask(|reply| Ask::Queue(peer, reply)).await?;
                queue.truncate(QUEUE_PAGE);
                self.say(id, Response::Queue(queue)).await;
                Ok(())
            }
            Request::Route(spec) => {
                spec.validate(*spec.task.pictures().start())?;
                let route = self.ask(|reply| Ask::Route(peer, spec, reply)).await?;
                self.say(id, Response::Route(route)).await;
                Ok(())
            }
            Request::SetPriority { job, priority } => {
                within("priority", priority, PRIORITY)?;
                let view = self.ask(|reply| Ask::SetPriority(peer, job, priority, reply)).await?;
                self.say(id, Response::Job(view)).await;
                Ok(())
            }
            Request::Pause { class, paused } => {
                let status = self.ask(|reply| Ask::Pause { peer, class, paused, reply }).await?;
                self.say(id, Response::Status(status)).await;
                Ok(())
            }
            Request::Drain(on) => {
                let status = self.ask(|reply| Ask::Drain(peer, on, reply)).await?;
                self.say(id, Response::Status(status)).await;
                Ok(())
            }
        }
    }

    /// Has the engine look at stored pictures.
    async fn inspected(&self, taken: &[Taken]) -> Result<Vec<Picture>, Rejection> {
        let mut pictures = Vec::with_capacity(taken.len());
        for (index, Taken { blob, .. }) in (0u8..).zip(taken) {
            let file = self.context.blobs.get(blob.hash);
            let file = file.map_err(|e| Rejection::Internal { reason: format!("cannot read a stored picture: {e}") })?;
            let size = self.ask(|reply| Ask::Inspect(file.into(), reply)).await?;
            let size = size.map_err(|reason| Rejection::BadImage { index, reason })?;
            pictures.push(Picture { blob: *blob, pixels: u64::from(size.width) * u64::from(size.height) });
        }
        Ok(pictures)
    }

    async fn watch(&self, id: RequestId, job: JobId) -> Result<(), Rejection> {
        let mut news = self.ask(|reply| Ask::Watch(self.peer, job, reply)).await?;
        loop {
            let update = news.borrow_and_update().clone();
            let last = matches!(update, Update::Done(_));
            self.say(id, Response::Update(update)).await;
            if last {
                return Ok(());
            }
            changed(&mut news).await?;
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Rejection> {
        let (reply, answer) = oneshot::channel();
        let sent = self.asks.send(question(reply)).await;
        match (sent, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            (Err(_), _) => Err(Rejection::Draining),
            (Ok(()), Err(_)) if *self.context.closing.borrow() => Err(Rejection::Draining),
            (Ok(()), Err(_)) => Err(Rejection::Internal { reason: "no answer from the journal".to_owned() }),
        }
    }

    async fn say(&self, id: RequestId, response: Response) {
        // Fails only when the connection has ended, which the reader sees too.
        let _ = self.out.send((id, response, None)).await;
    }
}

/// As many of the jobs, from the first, as fit into one frame; the client asks for the rest with `before`.
fn fitting(mut jobs: Vec<JobView>) -> Vec<JobView> {
    let mut room = MAX_RESPONSE - 64;
    let fitting = jobs.iter().map_while(|job| {
        room = room.checked_sub(codec::encode(job).ok()?.len())?;
        Some(())
    });
    let count = fitting.count();
    jobs.truncate(count);
    jobs
}

/// Waits for more news of a job.
async fn changed(news: &mut watch::Receiver<Update>) -> Result<(), Rejection> {
    news.changed().await.map_err(|_| Rejection::Draining)
}
