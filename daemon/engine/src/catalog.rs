//! The models there are, and what is known of them without loading them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gpusched_models::{Entry, Error, Footprint, Kind, flux2, vilt};
use gpusched_shared::{Declared, FailureKind, ModelInfo, Size, TaskKind};

use crate::event::Failure;

/// Steps and guidance, in thousandths, where none are asked for, of models distilled to few steps without guidance.
const DISTILLED: (u32, u32) = (4, 1000);
/// And of others.
const UNDISTILLED: (u32, u32) = (20, 3000);

/// Bytes of a number while computing: [`load`](crate::residency) asks for `f32`.
const NUMBER: u64 = 4;

/// The models of some directories.
#[derive(Debug)]
pub(crate) struct Catalog {
    models: BTreeMap<String, (Entry, ModelInfo)>,
}

impl Catalog {
    /// Looks into `directories`; of two models of one name the first counts.
    pub(crate) fn scan(directories: &[PathBuf]) -> Result<Self, Error> {
        let mut models = BTreeMap::new();
        for entry in gpusched_models::scan(directories)? {
            match info(&entry) {
                Ok(info) => {
                    models.insert(entry.name.clone(), (entry, info));
                }
                // One model that cannot be read must not take the others away.
                Err(e) => tracing::warn!(model = entry.name, "left out of the catalog: {e}"),
            }
        }
        Ok(Self { models })
    }

    pub(crate) fn models(&self) -> Vec<ModelInfo> {
        self.models.values().map(|(_, info)| info.clone()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Result<&(Entry, ModelInfo), Failure> {
        let none = || Failure { kind: FailureKind::Model, message: format!("no model {name} in the catalog") };
        self.models.get(name).ok_or_else(none)
    }
}

fn info(entry: &Entry) -> Result<ModelInfo, Error> {
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
        declared: declared(footprint),
    };
    match entry.kind {
        Kind::Flux2Klein => {
            let defaults = flux2::defaults(&entry.path)?;
            let rule = if defaults.distilled { DISTILLED } else { UNDISTILLED };
            let footprint = flux2::footprint(&entry.path)?;
            Ok(info(&[TaskKind::Txt2Img, TaskKind::Img2Img], defaults.side, defaults.multiple, rule, footprint))
        }
        Kind::ViltVqa => Ok(info(&[TaskKind::Vqa], 0, 1, UNDISTILLED, vilt::footprint(&entry.path)?)),
    }
}

fn declared(footprint: Footprint) -> Declared {
    Declared {
        weights_bytes: footprint.parameters * NUMBER + footprint.tables_bytes,
        run_bytes: footprint.run_numbers * NUMBER,
        run_bytes_per_pixel: footprint.run_numbers_per_pixel * NUMBER,
    }
}
