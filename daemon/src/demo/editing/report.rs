//! What the experiment says, and what it leaves behind.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use gpusched_shared::{Bytes, TaskKind};
use serde::Serialize;
use serde_json::json;

use super::super::table::machine;
use super::edits::Edit;
use super::figures::{Figures, Swap, surveyed};
use super::page;
use super::trial::{Trial, Way};

/// Goals.
const CORRECT: f64 = 0.85;
const OUTSIDE_DB: f64 = 35.0;
/// As in the demo.
const BESIDE: f64 = 1.3;

/// Everything there is.
pub(super) struct Report {
    pub(super) summary: Summary,
    trials: Vec<(Way, Vec<Trial>)>,
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) machine: String,
    pub(super) ways: Vec<Figures>,
    pub(super) parts: Vec<Parts>,
    pub(super) swap: Swap,
}

/// What has to be there for a way.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Parts {
    pub(super) stages: usize,
    pub(super) models: usize,
    /// Networks with weights of their own, over all models.
    pub(super) networks: usize,
    pub(super) parameters: u64,
}

impl Parts {
    /// All parts together: stages, models and networks.
    pub(super) fn count(&self) -> usize {
        self.stages + self.models + self.networks
    }

    fn of(models: &Path, way: Way) -> anyhow::Result<Self> {
        let tasks: &[TaskKind] = match way {
            Way::Pipeline => &[TaskKind::Detect, TaskKind::Segment, TaskKind::Inpaint],
            Way::Flux2 => &[TaskKind::Img2Img],
        };
        let surveys = tasks.iter().map(|task| surveyed(models, *task)).collect::<anyhow::Result<Vec<_>>>()?;
        let parts = || surveys.iter().flat_map(|survey| &survey.parts);
        Ok(Self {
            stages: tasks.len(),
            models: surveys.len(),
            networks: parts().filter(|part| part.parameters > 0).count(),
            parameters: parts().map(|part| part.parameters).sum(),
        })
    }
}

impl Report {
    pub(super) fn of(
        models: &Path,
        edits: &[Edit],
        ways: [(Figures, Vec<Trial>); 2],
        swap: Swap,
    ) -> anyhow::Result<Self> {
        debug_assert!(ways.iter().all(|(_, trials)| trials.len() == edits.len()), "every edit was made both ways");
        let parts = ways.iter().map(|(figures, _)| Parts::of(models, figures.way)).collect::<anyhow::Result<_>>()?;
        let (figures, trials): (Vec<_>, Vec<_>) =
            ways.into_iter().map(|(figures, trials)| (figures.clone(), (figures.way, trials))).unzip();
        Ok(Self { summary: Summary { machine: machine(), ways: figures, parts, swap }, trials })
    }

    pub(super) fn trials(&self, way: Way) -> &[Trial] {
        self.trials.iter().find(|(of, _)| *of == way).map_or(&[], |(_, trials)| trials)
    }
}

