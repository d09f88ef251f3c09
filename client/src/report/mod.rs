//! What happened: as a page for people, and as files for other programs.
//!
//! [`collect`] asks a daemon for its [`Record`]; `page` makes one self-contained HTML file of it, [`trace`] and [`table`] files
//! that other programs read. All of it is the same for a daemon's history and for the demo's runs.
//!
//! Where to look: [`lanes`] is what a record says lane by lane, [`figures`] what it adds up to, `chart` the pictures, [`gallery`]
//! the pictures of reflecting jobs, `published` the figures that gpusched starts from.

mod chart;
pub mod collect;
pub mod editing;
pub mod figures;
pub mod gallery;
pub mod lanes;
mod page;
mod published;
mod record;
mod sections;
pub mod table;
mod tables;
pub mod trace;
mod words;

pub use page::html;
pub use record::{ClassInfo, Comparison, Latency, Record, Shown};
pub use words::{instant, parse_instant};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The daemon could not be asked.
    #[error(transparent)]
    Client(#[from] crate::Error),
    /// A picture could not be drawn.
    #[error("cannot draw the {chart}: {what}; please report this")]
    Chart {
        /// Which one.
        chart: &'static str,
        /// What went wrong.
        what: String,
    },
    /// A file could not be made.
    #[error("cannot write it as {format}: {what}; please report this")]
    Format {
        /// Which format.
        format: &'static str,
        /// What went wrong.
        what: String,
    },
}
