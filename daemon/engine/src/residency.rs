//! Which models are in memory. Lanes share them; loading one model never keeps a lane from another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::{DType, Device};
use gpusched_models::{Entry, Error, Kind, Site, YieldPoint, flux2, vilt};
use gpusched_shared::{Size, TaskKind};

use crate::event::ModelReport;

/// How often a lane that waits for another lane's load looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

/// A model in memory.
pub(crate) enum Model {
    Flux2(Box<flux2::Pipeline>),
    Vilt(Box<vilt::Vqa>),
}

enum Slot {
    Absent,
    Loading,
    Resident(Arc<Model>),
}

/// The catalog and what of it is loaded.
pub(crate) struct Residency {
    entries: BTreeMap<String, (Entry, ModelReport)>,
    slots: Mutex<BTreeMap<String, Slot>>,
    changed: Condvar,
}

impl std::fmt::Debug for Residency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency").field("entries", &self.entries.keys()).finish_non_exhaustive()
    }
}

impl Residency {
    pub(crate) fn scan(directories: &[PathBuf]) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for entry in gpusched_models::scan(directories)? {
            match report(&entry) {
                Ok(report) => {
                    entries.insert(entry.name.clone(), (entry, report));
                }
                // One model that cannot be read must not take the others away.
                Err(e) => tracing::warn!(model = entry.name, "left out of the catalog: {e}"),
            }
        }
        Ok(Self { entries, slots: Mutex::new(BTreeMap::new()), changed: Condvar::new() })
    }

    pub(crate) fn report(&self) -> Vec<ModelReport> {
        self.entries.values().map(|(_, report)| report.clone()).collect()
    }

    /// The model called `name`, loaded now if need be; true if it was. Stops at `at`'s word while it loads or waits for
    /// another lane that loads it.
    pub(crate) fn get(&self, name: &str, at: &dyn YieldPoint) -> Result<(Arc<Model>, bool), Error> {
        let Some((entry, _)) = self.entries.get(name) else {
            return Err(Error::Config { path: name.into(), reason: "no such model in the catalog".to_owned() });
        };
        let mut slots = self.lock();
        loop {
            match slots.entry(name.to_owned()).or_insert(Slot::Absent) {
                Slot::Resident(model) => return Ok((Arc::clone(model), false)),
                Slot::Loading => {
                    at.reach(Site::WeightFile { done: 0, total: 1 })?;
                    let waited = self.changed.wait_timeout(slots, LOOK);
                    slots = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                slot @ Slot::Absent => {
                    *slot = Slot::Loading;
                    break;
                }
            }
        }
        drop(slots);
        // Whatever happens, also a panic, the slot must not say Loading for ever.
        let mut claim = Claim { residency: self, name, slot: Slot::Absent };
        let model = Arc::new(load(entry, at)?);
        claim.slot = Slot::Resident(Arc::clone(&model));
        Ok((model, true))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles a slot when a load ends, however it ends.
struct Claim<'a> {
    residency: &'a Residency,
    name: &'a str,
    slot: Slot,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::Absent);
        self.residency.lock().insert(self.name.to_owned(), slot);
        self.residency.changed.notify_all();
    }
}

fn load(entry: &Entry, at: &dyn YieldPoint) -> Result<Model, Error> {
    // Weights are stored in half precision and computed in full: on a CPU the best trade of size, speed and accuracy.
    let (device, dtype) = (Device::Cpu, DType::F32);
    match entry.kind {
        Kind::Flux2Klein => Ok(Model::Flux2(Box::new(flux2::Pipeline::load(&entry.path, &device, dtype, at)?))),
        Kind::ViltVqa => Ok(Model::Vilt(Box::new(vilt::Vqa::load(&entry.path, &device, dtype, at)?))),
    }
}

fn report(entry: &Entry) -> Result<ModelReport, Error> {
    let report = |tasks: &[TaskKind], side, multiple, distilled| ModelReport {
        name: entry.name.clone(),
        kind: entry.kind.to_string(),
        tasks: tasks.to_vec(),
        bytes: entry.bytes,
        default_size: Size { width: side, height: side },
        size_multiple: multiple,
        max_pixels: flux2::pipeline::MAX_PIXELS,
        distilled,
    };
    match entry.kind {
        Kind::Flux2Klein => {
            let defaults = flux2::defaults(&entry.path)?;
            let tasks = [TaskKind::Txt2Img, TaskKind::Img2Img];
            Ok(report(&tasks, defaults.side, defaults.multiple, defaults.distilled))
        }
        Kind::ViltVqa => Ok(report(&[TaskKind::Vqa], 0, 1, false)),
    }
}
