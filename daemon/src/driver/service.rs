//! What the service manager is told of the daemon, and how the daemon takes another configuration while it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpusched_core::Input;
use gpusched_shared::ClassView;
use tokio::sync::watch;

use super::{Driver, Stopping};
use crate::config::{Config, Reload, reload};
use crate::server::Context;
use crate::systemd::{Due, Manager, Pulse};

/// How much time is asked for while the daemon stops: several times what passes until it asks again.
const MORE_TIME_S: u32 = 30;

/// Keys of a configuration that are named in the log; a class that is new has a dozen.
const NAMED: usize = 40;

/// News of the configuration.
#[derive(Debug)]
pub enum Configuration {
    /// It is about to be read.
    Reading,
    /// It was read, or why it cannot be used.
    Read(Result<Box<Config>, String>),
}

/// What the driver needs for both.
pub struct Service {
    manager: Option<Manager>,
    pulse: Pulse,
    /// What the daemon works by.
    config: Config,
    /// What new connections work by.
    contexts: watch::Sender<Arc<Context>>,
    /// The last status line.
    said: String,
    /// Why the configuration was not taken, the last time.
    complaint: Option<String>,
}

impl Service {
    /// For a daemon with this configuration. `watchdog` is the time within which the manager wants to hear from it.
    pub fn new(
        manager: Option<Manager>,
        watchdog: Option<Duration>,
        config: Config,
        contexts: watch::Sender<Arc<Context>>,
    ) -> Self {
        let mut pulse = Pulse::new(watchdog.filter(|_| manager.is_some()), Instant::now());
        if manager.is_some() {
            // The first line goes with the word that it is ready.
            pulse.turned(true, Instant::now());
        }
        Self { manager, pulse, config, contexts, said: String::new(), complaint: None }
    }

    /// How long running jobs get to finish when the daemon is told to stop.
    pub(super) fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.config.stop_timeout_s)
    }

    /// Whether the driver is to hang, for a test.
    pub(super) fn hangs(&self) -> bool {
        if self.config.faults.driver_hangs {
            tracing::warn!("the driver hangs, as [faults] has it");
        }
        self.config.faults.driver_hangs
    }

    fn say(&self, what: impl FnOnce(&Manager)) {
        if let Some(manager) = &self.manager {
            what(manager);
        }
    }
}

impl Driver {
    /// Says that clients can connect.
    pub fn ready(&mut self) {
        self.service.said = self.status_line();
        self.service.say(|manager| manager.ready(&self.service.said));
    }

    /// When the service manager wants to hear from the driver at the latest.
    pub(super) fn next_word(&self) -> Option<Instant> {
        self.service.manager.as_ref().and_then(|_| self.service.pulse.next())
    }

    /// After each turn: says what is due. `moved` if something has happened in it.
    pub(super) fn turned(&mut self, moved: bool) {
        if self.service.manager.is_none() {
            return;
        }
        let Due { alive, status, time } = self.service.pulse.turned(moved, Instant::now());
        if alive {
            self.service.say(Manager::alive);
        }
        if time {
            self.service.say(|manager| manager.needs_time(MORE_TIME_S));
        }
        if status {
            let line = self.status_line();
            if line != self.service.said {
                self.service.say(|manager| manager.status(&line));
                self.service.said = line;
            }
        }
    }

    /// Says that the daemon is about to end.
    pub(super) fn say_stopping(&mut self) {
        self.service.say(Manager::stopping);
        self.service.pulse.stops(Instant::now());
    }

    /// Takes another configuration, as far as it may change.
    pub(super) fn configure(&mut self, news: Configuration) {
        let read = match news {
            Configuration::Reading => return self.service.say(Manager::reloading),
            Configuration::Read(read) => read,
        };
        self.service.complaint = match read {
            Ok(read) => self.take(&read).err(),
            Err(why) => Some(why),
        };
        if let Some(why) = &self.service.complaint {
            tracing::error!(
                "the configuration was read anew and cannot be used, so the daemon goes on as before: {why}"
            );
        }
        self.ready();
    }

