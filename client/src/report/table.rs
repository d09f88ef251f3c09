//! A record as lines that other programs read: JSON documents, or comma-separated values.

use serde_json::{Value, json};

use super::ReportError;
use super::figures::word;
use super::record::Record;

/// The first line of [`csv`].
const COLUMNS: [&str; 14] = [
    "lane",
    "started_unix_ms",
    "ended_unix_ms",
    "end",
    "parked_us",
    "parks",
    "job",
    "attempt",
    "role",
    "round",
    "kind",
    "model",
    "peak_bytes",
    "took_ms",
];

/// Attempts, one a line below the names of the columns, as RFC 4180 has it. What is not known is empty.
pub fn csv(record: &Record) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for span in &record.spans {
        let or_empty = |value: Option<String>| value.unwrap_or_default();
        let about = span.about.as_ref();
        let parked: u64 = span.parked.iter().map(|stay| stay.until_us.saturating_sub(stay.from_us)).sum();
        let took = span.ended_unix_ms.map(|ended| ended.saturating_sub(span.started_unix_ms));
        let cells = [
            span.lane.clone(),
            span.started_unix_ms.to_string(),
            or_empty(span.ended_unix_ms.map(|ended| ended.to_string())),
            or_empty(span.end.and_then(|end| Some(serde_json::to_value(end).ok()?.as_str()?.to_owned()))),
            parked.to_string(),
            span.parked.len().to_string(),
            or_empty(about.map(|about| about.job.to_string())),
            or_empty(about.map(|about| about.attempt.to_string())),
            or_empty(about.map(|about| about.role.word().to_owned())),
            or_empty(about.map(|about| about.round.to_string())),
            or_empty(about.map(|about| about.kind.to_string())),
            or_empty(about.map(|about| about.model.clone())),
            or_empty(about.map(|about| about.peak_bytes.to_string())),
            or_empty(took.map(|took| took.to_string())),
        ];
        text += &(cells.map(quoted).join(",") + "\r\n");
    }
    text
}

/// A cell; quotation marks are put around what would be taken apart otherwise.
fn quoted(cell: String) -> String {
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// Everything, a JSON document a line: first `{"record": …}`, then `{"class": …}`, `{"job": …}`, `{"attempt": …}` and
/// `{"memory": …}`, each kind the oldest first.
///
/// # Errors
/// [`ReportError::Format`], which is a mistake of this program.
pub fn jsonl(record: &Record) -> Result<String, ReportError> {
    let wrong = |e: serde_json::Error| ReportError::Format { format: "jsonl", what: e.to_string() };
    let head = json!({ "record": {
        "daemon": record.title, "policy": record.policy, "since_unix_ms": record.since_unix_ms,
        "until_unix_ms": record.until_unix_ms, "left_out": record.left_out,
    }});
    let mut text = format!("{head}\n");
    for class in &record.classes {
        let class = json!({ "class": {
            "name": class.name, "lanes": class.lanes, "cap_bytes": class.cap_bytes, "makes_way": class.makes_way,
        }});
        text += &format!("{class}\n");
    }
    for job in &record.jobs {
        let mut document = json!({ "job": serde_json::to_value(job).map_err(wrong)? });
        document["job"]["outcome"] = Value::from(word(job));
        text += &format!("{document}\n");
    }
    for span in &record.spans {
        text += &format!("{}\n", json!({ "attempt": serde_json::to_value(span).map_err(wrong)? }));
    }
    for sample in &record.memory {
        text += &format!("{}\n", json!({ "memory": serde_json::to_value(sample).map_err(wrong)? }));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use gpusched_shared::LaneSpan;

    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!([quoted("a b".to_owned()), quoted("a,\"b\"\n".to_owned())], ["a b", "\"a,\"\"b\"\"\n\""]);
        let span = LaneSpan {
            lane: "light-0".to_owned(),
            started_unix_ms: 5,
            ended_unix_ms: None,
            end: None,
            parked: Vec::new(),
            about: None,
        };
        let text = csv(&Record { spans: vec![span], ..Record::default() });
        assert_eq!(text.lines().nth(1), Some("light-0,5,,,0,0,,,,,,,,"));
        assert!(text.lines().all(|line| line.split(',').count() == COLUMNS.len()));
    }
}
