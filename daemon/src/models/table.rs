//! A plan in words.

use std::fmt;

use bytesize::ByteSize;
use gpusched_engine::survey::{Precision, Quantised, Source};

use super::plan::{Partition, Plan, Remedy};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (info, precision) = (&self.survey.info, self.survey.precision);
        let makes = if info.default_size.width > 0 { "making" } else { "looking at" };
        let (name, number) = (precision.name(), precision.bytes());
        writeln!(f, "{}: {makes} a picture of {}, in {name} ({number} bytes a number)", info.name, self.size)?;
        match &self.survey.source {
            Source::Files(directory) => writeln!(f, "as the files in {} say", directory.display())?,
            Source::Published(repository) => {
                writeln!(f, "computed from the published configuration of {repository}; no file was read")?;
            }
        }
        writeln!(f, "\n{:<20}{:>12}{:>12}{:>16}", "part", "parameters", "weights", "while it runs")?;
        let most = self.most().map(|part| part.name).filter(|_| self.parts.len() > 1);
        for part in &self.parts {
            let mark = if most == Some(part.name) { "  most" } else { "" };
            let (parameters, weights, run) = (count(part.parameters), size(part.weights_bytes), size(part.run_bytes));
            writeln!(f, "{:<20}{parameters:>12}{weights:>12}{run:>16}{mark}", part.name)?;
        }
        let line = |f: &mut fmt::Formatter<'_>, name: &str, bytes| writeln!(f, "{name:<32}{:>12}", size(bytes));
        line(f, "tokenizer and tables", self.survey.tables_bytes)?;
        line(f, "in memory at once", self.demand.weights_bytes)?;
        writeln!(
            f,
            "{:<32}{:>12}{:>16}",
            "peak, as admission counts",
            size(self.peak_bytes()),
            size(self.demand.run_bytes)
        )?;
        if self.parts.iter().any(|part| part.unread > 0) {
            line(f, "the whole checkpoint", self.checkpoint_bytes())?;
        }
        for part in self.parts.iter().filter(|part| part.unread > 0) {
            writeln!(f, "of the {} {} parameters are never read", part.name, count(part.unread))?;
        }
        for part in self.parts.iter().filter(|part| part.quantised.parameters > 0) {
            let Quantised { parameters, bytes } = part.quantised;
            let bits = bytes as f64 * 8.0 / parameters as f64;
            let (name, parameters) = (part.name, count(parameters));
            writeln!(f, "of the {name} {parameters} parameters stay quantised, at {bits:.1} bits each")?;
        }
        let pixels = u64::from(self.size.width) * u64::from(self.size.height);
        if self.survey.reliable_pixels.is_some_and(|reliable| pixels > reliable) {
            let side = 2 * info.default_size.width;
            writeln!(f, "the estimate is made for pictures of up to {side}x{side}: this one may take more")?;
        }
        writeln!(f)?;
        self.verdict(f)
    }
}

impl Plan {
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peak = size(self.peak_bytes());
        if self.partitions.is_empty() {
            return write!(f, "whether it fits: --cap SIZE says so, or gpuctl where a daemon runs");
        }
        let line = |partition: &Partition| {
            let fits = if self.fits(partition) { "fits" } else { "does not fit" };
            format!("{}: {fits}, {peak} of {}", called(partition), size(partition.cap_bytes))
        };
        write!(f, "{}", self.partitions.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        let Some(largest) = self.partitions.iter().max_by_key(|partition| partition.cap_bytes) else { return Ok(()) };
        if !self.remedies.is_empty() {
            write!(f, "\nwhat would help for the {}:", called(largest))?;
        }
        for remedy in &self.remedies {
            write!(f, "\n  {}", words(remedy))?;
        }
        Ok(())
    }
}

fn called(partition: &Partition) -> String {
    match &partition.class {
        // From a daemon, but printed to a terminal.
        Some(class) => format!("partition of class {}", class.escape_debug()),
        None => "partition".to_owned(),
    }
}