    fn take(&mut self, read: &Config) -> Result<(), String> {
        let Reload { config, applied, restart } = reload(&self.service.config, read);
        let plan = config.plan().map_err(|e| e.to_string())?;
        let limits = config.limits.clone();
        self.service.contexts.send_modify(|context| *context = Arc::new(Context { limits, ..Context::clone(context) }));
        self.journal.retain(config.retention.clone());
        self.service.config = config;
        self.stop_timeout = self.service.stop_timeout();
        self.input(Input::Rules(Box::new(plan)));
        match applied.is_empty() {
            true => tracing::info!("the configuration was read anew: nothing to apply"),
            false => tracing::info!("the configuration was read anew; applied: {}", list(&applied)),
        }
        if !restart.is_empty() {
            tracing::warn!("changed, and applied only when the daemon is started again: {}", list(&restart));
        }
        Ok(())
    }

    fn status_line(&self) -> String {
        let mut line = match (self.stopping, self.engine_state.up, self.scheduler.is_draining()) {
            (Stopping::Draining(_) | Stopping::Abandoning(_), ..) => "stopping: ".to_owned(),
            (Stopping::No, false, _) => "no engine: ".to_owned(),
            (Stopping::No, true, true) => "draining: ".to_owned(),
            (Stopping::No, true, false) => String::new(),
        };
        line += &load(&self.scheduler.classes());
        if self.storage.free_bytes < self.storage.low_water_bytes {
            line += "; the disk is full: no jobs are taken";
        }
        if let Some(why) = &self.service.complaint {
            line += "; the configuration was not taken: ";
            line += why;
        }
        line
    }
}

/// `2 running, 5 queued, heavy 71 %, light 3 %`: of each class how much of its memory weights and running jobs have.
fn load(classes: &[ClassView]) -> String {
    let sum = |count: fn(&ClassView) -> u32| classes.iter().map(count).sum::<u32>();
    let mut line = format!("{} running, {} queued", sum(|class| class.running), sum(|class| class.queued));
    let backing_off = sum(|class| class.backing_off);
    if backing_off > 0 {
        line += &format!(", {backing_off} backing off");
    }
    for class in classes {
        let memory = &class.partition;
        let taken_bytes = u128::from(memory.weights_bytes) + u128::from(memory.leased_bytes);
        let percent = (taken_bytes * 100).div_ceil(u128::from(memory.cap_bytes.max(1)));
        line += &format!(", {} {percent} %", class.name);
        if class.paused {
            line += " paused";
        }
    }
    line
}

fn list(keys: &[String]) -> String {
    let named = keys[..keys.len().min(NAMED)].join(", ");
    if keys.len() > NAMED { format!("{named} and {} more", keys.len() - NAMED) } else { named }
}

#[cfg(test)]
mod tests {
    use gpusched_shared::PartitionView;

    use super::*;

    #[test]
    fn the_status_line_has_load_and_memory() {
        let class = |name: &str, running, queued, (weights_bytes, leased_bytes)| ClassView {
            name: name.to_owned(),
            queued,
            running,
            backing_off: 0,
            finished: 9,
            out_of_memory: 0,
            paused: false,
            partition: PartitionView { cap_bytes: 1000, weights_bytes, leased_bytes, ..PartitionView::default() },
        };
        let (heavy, light) = (class("heavy", 1, 4, (500, 210)), class("light", 1, 1, (1, 0)));
        assert_eq!(load(&[heavy.clone(), light.clone()]), "2 running, 5 queued, heavy 71 %, light 1 %");
        let heavy = ClassView { paused: true, backing_off: 3, ..heavy };
        assert_eq!(load(&[heavy, light]), "2 running, 5 queued, 3 backing off, heavy 71 % paused, light 1 %");
    }

    #[test]
    fn a_list_of_keys_is_not_endless() {
        let keys: Vec<_> = (0..42).map(|n| n.to_string()).collect();
        assert_eq!(list(&keys[..2]), "0, 1");
        assert!(list(&keys).ends_with("38, 39 and 2 more"));
    }
}