impl Summary {
    /// What is compared: a name, and what it came to each way.
    pub(super) fn rows(&self) -> Vec<(String, Vec<String>)> {
        let mut rows = Vec::new();
        let mut row = |name: String, value: &dyn Fn(&Figures) -> String| {
            rows.push((name, self.ways.iter().map(value).collect::<Vec<_>>()));
        };
        let share = |(hits, count): (usize, usize)| format!("{hits} of {count}");
        row("edits".to_owned(), &|f| f.edits.to_string());
        row("correct".to_owned(), &|f| share((f.correct, f.edits)));
        row("of them with two shapes".to_owned(), &|f| share(f.correct_of_two));
        row("of them held out of training".to_owned(), &|f| share(f.correct_held_out));
        row("without a picture".to_owned(), &|f| f.failed.to_string());
        row("PSNR outside the region".to_owned(), &|f| {
            f.outside_db.map_or("nothing changed".to_owned(), |db| format!("{db:.1} dB"))
        });
        row("CLIP score".to_owned(), &|f| format!("{:.1}", f.clip_score));
        row("latency, median".to_owned(), &|f| ms(f.latency_ms));
        for (index, name) in ["detect", "segment", "inpaint", "edit"].into_iter().enumerate() {
            let of = move |f: &Figures| f.stages.iter().find(|stage| stage.name == name).cloned();
            let stage = |value: fn(&super::figures::StageFigures) -> String| {
                move |f: &Figures| of(f).map_or("-".to_owned(), |stage| value(&stage))
            };
            let (load, compute, memory) = (
                stage(|stage| ms(stage.load_ms)),
                stage(|stage| ms(stage.compute_ms)),
                stage(|stage| Bytes(stage.peak_bytes).to_string()),
            );
            let _ = index;
            row(format!("  {name}: compute"), &compute);
            row(format!("  {name}: load, the first time"), &load);
            row(format!("  {name}: memory beside the model"), &memory);
        }
        row("  transfer: store, record, hand over".to_owned(), &|f| ms(f.transfer_ms));
        row("  waiting for lanes".to_owned(), &|f| ms(f.wait_ms));
        row("peak memory, all models resident".to_owned(), &|f| Bytes(f.peak_bytes).to_string());
        let swap = &self.swap;
        let only = |way: Way, text: String| move |f: &Figures| if f.way == way { text.clone() } else { "-".to_owned() };
        let cap = format!("{} of {}", Bytes(swap.peak_bytes), Bytes(swap.cap_bytes));
        row("peak memory, not all models fitting".to_owned(), &only(Way::Pipeline, cap));
        row("  latency then, median".to_owned(), &only(Way::Pipeline, ms(swap.latency_ms)));
        row("  cost of swapping".to_owned(), &only(Way::Pipeline, ms(swap.cost_ms)));
        row(
            "  loads for an edit".to_owned(),
            &only(Way::Pipeline, format!("{:.1}", swap.loads as f64 / swap.edits.max(1) as f64)),
        );
        for (name, of) in [
            ("question latency alone, median", (|f: &Figures| ms(f.beside.alone_ms)) as fn(&Figures) -> String),
            ("question latency beside edits", |f| ms(f.beside.beside_ms)),
            ("  beside to alone", |f| format!("{:.2}", f.beside.beside_ms / f.beside.alone_ms)),
        ] {
            row(name.to_owned(), &of);
        }
        for (name, of) in [
            ("stages", (|parts: &Parts| parts.stages.to_string()) as fn(&Parts) -> String),
            ("models", |parts| parts.models.to_string()),
            ("networks", |parts| parts.networks.to_string()),
            ("parameters", |parts| format!("{:.2} M", parts.parameters as f64 / 1e6)),
        ] {
            rows.push((name.to_owned(), self.parts.iter().map(of).collect()));
        }
        rows
    }

    /// What follows, a sentence each.
    pub(super) fn findings(&self) -> Vec<String> {
        let [pipeline, flux2] = self.ways.as_slice() else { return Vec::new() };
        let better = |what: &str, a: f64, b: f64, less: bool| {
            let (winner, ratio) = match (less, a < b) {
                (true, true) | (false, false) => ("the pipeline", if less { b / a } else { a / b }),
                (true, false) | (false, true) => ("FLUX.2 alone", if less { a / b } else { b / a }),
            };
            format!("{what}: {winner} is better, by {ratio:.2}")
        };
        let parts: Vec<f64> = self.parts.iter().map(|parts| parts.count() as f64).collect();
        let of = |figures: &Figures| figures.correct as f64 / figures.edits.max(1) as f64;
        let mut findings = vec![
            better("latency", pipeline.latency_ms, flux2.latency_ms, true),
            better("peak memory", pipeline.peak_bytes as f64, flux2.peak_bytes as f64, true),
            better("CLIP score", pipeline.clip_score, flux2.clip_score, false),
            better("correct edits", of(pipeline), of(flux2), false),
        ];
        if let [a, b] = parts[..] {
            findings.push(better("number of parts", a, b, true));
        }
        let swap = &self.swap;
        findings.push(format!(
            "where not all models fit the pipeline needs {} instead of {}, and takes {} instead of {} for an edit",
            Bytes(swap.peak_bytes),
            Bytes(pipeline.peak_bytes),
            ms(swap.latency_ms),
            ms(pipeline.latency_ms)
        ));
        findings
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, f: &mut String) -> std::fmt::Result {
        writeln!(f, "{}; edits one after the other, judged by the pixel checker\n", self.machine)?;
        writeln!(f, "{:<40} {:>22} {:>22}", "", "pipeline", "FLUX.2 alone")?;
        for (name, values) in self.rows() {
            let [pipeline, flux2] = values.as_slice() else { continue };
            writeln!(f, "{name:<40} {pipeline:>22} {flux2:>22}")?;
        }
        writeln!(f)?;
        self.findings().iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        writeln!(f)?;
        let mut goal = |what: &str, measured: String, met: bool| {
            writeln!(f, "{what:<56} {measured:>10}: {}", if met { "met" } else { "MISSED" })
        };
        for figures in &self.ways {
            let correct = figures.correct as f64 / figures.edits.max(1) as f64;
            let name = format!("{}: correct >= {:.0} %", figures.way.word(), 100.0 * CORRECT);
            goal(&name, format!("{:.0} %", 100.0 * correct), correct >= CORRECT)?;
            let ratio = figures.beside.beside_ms / figures.beside.alone_ms;
            let name =
                format!("{}: question latency beside {} edits <= {BESIDE}", figures.way.word(), figures.beside.edits);
            goal(&name, format!("{ratio:.2}"), ratio <= BESIDE)?;
        }
        if let Some(pipeline) = self.ways.iter().find(|figures| figures.way == Way::Pipeline) {
            let db = pipeline.outside_db;
            let measured = db.map_or_else(|| "unchanged".to_owned(), |db| format!("{db:.1} dB"));
            let name = format!("pipeline: PSNR outside the region >= {OUTSIDE_DB:.0} dB");
            goal(&name, measured, db.is_none_or(|db| db >= OUTSIDE_DB))?;
        }
        let Swap { made, edits, .. } = self.swap;
        goal("pipeline: edits made where not all models fit", format!("{made} of {edits}"), made == edits)
    }
}

