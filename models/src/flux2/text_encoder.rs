//! The text encoder: hidden states from within a `Qwen3ForCausalLM`.

use std::path::Path;

use candle_core::{DType, Device, Result as Built, Tensor};
use candle_nn::VarBuilder;

use crate::{
    error::{Error, Result},
    qwen3::{
        Config,
        layers::{Layer, Rope},
    },
    tokenizer::Prompt,
    yield_point::{Site, YieldPoint},
};

/// The lower three quarters of a Qwen3: embeddings and the layers up to the last hidden state that is read.
pub struct TextEncoder {
    embeddings: Tensor,
    layers: Vec<Layer>,
    taps: [usize; 3],
    config: Config,
}

impl Config {
    /// The hidden states that a FLUX.2 transformer reads: after so many layers each.
    ///
    /// klein reads (9, 18, 27) of the published encoders' 36 layers, which are the quarter points; a smaller encoder
    /// is read at its own. Never after the last layer: there the library has already applied the final norm.
    #[must_use]
    pub fn taps(&self) -> [usize; 3] {
        let layers = self.num_hidden_layers;
        if layers >= 28 { [9, 18, 27] } else { [layers / 4, layers / 2, layers * 3 / 4] }
    }
}

impl TextEncoder {
    /// Reads the configuration `path`, and refuses one of too few layers, beside what [`Config::read`] does.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn config(path: &Path) -> Result<Config> {
        let config = Config::read(path)?;
        if config.num_hidden_layers < 4 {
            let reason = format!("num_hidden_layers is {}; at least 4 are needed", config.num_hidden_layers);
            return Err(Error::config(path, reason));
        }
        Ok(config)
    }

    /// Builds the encoder from the weights of a `Qwen3ForCausalLM`.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Built<Self> {
        let vb = vb.pp("model");
        let taps = config.taps();
        let embeddings = vb.pp("embed_tokens").get((config.vocab_size, config.hidden_size), "weight")?;
        let layers = (0..taps[2]).map(|i| Layer::new(config, vb.pp("layers").pp(i))).collect::<Built<_>>()?;
        Ok(Self { embeddings, layers, taps, config: config.clone() })
    }

    /// Whether the encoder uses the tensor `name` of the checkpoint.
    ///
    /// Nothing past the last hidden state that is read is loaded: the upper layers, the final norm and the language
    /// model's head would take a quarter of the memory and never be computed with.
    #[must_use]
    pub fn uses(config: &Config, name: &str) -> bool {
        let Some(rest) = name.strip_prefix("model.") else { return false };
        match rest.strip_prefix("layers.").and_then(|rest| rest.split('.').next()) {
            Some(layer) => layer.parse::<usize>().is_ok_and(|layer| layer < config.taps()[2]),
            None => rest.starts_with("embed_tokens."),
        }
    }

    /// Hidden states of `prompts`, all of one length: (B, T, 3 * hidden_size), for each token those after the three
    /// tapped layers side by side.
    ///
    /// Padding is masked as a key but has hidden states of its own; the transformer does attend to them.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if a token is none of the table's or the prompts' lengths differ, [`Error::Interrupted`],
    /// [`Error::Device`].
    pub fn forward(&self, prompts: &[&Prompt], observer: &dyn YieldPoint) -> Result<Tensor> {
        let (vocabulary, width) = self.embeddings.dims2()?;
        let tokens = prompts.first().map_or(0, |p| p.ids.len());
        let ids: Vec<u32> = prompts.iter().flat_map(|p| p.ids.iter().copied()).collect();
        if tokens == 0 || prompts.iter().any(|p| p.ids.len() != tokens || p.used == 0) {
            return Err(Error::Input("prompts need tokens, and as many each".to_owned()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::Input(format!("token {id} is none of the {vocabulary} the text encoder knows")));
        }
        let (device, dtype) = (self.embeddings.device(), self.embeddings.dtype());
        let count = ids.len();
        let ids = Tensor::from_vec(ids, count, device)?;
        let mut hidden = self.embeddings.index_select(&ids, 0)?.reshape((prompts.len(), tokens, width))?;
        let mask = causal_mask(prompts, tokens, device)?.to_dtype(dtype)?;
        let rope = Rope::new(&self.config, tokens, device, dtype)?;
        let mut tapped = Vec::with_capacity(self.taps.len());
        for (i, layer) in self.layers.iter().enumerate() {
            observer.reach(Site::TextEncoderBlock)?;
            hidden = layer.forward(&hidden, Some(&mask), &rope, None)?;
            if self.taps.contains(&(i + 1)) {
                tapped.push(hidden.clone());
            }
        }
        Ok(Tensor::cat(&tapped, 2)?)
    }
}

/// 0 where a token may attend, −∞ elsewhere: to itself and the tokens before it, padding left out. (B, 1, T, T)
///
/// Padding is on the right, so the first token is always one that may be attended to and no row is empty.
fn causal_mask(prompts: &[&Prompt], tokens: usize, device: &Device) -> Built<Tensor> {
    let allowed = |used: usize, query: usize, key: usize| key <= query && key < used;
    let mask: Vec<f32> = prompts
        .iter()
        .flat_map(|p| (0..tokens).flat_map(move |q| (0..tokens).map(move |k| allowed(p.used, q, k))))
        .map(|allowed| if allowed { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    Tensor::from_vec(mask, (prompts.len(), 1, tokens, tokens), device)?.to_dtype(DType::F32)
}
