//! The sections of the page: a title that says what is to be seen, the chart, what its colours mean, the numbers behind it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gpusched_shared::{MemoryEvent, Reflection, Round, Verdict};
use maud::{Markup, PreEscaped, html};
use plotters::prelude::RGBColor;

use super::chart::bars::Bar;
use super::chart::{self, colors};
use super::record::{ClassInfo, Latency, Record, Shown};
use super::words::{bytes, count, span};
use super::{ReportError, figures, tables};

/// Characters of a prompt that are shown.
const PROMPT: usize = 400;

/// A figure with its title, and what stands below.
fn figure(id: &str, title: &str, note: &str, drawn: &Markup, below: &Markup) -> Markup {
    html! {
        section id=(id) {
            figure {
                figcaption { h2 { (title) } @if !note.is_empty() { p { (note) } } }
                (drawn)
            }
            (below)
        }
    }
}

fn legend(entries: &[(String, RGBColor)]) -> Markup {
    html! {
        ul.legend {
            @for (name, color) in entries {
                li { (swatch(*color)) (name) }
            }
        }
    }
}

/// A square of a colour, which the style sheet finds as it finds the marks.
fn swatch(RGBColor(r, g, b): RGBColor) -> Markup {
    let color = format!("#{r:02X}{g:02X}{b:02X}");
    html! { svg.swatch viewBox="0 0 12 12" aria-hidden="true" { rect width="12" height="12" rx="2" fill=(color) {} } }
}

/// What ran on which lane.
pub(super) fn lanes(record: &Record) -> Result<Markup, ReportError> {
    let parked: u64 =
        record.spans.iter().flat_map(|span| &span.parked).map(|s| s.until_us.saturating_sub(s.from_us)).sum();
    let parks: usize = record.spans.iter().map(|span| span.parked.len()).sum();
    let title = if parks == 0 {
        "What ran on which lane".to_owned()
    } else {
        format!(
            "What ran on which lane; heavier work made way {}, for {} in all",
            count(parks as u64, "time", "times"),
            span(parked as f64)
        )
    };
    let mut entries: Vec<(String, RGBColor)> =
        record.classes.iter().map(|class| class.name.clone()).zip(colors(&record.classes)).collect();
    entries.push(("parked, for lighter work".to_owned(), chart::HEAVY_PARKED));
    let drawn = PreEscaped(chart::lanes::chart(record)?);
    let below = html! { (legend(&entries)) (tables::spans(record)) };
    let baseline = record.comparison.as_ref().and_then(|compared| compared.baseline.as_deref());
    let beside = match baseline {
        Some(one) => {
            let drawn = PreEscaped(chart::lanes::chart(one)?);
            figure("lanes-fifo", "The same jobs in one queue", "", &drawn, &tables::spans(one))
        }
        None => html! {},
    };
    Ok(html! { (figure("lanes", &title, "", &drawn, &below)) (beside) })
}

/// How long jobs took, in one queue and in several if both were measured.
pub(super) fn latency(record: &Record) -> Result<Markup, ReportError> {
    let Some(compared) = &record.comparison else { return latency_of_one(record) };
    let (title, palette) = match compared.gain() {
        Some((class, times)) => (
            format!("Several queues answer {class} work {} times sooner than one", super::words::short(times)),
            colors(&record.classes),
        ),
        None => ("One queue and several: no class gains".to_owned(), colors(&record.classes)),
    };
    let mut bars = Vec::new();
    for (class, color) in record.classes.iter().zip(palette) {
        let of = |all: &[Latency]| all.iter().find(|latency| latency.class == class.name).cloned();
        for (policy, latency, color) in
            [("one queue", of(&compared.fifo), chart::FIFO), ("several queues", of(&compared.multi_queue), color)]
        {
            bars.extend(latency.map(|latency| Bar {
                name: format!("{}, {policy}", class.name),
                value: span(latency.mean_us()),
                parts: vec![(latency.mean_us(), color)],
            }));
        }
    }
    let label = "mean latency of each class, in one queue and in several";
    let drawn = PreEscaped(chart::bars::chart("latency", label, &bars)?);
    let below =
        tables::latencies(&[("one queue", compared.fifo.as_slice()), ("several queues", &compared.multi_queue)]);
    let note = format!("Mean latency, waiting and running. {}", compared.title);
    Ok(figure("latency", &title, &note, &drawn, &below))
}

