//! Which models are in a partition. Its lanes share them, where the device lets them; each partition has its own, so that
//! loading into one keeps no lane of another waiting.
//!
//! Where a lane needs tensors of its own, it may still have them over the memory of the lane that loaded the model first: a
//! model of its own, made of the other's tensors, which takes nothing beside them but what it makes of them itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpusched_models::clip::Clip;
use gpusched_models::owlv2::Owlv2;
use gpusched_models::qwen3::Qwen3;
use gpusched_models::sam2::Sam2;
use gpusched_models::{Error, Kind, Site, YieldPoint as _, flux2, sd3, vilt};

use crate::account::Account;
use crate::catalog::Known;
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
    Owlv2(Box<Owlv2>),
    Sam2(Box<Sam2>),
    Clip(Box<Clip>),
    Sd3(Box<sd3::Pipeline>),
    Qwen3(Box<Qwen3>),
}

/// Whether what one lane has loaded can be another lane's model, too.
fn can_be_shared(kind: Kind) -> bool {
    match kind {
        Kind::ViltVqa | Kind::Qwen3 => true,
        Kind::Flux2Klein | Kind::Sd3 | Kind::Clip | Kind::Owlv2 | Kind::Sam2 => false,
    }
}

impl Model {
    /// The same for another lane, over the same memory. One that cannot be shared is loaded.
    fn again(&self, known: &Known, at: &LaneYield<'_>) -> Result<Self, Error> {
        match self {
            Self::Vilt(model) => {
                let model = model.again(at.stream.device(), &|tensor| at.stream.share(tensor))?;
                Ok(Self::Vilt(Box::new(model)))
            }
            Self::Qwen3(model) => {
                let model = model.again(at.stream.device(), &|tensor| at.stream.share(tensor))?;
                Ok(Self::Qwen3(Box::new(model)))
            }
            Self::Flux2(_) | Self::Owlv2(_) | Self::Sam2(_) | Self::Clip(_) | Self::Sd3(_) => load(known, at),
        }
    }
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

/// A model, and the lane whose alone it is, by its number; 0 where lanes use the same.
type Place = (String, usize);

/// What a lane that needs a model finds.
enum Found {
    /// The model.
    Own(Arc<Resident>),
    /// Somebody loads what it needs.
    Busy,
    /// Nothing, but perhaps another lane's model that it can have its own of.
    Nothing(Option<Arc<Resident>>),
}

/// Looks for a model at its place and, if memory is `shared`, at those of other lanes.
fn find(slots: &BTreeMap<Place, Slot>, place: &Place, shared: bool) -> Found {
    match slots.get(place) {
        Some(Slot::Resident(resident)) => return Found::Own(Arc::clone(resident)),
        Some(Slot::Loading(_)) => return Found::Busy,
        Some(Slot::Absent) | None => {}
    }
    let mut busy = false;
    for (_, slot) in slots.iter().filter(|((model, _), _)| shared && *model == place.0) {
        match slot {
            Slot::Resident(resident) => return Found::Nothing(Some(Arc::clone(resident))),
            Slot::Loading(_) => busy = true,
            Slot::Absent => {}
        }
    }
    if busy { Found::Busy } else { Found::Nothing(None) }
}

/// The models of one partition.
#[derive(Default)]
pub(crate) struct Residency {
    slots: Mutex<BTreeMap<Place, Slot>>,
    changed: Condvar,
}

impl std::fmt::Debug for Residency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency").field("models", &self.lock().keys()).finish_non_exhaustive()
    }
}

