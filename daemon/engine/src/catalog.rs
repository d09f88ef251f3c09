//! The models there are, and what is known of them without loading them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::DType;
use gpusched_models::{Entry, Error, Footprint, Kind, flux2, vilt};
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
            match info(&entry, device) {
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

fn info(entry: &Entry, device: &dyn Device) -> Result<(ModelInfo, DType), Error> {
    let dtype = device.compute_type(entry.stored_type()?);
    let info = |tasks: &[TaskKind], side, multiple, (steps, guidance), footprint| ModelInfo {
        name: entry.name.clone(),
        kind: entry.kind.to_string(),
        tasks: tasks.to_vec(),
        bytes: entry.bytes,
        default_size: Size { width: side, height: side },
        size_multiple: multiple,
        max_pixels: flux2::pipeline::MAX_PIXELS,
        default_steps: steps,
        default_guidance_milli: guidance,
        declared: declared(footprint, dtype),
    };
    let info = match entry.kind {
        Kind::Flux2Klein => {
            let defaults = flux2::defaults(&entry.path)?;
            let rule = if defaults.distilled { DISTILLED } else { UNDISTILLED };
            let footprint = flux2::footprint(&entry.path)?;
            info(&[TaskKind::Txt2Img, TaskKind::Img2Img], defaults.side, defaults.multiple, rule, footprint)
        }
        Kind::ViltVqa => info(&[TaskKind::Vqa], 0, 1, UNDISTILLED, vilt::footprint(&entry.path)?),
    };
    Ok((info, dtype))
}

fn declared(footprint: Footprint, dtype: DType) -> Declared {
    let number = dtype.size_in_bytes() as u64;
    Declared {
        weights_bytes: footprint.parameters * number + footprint.tables_bytes,
        run_bytes: footprint.run_numbers * number,
        run_bytes_per_pixel: footprint.run_numbers_per_pixel * number,
    }
}
