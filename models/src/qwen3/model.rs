//! The model (`Qwen3ForCausalLM`).

use std::{path::Path, sync::Arc};

use candle_core::{DType, Device, Module, Result as Built, Tensor};
use candle_nn::{Linear, VarBuilder, kv_cache::KvCache, linear_no_bias};

use super::{
    config::Config,
    layers::{Layer, Rope},
};
use crate::{
    clip::model::NO_NUMBERS,
    error::{Error, Result},
    loader::{Progress, WeightFiles},
    norm::RmsNorm,
    parts::{Parts, Share},
    tokenizer::ChatTokenizer,
    yield_point::{Site, YieldPoint},
};

/// The longest question, in tokens, with what the chat template puts around it. A longer one is refused rather than cut:
/// what would be cut off is its end, and with it the place where the answer begins.
pub const MAX_PROMPT_TOKENS: usize = 2048;
/// The longest answer, in tokens,
pub const MAX_ANSWER_TOKENS: usize = 4096;
/// and in bytes: tokens can be long.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Tokens of a question that are read at once. So few that a long question takes little beside the cache, which is there
/// for any: what was measured of one question holds for others.
pub(super) const READ_AT_ONCE: usize = 64;

/// A loaded model. Answering does not change it: threads may share one.
pub struct Qwen3 {
    config: Config,
    chat: Arc<ChatTokenizer>,
    /// Tokens that end an answer.
    ends: Arc<[u32]>,
    /// What it was built of.
    parts: Parts,
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    device: Device,
    dtype: DType,
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is asked.
    pub question: &'a str,
    /// The most tokens of the answer, from 1 to [`MAX_ANSWER_TOKENS`].
    pub max_tokens: usize,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text: all that was said of it, one after the other.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: u32,
    /// Whether the model ended it, rather than a bound.
    pub complete: bool,
    /// Tokens of the question, with what the chat template puts around it.
    pub prompt_tokens: u32,
}

/// Tokens that question and answer of a model can have together.
pub(super) fn context(config: &Config) -> usize {
    config.max_position_embeddings.min(MAX_PROMPT_TOKENS + MAX_ANSWER_TOKENS)
}

/// Whether a model uses the weight of this name.
pub(super) fn uses(config: &Config, name: &str) -> bool {
    !(config.tie_word_embeddings && name.starts_with("lm_head."))
}

