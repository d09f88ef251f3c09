//! The page: one file, without scripts, that asks for nothing from anywhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::record::Record;
use super::words::{count, instant, span};
use super::{ReportError, published, sections, tables};

const STYLE: &str = include_str!("style.css");

/// No scripts, no network: the browser is told so, too.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The report as an HTML file. How large it gets is bounded, whatever the record has.
///
/// # Errors
/// [`ReportError::Chart`], which is a mistake of this program.
pub fn html(record: &Record) -> Result<String, ReportError> {
    let body = html! {
        (head(record))
        main {
            (sections::lanes(record)?)
            div.row {
                (sections::latency(record)?)
                (sections::stages(record)?)
                (sections::outcomes(record)?)
            }
            (sections::memory(record)?)
            (sections::reflection(record)?)
            (published::section(record))
            (tables::left_out(record))
        }
    };
    Ok(document(&record.title, &body))
}

/// The file of a page of this title.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "gpusched: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

fn head(record: &Record) -> Markup {
    let length_us = record.until_unix_ms.saturating_sub(record.since_unix_ms) as f64 * 1e3;
    let lanes: u32 = record.classes.iter().map(|class| class.lanes).sum();
    html! {
        header {
            h1 { (record.title) }
            p {
                (instant(record.since_unix_ms)) " to " (instant(record.until_unix_ms)) ": " (span(length_us)) ", "
                (count(record.jobs.len() as u64, "job", "jobs")) ", " (count(record.spans.len() as u64, "attempt", "attempts")) ", "
                (count(u64::from(lanes), "lane", "lanes")) ", policy " strong { (record.policy) } "."
            }
        }
    }
}
