//! What a model takes for a picture of some size, whether that fits, and what would help if not.
//!
//! The sum is what admission asks of a partition, from the same function.

use gpusched_core::footprint::{Footprints, Shape};
use gpusched_core::policy::admission::Demand;
use gpusched_core::{Catalog, ModelId, Picture};
use gpusched_engine::survey::{Quant, Quantised, Source, Survey};
use gpusched_shared::spec::MAX_IMAGE_PIXELS;
use gpusched_shared::{
    BlobHash, BlobRef, Declared, ImageSpec, InpaintSpec, JobSpec, Rejection, Size, Task, TaskKind, VqaSpec,
};
use serde_json::{Value, json};

/// Types of quantisation that are advised.
const ADVISED: [&str; 4] = ["q8_0", "q6_k", "q5_k", "q4_k"];

/// The picture that is looked at where no size is given.
const LOOKED_AT: Size = Size { width: 512, height: 512 };

/// Memory that a model may fit into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// The class whose it is; `None` if the caller just gave a number.
    pub(super) class: Option<String>,
    pub(super) cap_bytes: u64,
}

/// A part, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartPlan {
    pub(super) name: &'static str,
    pub(super) parameters: u64,
    pub(super) unread: u64,
    pub(super) quantised: Quantised,
    pub(super) weights_bytes: u64,
    /// While it runs, beside all weights.
    pub(super) run_bytes: u64,
}

/// What would make it fit, and what it would take then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A square picture of so many pixels to a side.
    Smaller { side: u32, bytes: u64 },
    /// Numbers of half the size.
    HalfPrecision { bytes: u64, fits: bool },
    /// The transformer's matrices quantised to this type.
    Quantised { quant: Quant, bytes: u64, fits: bool },
    /// The first part out of memory while the others run, and they while it does. The engine does not do that.
    Offload { part: &'static str, bytes: u64, fits: bool },
    /// A partition of this size.
    Cap { bytes: u64 },
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) survey: Survey,
    pub(super) size: Size,
    pub(super) parts: Vec<PartPlan>,
    /// What admission asks for.
    pub(super) demand: Demand,
    pub(super) partitions: Vec<Partition>,
    /// Only if it fits no partition: for the largest of them.
    pub(super) remedies: Vec<Remedy>,
}

impl Plan {
    /// # Errors
    /// A [`Rejection`] as a job's, if the model makes no pictures of that size.
    pub(super) fn of(survey: Survey, size: Option<Size>, partitions: Vec<Partition>) -> Result<Self, Rejection> {
        let catalog = Catalog::new(vec![survey.info.clone()]);
        let (size, demand) = demand(&catalog, size)?;
        let number = survey.precision.bytes();
        let parts = survey.parts.iter().map(|part| PartPlan {
            name: part.name,
            parameters: part.parameters,
            unread: part.unread,
            quantised: part.quantised,
            weights_bytes: part.weights_bytes(number),
            run_bytes: (part.run_numbers + part.run_numbers_per_pixel * pixels(size)) * number,
        });
        let parts = parts.collect();
        let mut plan = Self { survey, size, parts, demand, partitions, remedies: Vec::new() };
        let largest = plan.partitions.iter().map(|partition| partition.cap_bytes).max();
        if let Some(cap) = largest.filter(|cap| *cap < plan.peak_bytes()) {
            plan.remedies = plan.remedies(&catalog, cap);
        }
        Ok(plan)
    }