fn latency_of_one(record: &Record) -> Result<Markup, ReportError> {
    let latencies = figures::latencies(record);
    let note = "Mean latency, waiting and running, of jobs that were done. What one queue would have made of the same jobs cannot be \
                told from a record: gpuctl demo measures both, gpuctl simulate plays both.";
    if latencies.is_empty() {
        return Ok(figure("latency", "No job was done in that time", note, &html! {}, &html! {}));
    }
    let title = format!("How long jobs took, policy {}", record.policy);
    let color = |name: &str| {
        let place = record.classes.iter().position(|class| class.name == name);
        place.and_then(|place| colors(&record.classes).get(place).copied()).unwrap_or(chart::LIGHT)
    };
    let bars: Vec<Bar> = latencies
        .iter()
        .map(|latency| Bar {
            name: format!("{}, {}", latency.class, count(latency.jobs, "job", "jobs")),
            value: span(latency.mean_us()),
            parts: vec![(latency.wait_mean_us, chart::FIFO), (latency.run_mean_us, color(&latency.class))],
        })
        .collect();
    let drawn = PreEscaped(chart::bars::chart("latency", "mean latency of each class", &bars)?);
    let below = html! {
        (legend(&[("waiting".to_owned(), chart::FIFO)]))
        (tables::latencies(&[(record.policy.as_str(), latencies.as_slice())]))
    };
    Ok(figure("latency", &title, note, &drawn, &below))
}

/// Memory of stages by what they do.
pub(super) fn stages(record: &Record) -> Result<Markup, ReportError> {
    let figures = figures::stages(record);
    let note = "Beside the weights of their model: average of the peaks, and the highest.";
    if figures.is_empty() {
        return Ok(figure("stages", "Memory of stages: none was measured", note, &html! {}, &html! {}));
    }
    let palette: Vec<(&ClassInfo, RGBColor)> = record.classes.iter().zip(colors(&record.classes)).collect();
    let color =
        |name: &str| palette.iter().find(|(class, _)| class.name == name).map_or(chart::LIGHT, |(_, color)| *color);
    let bars: Vec<Bar> = figures
        .iter()
        .take(tables::KINDS)
        .map(|stage| Bar {
            name: stage.stage.clone(),
            value: format!("{} / {}", bytes(stage.mean_bytes), bytes(stage.peak_bytes as f64)),
            parts: vec![
                (stage.mean_bytes, color(&stage.class)),
                (stage.peak_bytes as f64 - stage.mean_bytes, chart::FIFO),
            ],
        })
        .collect();
    let title = format!("Memory of stages: at most {}", bytes(figures[0].peak_bytes as f64));
    let drawn = PreEscaped(chart::bars::chart("memory of stages", "average and peak memory of stages", &bars)?);
    Ok(figure(
        "stages",
        &title,
        note,
        &drawn,
        &html! { (legend(&[("peak".to_owned(), chart::FIFO)])) (tables::stages(&figures)) },
    ))
}

/// How jobs ended.
pub(super) fn outcomes(record: &Record) -> Result<Markup, ReportError> {
    let outcomes = figures::outcomes(record);
    let number = |word: &str| outcomes.iter().find(|(name, _)| *name == word).map_or(0, |(_, count)| *count);
    let (done, all) = (number("done"), record.jobs.len());
    let title = format!("{done} of {} done", count(all as u64, "job", "jobs"));
    let retried: u64 = record.jobs.iter().map(|job| u64::from(job.retries)).sum();
    let oom = figures::out_of_memory(record);
    let note = format!(
        "{} ran out of memory; {}.",
        count(oom as u64, "attempt", "attempts"),
        count(retried, "retry", "retries")
    );
    let parts: Vec<(u64, RGBColor)> = figures::OUTCOMES.into_iter().map(number).zip(chart::OUTCOMES).collect();
    let share = if all == 0 { String::new() } else { format!("{} %", done * 100 / all as u64) };
    let label = format!("outcomes: {title}");
    let Some(drawn) = chart::donut::chart(&label, &share, &parts)? else {
        return Ok(figure("outcomes", "No jobs in that time", "", &html! {}, &html! {}));
    };
    let entries: Vec<(String, RGBColor)> = figures::OUTCOMES
        .into_iter()
        .zip(chart::OUTCOMES)
        .filter(|(word, _)| number(word) > 0)
        .map(|(word, color)| (format!("{word}: {}", number(word)), color))
        .collect();
    let drawn = html! { div.pie { (PreEscaped(drawn)) (legend(&entries)) } };
    Ok(figure("outcomes", &title, &note, &drawn, &tables::outcomes(&outcomes)))
}

