//! A record as a trace that <https://ui.perfetto.dev> and `chrome://tracing` open: a process for each class, a thread for each
//! lane, an event for each attempt with what it was parked within it, and memory as counters. The format is the JSON object form
//! of Chrome's Trace Event Format; times are microseconds since the record's beginning.

use gpusched_shared::{AttemptEnd, MemoryEvent};
use serde_json::{Value, json};

use super::ReportError;
use super::lanes::{Lane, Stay, lanes};
use super::record::Record;

/// The trace, as JSON.
///
/// # Errors
/// [`ReportError::Format`], which is a mistake of this program.
pub fn chrome(record: &Record) -> Result<String, ReportError> {
    let origin_us = record.since_unix_ms.saturating_mul(1000);
    let lanes = lanes(record);
    let mut events = Vec::new();
    let mut processes: Vec<&str> = Vec::new();
    for lane in &lanes {
        let known = processes.iter().position(|class| *class == lane.class);
        let process = known.unwrap_or_else(|| {
            processes.push(lane.class);
            processes.len() - 1
        });
        if known.is_none() {
            let partition = json!({ "name": format!("class {}", lane.class) });
            events.push(json!({ "ph": "M", "pid": process + 1, "tid": 0, "name": "process_name", "args": partition }));
            let order = json!({ "sort_index": process });
            events
                .push(json!({ "ph": "M", "pid": process + 1, "tid": 0, "name": "process_sort_index", "args": order }));
        }
        lane_events(lane, process + 1, origin_us, &mut events);
    }
    memory_events(record, &processes, origin_us, &mut events);
    let document = json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "made_by": concat!("gpuctl ", env!("CARGO_PKG_VERSION")),
            "daemon": record.title,
            "policy": record.policy,
            "begins_unix_ms": record.since_unix_ms,
            "left_out": record.left_out,
        },
    });
    serde_json::to_string(&document).map_err(|e| ReportError::Format { format: "chrome-trace", what: e.to_string() })
}

fn lane_events(lane: &Lane<'_>, process: usize, origin_us: u64, events: &mut Vec<Value>) {
    let thread = lane.index + 1;
    let name = json!({ "name": lane.name() });
    events.push(json!({ "ph": "M", "pid": process, "tid": thread, "name": "thread_name", "args": name }));
    for stay in &lane.stays {
        let complete = |name: &str, (from_us, until_us): (u64, u64), args: Value| {
            json!({
                "ph": "X", "pid": process, "tid": thread, "cat": "lane", "name": name,
                "ts": from_us.saturating_sub(origin_us), "dur": until_us.saturating_sub(from_us), "args": args,
            })
        };
        events.push(complete(&title(stay), (stay.from_us, stay.until_us), arguments(stay)));
        events.extend(stay.parked_us.iter().map(|parked| complete("parked", *parked, json!({}))));
        if stay.span.end == Some(AttemptEnd::OutOfMemory) {
            events.push(json!({
                "ph": "i", "pid": process, "tid": thread, "s": "t", "cat": "memory", "name": "out of memory",
                "ts": stay.until_us.saturating_sub(origin_us),
            }));
        }
    }
}

fn title(stay: &Stay<'_>) -> String {
    stay.span
        .about
        .as_ref()
        .map_or_else(|| "someone else's".to_owned(), |about| format!("job {} {}", about.job, about.kind))
}

fn arguments(stay: &Stay<'_>) -> Value {
    let end = json!({ "end": stay.span.end });
    let Some(about) = &stay.span.about else { return end };
    json!({
        "job": about.job, "attempt": about.attempt, "role": about.role, "round": about.round, "model": about.model,
        "peak_bytes": about.peak_bytes, "end": stay.span.end,
    })
}

fn memory_events(record: &Record, processes: &[&str], origin_us: u64, events: &mut Vec<Value>) {
    for sample in &record.memory {
        // A class that has no lanes any more has no process either.
        let Some(process) = processes.iter().position(|class| *class == sample.class) else { continue };
        let ts = sample.unix_ms.saturating_mul(1000).saturating_sub(origin_us);
        let bytes = json!({ "used": sample.used_bytes, "reserved": sample.reserved_bytes });
        events.push(json!({
            "ph": "C", "pid": process + 1, "tid": 0, "name": format!("memory {}", sample.class), "ts": ts, "args": bytes,
        }));
        if sample.event == MemoryEvent::Flushed {
            events.push(json!({
                "ph": "i", "pid": process + 1, "tid": 0, "s": "p", "cat": "memory", "name": "flush", "ts": ts,
            }));
        }
    }
}