fn ms(ms: f64) -> String {
    format!("{ms:.1} ms")
}

/// Writes `results.json`, the page, and the pictures.
pub(super) fn save(report: &Report, out: &Path) -> anyhow::Result<()> {
    let trial = |trial: &Trial| {
        json!({
            "instruction": trial.edit.instruction, "job": trial.job, "correct": trial.is_correct(), "failed": trial.failed,
            "held_out": trial.edit.held_out, "latency_us": trial.latency_us, "stages": trial.stages, "score": trial.score,
            "changed_outside": trial.judged.map(|judged| judged.outside), "found": trial.found,
        })
    };
    let edits: serde_json::Map<String, serde_json::Value> = report
        .trials
        .iter()
        .map(|(way, trials)| (way.word().to_owned(), trials.iter().map(trial).collect::<Vec<_>>().into()))
        .collect();
    let document = json!({ "report": report.summary, "edits": edits });
    std::fs::write(out.join("results.json"), serde_json::to_vec_pretty(&document)?)
        .context("cannot write results.json")?;
    for (way, trials) in &report.trials {
        for (number, trial) in (1..).zip(trials) {
            if let Some(png) = &trial.png {
                let name = format!("{number:03}-{}.png", way.word());
                std::fs::write(out.join(&name), png).with_context(|| format!("cannot write {name}"))?;
            }
        }
    }
    page::write(report, out)
}

#[cfg(test)]
mod tests {
    use super::super::beside::Beside;
    use super::super::figures::StageFigures;
    use super::*;

    fn figures(way: Way, latency_ms: f64, stages: &[&'static str]) -> Figures {
        let stage = |name: &&'static str| StageFigures { name, load_ms: 5.0, compute_ms: 20.0, peak_bytes: 1 << 20 };
        Figures {
            way,
            edits: 100,
            correct: 90,
            correct_of_two: (40, 50),
            correct_held_out: (12, 15),
            failed: 1,
            outside_db: (way == Way::Flux2).then_some(31.5),
            latency_ms,
            stages: stages.iter().map(stage).collect(),
            transfer_ms: 3.0,
            wait_ms: 0.5,
            clip_score: 30.0,
            peak_bytes: 50 << 20,
            beside: Beside { edits: 10, questions: 20, alone_ms: 10.0, beside_ms: 12.0 },
        }
    }

    #[test]
    fn a_summary_says_what_was_measured_and_who_is_better() {
        let parts = |stages, networks| Parts { stages, models: stages, networks, parameters: 2_500_000 };
        let swap = Swap {
            cap_bytes: 30 << 20,
            peak_bytes: 28 << 20,
            edits: 10,
            made: 10,
            correct: 9,
            loads: 30,
            latency_ms: 300.0,
            cost_ms: 100.0,
        };
        let ways = vec![
            figures(Way::Pipeline, 200.0, &["detect", "segment", "inpaint"]),
            figures(Way::Flux2, 100.0, &["edit"]),
        ];
        let summary = Summary { machine: "a machine".to_owned(), ways, parts: vec![parts(3, 6), parts(1, 3)], swap };
        // Whatever the width of the columns.
        let text = summary.text().split_whitespace().collect::<Vec<_>>().join(" ");
        for said in [
            "latency: FLUX.2 alone is better, by 2.00",
            "number of parts: FLUX.2 alone is better, by 2.40",
            "correct 90 of 100 90 of 100",
            "PSNR outside the region nothing changed 31.5 dB",
            "loads for an edit 3.0 -",
            "pipeline: PSNR outside the region >= 35 dB unchanged: met",
            "pipeline: question latency beside 10 edits <= 1.3 1.20: met",
            "needs 28.0 MiB instead of 50.0 MiB, and takes 300.0 ms instead of 200.0 ms",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
    }
}