    /// The most that is in memory at once.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.demand.bytes()
    }

    /// All weights of the checkpoint, those that are never read included.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.weights_bytes + part.unread * self.survey.precision.bytes()).sum()
    }

    /// The part that needs most while it runs.
    pub(super) fn most(&self) -> Option<&PartPlan> {
        self.parts.iter().max_by_key(|part| part.run_bytes)
    }

    pub(super) fn fits(&self, partition: &Partition) -> bool {
        self.peak_bytes() <= partition.cap_bytes
    }

    fn remedies(&self, catalog: &Catalog, cap: u64) -> Vec<Remedy> {
        let mut remedies = Vec::new();
        let step = self.survey.info.size_multiple.max(16);
        let sides = (step..).step_by(step as usize).take_while(|side| square(*side) < pixels(self.size));
        let sizes = sides.map_while(|side| {
            let size = Size { width: side, height: side };
            demand(catalog, Some(size)).ok().map(|(_, demand)| (side, demand.bytes()))
        });
        if let Some((side, bytes)) = sizes.filter(|(_, bytes)| *bytes <= cap).last() {
            remedies.push(Remedy::Smaller { side, bytes });
        }
        if self.survey.precision.bytes() > 2 {
            let mut info = self.survey.info.clone();
            let Declared { weights_bytes, run_bytes, run_bytes_per_pixel } = &mut info.declared;
            let same = self.survey.tables_bytes + self.parts.iter().map(|part| part.quantised.bytes).sum::<u64>();
            *weights_bytes = (*weights_bytes - same) / 2 + same;
            (*run_bytes, *run_bytes_per_pixel) = (*run_bytes / 2, *run_bytes_per_pixel / 2);
            if let Ok((_, demand)) = demand(&Catalog::new(vec![info]), Some(self.size)) {
                remedies.push(Remedy::HalfPrecision { bytes: demand.bytes(), fits: demand.bytes() <= cap });
            }
        }
        // The largest that is enough, or else the smallest that pictures bear well.
        let quantised = Quant::ALL.into_iter().filter(|quant| ADVISED.contains(&quant.name())).filter_map(|quant| {
            let survey = self.survey.quantised(quant)?;
            let (_, demand) = demand(&Catalog::new(vec![survey.info]), Some(self.size)).ok()?;
            Some(Remedy::Quantised { quant, bytes: demand.bytes(), fits: demand.bytes() <= cap })
        });
        let quantised: Vec<_> = quantised.collect();
        let enough = quantised.iter().find(|remedy| matches!(remedy, Remedy::Quantised { fits: true, .. }));
        remedies.extend(enough.or(quantised.last()));
        if let [first, rest @ ..] = self.parts.as_slice()
            && !rest.is_empty()
        {
            let weights: u64 = rest.iter().map(|part| part.weights_bytes).sum();
            let run = rest.iter().map(|part| part.run_bytes).max().unwrap_or(0);
            let bytes = (weights + run).max(first.weights_bytes + first.run_bytes) + self.survey.tables_bytes;
            remedies.push(Remedy::Offload { part: first.name, bytes, fits: bytes <= cap });
        }
        remedies.push(Remedy::Cap { bytes: self.peak_bytes() });
        remedies
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let part = |part: &PartPlan| {
            json!({
                "part": part.name, "parameters": part.parameters, "unread_parameters": part.unread,
                "quantised_parameters": part.quantised.parameters, "quantised_bytes": part.quantised.bytes,
                "weights_bytes": part.weights_bytes, "run_bytes": part.run_bytes,
            })
        };
        let partition = |partition: &Partition| json!({ "class": partition.class, "cap_bytes": partition.cap_bytes, "fits": self.fits(partition) });
        let remedy = |remedy: &Remedy| match *remedy {
            Remedy::Smaller { side, bytes } => {
                json!({ "remedy": "size", "side": side, "peak_bytes": bytes, "fits": true })
            }
            Remedy::HalfPrecision { bytes, fits } => json!({ "remedy": "dtype", "peak_bytes": bytes, "fits": fits }),
            Remedy::Quantised { quant, bytes, fits } => {
                json!({ "remedy": "quant", "quant": quant.name(), "peak_bytes": bytes, "fits": fits })
            }
            Remedy::Offload { part, bytes, fits } => {
                json!({ "remedy": "offload", "part": part, "peak_bytes": bytes, "fits": fits, "possible": false })
            }
            Remedy::Cap { bytes } => json!({ "remedy": "cap", "cap_bytes": bytes }),
        };
        let (directory, published) = match &self.survey.source {
            Source::Files(directory) => (Some(directory.to_string_lossy()), None),
            Source::Published(repository) => (None, Some(*repository)),
        };
        json!({
            "model": self.survey.info.name, "kind": self.survey.info.kind,
            "directory": directory, "published": published,
            "width": self.size.width, "height": self.size.height, "dtype": self.survey.precision.name(),
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
            "tables_bytes": self.survey.tables_bytes,
            "weights_bytes": self.demand.weights_bytes, "run_bytes": self.demand.run_bytes,
            "peak_bytes": self.peak_bytes(), "checkpoint_bytes": self.checkpoint_bytes(),
            "partitions": self.partitions.iter().map(partition).collect::<Vec<_>>(),
            "remedies": self.remedies.iter().map(remedy).collect::<Vec<_>>(),
        })
    }
}

