//! The models there are, and what is known of them without loading them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::DType;
use gpusched_models::flux2::{self, Defaults};
use gpusched_models::{Entry, Error, Footprint, Kind, clip, owlv2, qwen3, sam2, sd3, vilt};
use gpusched_shared::{Declared, FailureKind, ModelInfo, Size, TaskKind};

use crate::device::Device;
use crate::event::Failure;

/// Steps and guidance, in thousandths, where none are asked for, of models distilled to few steps without guidance.
const DISTILLED: (u32, u32) = (4, 1000);
/// And of others.
const UNDISTILLED: (u32, u32) = (20, 3000);

/// The models of some directories.
#[derive(Debug)]
pub(crate) struct Catalog {
    models: BTreeMap<String, Known>,
}

/// A model, and what is known of it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) entry: Entry,
    pub(crate) info: ModelInfo,
    /// In what it is computed.
    pub(crate) dtype: DType,
}

impl Catalog {
    /// Looks into `directories` for models to be computed on a device; of two models of one name the first counts.
    pub(crate) fn scan(directories: &[PathBuf], device: &dyn Device) -> Result<Self, Error> {
        let mut models = BTreeMap::new();
        for entry in gpusched_models::scan(directories)? {
            let known = entry.stored_type().and_then(|stored| {
                let dtype = device.compute_type(stored);
                info(&entry, dtype.size_in_bytes() as u64).map(|info| (info, dtype))
            });
            match known {
                Ok((info, dtype)) => {
                    models.insert(entry.name.clone(), Known { entry, info, dtype });
                }
                // One model that cannot be read must not take the others away.
                Err(e) => tracing::warn!(model = entry.name, "left out of the catalog: {e}"),
            }
        }
        Ok(Self { models })
    }

    pub(crate) fn models(&self) -> Vec<ModelInfo> {
        self.models.values().map(|known| known.info.clone()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Known, Failure> {
        let none = || Failure { kind: FailureKind::Model, message: format!("no model {name} in the catalog") };
        self.models.get(name).ok_or_else(none)
    }
}

/// What is known of a model whose numbers take so many bytes.
pub(crate) fn info(entry: &Entry, number_bytes: u64) -> Result<ModelInfo, Error> {
    match entry.kind {
        Kind::Flux2Klein => {
            let (defaults, footprint) = (flux2::defaults(&entry.path)?, flux2::footprint(&entry.path)?);
            Ok(of_flux2(&entry.name, entry.bytes, defaults, footprint, number_bytes))
        }
        Kind::ViltVqa => Ok(looking(entry, vec![TaskKind::Vqa], vilt::footprint(&entry.path)?, number_bytes)),
        Kind::Clip => Ok(looking(entry, vec![TaskKind::Score], clip::footprint(&entry.path)?, number_bytes)),
        Kind::Owlv2 => Ok(looking(entry, vec![TaskKind::Detect], owlv2::footprint(&entry.path)?, number_bytes)),
        Kind::Sam2 => Ok(looking(entry, vec![TaskKind::Segment], sam2::footprint(&entry.path)?, number_bytes)),
        Kind::Qwen3 => Ok(looking(entry, vec![TaskKind::Analyze], qwen3::footprint(&entry.path)?, number_bytes)),
        Kind::Sd3 => {
            let defaults = sd3::defaults(&entry.path)?;
            let whole = (!defaults.only_parts).then_some(TaskKind::Txt2Img);
            let tasks = whole.into_iter().chain([TaskKind::Inpaint]).collect();
            Ok(ModelInfo {
                default_size: Size { width: defaults.side, height: defaults.side },
                size_multiple: defaults.multiple,
                default_steps: sd3::Defaults::STEPS,
                default_guidance_milli: (sd3::Defaults::GUIDANCE * 1000.0) as u32,
                ..looking(entry, tasks, sd3::footprint(&entry.path)?, number_bytes)
            })
        }
    }
}

/// Likewise, of a model that looks at pictures and makes none.
fn looking(entry: &Entry, tasks: Vec<TaskKind>, footprint: Footprint, number_bytes: u64) -> ModelInfo {
    ModelInfo {
        name: entry.name.clone(),
        kind: entry.kind.to_string(),
        tasks,
        bytes: entry.bytes,
        default_size: Size { width: 0, height: 0 },
        size_multiple: 1,
        max_pixels: flux2::pipeline::MAX_PIXELS,
        default_steps: UNDISTILLED.0,
        default_guidance_milli: UNDISTILLED.1,
        declared: declared(footprint, number_bytes),
    }
}

/// Likewise, of a FLUX.2 klein, whether or not its files are there.
pub(crate) fn of_flux2(
    name: &str,
    bytes: u64,
    defaults: Defaults,
    footprint: Footprint,
    number_bytes: u64,
) -> ModelInfo {
    let (default_steps, default_guidance_milli) = if defaults.distilled { DISTILLED } else { UNDISTILLED };
    ModelInfo {
        name: name.to_owned(),
        kind: Kind::Flux2Klein.to_string(),
        tasks: vec![TaskKind::Txt2Img, TaskKind::Img2Img],
        bytes,
        default_size: Size { width: defaults.side, height: defaults.side },
        size_multiple: defaults.multiple,
        max_pixels: flux2::pipeline::MAX_PIXELS,
        default_steps,
        default_guidance_milli,
        declared: declared(footprint, number_bytes),
    }
}

fn declared(footprint: Footprint, number_bytes: u64) -> Declared {
    Declared {
        weights_bytes: footprint.parameters * number_bytes + footprint.quantised_bytes + footprint.tables_bytes,
        run_bytes: footprint.run_numbers * number_bytes,
        run_bytes_per_pixel: footprint.run_numbers_per_pixel * number_bytes,
    }
}