impl Qwen3 {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`], [`Error::Weights`] or [`Error::Tokenizer`] if a file cannot be used,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let config = Config::read(&dir.join("config.json"))?;
        let chat = Arc::new(ChatTokenizer::load(dir, config.vocab_size, MAX_PROMPT_TOKENS)?);
        let ends = config.ends(dir)?.into();
        let files = WeightFiles::find(dir)?;
        let progress = Progress::new(observer, files.count());
        let weights = files.load(device, dtype, &|name| uses(&config, name), &progress)?;
        let built = Parts::of(weights, |vb| Self::build(&config, &chat, &ends, vb));
        let (model, parts) = files.check(built)?;
        progress.finish()?;
        Ok(Self { parts, ..model })
    }

    /// The same model for `device`, of what `share` makes of each of its tensors. Nothing is read.
    ///
    /// # Errors
    ///
    /// [`Error::Device`], also for those of `share`.
    pub fn again(&self, device: &Device, share: Share<'_>) -> Result<Self> {
        let build = |vb: VarBuilder<'_>| Self::build(&self.config, &self.chat, &self.ends, vb);
        let (model, parts) = self.parts.again((self.dtype, device), share, build)?;
        Ok(Self { parts, ..model })
    }

    fn build(config: &Config, chat: &Arc<ChatTokenizer>, ends: &Arc<[u32]>, vb: VarBuilder<'_>) -> Built<Self> {
        let (vocabulary, width, model) = (config.vocab_size, config.hidden_size, vb.pp("model"));
        let embeddings = model.pp("embed_tokens").get((vocabulary, width), "weight")?;
        let head = if config.tie_word_embeddings {
            Linear::new(embeddings.clone(), None)
        } else {
            linear_no_bias(width, vocabulary, vb.pp("lm_head"))?
        };
        let layers = model.pp("layers");
        Ok(Self {
            config: config.clone(),
            chat: Arc::clone(chat),
            ends: Arc::clone(ends),
            parts: Parts::default(),
            embeddings,
            layers: (0..config.num_hidden_layers).map(|i| Layer::new(config, layers.pp(i))).collect::<Built<_>>()?,
            norm: RmsNorm::new(width, config.rms_norm_eps, model.pp("norm"))?,
            head,
            device: vb.device().clone(),
            dtype: vb.dtype(),
        })
    }

    /// Answers, the likeliest token each time, and gives `say` each piece of the text once it is certain, never part of a
    /// character, with how many tokens there are by then. An answer ends where the model ends it, or where a bound is
    /// reached: [`Request::max_tokens`], [`MAX_ANSWER_BYTES`], the model's positions.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] for a question that is too long or a bound that is none, [`Error::Tokenizer`] if the tokenizer is
    /// none for this model, [`Error::Interrupted`], [`Error::Device`].
    pub fn answer(
        &self,
        request: &Request<'_>,
        say: &mut dyn FnMut(&str, u32),
        observer: &dyn YieldPoint,
    ) -> Result<Answer> {
        let most = request.max_tokens;
        if !(1..=MAX_ANSWER_TOKENS).contains(&most) {
            return Err(Error::Input(format!("an answer has 1 to {MAX_ANSWER_TOKENS} tokens, not {most}")));
        }
        let prompt = self.chat.tokens(request.question)?;
        let limit = self.chat.length().min(context(&self.config) - 1);
        if prompt.len() > limit {
            let reason = format!("the question has {} tokens, and the model reads {limit}: ask less", prompt.len());
            return Err(Error::Input(reason));
        }
        let most = most.min(context(&self.config) - prompt.len());
        let mut context = self.begin()?;
        let mut decoder = self.chat.decoder();
        let (mut text, mut tokens, mut complete) = (String::new(), 0, false);
        let mut next = prompt.clone();
        while tokens < most && text.len() < MAX_ANSWER_BYTES {
            observer.reach(Site::Token { done: tokens as u32, total: most as u32 })?;
            let token = likeliest(&context.read(&next, observer)?)?;
            complete = self.ends.contains(&token);
            if complete {
                break;
            }
            tokens += 1;
            if let Some(piece) = decoder.push(token)? {
                say(&piece, tokens as u32);
                text.push_str(&piece);
            }
            next = vec![token];
        }
        let rest = decoder.rest()?;
        if !rest.is_empty() {
            say(&rest, tokens as u32);
            text.push_str(&rest);
        }
        Ok(Answer { text, tokens: tokens as u32, complete, prompt_tokens: prompt.len() as u32 })
    }

    /// A text that is yet to be read.
    ///
    /// # Errors
    ///
    /// [`Error::Device`].
    pub fn begin(&self) -> Result<Context<'_>> {
        let most = context(&self.config);
        let rope = Rope::new(&self.config, most, &self.device, self.dtype)?;
        // Over the tokens, the third of four axes.
        Ok(Context { model: self, rope, past: vec![KvCache::new(2, most); self.layers.len()], most, read: 0 })
    }

    /// The tokenizer, with the chat template.
    #[must_use]
    pub fn chat(&self) -> &ChatTokenizer {
        &self.chat
    }
}

/// A text as far as a model has read it.
pub struct Context<'a> {
    model: &'a Qwen3,
    rope: Rope,
    /// Keys and values of each layer.
    past: Vec<KvCache>,
    /// Tokens that it can have, and has.
    most: usize,
    read: usize,
}

impl Context<'_> {
    /// Reads on, and returns the logits of the token after that, one for each that the model knows.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if there are no tokens, unknown ones, or more than the model has positions for,
    /// [`Error::Interrupted`], after which the text cannot be read on, [`Error::Device`].
    pub fn read(&mut self, ids: &[u32], observer: &dyn YieldPoint) -> Result<Vec<f32>> {
        let vocabulary = self.model.config.vocab_size;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::Input(format!("token {id} is none of the {vocabulary} the model knows")));
        }
        let (count, left) = (ids.len(), self.most - self.read);
        if count == 0 || count > left {
            return Err(Error::Input(format!("{count} tokens to read, of at least 1 and at most {left}")));
        }
        let mut last = None;
        for ids in ids.chunks(READ_AT_ONCE) {
            last = Some(self.read_at_once(ids, observer)?);
        }
        let hidden = last.ok_or_else(|| Error::Input("there is nothing to read".to_owned()))?;
        let model = self.model;
        // What follows the tokens before the last is known.
        let hidden = model.norm.forward(&hidden.narrow(1, hidden.dim(1)? - 1, 1)?.contiguous()?)?;
        Ok(model.head.forward(&hidden)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
    }

    /// Hidden states (1, T, D) of some tokens, all of which are known.
    fn read_at_once(&mut self, ids: &[u32], observer: &dyn YieldPoint) -> Result<Tensor> {
        let (model, count) = (self.model, ids.len());
        let rope = self.rope.at(self.read, count)?;
        // One token may attend to all that there is.
        let mask = if count > 1 { Some(self.mask(count)?) } else { None };
        let ids = Tensor::new(ids, &model.device)?;
        let mut hidden = model.embeddings.index_select(&ids, 0)?.unsqueeze(0)?;
        for (layer, past) in model.layers.iter().zip(&mut self.past) {
            observer.reach(Site::Block)?;
            hidden = layer.forward(&hidden, mask.as_ref(), &rope, Some(past))?;
        }
        self.read += count;
        Ok(hidden)
    }

    /// 0 where a token may attend, −∞ elsewhere: to what has been read, itself and the new tokens before it. For each head
    /// that shares keys with others T rows, (1, 1, heads x T, read + T).
    fn mask(&self, count: usize) -> Built<Tensor> {
        let config = &self.model.config;
        let heads = config.num_attention_heads / config.key_value_heads();
        let (rows, keys) = (heads * count, self.read + count);
        let allowed = |row: usize, key: usize| key <= self.read + row % count;
        let mask = (0..rows).flat_map(|row| (0..keys).map(move |key| allowed(row, key)));
        let mask: Vec<f32> = mask.map(|allowed| if allowed { 0.0 } else { f32::NEG_INFINITY }).collect();
        Tensor::from_vec(mask, (1, 1, rows, keys), &self.model.device)?.to_dtype(self.model.dtype)
    }
}

/// The token of the largest logit, of several the first.
fn likeliest(logits: &[f32]) -> Result<u32> {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return Err(Error::Device(candle_core::Error::msg(NO_NUMBERS)));
        }
        if *logit > logits[best] {
            best = token;
        }
    }
    Ok(best as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_is_the_likeliest() {
        assert_eq!(likeliest(&[-2.0, 1.0, 0.5, 1.0]).unwrap(), 1);
        assert_eq!(likeliest(&[-3.0]).unwrap(), 0);
        assert!(matches!(likeliest(&[0.0, f32::NAN]), Err(Error::Device(_))));
    }
}
