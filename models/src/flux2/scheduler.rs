//! The noise levels of a run (`FlowMatchEulerDiscreteScheduler` with the shift that `Flux2KleinPipeline` computes).

use std::path::Path;

use candle_core::{Result as Computed, Tensor};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    loader::{read_json, require, require_size},
};

/// `scheduler_config.json` of a `FlowMatchEulerDiscreteScheduler`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are diffusers'")]
pub struct SchedulerConfig {
    time_shift_type: String,
    shift_terminal: Option<f64>,
    invert_sigmas: bool,
    use_karras_sigmas: bool,
    use_exponential_sigmas: bool,
    use_beta_sigmas: bool,
    use_flow_sigmas: bool,
    stochastic_sampling: bool,
    pub num_train_timesteps: u32,
    pub shift: f64,
    pub use_dynamic_shifting: bool,
}

/// Noise levels of `steps` Euler steps for a picture of `tokens` latent tokens: from 1 down, with a final 0, so
/// `steps + 1` in all.
///
/// The pipeline spaces them evenly from 1 to 1/steps; the scheduler then shifts them towards 1, the more the larger
/// the picture. Without dynamic shifting in the configuration the shift is fixed.
#[must_use]
pub fn sigmas(config: &SchedulerConfig, steps: u32, tokens: usize) -> Vec<f32> {
    let n = f64::from(steps);
    let even = (0..steps).map(|i| match steps {
        1 => 1.0,
        _ => 1.0 + (1.0 / n - 1.0) * f64::from(i) / (n - 1.0),
    });
    let shift = if config.use_dynamic_shifting { empirical_mu(tokens, steps).exp() } else { config.shift };
    let shifted = even.map(|s| (shift * s / (1.0 + (shift - 1.0) * s)) as f32);
    shifted.chain([0.0]).collect()
}

/// An Euler step of `latents` from one noise level to a lower one, along the `velocity` that was predicted for them; both of
/// any one shape. A step down to level 0 gives the picture that the prediction leads to.
///
/// # Errors
///
/// If the shapes differ, or the device fails.
pub fn step(latents: &Tensor, velocity: &Tensor, from: f32, to: f32) -> Computed<Tensor> {
    latents + (velocity * f64::from(to - from))?
}

/// Logarithm of the shift for `tokens` latent tokens and `steps` steps: lines fitted for 10 and 200 steps,
/// interpolated in between (`compute_empirical_mu`).
fn empirical_mu(tokens: usize, steps: u32) -> f64 {
    let tokens = tokens as f64;
    let at_200 = 0.00016927 * tokens + 0.45666666;
    if tokens > 4300.0 {
        return at_200;
    }
    let at_10 = 8.73809524e-05 * tokens + 1.89833333;
    let slope = (at_200 - at_10) / 190.0;
    at_200 + slope * (f64::from(steps) - 200.0)
}

impl SchedulerConfig {
    /// Reads `path` and refuses what [`sigmas`] does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        require(path, "time_shift_type", &config.time_shift_type.as_str(), &["exponential"])?;
        for (key, value) in [
            ("invert_sigmas", config.invert_sigmas),
            ("use_karras_sigmas", config.use_karras_sigmas),
            ("use_exponential_sigmas", config.use_exponential_sigmas),
            ("use_beta_sigmas", config.use_beta_sigmas),
            ("use_flow_sigmas", config.use_flow_sigmas),
            ("stochastic_sampling", config.stochastic_sampling),
        ] {
            require(path, key, &value, &[false])?;
        }
        if let Some(terminal) = config.shift_terminal.filter(|&t| t != 0.0) {
            return Err(Error::config(path, format!("shift_terminal is {terminal}; only null is supported")));
        }
        require_size(path, "num_train_timesteps", config.num_train_timesteps as usize)?;
        Ok(config)
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            time_shift_type: "exponential".to_owned(),
            shift_terminal: None,
            invert_sigmas: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            use_flow_sigmas: false,
            stochastic_sampling: false,
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_step_down_to_no_noise_gives_the_picture() {
        let of = |numbers: [f32; 3]| Tensor::new(&numbers, &Device::Cpu).unwrap();
        let numbers = |tensor: Tensor| tensor.to_vec1::<f32>().unwrap();
        let (picture, noise) = (of([0.5, -1.0, 2.0]), of([1.0, 0.25, -3.0]));
        let velocity = (&noise - &picture).unwrap();
        for sigma in [1.0, 0.5, 0.25] {
            let noisy = (&picture + (&velocity * f64::from(sigma)).unwrap()).unwrap();
            assert_eq!(numbers(step(&noisy, &velocity, sigma, 0.0).unwrap()), numbers(picture.clone()));
        }
        assert_eq!(numbers(step(&picture, &velocity, 0.0, 0.0).unwrap()), numbers(picture), "without noise as it is");
    }

    #[test]
    fn levels_fall_from_one_to_zero() {
        for dynamic in [false, true] {
            let config = SchedulerConfig { use_dynamic_shifting: dynamic, shift: 3.0, ..SchedulerConfig::default() };
            for (steps, tokens) in [(1, 1), (2, 16), (4, 4096), (50, 4301), (200, 16_384)] {
                let sigmas = sigmas(&config, steps, tokens);
                assert_eq!(sigmas.len(), steps as usize + 1);
                assert_eq!((sigmas[0], sigmas[steps as usize]), (1.0, 0.0));
                assert!(sigmas.is_sorted_by(|a, b| a > b), "{steps} {tokens}: {sigmas:?}");
            }
        }
    }
}