/// What partitions held.
pub(super) fn memory(record: &Record) -> Result<Markup, ReportError> {
    let mut drawn = Vec::new();
    for (class, color) in record.classes.iter().zip(colors(&record.classes)) {
        if let Some(chart) = chart::memory::chart(record, class, color)? {
            let samples = || record.memory.iter().filter(|sample| sample.class == class.name);
            let times = |event| samples().filter(|sample| sample.event == event).count() as u64;
            let highest = samples().map(|sample| sample.used_bytes).max().unwrap_or(0);
            let title = format!(
                "Memory of {}: at most {} of {} in use",
                class.name,
                bytes(highest as f64),
                bytes(class.cap_bytes as f64)
            );
            let note = format!(
                "{}, out of memory {}.",
                count(times(MemoryEvent::Flushed), "flush", "flushes"),
                count(times(MemoryEvent::OutOfMemory), "time", "times")
            );
            let entries = [
                ("in use".to_owned(), color),
                ("promised".to_owned(), chart::RESERVED),
                ("flushed".to_owned(), chart::FLUSH),
                ("out of memory".to_owned(), chart::OOM),
            ];
            let below = html! { (legend(&entries)) (tables::memory(record, &class.name)) };
            drawn.push(figure(&format!("memory-{}", drawn.len()), &title, &note, &PreEscaped(chart), &below));
        }
    }
    Ok(html! { @for figure in &drawn { (figure) } })
}

/// How often pictures pass, and how some of them came about.
pub(super) fn reflection(record: &Record) -> Result<Markup, ReportError> {
    let Some(quality) = &record.quality else { return Ok(html! {}) };
    let percent = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0} %", rate * 100.0));
    let title = format!(
        "self_success_rate {}, {} at the first picture",
        percent(quality.overall.rate()),
        percent(quality.overall.first_rate())
    );
    let note = format!(
        "The judge's word on {}, in the order in which they ended.",
        count(quality.overall.jobs, "job that reflected", "jobs that reflected")
    );
    let drawn = PreEscaped(chart::trend::chart(&quality.trend)?);
    let entries = [("in the end".to_owned(), chart::PASSED), ("at the first picture".to_owned(), chart::PASSED_FIRST)];
    let below = html! { (legend(&entries)) (tables::trend(quality)) };
    Ok(html! {
        (figure("trend", &title, &note, &drawn, &below))
        @if !record.shown.is_empty() {
            section id="rounds" {
                h2 { "Pictures, round by round" }
                @for shown in &record.shown { (one(shown)) }
            }
        }
    })
}

fn one(shown: &Shown) -> Markup {
    let Some(reflection) = &shown.job.reflection else { return html! {} };
    html! {
        article.shown {
            h3 { "Job " (shown.job.id) ": " (cut(shown.job.spec.task.text())) }
            p.note { (ended(reflection)) }
            div.rounds { @for round in &reflection.rounds { (self::round(round, shown, reflection)) } }
        }
    }
}

fn ended(reflection: &Reflection) -> String {
    let rounds = count(reflection.rounds.len() as u64, "round", "rounds");
    match (reflection.verdict, reflection.end) {
        (Some(verdict), Some(end)) => format!("{verdict} after {rounds}: {end}."),
        (_, Some(end)) => format!("{rounds}: {end}."),
        (_, None) => format!("{rounds} so far."),
    }
}

fn round(round: &Round, shown: &Shown, reflection: &Reflection) -> Markup {
    let picture = shown.pictures.iter().find(|(number, _)| *number == round.number).map(|(_, bytes)| bytes);
    let first = reflection.rounds.first().map(|first| first.number) == Some(round.number);
    html! {
        div.round {
            @match picture {
                Some(bytes) => { img src=(data_uri(bytes)) alt=(format!("picture of round {}", round.number)); }
                None if round.rejected_early => { div.none { "given up half-way" } }
                None => { div.none { "no picture" } }
            }
            p {
                "Round " (round.number) ": "
                @match round.verdict {
                    Some(verdict @ Verdict::Pass) => { span.verdict.pass { (verdict) } }
                    Some(verdict @ Verdict::Fail) => { span.verdict.fail { (verdict) } }
                    None => { "no verdict" }
                }
                @if reflection.best == Some(round.number) { ", the result" }
            }
            @if !first { p { "Asked again: " (cut(&round.prompt)) } }
            ul.checks {
                @for check in &round.checks {
                    li {
                        span class=(if check.passed { "pass" } else { "fail" }) { (if check.passed { "✓ " } else { "✗ " }) }
                        (cut(&check.question)) " "
                        (check.answer.as_deref().map_or("no answer", |answer| answer))
                        @if !check.passed { ", expected " (check.expected) }
                        ", " (format!("{:.0} %", f64::from(check.confidence) * 100.0)) " for that"
                    }
                }
            }
        }
    }
}

fn data_uri(bytes: &[u8]) -> String {
    let kind = if bytes.starts_with(b"\x89PNG") { "png" } else { "jpeg" };
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(PROMPT).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