impl Residency {
    /// The model, loaded now if need be. Stops or parks at `at`'s word while it loads or waits for another lane that loads it.
    pub(crate) fn get(&self, known: &Known, at: &LaneYield<'_>) -> Result<Arc<Resident>, Stopped> {
        let place = (known.entry.name.clone(), at.sharing.place);
        let shared = at.sharing.memory && can_be_shared(known.entry.kind);
        let (account, other) = loop {
            let mut slots = self.lock();
            match find(&slots, &place, shared) {
                Found::Own(resident) => return Ok(resident),
                Found::Busy => {
                    let waited = self.changed.wait_timeout(slots, LOOK);
                    // Not with the lock, for this lane may park here, and the one that loads has to go on.
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                    at.reach(Site::WeightFile { done: 0, total: 1 }).map_err(Error::from)?;
                }
                Found::Nothing(other) => {
                    let account = Account::open(Some(&at.partition.account));
                    let account = Arc::new(account.ok_or_else(|| Failure::engine("too many models are in memory"))?);
                    slots.insert(place.clone(), Slot::Loading(Arc::clone(&account)));
                    break (account, other);
                }
            }
        };
        // Whatever happens, also a panic, the slot must not say Loading for ever.
        let mut claim = Claim { residency: self, place: &place, slot: Slot::Absent };
        let make = || match &other {
            Some(other) => other.model.again(known, at),
            None => load(known, at),
        };
        let model = at.load(&account, known.info.declared.weights_bytes, || make().map_err(|e| at.explain(e)))?;
        if shared {
            // Other lanes may take it from here, and none of them waits for what this one has yet to write.
            at.stream.synchronize().map_err(Error::from)?;
        }
        let own = account.live();
        // What the class is told to keep for the model is for all of its lanes. Whoever loads it for itself stands for the others
        // that will; and whoever shares it for those that will share it.
        let bytes = match &other {
            Some(_) => self.with_others(&place.0, own, at.sharing.copies),
            None if shared => own,
            None => own * at.sharing.copies,
        };
        let resident = Arc::new(Resident { model, account });
        claim.slot = Slot::Resident(Arc::clone(&resident));
        drop(claim);
        if other.is_none() || own > 0 {
            at.say(Event::Loaded { class: at.partition.class, model: place.0, bytes });
        }
        Ok(resident)
    }

    /// What a model takes in the end if each of so many lanes that does not have it yet takes `own` bytes.
    fn with_others(&self, name: &str, own: u64, lanes: u64) -> u64 {
        let slots = self.lock();
        let there = slots.iter().filter(|((model, _), slot)| model == name && matches!(slot, Slot::Resident(_)));
        there.fold(own * lanes, |bytes, (_, slot)| bytes.saturating_sub(own) + slot.bytes())
    }

    /// Takes a model out, every lane's, for the caller to drop.
    ///
    /// # Errors
    /// [`Failure`] if it is being loaded.
    pub(crate) fn take(&self, name: &str) -> Result<Vec<Arc<Resident>>, Failure> {
        let mut slots = self.lock();
        let of_model = |(model, _): &Place| model == name;
        if slots.iter().any(|(place, slot)| of_model(place) && matches!(slot, Slot::Loading(_))) {
            return Err(Failure::engine(format!("{name} cannot be unloaded while it is being loaded")));
        }
        let taken = slots.extract_if(.., |place, _| of_model(place));
        let residents = taken.filter_map(|(_, slot)| match slot {
            Slot::Resident(resident) => Some(resident),
            Slot::Absent | Slot::Loading(_) => None,
        });
        Ok(residents.collect())
    }

    /// What the models hold, in bytes, those being loaded included.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().values().map(Slot::bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles a slot when a load ends, however it ends.
struct Claim<'a> {
    residency: &'a Residency,
    place: &'a Place,
    slot: Slot,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::Absent);
        self.residency.lock().insert(self.place.clone(), slot);
        self.residency.changed.notify_all();
    }
}

fn load(Known { entry, dtype, .. }: &Known, at: &LaneYield<'_>) -> Result<Model, Error> {
    let device = at.stream.device();
    match entry.kind {
        Kind::Flux2Klein => {
            let pipeline = flux2::Pipeline::load(&entry.path, device, *dtype, at)?;
            // Tokenizers make tables when they are first used: the model's, rather than those of its first stage. One
            // that cannot read this may well read what it is meant for.
            drop(pipeline.tokenizer().encode(TRIAL));
            Ok(Model::Flux2(Box::new(pipeline)))
        }
        Kind::ViltVqa => {
            let model = vilt::Vqa::load(&entry.path, device, *dtype, at)?;
            drop(model.words().encode(TRIAL));
            Ok(Model::Vilt(Box::new(model)))
        }
        Kind::Owlv2 => {
            let model = Owlv2::load(&entry.path, device, *dtype, at)?;
            drop(model.words().encode(TRIAL));
            Ok(Model::Owlv2(Box::new(model)))
        }
        Kind::Sam2 => Ok(Model::Sam2(Box::new(Sam2::load(&entry.path, device, *dtype, at)?))),
        Kind::Clip => {
            let model = Clip::load(&entry.path, device, *dtype, at)?;
            drop(model.words().encode(TRIAL));
            Ok(Model::Clip(Box::new(model)))
        }
        Kind::Sd3 => {
            let pipeline = sd3::Pipeline::load(&entry.path, device, *dtype, at)?;
            drop(pipeline.words().encode(TRIAL));
            Ok(Model::Sd3(Box::new(pipeline)))
        }
        Kind::Qwen3 => {
            let model = Qwen3::load(&entry.path, device, *dtype, at)?;
            drop(model.chat().tokens(TRIAL));
            Ok(Model::Qwen3(Box::new(model)))
        }
    }
}
