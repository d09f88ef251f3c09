//! What a model was built of, so that it can be built again without reading anything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Device, Result as Built, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};

/// Makes a tensor for another device of one that a model was built of.
pub type Share<'a> = &'a dyn Fn(&Tensor) -> Built<Tensor>;

/// The tensors that a model asked for as it was built, by name. They take no memory beside the model's own.
#[derive(Debug, Clone, Default)]
pub struct Parts(HashMap<String, Tensor>);

impl Parts {
    /// Builds something, and keeps the weights that it asks for.
    ///
    /// # Errors
    ///
    /// Those of `build`.
    pub fn of<T>(weights: VarBuilder<'static>, build: impl FnOnce(VarBuilder<'_>) -> Built<T>) -> Built<(T, Self)> {
        let (dtype, device) = (weights.dtype(), weights.device().clone());
        let asked = Arc::<Mutex<_>>::default();
        let notes = Notes { weights, asked: Arc::clone(&asked) };
        let built = build(VarBuilder::from_backend(Box::new(notes), dtype, device))?;
        let tensors = std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((built, Self(tensors)))
    }

    /// Builds the same for another device, to compute in the type that it was built for, of what `share` makes of each tensor.
    ///
    /// # Errors
    ///
    /// Those of `share` and `build`.
    pub fn again<T>(
        &self,
        (dtype, device): (DType, &Device),
        share: Share<'_>,
        build: impl FnOnce(VarBuilder<'_>) -> Built<T>,
    ) -> Built<(T, Self)> {
        let shared = self.0.iter().map(|(name, tensor)| Ok((name.clone(), share(tensor)?)));
        let tensors: HashMap<_, _> = shared.collect::<Built<_>>()?;
        let built = build(VarBuilder::from_tensors(tensors.clone(), dtype, device))?;
        Ok((built, Self(tensors)))
    }
}

/// Weights that note who asks for what.
struct Notes {
    weights: VarBuilder<'static>,
    asked: Arc<Mutex<HashMap<String, Tensor>>>,
}

impl Notes {
    fn note(&self, name: &str, tensor: Tensor) -> Tensor {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), tensor.clone());
        tensor
    }
}

impl SimpleBackend for Notes {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _: &Device) -> Built<Tensor> {
        Ok(self.note(name, self.weights.get_with_hints_dtype(shape, name, init, dtype)?))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Built<Tensor> {
        Ok(self.note(name, self.weights.get_unchecked_dtype(name, dtype)?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.weights.contains_tensor(name)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Module;
    use candle_nn::{Linear, linear};

    use super::*;

    #[test]
    fn what_was_asked_for_is_kept_and_builds_the_same_again() {
        let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        let weights = [("a.weight", ones(&[2, 3])), ("a.bias", ones(&[2])), ("other", ones(&[1000]))];
        let weights = weights.map(|(name, tensor)| (name.to_owned(), tensor));
        let weights = VarBuilder::from_tensors(weights.into_iter().collect(), DType::F32, &Device::Cpu);
        let build = |vb: VarBuilder<'_>| linear(3, 2, vb.pp("a"));
        let (first, parts): (Linear, _) = Parts::of(weights, build).unwrap();
        let mut names: Vec<_> = parts.0.keys().collect();
        names.sort();
        assert_eq!(names, ["a.bias", "a.weight"]);
        // Twice the weights and the bias, so twice the result.
        let (again, _) = parts.again((DType::F32, &Device::Cpu), &|tensor| tensor + tensor, build).unwrap();
        let result = |layer: &Linear| layer.forward(&ones(&[1, 3])).unwrap().flatten_all().unwrap().to_vec1::<f32>();
        assert_eq!((result(&first).unwrap(), result(&again).unwrap()), (vec![4.0; 2], vec![8.0; 2]));
        let refused = |_: &Tensor| Err(candle_core::Error::msg("no"));
        assert!(parts.again((DType::F32, &Device::Cpu), &refused, build).is_err());
    }
}
