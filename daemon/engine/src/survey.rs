//! What a model would take of memory, part by part, before it is loaded or even there.
//!
//! The sum is what the engine declares of a model, by which the scheduler admits jobs until they have been measured.

use std::path::PathBuf;
use std::str::FromStr;

use candle_core::DType;
use gpusched_models::flux2::published::{PUBLISHED, Published};
use gpusched_models::{Breakdown, Entry, Error, Kind, Part, clip, flux2, owlv2, qwen3, sam2, sd3, vilt};
pub use gpusched_models::{Quantised, gguf::Quant};
use gpusched_shared::ModelInfo;

use crate::catalog;

/// The type of the numbers that a model computes with, and so of its weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes.
    F32,
    /// 2 bytes; on accelerators only.
    Bf16,
    /// 2 bytes.
    F16,
}

/// A model, and what it takes.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What the engine would say of it. Without files its `bytes` are 0.
    pub info: ModelInfo,
    /// Its parts, in the order in which they run.
    pub parts: Vec<Part>,
    /// What the parts are counted in.
    pub precision: Precision,
    /// Bytes beside the weights: tokenizer and tables.
    pub tables_bytes: u64,
    /// Where what is known of it comes from.
    pub source: Source,
    /// The largest picture that the estimate is made for, in pixels; `None` if it is for any.
    pub reliable_pixels: Option<u64>,
}

/// Where what is known of a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The files in this directory.
    Files(PathBuf),
    /// What is published at this address, which was not asked.
    Published(&'static str),
}

/// Why a model cannot be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The directories, or the model's files.
    #[error(transparent)]
    Models(#[from] Error),
    /// What is installed is what it is.
    #[error(
        "{name} is installed, and counted as its files are; what a type of quantisation would take is known of published \
         models: {}", listed(.published)
    )]
    Installed {
        /// The name.
        name: String,
        /// The published models that are known by name.
        published: Vec<String>,
    },
    /// There is none of this name.
    #[error(
        "no model {name:?} is known; there is {} in {}; published are {}; --models DIR names another directory",
        listed(.installed),
        listed(.directories),
        listed(.published)
    )]
    Unknown {
        /// The name.
        name: String,
        /// The models in the directories.
        installed: Vec<String>,
        /// The directories.
        directories: Vec<String>,
        /// The published models that are known by name.
        published: Vec<String>,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// The text is no [`Precision`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of f32, bf16 and f16")]
pub struct NotAPrecision(String);

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        let dtype = match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        };
        dtype.size_in_bytes() as u64
    }
}

impl Survey {
    /// Of a published model, the same with its transformer quantised; `None` of others, and if it is already.
    pub fn quantised(&self, quant: Quant) -> Option<Self> {
        let published = Published::find(&self.info.name).filter(|_| matches!(self.source, Source::Published(_)))?;
        let already = self.parts.iter().any(|part| part.quantised.parameters > 0);
        if already { None } else { of_published(published, self.precision, Some(quant)).ok() }
    }
}

impl FromStr for Precision {
    type Err = NotAPrecision;

    fn from_str(text: &str) -> Result<Self, NotAPrecision> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| NotAPrecision(text.to_owned()))
    }
}

/// The models in `directories`, of two of one name the first, and the published ones that are not there.
///
/// # Errors
/// [`SurveyError::Models`] if a directory cannot be listed.
pub fn names(directories: &[PathBuf]) -> Result<Vec<(String, Source)>, SurveyError> {
    let mut names: Vec<_> = gpusched_models::scan(directories)?
        .into_iter()
        .map(|Entry { name, path, .. }| (name, Source::Files(path)))
        .collect();
    for published in PUBLISHED {
        if names.iter().all(|(name, _)| name != published.name) {
            names.push((published.name.to_owned(), Source::Published(published.repository)));
        }
    }
    Ok(names)
}

/// What the model `name` takes. In `directories` it is looked for first. Without a precision, installed models are counted
/// as this engine loads them, and published ones as they are published. Of a published one it can be asked what it would
/// take with its transformer quantised.
///
/// # Errors
/// [`SurveyError`].
pub fn survey(
    directories: &[PathBuf],
    name: &str,
    precision: Option<Precision>,
    quant: Option<Quant>,
) -> Result<Survey, SurveyError> {
    let published = || PUBLISHED.iter().map(|published| published.name.to_owned()).collect();
    let installed = gpusched_models::scan(directories)?;
    if let Some(entry) = installed.iter().find(|entry| entry.name == name) {
        if quant.is_some() {
            return Err(SurveyError::Installed { name: name.to_owned(), published: published() });
        }
        return Ok(of_files(entry, precision.unwrap_or(Precision::F32))?);
    }
    if let Some(published) = Published::find(name) {
        return Ok(of_published(published, precision.unwrap_or(Precision::Bf16), quant)?);
    }
    Err(SurveyError::Unknown {
        name: name.to_owned(),
        installed: installed.into_iter().map(|entry| entry.name).collect(),
        directories: directories.iter().map(|directory| directory.display().to_string()).collect(),
        published: published(),
    })
}

fn of_files(entry: &Entry, precision: Precision) -> Result<Survey, Error> {
    let breakdown = match entry.kind {
        Kind::Flux2Klein => flux2::breakdown(&entry.path)?,
        Kind::ViltVqa => vilt::breakdown(&entry.path)?,
        Kind::Clip => clip::breakdown(&entry.path)?,
        Kind::Owlv2 => owlv2::breakdown(&entry.path)?,
        Kind::Sam2 => sam2::breakdown(&entry.path)?,
        Kind::Sd3 => sd3::breakdown(&entry.path)?,
        Kind::Qwen3 => qwen3::breakdown(&entry.path)?,
    };
    let info = catalog::info(entry, precision.bytes())?;
    Ok(survey_of(info, breakdown, precision, Source::Files(entry.path.clone())))
}

