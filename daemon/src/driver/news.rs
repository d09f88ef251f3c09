//! What the engine says.

use std::sync::Arc;

use gpusched_core::Input;
use gpusched_engine::{Event, Failure, Product};
use gpusched_shared::{FailureKind, JobId, Outcome, Size, Usage};

use super::{Driver, failed, unix_ms};
use crate::journal::Entry;

impl Driver {
    pub(super) fn engine_event(&mut self, event: Event) {
        match event {
            Event::Started(job) => self.input(Input::Started(job)),
            Event::Progress(job, activity) => self.input(Input::Progress(job, activity)),
            Event::Parked { job, after_us } => {
                let class = self.scheduler.class_of(job);
                if let (Some(class), Some(after_us)) = (class, after_us) {
                    self.preemption[class].parked(after_us);
                }
                self.input(Input::Parked(job));
            }
            Event::Resumed(job) => self.input(Input::Resumed(job)),
            Event::Missed { class } => {
                if let Some(preemption) = self.preemption.get_mut(class) {
                    preemption.missed();
                }
            }
            Event::Interrupted(job, usage) => {
                self.note_gap(job, usage);
                self.input(Input::Interrupted(job, usage));
            }
            Event::Loaded { class, model, bytes } => {
                tracing::info!(CLASS = self.class(class), MODEL = model, BYTES = bytes, "loaded");
                self.input(Input::Loaded { class, model, bytes });
            }
            Event::Unloaded { class, model } => {
                tracing::info!(CLASS = self.class(class), MODEL = model, "unloaded");
                self.input(Input::Unloaded { class, model });
            }
            Event::Flushed { class, before, after } => {
                let class = self.class(class);
                tracing::debug!(CLASS = class, BEFORE = before.resident_bytes, AFTER = after.resident_bytes, "flushed");
                self.journal.write(Entry::Flush { class, before, after, unix_ms: unix_ms() });
            }
            Event::Finished(job, result, usage) => {
                self.note_gap(job, usage);
                match result {
                    Ok(Product::Answers(answers)) => {
                        self.input(Input::Finished(job, Outcome::Answers(answers), usage));
                    }
                    Ok(Product::Image { png, size, truncated_tokens }) => {
                        // The lane takes its next job while this one's picture is written to disk.
                        self.input(Input::Made(job, usage));
                        self.store(job, png, size, truncated_tokens);
                    }
                    Err(failure) => self.input(Input::Finished(job, failed(failure), usage)),
                }
            }
        }
    }

    fn store(&self, job: JobId, png: Vec<u8>, size: Size, truncated_tokens: u32) {
        let (blobs, stored) = (Arc::clone(&self.blobs), self.stored.0.clone());
        tokio::task::spawn_blocking(move || {
            let outcome = match blobs.put(&png) {
                Ok(blob) => Outcome::Image { blob, size, truncated_tokens },
                Err(e) => {
                    let message = format!("cannot store the picture: {e}");
                    failed(Failure { kind: FailureKind::Engine, message })
                }
            };
            let _ = stored.blocking_send((job, outcome));
        });
    }

    fn note_gap(&mut self, job: JobId, usage: Usage) {
        if let Some(class) = self.scheduler.class_of(job) {
            self.preemption[class].gap(usage.longest_gap_us);
        }
    }

    fn class(&self, index: usize) -> String {
        self.scheduler.plan().classes().get(index).map(|class| class.name.clone()).unwrap_or_default()
    }
}
