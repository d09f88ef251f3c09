//! The text tower (`CLIPTextModel`).

use candle_core::{Device, Result as Built, Tensor};
use candle_nn::VarBuilder;

use super::{
    config::{End, TextConfig},
    encoder::Encoder,
};
use crate::{
    error::{Error, Result},
    norm::LayerNorm,
    yield_point::{Site, YieldPoint},
};

/// Texts to vectors.
pub struct TextTower {
    words: Tensor,
    positions: Tensor,
    encoder: Encoder,
    norm: LayerNorm,
    end: End,
}

impl TextTower {
    /// Reads the tower.
    ///
    /// # Errors
    ///
    /// If a weight is missing or of another shape.
    pub fn new(config: &TextConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let width = config.encoder.hidden_size;
        let table = |name: &str, rows: usize| vb.pp("embeddings").pp(name).get((rows, width), "weight");
        Ok(Self {
            words: table("token_embedding", config.vocab_size)?,
            positions: table("position_embedding", config.max_position_embeddings)?,
            encoder: Encoder::new(&config.encoder, &vb.pp("encoder"))?,
            norm: LayerNorm::new(width, config.encoder.layer_norm_eps, vb.pp("final_layer_norm"))?,
            end: config.end,
        })
    }

    /// The hidden state that stands for a text, (1, D), from its token ids.
    ///
    /// Texts run one after the other, so that none needs padding. The library pads them to one length, to the same
    /// effect: a token sees only those before it, and the end token stands before all padding.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if there are no tokens, too many, unknown ones or no end token, [`Error::Interrupted`],
    /// [`Error::Device`].
    pub fn forward(&self, ids: &[u32], observer: &dyn YieldPoint) -> Result<Tensor> {
        let end = self.check(ids)?;
        let (embedded, mask) = self.embed(ids)?;
        let hidden = self.encoder.forward(embedded, Some(&mask), Site::TextEncoderBlock, observer)?;
        self.at_end(&hidden, end)
    }

    /// The hidden states before the last layer, (1, T, D), of which diffusion models read every token, padding too; and what
    /// [`Self::forward`] gives.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub fn states(&self, ids: &[u32], observer: &dyn YieldPoint) -> Result<(Tensor, Tensor)> {
        let end = self.check(ids)?;
        let (embedded, mask) = self.embed(ids)?;
        let (before, hidden) = self.encoder.last_two(embedded, Some(&mask), Site::TextEncoderBlock, observer)?;
        Ok((before, self.at_end(&hidden, end)?))
    }

    /// What the layers begin with, (1, T, D), and their mask.
    fn embed(&self, ids: &[u32]) -> Built<(Tensor, Tensor)> {
        let device = self.words.device();
        let words = self.words.index_select(&Tensor::new(ids, device)?, 0)?;
        let embedded = (words + self.positions.narrow(0, 0, ids.len())?)?.unsqueeze(0)?;
        let mask = causal(ids.len(), device)?.to_dtype(embedded.dtype())?;
        Ok((embedded, mask))
    }

    fn at_end(&self, hidden: &Tensor, end: usize) -> Result<Tensor> {
        Ok(self.norm.forward(&hidden.narrow(1, end, 1)?.contiguous()?)?.squeeze(1)?)
    }

    /// Where the token stands whose hidden state is the text's. Checked here, on the host: a gather past the table's end
    /// is not an error on every device.
    pub(crate) fn check(&self, ids: &[u32]) -> Result<usize> {
        let (most, known) = (self.positions.dim(0)?, self.words.dim(0)?);
        if ids.is_empty() || ids.len() > most {
            return Err(Error::Input(format!("a text makes {} tokens; the model reads 1 to {most}", ids.len())));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= known) {
            return Err(Error::Input(format!("token {id} is none of the {known} the model knows")));
        }
        let end = match self.end {
            End::Token(end) => ids.iter().position(|&id| id == end),
            End::Highest => ids.iter().max().and_then(|highest| ids.iter().position(|id| id == highest)),
        };
        end.ok_or_else(|| Error::Input("a text's tokens lack the end token".to_owned()))
    }
}

/// What keeps tokens from seeing those after them, (1, 1, T, T).
fn causal(tokens: usize, device: &Device) -> Built<Tensor> {
    let hidden = |row: usize| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 });
    Tensor::from_vec((0..tokens).flat_map(hidden).collect(), (1, 1, tokens, tokens), device)
}