fn of_published(published: &Published, precision: Precision, quant: Option<Quant>) -> Result<Survey, Error> {
    let breakdown = quant.map_or_else(|| published.breakdown(), |quant| published.quantised(quant))?;
    let info = catalog::of_flux2(published.name, 0, published.defaults(), breakdown.footprint(), precision.bytes());
    Ok(survey_of(info, breakdown, precision, Source::Published(published.repository)))
}

fn survey_of(info: ModelInfo, breakdown: Breakdown, precision: Precision, source: Source) -> Survey {
    let Breakdown { parts, tables_bytes, .. } = breakdown;
    Survey { reliable_pixels: reliable(&info), info, parts, precision, tables_bytes, source }
}

/// See [`gpusched_models::Footprint`]. A model that makes no pictures looks at all of them in one size.
fn reliable(info: &ModelInfo) -> Option<u64> {
    let side = u64::from(info.default_size.width);
    (side > 0).then_some(4 * side * side)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gpusched_shared::TaskKind;

    use super::*;

    fn shipped() -> Vec<PathBuf> {
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/weights")]
    }

    #[test]
    fn it_says_of_a_model_what_the_catalog_declares() {
        let models = catalog::Catalog::scan(&shipped(), &crate::device::Cpu).unwrap().models();
        assert_eq!(models.len(), 6);
        for declared in models {
            let survey = survey(&shipped(), &declared.name, None, None).unwrap();
            assert_eq!(survey.info, declared);
            let weights: u64 = survey.parts.iter().map(|part| part.weights_bytes(survey.precision.bytes())).sum();
            assert_eq!(weights + survey.tables_bytes, declared.declared.weights_bytes);
        }
    }

    #[test]
    fn a_model_that_makes_no_pictures_is_counted_part_by_part() {
        let fixtures = [Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/fixtures")];
        for (name, task, parts) in
            [("clip", TaskKind::Score, 2), ("owlv2", TaskKind::Detect, 2), ("qwen3", TaskKind::Analyze, 1)]
        {
            let survey = survey(&fixtures, name, None, None).unwrap();
            assert_eq!((survey.info.kind.as_str(), survey.info.tasks.as_slice()), (name, &[task][..]));
            assert!(survey.parts.len() == parts && survey.info.declared.run_bytes > 0, "{survey:?}");
        }
    }

    #[test]
    fn precision_scales_everything_but_tables() {
        let of = |precision| survey(&[], "flux2-klein-4b", Some(precision), None).unwrap();
        let (full, half) = (of(Precision::F32), of(Precision::Bf16));
        let weights = |survey: &Survey| survey.info.declared.weights_bytes - survey.tables_bytes;
        assert_eq!(weights(&full), 2 * weights(&half));
        assert_eq!(full.info.declared.run_bytes, 2 * half.info.declared.run_bytes);
        assert_eq!(half.reliable_pixels, Some(2048 * 2048));
    }

    #[test]
    fn quantised_weights_take_what_they_take_in_any_precision() {
        let of = |precision, quant| survey(&[], "flux2-klein-4b", Some(precision), quant).unwrap();
        let quant = "q4_k".parse().unwrap();
        let (full, half) = (of(Precision::F32, Some(quant)), of(Precision::Bf16, Some(quant)));
        let transformer = |survey: &Survey| survey.parts[1].weights_bytes(survey.precision.bytes());
        let dense = survey_of_dense(&half);
        assert!(transformer(&full) < 2 * transformer(&half) && transformer(&half) < dense / 3);
        let again = of(Precision::Bf16, None).quantised(quant).unwrap();
        assert_eq!((again.info, again.parts), (half.info.clone(), half.parts.clone()));
        assert!(half.quantised(quant).is_none());

        let said = survey(&shipped(), "flux2-klein-tiny", None, Some(quant)).unwrap_err().to_string();
        assert!(said.contains("flux2-klein-tiny is installed") && said.contains("flux2-klein-9b"), "{said}");
    }

    fn survey_of_dense(survey: &Survey) -> u64 {
        survey.parts[1].parameters * survey.precision.bytes()
    }

    #[test]
    fn an_unknown_name_gets_the_known_ones() {
        let said = survey(&shipped(), "flux9", None, None).unwrap_err().to_string();
        for known in [
            "\"flux9\"",
            "clip-tiny, flux2-klein-tiny, owlv2-tiny, sam2-tiny, sd3-tiny, vilt-tiny in ",
            "models/weights",
            "flux2-klein-9b",
            "--models",
        ] {
            assert!(said.contains(known), "{said}");
        }
        let said = survey(&[], "x", None, None).unwrap_err().to_string();
        assert!(said.contains("there is nothing in nothing"), "{said}");
    }

    #[test]
    fn installed_models_come_before_published_ones() {
        let names = names(&shipped()).unwrap();
        assert_eq!(names.len(), 6 + PUBLISHED.len());
        assert!(matches!(&names[0], (name, Source::Files(_)) if name == "clip-tiny"), "{names:?}");
        assert_eq!("bf16".parse(), Ok(Precision::Bf16));
        assert!("q4_k".parse::<Precision>().is_err());
    }
}
