//! An event of the log, taken down where it happens so that it can be written elsewhere.
//!
//! It is given to the layers of `tracing` again as it came, but for what is longer than [`TEXT_BYTES`] allows.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Value, Visit, display};
use tracing::{Dispatch, Event, Metadata};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Text of one event, in bytes, its message and all its fields together; the rest is left out.
pub(super) const TEXT_BYTES: usize = 8 * 1024;

/// Fields of one event; further ones are left out. `tracing` itself has no more.
const FIELDS: usize = 32;

/// What ends a text that was too long.
const CUT: &str = "…";

/// See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Record {
    metadata: &'static Metadata<'static>,
    /// When it happened, as it is written.
    at: String,
    values: Vec<(Field, Owned)>,
}

#[derive(Debug)]
enum Owned {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// What has no type of its own, as it is written; the message among them.
    Written(String),
}

impl Record {
    /// Takes an event down, but for fields of the name `without`.
    pub(super) fn of(event: &Event<'_>, without: Option<&str>) -> Self {
        let mut at = String::with_capacity(32);
        // Writing to a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut at));
        let mut taken = Taken { values: Vec::with_capacity(16), left: TEXT_BYTES, without };
        event.record(&mut taken);
        Self { metadata: event.metadata(), at, values: taken.values }
    }

    /// When it happened, as it is written.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Has it written.
    pub(super) fn replay(&self, to: &Dispatch) {
        let written: Vec<(&Field, Box<dyn Value + '_>)> =
            self.values.iter().map(|(field, owned)| (field, owned.value())).collect();
        // The set must have a length that is known; what is empty in it is passed over.
        let Some((first, _)) = written.first() else { return };
        let mut values: [(&Field, Option<&dyn Value>); FIELDS] = [(*first, None); FIELDS];
        for (slot, (field, value)) in values.iter_mut().zip(&written) {
            *slot = (*field, Some(value.as_ref()));
        }
        to.event(&Event::new(self.metadata, &self.metadata.fields().value_set(&values)));
    }
}

impl Owned {
    fn value(&self) -> Box<dyn Value + '_> {
        match self {
            Self::Signed(number) => Box::new(*number),
            Self::Unsigned(number) => Box::new(*number),
            Self::Float(number) => Box::new(*number),
            Self::Bool(is_so) => Box::new(*is_so),
            Self::Text(text) => Box::new(text.as_str()),
            Self::Written(text) => Box::new(display(text)),
        }
    }
}

/// Takes fields down until there is no room left.
struct Taken<'a> {
    values: Vec<(Field, Owned)>,
    left: usize,
    without: Option<&'a str>,
}

impl Taken<'_> {
    fn push(&mut self, field: &Field, value: Owned) {
        if self.values.len() < FIELDS && self.without != Some(field.name()) {
            self.values.push((field.clone(), value));
        }
    }

    fn text(&mut self, write: impl FnOnce(&mut Bounded) -> fmt::Result) -> String {
        let mut bounded = Bounded { text: String::new(), left: self.left };
        if write(&mut bounded).is_err() {
            bounded.text.push_str(CUT);
        }
        self.left = bounded.left;
        bounded.text
    }
}

impl Visit for Taken<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Owned::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Owned::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Owned::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Owned::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.text(|bounded| bounded.write_str(value));
        self.push(field, Owned::Text(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = self.text(|bounded| write!(bounded, "{value:?}"));
        self.push(field, Owned::Written(text));
    }
}

/// A text that takes so many bytes more, and then refuses, so that whoever writes to it need not go on.
struct Bounded {
    text: String,
    left: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits = more.floor_char_boundary(self.left);
        self.text.push_str(&more[..fits]);
        self.left -= fits;
        if fits < more.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
