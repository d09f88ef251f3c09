//! What the transformer reads of a prompt: two CLIP text towers side by side, and in place of the third encoder, which is
//! optional and not read here, nothing.

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Linear, VarBuilder, linear_no_bias};

use crate::{
    clip::{config::TextConfig, text::TextTower},
    error::{Error, Result},
    yield_point::YieldPoint,
};

/// Tokens that stand for what the third encoder would say, as diffusers has them without one.
pub const WITHOUT_THIRD: usize = 256;

/// A text tower with its projection (`CLIPTextModelWithProjection`).
pub struct Tower {
    tower: TextTower,
    projection: Linear,
}

impl Tower {
    /// Builds the tower; `projection_dim` is the size of the space that texts are projected into.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new((config, projection_dim): &(TextConfig, usize), vb: &VarBuilder<'_>) -> Built<Self> {
        Ok(Self {
            tower: TextTower::new(config, &vb.pp("text_model"))?,
            projection: linear_no_bias(config.encoder.hidden_size, *projection_dim, vb.pp("text_projection"))?,
        })
    }
}

/// A prompt as the transformer reads it.
#[derive(Debug, Clone)]
pub struct Text {
    /// (1, T, `joint_attention_dim`).
    pub tokens: Tensor,
    /// (1, `pooled_projection_dim`).
    pub pooled: Tensor,
}

/// The prompt whose token ids are `ids`, one list for each of `towers`, each padded to the same length; `width` is the
/// transformer's `joint_attention_dim`.
///
/// # Errors
///
/// [`Error::Input`] if the lists differ in length or one cannot be read, or if the towers together are wider than `width`,
/// [`Error::Interrupted`], [`Error::Device`].
pub fn encode(towers: &[Tower; 2], ids: [&[u32]; 2], width: usize, observer: &dyn YieldPoint) -> Result<Text> {
    if ids[0].len() != ids[1].len() {
        return Err(Error::Input(format!(
            "{} tokens for one encoder and {} for the other",
            ids[0].len(),
            ids[1].len()
        )));
    }
    let [first, second] = towers;
    let (states, whole) = first.tower.states(ids[0], observer)?;
    let (more, other) = second.tower.states(ids[1], observer)?;
    let pooled = Tensor::cat(&[first.projection.forward(&whole)?, second.projection.forward(&other)?], 1)?;
    let states = Tensor::cat(&[states, more], 2)?;
    let (_, tokens, wide) = states.dims3()?;
    let Some(rest) = width.checked_sub(wide) else {
        return Err(Error::Input(format!("the text encoders are {wide} wide, and the transformer reads {width}")));
    };
    let nothing = |tokens: usize, width: usize| Tensor::zeros((1, tokens, width), states.dtype(), states.device());
    let states = Tensor::cat(&[states.clone(), nothing(tokens, rest)?], 2)?;
    Ok(Text { tokens: Tensor::cat(&[states, nothing(WITHOUT_THIRD, width)?], 1)?, pooled })
}