/// What admission asks for a job of the catalog's only model, and the size of the picture that it makes or looks at.
fn demand(catalog: &Catalog, size: Option<Size>) -> Result<(Size, Demand), Rejection> {
    let looks = catalog.models().iter().any(|model| model.default_size.width == 0);
    let (spec, pictures, size) = if looks {
        let size = size.unwrap_or(LOOKED_AT);
        if pixels(size) > MAX_IMAGE_PIXELS {
            let reason = format!("{size} has more than the {MAX_IMAGE_PIXELS} pixels that a picture may have");
            return Err(Rejection::BadSpec { field: "size".to_owned(), reason });
        }
        let blob = BlobRef { hash: BlobHash::of(&[]), bytes: 0 };
        let spec = JobSpec::new(Task::Vqa(VqaSpec { question: "what is this?".to_owned(), top: 1 }));
        (spec, vec![Picture { blob, pixels: pixels(size) }], size)
    } else {
        let image = ImageSpec::new("a picture");
        let makes_whole = catalog.models().iter().any(|model| model.tasks.contains(&TaskKind::Txt2Img));
        let (task, inputs) = if makes_whole {
            (Task::Txt2Img(ImageSpec { size, ..image }), 0)
        } else {
            // Parts of a picture are made in its size; the mask is the second picture.
            (Task::Inpaint(InpaintSpec { image, grow: None }), 2)
        };
        let spec = JobSpec::new(task);
        spec.validate(inputs)?;
        let spec = catalog.resolve(spec, 0)?;
        let size = spec.task.size().or(size).unwrap_or(LOOKED_AT);
        let blob = BlobRef { hash: BlobHash::of(&[]), bytes: 0 };
        (spec, vec![Picture { blob, pixels: pixels(size) }; inputs], size)
    };
    let shape = Shape::of(ModelId(0), &spec, &pictures);
    // In a partition without bound, for what is measured there is nothing here.
    Ok((size, Footprints::default().demand(catalog, shape, u64::MAX)))
}

fn pixels(size: Size) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

fn square(side: u32) -> u64 {
    u64::from(side) * u64::from(side)
}

#[cfg(test)]
mod tests {
    use gpusched_engine::survey::{Precision, survey};

    use super::*;

    const GB: u64 = 1_000_000_000;

    fn plan(name: &str, precision: Precision, size: Option<u32>, cap: Option<u64>) -> Plan {
        let survey = survey(&[], name, Some(precision), None).unwrap();
        let partitions = cap.map(|cap_bytes| Partition { class: None, cap_bytes }).into_iter().collect();
        Plan::of(survey, size.map(|side| Size { width: side, height: side }), partitions).unwrap()
    }

    #[test]
    fn klein_9b_fits_the_published_34_gb() {
        let plan = plan("flux2-klein-9b", Precision::Bf16, Some(1024), Some(34 * GB));
        println!("{plan}");
        assert!((33 * GB..36 * GB).contains(&plan.checkpoint_bytes()), "{}", plan.checkpoint_bytes());
        assert!((33 * GB..36 * GB).contains(&plan.peak_bytes()), "{}", plan.peak_bytes());
        assert!(plan.fits(&plan.partitions[0]) && plan.remedies.is_empty());
    }

    #[test]
    fn admission_asks_for_no_less_than_any_part_needs() {
        for precision in Precision::ALL {
            for side in [64, 512, 1024, 2048] {
                let plan = plan("flux2-klein-4b", precision, Some(side), None);
                let most = plan.most().unwrap().run_bytes;
                let weights: u64 = plan.parts.iter().map(|part| part.weights_bytes).sum();
                assert_eq!(plan.demand.weights_bytes, weights + plan.survey.tables_bytes);
                assert!(plan.demand.run_bytes >= most && plan.demand.run_bytes <= 2 * most, "{precision:?} {side}");
            }
        }
    }

