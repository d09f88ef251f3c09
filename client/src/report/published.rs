//! The figures that gpusched starts from, beside those of the record where they can be compared.

use maud::{Markup, html};

use super::figures;
use super::record::{Latency, Record};
use super::words::{bytes, count, span};

/// A published figure, and what there is to compare it with.
struct Figure {
    what: &'static str,
    published: &'static str,
    here: String,
    remark: &'static str,
}

const SCALE: &str = "Published for full-size models on one 48 GB card. Compare the ratio where the models here are others, not the seconds.";
const NO_COMPARISON: &str = "Not comparable: this record is of one policy. gpuctl demo measures both.";
const NO_EDITING: &str = "Not comparable: nothing here edits a region in two ways yet.";

/// The section.
pub(super) fn section(record: &Record) -> Markup {
    html! {
        section id="published" {
            h2 { "The published figures, and those here" }
            div.published {
                table {
                    thead { tr { th { "figure" } th { "published" } th { "here" } th { "how they compare" } } }
                    tbody { @for figure in &figures(record) {
                        tr { td { (figure.what) } td { (figure.published) } td { (figure.here) } td.text { (figure.remark) } }
                    } }
                }
            }
        }
    }
}

fn figures(record: &Record) -> Vec<Figure> {
    let light = record.classes.iter().find(|class| !class.makes_way).map_or("light", |class| class.name.as_str());
    let of = |all: &[Latency]| all.iter().find(|latency| latency.class == light).cloned();
    let compared = record.comparison.as_ref().and_then(|both| Some((of(&both.fifo)?, of(&both.multi_queue)?)));
    let none = || "-".to_owned();
    let to = |from: f64, to: f64| format!("{} → {}", span(from), span(to));
    let (done, ended) = (
        record.jobs.iter().filter(|job| figures::word(job) == "done").count(),
        record.jobs.iter().filter(|job| figures::word(job) != "unfinished").count(),
    );
    let oom = figures::out_of_memory(record) as u64;
    let most = record.memory.iter().map(|sample| sample.used_bytes).max();
    vec![
        Figure {
            what: "latency of an answer, one queue → several",
            published: "17.0 s → 2.0 s",
            here: compared.as_ref().map_or_else(none, |(one, several)| to(one.mean_us(), several.mean_us())),
            remark: if compared.is_some() { SCALE } else { NO_COMPARISON },
        },
        Figure {
            what: "wait of an answer, one queue → several",
            published: "15.2 s → 0.1 s",
            here: compared.as_ref().map_or_else(none, |(one, several)| to(one.wait_mean_us, several.wait_mean_us)),
            remark: if compared.is_some() { SCALE } else { NO_COMPARISON },
        },
        Figure {
            what: "memory of an image and its model",
            published: "34 GB",
            here: most.map_or_else(none, |most| format!("at most {} in one partition", bytes(most as f64))),
            remark: "Not comparable unless the models are the published ones; it is what a partition held at most.",
        },
        Figure {
            what: "jobs of a stress test that succeeded",
            published: "105 of 105",
            here: format!("{done} of {ended} ended, {} out of memory", count(oom, "attempt", "attempts")),
            remark: "Comparable if this record is of a stress test; the source has one.",
        },
        Figure { what: "latency of an edit, two ways", published: "24.5 s / 18.2 s", here: none(), remark: NO_EDITING },
        Figure { what: "CLIP score of an edit, two ways", published: "28.4 / 31.2", here: none(), remark: NO_EDITING },
    ]
}
