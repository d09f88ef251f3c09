//! What the partitions hold while a run goes on, as the daemon's status says it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use gpusched_client::Client;
use gpusched_sim::timeline::MemoryPoint;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Between two looks: often enough to see each job, seldom enough not to disturb any.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until it is stopped.
pub(super) struct MemoryWatch {
    stop: oneshot::Sender<()>,
    looking: JoinHandle<anyhow::Result<Vec<MemoryPoint>>>,
}

impl MemoryWatch {
    /// Times are counted from `began`.
    pub(super) fn start(client: &Client, began: Instant) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, looking: tokio::spawn(look(client.clone(), began, stopped)) }
    }

    /// What was seen, each partition each time that it had changed.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<MemoryPoint>> {
        // Fails only if looking has failed, which is said next.
        let _ = self.stop.send(());
        self.looking.await.context("a task of the demo failed")?
    }
}

async fn look(client: Client, began: Instant, mut stopped: oneshot::Receiver<()>) -> anyhow::Result<Vec<MemoryPoint>> {
    let mut seen: Vec<MemoryPoint> = Vec::new();
    loop {
        let at_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        for class in client.status().await?.classes {
            let (partition, live_bytes) = (class.name, class.partition.live_bytes);
            let last = seen.iter().rev().find(|point| point.partition == partition);
            if last.is_none_or(|last| last.live_bytes != live_bytes) {
                seen.push(MemoryPoint { at_us, partition, live_bytes });
            }
        }
        if tokio::time::timeout(LOOK, &mut stopped).await.is_ok() {
            return Ok(seen);
        }
    }
}
