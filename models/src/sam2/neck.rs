//! The neck (`Sam2VisionNeck`): the backbone's features at one width, the coarse ones added to the finer.
//!
//! The library's neck makes position embeddings of sines, too. They are for attention to a video's earlier frames; with
//! single pictures nothing reads them, and they are left out here.

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Linear, VarBuilder};

use super::{config::VisionConfig, layers::pointwise};

/// The neck.
pub struct Neck {
    /// By stage of the backbone.
    laterals: Vec<Linear>,
    /// Stages to which what comes from coarser ones is added.
    top_down: Vec<usize>,
}

impl Neck {
    /// Reads the weights below `vb`.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(config: &VisionConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let widths = &config.backbone.embed_dim_per_stage;
        // The library numbers them from the last stage to the first.
        let lateral = |(stage, &width): (usize, &usize)| {
            pointwise(width, config.fpn_hidden_size, &vb.pp("convs").pp(widths.len() - 1 - stage))
        };
        Ok(Self {
            laterals: widths.iter().enumerate().map(lateral).collect::<Built<_>>()?,
            top_down: config.fpn_top_down_levels.clone(),
        })
    }

    /// Levels of features, one for each stage, the largest first.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn forward(&self, stages: &[Tensor]) -> Built<Vec<Tensor>> {
        let mut levels: Vec<Tensor> = Vec::new();
        for (i, (lateral, stage)) in self.laterals.iter().zip(stages).enumerate().rev() {
            let level = lateral.forward(stage)?;
            let level = match levels.last() {
                Some(coarser) if self.top_down.contains(&i) => (level + double(coarser)?)?,
                Some(_) | None => level,
            };
            levels.push(level);
        }
        levels.reverse();
        Ok(levels)
    }
}

/// Each pixel four times: (1, H, W, C) to (1, 2 H, 2 W, C).
fn double(xs: &Tensor) -> Built<Tensor> {
    let (_, rows, columns, width) = xs.dims4()?;
    let wide = xs.reshape((rows, columns, 1, width))?.broadcast_as((rows, columns, 2, width))?;
    let wide = wide.reshape((rows, 1, 2 * columns * width))?.broadcast_as((rows, 2, 2 * columns * width))?;
    wide.reshape((1, 2 * rows, 2 * columns, width))
}
