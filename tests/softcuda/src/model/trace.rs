//! What ran when: a bounded record that tests read.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::{Ns, StreamId};

/// So many are kept; of more, the last.
const ENTRIES: usize = 1 << 20;

/// One thing that the device did. `Display` is a line of the trace, as the crate's documentation has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) submitted: Ns,
    pub(crate) begin: Ns,
    pub(crate) end: Ns,
    pub(crate) stream: StreamId,
    pub(crate) priority: i32,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { submitted, begin, end, stream, priority, kind, name, bytes } = self;
        writeln!(f, "{submitted} {begin} {end} {stream} {priority} {kind} {name} {bytes}")
    }
}

/// The record, and the file that it is copied to.
#[derive(Default)]
pub(crate) struct Trace {
    entries: VecDeque<Entry>,
    file: Option<File>,
}

impl Trace {
    /// One that is appended to a file as well.
    ///
    /// # Errors
    /// A sentence, if the file cannot be opened.
    pub(crate) fn to(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| format!("SOFTCUDA_TRACE={}: {e}", path.display()))?;
        Ok(Self { entries: VecDeque::new(), file: Some(file) })
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        if let Some(mut file) = self.file.as_ref()
            && let Err(e) = file.write_all(entry.to_string().as_bytes())
        {
            eprintln!("softcuda: the trace ends here: {e}");
            self.file = None;
        }
        if self.entries.len() == ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn text(&self) -> String {
        self.entries.iter().fold(String::new(), |mut text, entry| {
            let _ = write!(text, "{entry}");
            text
        })
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}
