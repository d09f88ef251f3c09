//! What the engine says.

use gpusched_core::{Blame, Input};
use gpusched_engine::{Event, Product};
use gpusched_shared::{Bytes, JobId, MemoryEvent, Outcome, Update, Usage};

use super::{Driver, outcome_of};
use crate::supervisor::News;
use crate::telemetry::message::{Message, say};

impl Driver {
    pub(super) fn engine_news(&mut self, news: News) {
        match news {
            News::Event(event) => self.engine_event(event),
            News::Lost { blame, why } => {
                say!(Message::EngineLost, "the engine is gone: {why}");
                self.engine_state.up = false;
                self.engine_state.deaths += 1;
                // Killed from outside, or for a lane that hung, it did not die of a picture.
                let of_picture = self.give_up_inspections(blame == Blame::Everyone);
                let blame = if of_picture { Blame::Anyone } else { blame };
                self.input(Input::EngineLost(blame));
            }
            News::Ready(generation) => {
                say!(Message::EngineReplaced, "the engine is ready again");
                self.engine.follow(generation);
                self.engine_state.up = true;
                self.input(Input::EngineReady);
            }
        }
    }

    fn engine_event(&mut self, event: Event) {
        match event {
            Event::Started(job) => self.input(Input::Started(job)),
            Event::Progress(job, activity) => {
                self.got_further(job);
                self.input(Input::Progress(job, activity));
            }
            Event::Parked { job, after_us } => {
                let class = self.scheduler.class_of(job);
                if let (Some(class), Some(after_us)) = (class, after_us) {
                    self.preemption[class].parked(after_us);
                    self.observer.made_way(class, after_us);
                }
                self.course.park(job);
                self.input(Input::Parked(job));
            }
            Event::Resumed(job) => {
                self.course.resume(job);
                self.input(Input::Resumed(job));
            }
            Event::Missed { class } => {
                if let Some(preemption) = self.preemption.get_mut(class) {
                    preemption.missed();
                    self.observer.missed(class);
                }
            }
            Event::OnDevice { job, us } => self.observer.on_device(job, us),
            Event::Interrupted(job, usage) => {
                self.note_end(job, usage);
                self.input(Input::Interrupted(job, usage));
            }
            Event::Loaded { class, model, bytes } => {
                let (name, size) = (self.observer.class(class), Bytes(bytes));
                say!(
                    Message::ModelLoaded,
                    CLASS = name,
                    MODEL = model,
                    BYTES = bytes,
                    "{model} is in memory for {name}: {size}"
                );
                self.input(Input::Loaded { class, model, bytes });
                self.sample(class, MemoryEvent::Loaded);
            }
            Event::Unloaded { class, model } => {
                let name = self.observer.class(class);
                say!(Message::ModelUnloaded, CLASS = name, MODEL = model, "{model} has left the memory for {name}");
                self.input(Input::Unloaded { class, model });
                self.sample(class, MemoryEvent::Unloaded);
            }
            Event::Flushed { class, job, before, after } => {
                self.observer.flushed(class, job, before.resident_bytes.saturating_sub(after.resident_bytes));
                self.flushed(class, before, after);
            }
            Event::Inspected { ticket, result } => self.inspected(ticket, result),
            Event::Wrote { job, text, tokens } => {
                if let Some(news) = self.watchers.get(&job) {
                    news.send_replace(Update::Writing { text, tokens });
                }
            }
            Event::Previewed { job, png, size } => self.store_preview(job, png, size),
            Event::Finished(job, result, usage) => {
                self.note_end(job, usage);
                match result {
                    Ok(Product::Answers(answers)) => {
                        self.input(Input::Finished(job, Outcome::Answers(answers), usage));
                    }
                    Ok(Product::Found(found)) => self.input(Input::Finished(job, Outcome::Found(found), usage)),
                    Ok(Product::Score(score)) => self.input(Input::Finished(job, Outcome::Score(score), usage)),
                    Ok(Product::Text { text, tokens, complete, truncated_tokens }) => {
                        let outcome = Outcome::Text { text, tokens, complete, truncated_tokens };
                        self.input(Input::Finished(job, outcome, usage));
                    }
                    // The lane takes its next job while this one's picture is written to disk.
                    Ok(Product::Image { png, size, truncated_tokens }) => {
                        self.input(Input::Made(job, usage));
                        self.store(job, png, move |blob| Outcome::Image { blob, size, truncated_tokens });
                    }
                    Ok(Product::Mask { png, size, inside, score }) => {
                        self.input(Input::Made(job, usage));
                        self.store(job, png, move |blob| Outcome::Mask { blob, size, inside, score });
                    }
                    Err(failure) => self.input(Input::Finished(job, outcome_of(failure), usage)),
                }
            }
        }
    }

    fn note_end(&mut self, job: JobId, usage: Usage) {
        self.course.measured(job, usage);
        if let Some(class) = self.scheduler.class_of(job) {
            self.preemption[class].gap(usage.longest_gap_us);
        }
    }
}