    #[test]
    fn remedies_are_true() {
        let plan = plan("flux2-klein-9b", Precision::F32, Some(1024), Some(62 * GB));
        assert!(!plan.fits(&plan.partitions[0]));
        let [Remedy::Smaller { side, bytes }, half, quantised, offload, Remedy::Cap { bytes: cap }] = plan.remedies[..]
        else {
            panic!("{:?}", plan.remedies)
        };
        let sized = |side| self::plan("flux2-klein-9b", Precision::F32, Some(side), None).peak_bytes();
        assert_eq!(sized(side), bytes);
        assert!(bytes <= 62 * GB && sized(side + 16) > 62 * GB, "{side} is the largest");
        let in_half = self::plan("flux2-klein-9b", Precision::F16, Some(1024), None).peak_bytes();
        assert_eq!(half, Remedy::HalfPrecision { bytes: in_half, fits: true });
        assert!(
            matches!(quantised, Remedy::Quantised { quant, fits: true, .. } if quant.name() == "q8_0"),
            "{quantised:?}"
        );
        assert!(matches!(offload, Remedy::Offload { part: "text encoder", fits: true, .. }), "{offload:?}");
        assert_eq!(cap, plan.peak_bytes());
    }

    #[test]
    fn a_quantised_transformer_takes_less_and_the_rest_the_same() {
        let of = |quant: Option<&str>| {
            let quant = quant.map(|name| name.parse().unwrap());
            let survey = survey(&[], "flux2-klein-9b", Some(Precision::Bf16), quant).unwrap();
            let partition = Partition { class: None, cap_bytes: 24 * GB };
            Plan::of(survey, Some(Size { width: 1024, height: 1024 }), vec![partition]).unwrap()
        };
        let (dense, q8, q4) = (of(None), of(Some("q8_0")), of(Some("q4_k")));
        println!("{dense}\n\n{q8}\n\n{q4}");
        assert_eq!((dense.parts[0], dense.parts[2]), (q4.parts[0], q4.parts[2]));
        assert!(q4.parts[1].weights_bytes < q8.parts[1].weights_bytes);
        assert!(q8.parts[1].weights_bytes < dense.parts[1].weights_bytes * 6 / 10);
        assert!(q4.fits(&q4.partitions[0]) && q4.remedies.is_empty());
        let advised = dense.remedies.iter().find(|remedy| matches!(remedy, Remedy::Quantised { .. })).unwrap();
        let Remedy::Quantised { quant, bytes, fits: true } = *advised else { panic!("{advised:?}") };
        assert_eq!(bytes, of(Some(quant.name())).peak_bytes());
        assert!(!q8.remedies.iter().any(|remedy| matches!(remedy, Remedy::Quantised { .. })));
    }

    #[test]
    fn a_model_that_answers_is_planned_as_its_jobs_are_admitted() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights");
        let of = |size| {
            Plan::of(survey(std::slice::from_ref(&directory), "vilt-tiny", None, None).unwrap(), size, Vec::new())
        };
        let (small, large) = (of(None).unwrap(), of(Some(Size { width: 2048, height: 2048 })).unwrap());
        assert_eq!((small.size, small.parts.len(), small.parts[0].unread), (LOOKED_AT, 1, 0));
        assert!(large.demand.run_bytes > small.demand.run_bytes, "it takes more to decode");
        assert!(of(Some(Size { width: u32::MAX, height: u32::MAX })).is_err());
    }

    #[test]
    fn sizes_that_the_model_does_not_make_are_refused_as_jobs_are() {
        let refusal = |size| {
            let survey = survey(&[], "flux2-klein-4b", None, None).unwrap();
            Plan::of(survey, Some(size), Vec::new()).unwrap_err().to_string()
        };
        let said = refusal(Size { width: 1000, height: 1000 });
        assert!(said.contains("try 992x992"), "{said}");
        let said = refusal(Size { width: 4096, height: 4096 });
        assert!(said.contains("more than the 4194304 pixels"), "{said}");
    }
}
