//! The noise levels of a run (`FlowMatchEulerDiscreteScheduler` with its fixed shift, as Stable Diffusion 3 uses it).

use crate::flux2::scheduler::SchedulerConfig;

/// Noise levels of `steps` Euler steps: from 1 down, with a final 0, so `steps + 1` in all.
///
/// The scheduler spaces them evenly between the highest and the lowest of its training steps, both of which it has shifted
/// before, and shifts them all once more.
#[must_use]
pub fn sigmas(config: &SchedulerConfig, steps: u32) -> Vec<f32> {
    let shifted = |sigma: f64| config.shift * sigma / (1.0 + (config.shift - 1.0) * sigma);
    let lowest = shifted(1.0 / f64::from(config.num_train_timesteps));
    let even = (0..steps).map(|i| match steps {
        1 => 1.0,
        _ => 1.0 + (lowest - 1.0) * f64::from(i) / f64::from(steps - 1),
    });
    even.map(|sigma| shifted(sigma) as f32).chain([0.0]).collect()
}
