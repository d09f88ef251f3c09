//! What things look like. Pure: values in, text out (but for [`progress`], which draws).

pub(crate) mod asked;
pub(crate) mod explain;
pub(crate) mod growing;
pub(crate) mod history;
pub(crate) mod job;
pub(crate) mod progress;
pub(crate) mod quality;
pub(crate) mod queue;
pub(crate) mod reflection;
pub(crate) mod status;
pub(crate) mod units;

use std::time::{SystemTime, UNIX_EPOCH};

use gpusched_client::JobId;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Text with what could move a terminal's cursor made visible: others may have written it.
pub(crate) fn clean(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The same of a piece of a text, of which line breaks and tabs stay.
pub(crate) fn clean_piece(text: &str) -> String {
    text.split_inclusive(['\n', '\t'])
        .map(|part| match part.char_indices().next_back() {
            Some((at, end @ ('\n' | '\t'))) => format!("{}{end}", clean(&part[..at])),
            Some(_) | None => clean(part),
        })
        .collect()
}

/// At most `most` characters of a text, on one line.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    let line = clean(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Columns as wide as their widest cell, two spaces apart. Without the last line break.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(n, cell)| format!("{cell:<0$}", width(n).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Names and what they are, one a line. Without the last line break.
pub(crate) fn fields(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, value)| format!("{name:<10} {value}")).collect::<Vec<_>>().join("\n")
}

/// A job that may be someone else's: the daemon hides those behind 0, which is no job's number.
pub(crate) fn job_or_hidden(job: JobId) -> String {
    if job.0 == 0 { "someone else's".to_owned() } else { format!("job {job}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["red".to_owned(), "0.9".to_owned()], vec!["grün-blau".to_owned(), "0.1".to_owned()]];
        assert_eq!(table(&["ANSWER", "SCORE"], rows), "ANSWER     SCORE\nred        0.9\ngrün-blau  0.1");
    }

    #[test]
    fn texts_are_cut_and_defused() {
        assert_eq!(shorten("a red\ncircle", 20), "a red circle");
        assert_eq!(shorten("a red circle", 6), "a red…");
        assert_eq!(clean("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(clean_piece("one\n\u{1b}two\tthree"), "one\n\\u{1b}two\tthree");
        assert_eq!(clean_piece("\n") + &clean_piece("") + &clean_piece("\u{7}\n"), "\n\\u{7}\n");
    }
}