fn words(remedy: &Remedy) -> String {
    let enough = |fits: bool| if fits { "" } else { ", which is not enough" };
    match *remedy {
        Remedy::Smaller { side, bytes } => format!("a smaller picture: up to {side}x{side} ({})", size(bytes)),
        Remedy::HalfPrecision { bytes, fits } => {
            let half = Precision::Bf16.name();
            format!("half precision, on a device that computes in it (--dtype {half}): {}{}", size(bytes), enough(fits))
        }
        Remedy::Quantised { quant, bytes, fits } => {
            let name = quant.name();
            format!("the transformer quantised, from a GGUF file (--quant {name}): {}{}", size(bytes), enough(fits))
        }
        Remedy::Offload { part, bytes, fits } => format!(
            "the {part} out of memory while the rest runs: {}{}; this engine keeps all parts in memory",
            size(bytes),
            enough(fits)
        ),
        Remedy::Cap { bytes } => format!("a partition of {} or more", size(rounded_up(bytes))),
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

/// To what [`size`] shows, so that as much as it says is enough.
fn rounded_up(bytes: u64) -> u64 {
    let tenth =
        (0..=6).map(|power| 1000u64.pow(power)).take_while(|unit| *unit <= bytes).last().unwrap_or(1).div_ceil(10);
    bytes.div_ceil(tenth).saturating_mul(tenth)
}

/// A number of parameters: `9.08 G`, `84.0 M`, `12.3 k`.
fn count(parameters: u64) -> String {
    let value = parameters as f64;
    match parameters {
        0..1000 => parameters.to_string(),
        1000..1_000_000 => format!("{:.1} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gpusched_engine::survey::survey;
    use gpusched_shared::Size;

    use super::*;

    #[test]
    fn a_plan_says_where_it_comes_from_and_what_would_help() {
        let survey = survey(&[], "flux2-klein-9b", Some(Precision::F32), None).unwrap();
        let light = Partition { class: Some("light".to_owned()), cap_bytes: 14_000_000_000 };
        let heavy = Partition { class: Some("heavy".to_owned()), cap_bytes: 34_000_000_000 };
        let text = Plan::of(survey, None, vec![light, heavy]).unwrap().to_string();
        for part in [
            "flux2-klein-9b: making a picture of 1024x1024, in f32 (4 bytes a number)\n",
            "the published configuration of black-forest-labs/FLUX.2-klein-9B; no file was read\n",
            "\ntransformer               9.08 G     36.3 GB",
            "\nof the text encoder 2.36 G parameters are never read\n",
            "\npartition of class light: does not fit, ",
            "what would help for the partition of class heavy:",
            "this engine keeps all parts in memory",
            "\n  a partition of ",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("a smaller picture"), "no picture is small enough:\n{text}");
    }

    #[test]
    fn a_plan_says_what_stays_quantised_and_what_would() {
        let text = |quant| {
            let survey = survey(&[], "flux2-klein-9b", None, quant).unwrap();
            let partition = Partition { class: None, cap_bytes: 24_000_000_000 };
            Plan::of(survey, None, vec![partition]).unwrap().to_string()
        };
        let dense = text(None);
        assert!(dense.contains("\n  the transformer quantised, from a GGUF file (--quant q"), "{dense}");
        let quantised = text(Some("q4_k".parse().unwrap()));
        assert!(quantised.contains("parameters stay quantised, at 4.5 bits each\n"), "{quantised}");
        assert!(quantised.contains("partition: fits, "), "{quantised}");
    }

    #[test]
    fn pictures_beyond_the_estimate_are_marked() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights");
        let text = |side| {
            let survey = survey(std::slice::from_ref(&directory), "flux2-klein-tiny", None, None).unwrap();
            let text = Plan::of(survey, Some(Size { width: side, height: side }), Vec::new()).unwrap().to_string();
            assert!(text.contains("--cap SIZE says so") && text.contains("as the files in "), "{text}");
            text
        };
        assert!(!text(128).contains("may take more"));
        assert!(text(144).contains("up to 128x128: this one may take more"));
    }

    #[test]
    fn what_is_advised_is_enough() {
        for (bytes, text) in
            [(33_400_000_001, "33.5 GB"), (33_400_000_000, "33.4 GB"), (16_300_000, "16.3 MB"), (999, "999 B")]
        {
            assert_eq!(size(rounded_up(bytes)), text);
        }
        assert!(rounded_up(u64::MAX) > 0 && rounded_up(0) == 0);
    }

    #[test]
    fn parameters_are_short() {
        let cases = [(999, "999"), (12_345, "12.3 k"), (84_046_115, "84.0 M"), (9_078_581_248, "9.08 G")];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
    }
}
