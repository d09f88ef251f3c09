//! The connection to the daemon: takes snapshots at intervals, carries out orders, and connects again when the daemon goes away.

use std::path::PathBuf;
use std::time::Duration;

use gpusched_client::{Client, Error, JobId, Reconnect};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use super::snapshot::Photographer;
use super::state::Event;
use crate::render::job;

/// How long the daemon may take for a snapshot before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Orders under way at once: cancelling takes until the job's next yield point.
const MOST_ORDERS: usize = 16;

/// Something to do to a job.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Cancel(JobId),
    SetPriority(JobId, i8),
}

/// The link's side of the channels.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: PathBuf,
    /// From one snapshot to the next.
    pub(super) every: Duration,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) events: mpsc::Sender<Event>,
}

/// Nobody wants to hear of it any more.
struct Unheard;

impl Link {
    /// Goes on until nobody listens.
    pub(super) async fn run(mut self, mut client: Client) {
        while let Ok(why) = self.serve(&client).await {
            if self.events.send(Event::Lost(why)).await.is_err() {
                return;
            }
            let Ok(next) = self.connect().await else { return };
            client = next;
        }
    }

    /// Until the daemon is lost; why it is.
    async fn serve(&mut self, client: &Client) -> Result<String, Unheard> {
        let mut photographer = Photographer::default();
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let seen = match timeout(PATIENCE, photographer.take(client)).await {
                        Ok(Ok(snapshot)) => Event::Seen(Box::new(snapshot)),
                        // It is there, and a later look may go through.
                        Ok(Err(Error::Rejected(refusal))) => Event::Told(format!("nothing new: {refusal}")),
                        Ok(Err(error)) => return Ok(error.to_string()),
                        Err(_) => return Ok(silent()),
                    };
                    self.events.send(seen).await.map_err(|_| Unheard)?;
                }
                order = self.orders.recv() => {
                    let order = order.ok_or(Unheard)?;
                    if under_way.len() >= MOST_ORDERS {
                        self.tell("too many orders are under way; wait for one of them".to_owned()).await?;
                        continue;
                    }
                    let client = client.clone();
                    under_way.spawn(async move { carry_out(&client, order).await });
                }
                Some(done) = under_way.join_next() => {
                    // One that is of no more use says so at the next snapshot.
                    if let Ok(message) = done {
                        self.tell(message).await?;
                        ticks.reset_immediately();
                    }
                }
            }
        }
    }

    async fn tell(&self, message: String) -> Result<(), Unheard> {
        self.events.send(Event::Told(message)).await.map_err(|_| Unheard)
    }

    /// Tries until the daemon is back, however long that takes.
    async fn connect(&mut self) -> Result<Client, Unheard> {
        let since = Instant::now();
        let mut waits = Reconnect { within: Duration::MAX }.start();
        loop {
            let wait = waits.wait(since.elapsed()).unwrap_or(PATIENCE);
            let deadline = sleep(wait);
            tokio::pin!(deadline);
            loop {
                tokio::select! {
                    () = &mut deadline => break,
                    order = self.orders.recv() => {
                        order.ok_or(Unheard)?;
                        self.tell("the daemon is away: nothing was changed".to_owned()).await?;
                    }
                }
            }
            let why = match timeout(PATIENCE, Client::connect(&self.socket)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => error.to_string(),
                Err(_) => silent(),
            };
            self.events.send(Event::Lost(why)).await.map_err(|_| Unheard)?;
        }
    }
}

fn silent() -> String {
    format!("it has not answered for {} s; see `journalctl -u gpusched`", PATIENCE.as_secs())
}

/// What an order has come to, in words.
async fn carry_out(client: &Client, order: Order) -> String {
    let (job, done) = match order {
        Order::Cancel(job) => (job, client.cancel(job).await.map(|view| job::cancelled(&view))),
        Order::SetPriority(job, to) => {
            (job, client.set_priority(job, to).await.map(|view| format!("priority {}", view.spec.priority)))
        }
    };
    match done {
        Ok(words) => format!("job {job}: {words}"),
        Err(Error::Rejected(refusal)) => format!("refused: {refusal}"),
        Err(other) => format!("job {job}: {other}"),
    }
}
