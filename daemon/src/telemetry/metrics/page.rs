//! The metrics over HTTP: `GET /metrics`, one request a connection, for `curl --unix-socket` and Prometheus.
//!
//! A server of a few lines, because all there is to it is bounds: so many connections at once (more wait to be accepted), so
//! many bytes of a request, so much time for all of it. Whoever can connect may read; there is nothing of anybody's jobs in it.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Metrics;

/// Connections at once.
const CONNECTIONS: usize = 8;
/// The longest request, in bytes.
const REQUEST: usize = 4096;
/// How long a connection may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to leave connections in the backlog where the system has no descriptor for them.
const LATER: Duration = Duration::from_millis(100);

/// Asks for things as they stand to be taken down before they are handed out; answered when they are.
pub type TakeDown = oneshot::Sender<()>;

/// Where metrics can be asked for.
#[derive(Debug)]
pub enum Listener {
    /// A path of this machine.
    Unix(UnixListener),
    /// An address, which only systemd can have bound: the daemon itself has no network.
    Tcp(TcpListener),
}

/// Anything that answers come in over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

enum Accepting {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Accepting {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Self::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Hands the metrics out until `closing` says so. `take_down` reaches whoever knows how things stand; while it does not
/// answer, nor does this.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(
    listener: Listener,
    metrics: Metrics,
    take_down: mpsc::Sender<TakeDown>,
    mut closing: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = Accepting::new(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped, it ends what is left.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = async {
                // Never closed.
                let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((listener.accept().await?, place))
            } => accepted,
            () = closes(&mut closing) => return Ok(()),
        };
        let (mut stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::debug!("metrics: accept: {e}");
                tokio::time::sleep(LATER).await;
                continue;
            }
        };
        let (metrics, take_down) = (metrics.clone(), take_down.clone());
        connections.spawn(async move {
            let talk = talk(&mut stream, &metrics, &take_down);
            if !matches!(tokio::time::timeout(PATIENCE, talk).await, Ok(Ok(()))) {
                tracing::debug!("metrics: a connection came to nothing");
            }
            drop(place);
        });
    }
}

/// Waits for the end, which is also when nobody is left to say it.
async fn closes(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn talk(
    stream: &mut (impl Stream + ?Sized),
    metrics: &Metrics,
    take_down: &mpsc::Sender<TakeDown>,
) -> io::Result<()> {
    let request = receive(stream).await?;
    let asked = parse(&request);
    let (status, body) = match asked {
        Ok(_) => {
            let (done, taken_down) = oneshot::channel();
            let asked = take_down.send(done).await.is_ok();
            if asked && taken_down.await.is_ok() {
                ("200 OK", metrics.text())
            } else {
                ("503 Service Unavailable", "the daemon is about to end\n".to_owned())
            }
        }
        Err(status) => (status, format!("{status}: there is GET /metrics here, and nothing else\n")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        if asked.is_ok() { CONTENT_TYPE } else { "text/plain; charset=utf-8" },
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if asked != Ok(Wants::Head) {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Reads to the end of a request's head, or as much as there may be.
async fn receive(stream: &mut (impl Stream + ?Sized)) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(512);
    let mut limited = stream.take(REQUEST as u64);
    while !ended(&request) && limited.read_buf(&mut request).await? > 0 {}
    Ok(request)
}

fn ended(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n") || request.windows(2).any(|end| end == b"\n\n")
}

/// What a request wants of the one page there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Page,
    Head,
}

/// What is asked for, or the status that says what is wrong.
fn parse(request: &[u8]) -> Result<Wants, &'static str> {
    if !ended(request) {
        let too_long = request.len() >= REQUEST;
        return Err(if too_long { "431 Request Header Fields Too Large" } else { "400 Bad Request" });
    }
    let line = request.split(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().trim_end().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("400 Bad Request");
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err("505 HTTP Version Not Supported");
    }
    match (method, target.split('?').next()) {
        ("GET", Some("/metrics")) => Ok(Wants::Page),
        ("HEAD", Some("/metrics")) => Ok(Wants::Head),
        (_, Some("/metrics")) => Err("405 Method Not Allowed"),
        _ => Err("404 Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_can_be_asked_for_and_all_else_is_told_what_is_wrong() {
        let cases = [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Ok(Wants::Page)),
            ("GET /metrics HTTP/1.0\n\n", Ok(Wants::Page)),
            ("GET /metrics?name=x HTTP/1.1\r\n\r\n", Ok(Wants::Page)),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Ok(Wants::Head)),
            ("POST /metrics HTTP/1.1\r\n\r\n", Err("405 Method Not Allowed")),
            ("GET / HTTP/1.1\r\n\r\n", Err("404 Not Found")),
            ("GET /metrics HTTP/2\r\n\r\n", Err("505 HTTP Version Not Supported")),
            ("GET /metrics\r\n\r\n", Err("400 Bad Request")),
            ("GET /metrics HTTP/1.1\r\n", Err("400 Bad Request")),
            ("\u{16}\u{3}\u{1}\r\n\r\n", Err("400 Bad Request")),
        ];
        for (request, wants) in cases {
            assert_eq!(parse(request.as_bytes()), wants, "{request:?}");
        }
        assert_eq!(parse(&[b'a'; REQUEST]), Err("431 Request Header Fields Too Large"));
    }

    fn metrics() -> Metrics {
        Metrics::new(&["heavy".to_owned()], &[(0, "heavy-0".to_owned())])
    }

    /// Says something to a server of its own; what comes back.
    async fn say(request: &[u8], answers: bool) -> String {
        let (mut client, mut server) = tokio::io::duplex(64 * 1024);
        let (ask, mut asked) = mpsc::channel::<TakeDown>(1);
        let driver = tokio::spawn(async move {
            while let Some(done) = asked.recv().await {
                if answers {
                    let _ = done.send(());
                }
            }
        });
        client.write_all(request).await.expect("sent");
        talk(&mut server, &metrics(), &ask).await.expect("answered");
        drop((server, ask));
        driver.await.expect("it ends");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[tokio::test]
    async fn the_page_is_what_was_counted_and_is_as_long_as_it_says() {
        let answer = say(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", true).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("\ngpusched_lane_busy_seconds_total{class=\"heavy\",lane=\"heavy-0\"} 0.0\n"), "{body}");
        let head_only = say(b"HEAD /metrics HTTP/1.1\r\n\r\n", true).await;
        assert!(head_only.starts_with("HTTP/1.1 200 OK") && head_only.ends_with("\r\n\r\n"), "{head_only}");
    }

    #[tokio::test]
    async fn nothing_old_is_handed_out_and_no_request_is_too_long() {
        let answer = say(b"GET /metrics HTTP/1.1\r\n\r\n", false).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let answer = say(&[b'a'; 2 * REQUEST], true).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
