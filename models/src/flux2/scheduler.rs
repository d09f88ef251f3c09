//! The noise levels of a run (`FlowMatchEulerDiscreteScheduler` with the shift that `Flux2KleinPipeline` computes).

use super::config::SchedulerConfig;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_fall_from_one_to_zero() {
        for dynamic in [false, true] {
            let config = SchedulerConfig { use_dynamic_shifting: dynamic, shift: 3.0, ..SchedulerConfig::default() };
            for (steps, tokens) in [(1, 1), (2, 16), (4, 4096), (50, 4301), (200, 100_000)] {
                let sigmas = sigmas(&config, steps, tokens);
                assert_eq!(sigmas.len(), steps as usize + 1);
                assert_eq!((sigmas[0], sigmas[steps as usize]), (1.0, 0.0));
                assert!(sigmas.is_sorted_by(|a, b| a > b), "{steps} {tokens}: {sigmas:?}");
            }
        }
    }
}
