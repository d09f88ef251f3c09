//! Which models are in a partition. Its lanes share them; each partition has its own, so that loading into one keeps no
//! lane of another waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::{DType, Device};
use gpusched_models::{Entry, Error, Kind, Site, YieldPoint, flux2, vilt};
use gpusched_shared::ModelInfo;

use crate::account::Account;
use crate::event::{Event, Failure};
use crate::stage::Stopped;
use crate::yield_point::LaneYield;

/// How often a lane that waits for another lane's load looks whether it should stop or park.
const LOOK: Duration = Duration::from_millis(20);

/// What each tokenizer reads first.
const TRIAL: &str = "what is this?";

/// A model in memory.
pub(crate) enum Model {
    Flux2(Box<flux2::Pipeline>),
    Vilt(Box<vilt::Vqa>),
}

/// A model in a partition, with the account that its memory is charged to.
pub(crate) struct Resident {
    pub(crate) model: Model,
    // Below the model, so that it is closed after the model has gone.
    account: Arc<Account>,
}

enum Slot {
    Absent,
    Loading(Arc<Account>),
    Resident(Arc<Resident>),
}

impl Slot {
    fn bytes(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Loading(account) => account.live(),
            Self::Resident(resident) => resident.account.live(),
        }
    }
}

/// The models of one partition.
#[derive(Default)]
pub(crate) struct Residency {
    slots: Mutex<BTreeMap<String, Slot>>,
    changed: Condvar,
}

impl std::fmt::Debug for Residency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency").field("models", &self.lock().keys()).finish_non_exhaustive()
    }
}

impl Residency {
    /// The model of `entry`, loaded now if need be. Stops or parks at `at`'s word while it loads or waits for another
    /// lane that loads it.
    pub(crate) fn get(&self, (entry, info): &(Entry, ModelInfo), at: &LaneYield<'_>) -> Result<Arc<Resident>, Stopped> {
        let account = loop {
            let mut slots = self.lock();
            match slots.entry(entry.name.clone()).or_insert(Slot::Absent) {
                Slot::Resident(resident) => return Ok(Arc::clone(resident)),
                Slot::Loading(_) => {
                    let waited = self.changed.wait_timeout(slots, LOOK);
                    // Not with the lock, for this lane may park here, and the one that loads has to go on.
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                    at.reach(Site::WeightFile { done: 0, total: 1 }).map_err(Error::from)?;
                }
                slot @ Slot::Absent => {
                    let account = Account::open(Some(&at.partition.account));
                    let account = Arc::new(account.ok_or_else(|| Failure::engine("too many models are in memory"))?);
                    *slot = Slot::Loading(Arc::clone(&account));
                    break account;
                }
            }
        };
        // Whatever happens, also a panic, the slot must not say Loading for ever.
        let mut claim = Claim { residency: self, name: &entry.name, slot: Slot::Absent };
        let model = at.load(&account, info.declared.weights_bytes, || load(entry, at))?;
        let bytes = account.live();
        let resident = Arc::new(Resident { model, account });
        claim.slot = Slot::Resident(Arc::clone(&resident));
        drop(claim);
        at.say(Event::Loaded { class: at.partition.class, model: entry.name.clone(), bytes });
        Ok(resident)
    }

    /// Takes a model out, for the caller to drop.
    ///
    /// # Errors
    /// [`Failure`] if it is being loaded.
    pub(crate) fn take(&self, name: &str) -> Result<Option<Arc<Resident>>, Failure> {
        let mut slots = self.lock();
        match slots.remove(name) {
            None | Some(Slot::Absent) => Ok(None),
            Some(Slot::Resident(resident)) => Ok(Some(resident)),
            Some(loading @ Slot::Loading(_)) => {
                slots.insert(name.to_owned(), loading);
                Err(Failure::engine(format!("{name} cannot be unloaded while it is being loaded")))
            }
        }
    }

    /// What the models hold, in bytes, those being loaded included.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().values().map(Slot::bytes).sum()
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
        Kind::Flux2Klein => {
            let pipeline = flux2::Pipeline::load(&entry.path, &device, dtype, at)?;
            // Tokenizers make tables when they are first used: the model's, rather than those of its first stage. One
            // that cannot read this may well read what it is meant for.
            drop(pipeline.tokenizer().encode(TRIAL));
            Ok(Model::Flux2(Box::new(pipeline)))
        }
        Kind::ViltVqa => {
            let model = vilt::Vqa::load(&entry.path, &device, dtype, at)?;
            drop(model.words().encode(TRIAL));
            Ok(Model::Vilt(Box::new(model)))
        }
    }
}
