//! The keeper: starts an engine, attends to it until it dies, says so, and starts the next.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use gpusched_engine::Setup;
use gpusched_shared::ModelInfo;

use super::cause::{Death, Ended, Killed};
use super::engine::Engine;
use super::process::{killed_for_memory, stat};
use super::restart::Restart;
use super::watch::{Limits, Verdict, overslept};
use super::{GOODBYE, Generation, Listener, News, Shared, SupervisorError};
use crate::config::EngineConfig;

/// Who waits for the first engine.
type First = SyncSender<Result<Vec<ModelInfo>, SupervisorError>>;

/// See the [module's documentation](self).
pub(super) struct Keeper {
    program: PathBuf,
    setup: Setup,
    heartbeat: Duration,
    limits: Limits,
    restart: Restart,
    lock: File,
    news: Listener,
    shared: Arc<Shared>,
}

impl Keeper {
    pub(super) fn new(
        program: PathBuf,
        setup: Setup,
        config: &EngineConfig,
        lock: File,
        news: Listener,
        shared: Arc<Shared>,
    ) -> Self {
        let (limits, restart) = (Limits::new(config), Restart::new(config));
        let heartbeat = Duration::from_millis(config.heartbeat_ms);
        Self { program, setup, heartbeat, limits, restart, lock, news, shared }
    }

    /// Keeps engines until there are to be no more.
    pub(super) fn keep(mut self, first: &First) {
        // However it ends, also by a panic, nobody waits for it in vain.
        let _ended = Said(Arc::clone(&self.shared));
        for number in 1.. {
            let born = Instant::now();
            match self.start(Generation(number)) {
                Ok((engine, models)) => {
                    if number == 1 {
                        drop(first.send(Ok(models)));
                    } else {
                        (self.news)(News::Ready(Generation(number)));
                    }
                    let death = self.attend(engine);
                    if self.shared.lock().stopping {
                        return;
                    }
                    let (blame, why) = (death.blame(), death.why());
                    tracing::error!("the engine is lost: {why}");
                    (self.news)(News::Lost { blame, why });
                }
                Err(e) if number == 1 => {
                    drop(first.send(Err(e)));
                    return;
                }
                Err(e) => tracing::error!("{e}"),
            }
            let pause = self.restart.after(born.elapsed());
            tracing::info!("another engine is started in {} ms", pause.as_millis());
            if self.is_told_to_stop_within(pause) {
                return;
            }
        }
    }

    fn start(&self, generation: Generation) -> Result<(Engine, Vec<ModelInfo>), SupervisorError> {
        let made_of = (self.program.as_path(), &self.setup, self.heartbeat);
        let engine = Engine::spawn(generation, made_of, &self.lock, &self.news, &self.shared)?;
        match engine.ready() {
            Ok(models) => {
                tracing::info!(PID = engine.process.id(), "the engine is ready");
                Ok((engine, models))
            }
            Err(e) => {
                let (ended, nonsense) = self.end(engine, GOODBYE);
                Err(match e {
                    SupervisorError::Died(_) => {
                        let ended = ended?;
                        SupervisorError::Died(Death { ended, ours: None, out_of_memory: false, nonsense }.why())
                    }
                    e @ (SupervisorError::Spawn(_) | SupervisorError::Refused(_)) => e,
                })
            }
        }
    }

    /// Attends to an engine until it has died.
    fn attend(&self, engine: Engine) -> Death {
        self.shared.latest.excuse();
        let mut for_memory = killed_for_memory();
        let mut ours = None;
        while ours.is_none() {
            let (silent, lanes) = self.shared.latest.look();
            match self.limits.judge(silent, &lanes) {
                Verdict::Well(pause) => {
                    let now = Instant::now();
                    match engine.process.handle().wait(pause) {
                        Ok(true) => break,
                        Ok(false) if overslept(pause, now.elapsed()) => self.shared.latest.excuse(),
                        Ok(false) => {}
                        Err(e) => {
                            tracing::error!("cannot watch the engine's process: {e}");
                            break;
                        }
                    }
                    // As late as possible: of what is killed afterwards this may be one.
                    if let Ok(false) = engine.process.handle().wait(Duration::ZERO) {
                        for_memory = killed_for_memory();
                    }
                }
                Verdict::Silent => {
                    let stopped = stat(engine.process.id()).is_some_and(|stat| matches!(stat.state, 'T' | 't'));
                    ours = Some(Killed::Silent { for_: silent, stopped });
                }
                Verdict::Stuck { lane, phase, still } => {
                    let name = self.setup.lanes.get(lane).map(ToString::to_string).unwrap_or_default();
                    ours = Some(Killed::Stuck { lane, name, phase, still });
                }
            }
        }
        let (ended, nonsense) = self.end(engine, Duration::ZERO);
        let ended = ended.unwrap_or_else(|e| {
            tracing::error!("cannot say how the engine ended: {e}");
            Ended::Code(-1)
        });
        Death { ended, ours, out_of_memory: killed_for_memory() > for_memory, nonsense }
    }

    fn end(&self, engine: Engine, patience: Duration) -> (io::Result<Ended>, Option<String>) {
        // First of all: without anybody who can give it commands, its writer comes to an end.
        self.shared.lock().current = None;
        engine.end(patience, &self.shared.latest)
    }

    /// Waits, but not when there is to be no further engine.
    fn is_told_to_stop_within(&self, pause: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, pause, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}

/// Says at its end that the keeper is done.
struct Said(Arc<Shared>);

impl Drop for Said {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.current = None;
        self.0.changed.notify_all();
    }
}
