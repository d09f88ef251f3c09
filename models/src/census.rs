//! The tensors that a model is made of, and how many numbers they hold, from its configuration alone.
//!
//! The model's own constructors say it: they are given weights that take no memory, and what they ask for is noted. So a
//! census cannot differ from what is loaded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use candle_core::{DType, Device, Result as Built, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};

use crate::error::Result;

/// Names and shapes of tensors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    tensors: BTreeMap<String, Vec<usize>>,
}

impl Census {
    /// The tensors that `build` asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Device`](crate::Error::Device) if it fails.
    pub fn of<T>(build: impl FnOnce(VarBuilder<'static>) -> Built<T>) -> Result<Self> {
        let notes = Notes::default();
        drop(build(VarBuilder::from_backend(Box::new(notes.clone()), DType::F32, Device::Cpu))?);
        Ok(Self { tensors: std::mem::take(&mut *notes.lock()) })
    }

    /// Name and shape of each.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.tensors
    }

    /// Numbers in all of them.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters_below("")
    }

    /// Numbers in those whose names begin with `prefix`.
    #[must_use]
    pub fn parameters_below(&self, prefix: &str) -> u64 {
        let below = self.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
        below.map(|(_, shape)| shape.iter().map(|&side| side as u64).product::<u64>()).sum()
    }
}

/// Weights that are one number each, repeated without being copied.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<usize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for Notes {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Built<Tensor> {
        self.lock().insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Built<Tensor> {
        Err(candle_core::Error::msg(format!("{name} is asked for without a shape")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::linear;

    use super::*;

    #[test]
    fn what_is_asked_for_is_counted() {
        let census = Census::of(|vb| {
            linear(1 << 20, 1 << 20, vb.pp("large"))?;
            linear(3, 2, vb.pp("small"))
        });
        let census = census.unwrap();
        let names: Vec<_> = census.tensors().keys().map(String::as_str).collect();
        assert_eq!(names, ["large.bias", "large.weight", "small.bias", "small.weight"]);
        assert_eq!(census.parameters_below("small."), 2 * 3 + 2);
        assert_eq!(census.parameters(), (1 << 40) + (1 << 20) + 8);
    }

    #[test]
    fn what_cannot_be_built_has_no_census() {
        assert!(Census::of(|vb| vb.pp("x").get_unchecked("weight")).is_err());
    }
}
