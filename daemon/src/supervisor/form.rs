//! The two forms of the engine that a daemon can have: threads of its own, or a process beside it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gpusched_engine::{Command, Engine, Failure, MemoryUse, Setup, Sink, StartError};
use gpusched_shared::ModelInfo;

use super::{Generation, Listener, News, Supervisor, SupervisorError};
use crate::backend::{Backend, Gpu, Program};
use crate::config::EngineConfig;

/// An engine, whatever its form.
#[derive(Debug)]
pub enum Form {
    /// Threads of this process. They do not die alone, so they are never lost and never ready again.
    Threads {
        /// The engine.
        engine: Engine,
        /// The device's lock, kept for as long.
        _lock: File,
    },
    /// A process that is watched.
    Child {
        /// Who watches it.
        supervisor: Supervisor,
        /// What it is started from, if that is not this program.
        _program: Option<Program>,
    },
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// In this process.
    #[error(transparent)]
    Threads(#[from] StartError),
    /// In one of its own.
    #[error(transparent)]
    Child(#[from] SupervisorError),
}

impl Form {
    /// Starts an engine of the form that is configured, for what there is, and returns the models that it has.
    ///
    /// # Errors
    /// [`FormError`]
    pub fn start(
        setup: Setup,
        config: &EngineConfig,
        backend: Backend,
        lock: File,
        news: Listener,
    ) -> Result<(Self, Vec<ModelInfo>), FormError> {
        if config.in_process {
            let sink: Sink = Arc::new(move |event| news(News::Event(event)));
            let engine = Engine::start(&setup, &sink)?;
            let models = engine.models();
            return Ok((Self::Threads { engine, _lock: lock }, models));
        }
        let (supervisor, models, _program) = match backend {
            Backend::Cpu => {
                let (supervisor, models) = Supervisor::start(setup, config, lock, news)?;
                (supervisor, models, None)
            }
            Backend::Cuda(Gpu { program, .. }) => {
                let (supervisor, models) = Supervisor::start_program(program.path(), setup, config, lock, news)?;
                (supervisor, models, Some(program))
            }
        };
        Ok((Self::Child { supervisor, _program }, models))
    }

    /// Gives a command with its files. See [`Engine::command`] and [`Supervisor::command`].
    ///
    /// # Errors
    /// What the engine has against it, if it can say so at once. Otherwise that is an event.
    pub fn command(&self, command: Command, files: Vec<OwnedFd>) -> Result<(), Failure> {
        match self {
            Self::Threads { engine, .. } => engine.command(command, files),
            Self::Child { supervisor, .. } => {
                supervisor.command(command, files);
                Ok(())
            }
        }
    }

    /// Commands are for this engine from here on. See [`Supervisor::follow`].
    pub fn follow(&self, generation: Generation) {
        match self {
            Self::Threads { .. } => {}
            Self::Child { supervisor, .. } => supervisor.follow(generation),
        }
    }

    /// What each partition holds, or held a moment ago.
    pub fn memory(&self) -> Vec<MemoryUse> {
        match self {
            Self::Threads { engine, .. } => engine.memory(),
            Self::Child { supervisor, .. } => supervisor.memory(),
        }
    }

    /// Its process, if it has one of its own.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Threads { .. } => None,
            Self::Child { supervisor, .. } => supervisor.pid(),
        }
    }

    /// Ends without waiting for lanes that do not come to a yield point.
    pub fn leave(self) {
        match self {
            Self::Threads { engine, .. } => engine.leave(),
            Self::Child { supervisor, .. } => drop(supervisor),
        }
    }
}
