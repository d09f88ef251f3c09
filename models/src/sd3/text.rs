//! What the transformer reads of a prompt: two CLIP text towers side by side, and behind them the third encoder, or nothing.

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Linear, VarBuilder, linear_no_bias};

use crate::{
    clip::{config::TextConfig, text::TextTower},
    error::{Error, Result},
    yield_point::YieldPoint,
};

/// Tokens of the third encoder; without one diffusers has as many of zeros.
pub const THIRD: usize = 256;

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

/// Prompts as the transformer reads them.
#[derive(Debug, Clone)]
pub struct Text {
    /// (B, T, `joint_attention_dim`).
    pub tokens: Tensor,
    /// (B, `pooled_projection_dim`).
    pub pooled: Tensor,
    /// For how many tokens the last one stands. Tokens that are alike stay alike, for text has no positions here; so one is
    /// computed, and counts as often as there are of them where others attend to it.
    pub alike: usize,
}

impl Text {
    /// Several, side by side. They are of one length, and so are what their last tokens stand for.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if they are not, or if there are none; [`Error::Device`].
    pub fn batch(texts: &[Self]) -> Result<Self> {
        let alike = texts.first().map_or(0, |text| text.alike);
        if alike == 0 || texts.iter().any(|text| text.alike != alike) {
            return Err(Error::Input("texts in one batch are of one kind".to_owned()));
        }
        let side_by_side = |part: fn(&Self) -> &Tensor| Tensor::cat(&texts.iter().map(part).collect::<Vec<_>>(), 0);
        Ok(Self { tokens: side_by_side(|text| &text.tokens)?, pooled: side_by_side(|text| &text.pooled)?, alike })
    }
}

/// The prompt whose token ids are `ids`, one list for each of `towers`, each padded to the same length; `third` is what the
/// third encoder says, (1, T, `width`), and `width` the transformer's `joint_attention_dim`.
///
/// # Errors
///
/// [`Error::Input`] if the lists differ in length or one cannot be read, or if the towers together are wider than `width`,
/// [`Error::Interrupted`], [`Error::Device`].
pub fn encode(
    towers: &[Tower; 2],
    ids: [&[u32]; 2],
    third: Option<&Tensor>,
    width: usize,
    observer: &dyn YieldPoint,
) -> Result<Text> {
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
    let (third, alike) = match third {
        Some(third) => (third.clone(), 1),
        None => (nothing(1, width)?, THIRD),
    };
    Ok(Text { tokens: Tensor::cat(&[states, third], 1)?, pooled, alike })
}
