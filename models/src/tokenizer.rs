//! Tokenizers and the chat template.

use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig};
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::{
    byte_pairs::{Special, tokenizer_json},
    error::{Error, Result},
    loader::read_optional_json,
};

/// A `tokenizer.json` with the limits from `tokenizer_config.json` beside it.
pub struct Words {
    tokenizer: Tokenizer,
    path: PathBuf,
    vocabulary: usize,
    /// `model_max_length`: tokens, special ones included.
    max_length: usize,
}

impl Words {
    /// Reads the tokenizer in `dir`, for a model that knows `vocabulary` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`] or [`Error::Tokenizer`] if a file cannot be used.
    pub fn load(dir: &Path, vocabulary: usize) -> Result<Self> {
        Self::with_config(dir, vocabulary, &TokenizerConfig::read(dir)?)
    }

    fn with_config(dir: &Path, vocabulary: usize, config: &TokenizerConfig) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|e| Error::missing(&path, e))?;
        Self::of_json(bytes, path, vocabulary, config)
    }

    /// `bytes` are what `tokenizer.json` says, wherever it is from; `path` is what to name if it is wrong.
    fn of_json(bytes: Vec<u8>, path: PathBuf, vocabulary: usize, config: &TokenizerConfig) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| Error::tokenizer(&path, e.to_string()))?;
        // Lengths are this crate's business: whatever the file was saved with would hide how much was cut off.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| Error::tokenizer(&path, e.to_string()))?;
        // An unlimited tokenizer writes 1e30; the cast saturates.
        let max_length = config.model_max_length.unwrap_or(f64::INFINITY).max(0.0) as usize;
        Ok(Self { tokenizer, path, vocabulary, max_length })
    }

    /// `model_max_length` of the tokenizer's configuration: tokens, special ones included.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The tokens of `text`, with the special tokens of the tokenizer's own template.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the text cannot be split, or a token is none that the model knows.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, true).map_err(|e| Error::tokenizer(&self.path, e.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        // Checked here, on the host: a gather past the table's end is not an error on every device.
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            let reason = format!("token {id} is none of the {} the model knows", self.vocabulary);
            return Err(Error::tokenizer(&self.path, reason));
        }
        Ok(ids)
    }
}

/// Prompts to token ids, as `Flux2KleinPipeline` has them: through the chat template with the generation prompt and
/// thinking disabled, cut or padded on the right to a fixed length where an encoder reads them.
pub struct ChatTokenizer {
    words: Words,
    template: String,
    template_path: PathBuf,
    special: SpecialTokens,
    pad: u32,
    length: usize,
}

/// A prompt ready for the text encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, always as many as the encoder's text length.
    pub ids: Vec<u32>,
    /// How many of them are of the prompt; the rest is padding.
    pub used: usize,
    /// Tokens that did not fit.
    pub truncated: u32,
}

impl ChatTokenizer {
    /// Reads the tokenizer and chat template in `dir`, for at most `max_length` tokens and an encoder that knows
    /// `vocabulary` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`] or [`Error::Tokenizer`] if a file cannot be used.
    pub fn load(dir: &Path, vocabulary: usize, max_length: usize) -> Result<Self> {
        let config_path = dir.join("tokenizer_config.json");
        let config = TokenizerConfig::read(dir)?;
        let words = Words::with_config(dir, vocabulary, &config)?;
        let special = SpecialTokens::of(&config);
        let pad = config.pad(&words, &config_path)?;
        let (template, template_path) = template(dir, &config)?;
        let length = words.max_length().min(max_length);
        if length == 0 {
            return Err(Error::config(&config_path, "model_max_length is 0"));
        }
        let tokenizer = Self { words, template, template_path, special, pad, length };
        tokenizer.render("")?; // a template that cannot be used is found when loading, not at the first prompt
        Ok(tokenizer)
    }

    /// Tokens that the encoder gets for each prompt.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The text that is split into tokens: `prompt` as the user's message.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the template cannot be rendered.
    pub fn render(&self, prompt: &str) -> Result<String> {
        let mut environment = Environment::new();
        // As transformers sets up Jinja for chat templates.
        let unusable = |e| Error::tokenizer(&self.template_path, format!("chat template: {e}"));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(unusable)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let values = context! {
            messages => vec![context! { role => "user", content => prompt }],
            add_generation_prompt => true,
            enable_thinking => false,
            bos_token => self.special.bos.as_deref(),
            eos_token => self.special.eos.as_deref(),
            pad_token => self.special.pad.as_deref(),
        };
        environment.render_str(&self.template, values).map_err(unusable)
    }

    /// `prompt` as token ids, cut or padded.
    ///
    /// # Errors
    ///
    /// As [`Self::render`] and [`Words::encode`].
    pub fn encode(&self, prompt: &str) -> Result<Prompt> {
        let mut ids = self.tokens(prompt)?;
        let truncated = ids.len().saturating_sub(self.length) as u32;
        let used = ids.len().min(self.length);
        ids.resize(self.length, self.pad);
        Ok(Prompt { ids, used, truncated })
    }

    /// `prompt` as token ids, however many, and at least one.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn tokens(&self, prompt: &str) -> Result<Vec<u32>> {
        let ids = self.words.encode(&self.render(prompt)?)?;
        if ids.is_empty() {
            // The model's first row would have nothing to attend to.
            return Err(Error::tokenizer(&self.template_path, "the chat template gives no tokens"));
        }
        Ok(ids)
    }

    /// What tokens say that come one after the other, without special ones.
    #[must_use]
    pub fn decoder(&self) -> Decoder<'_> {
        let stream = self.words.tokenizer.decode_stream(true);
        Decoder { words: &self.words, stream, tokens: Vec::new(), said: 0 }
    }
}

type Stream<'a> =
    DecodeStream<'a, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Turns tokens into text as they come, whole characters only.
pub struct Decoder<'a> {
    words: &'a Words,
    stream: Stream<'a>,
    tokens: Vec<u32>,
    /// Bytes of the text that have been given out.
    said: usize,
}

impl Decoder<'_> {
    /// What is certain now that `token` is there, and was not before.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the tokenizer cannot turn tokens into text piece by piece.
    pub fn push(&mut self, token: u32) -> Result<Option<String>> {
        self.tokens.push(token);
        let piece = self.stream.step(token).map_err(|e| Error::tokenizer(&self.words.path, e.to_string()))?;
        self.said += piece.as_ref().map_or(0, String::len);
        Ok(piece)
    }

    /// What is left when no more tokens come: characters that were begun and never ended, as U+FFFD.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub fn rest(self) -> Result<String> {
        let text = self.words.tokenizer.decode(&self.tokens, true);
        let text = text.map_err(|e| Error::tokenizer(&self.words.path, e.to_string()))?;
        Ok(text.get(self.said..).unwrap_or_default().to_owned())
    }
}

/// Texts to token ids of a fixed length, as diffusion models read them: cut before the last token, or padded on the right.
pub struct PaddedWords {
    words: Words,
    pad: u32,
}

impl PaddedWords {
    /// Reads the tokenizer in `dir`, for a model that knows `vocabulary` tokens: a `tokenizer.json`, or CLIP's `vocab.json` and
    /// `merges.txt`.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`] or [`Error::Tokenizer`] if a file cannot be used.
    pub fn load(dir: &Path, vocabulary: usize) -> Result<Self> {
        let (path, config) = (dir.join("tokenizer_config.json"), TokenizerConfig::read(dir)?);
        let words = if is_of_byte_pairs(dir) {
            let SpecialTokens { bos, eos, pad, unk } = SpecialTokens::of(&config);
            let end = eos.as_deref().unwrap_or("<|endoftext|>");
            let special = Special {
                begin: bos.as_deref().unwrap_or("<|startoftext|>"),
                end,
                unknown: unk.as_deref().unwrap_or(end),
                pad: pad.as_deref().unwrap_or(end),
                added: &config.added_tokens_decoder,
            };
            Words::of_json(tokenizer_json(dir, &special)?, dir.join("vocab.json"), vocabulary, &config)?
        } else {
            Words::with_config(dir, vocabulary, &config)?
        };
        let pad = config.pad(&words, &path)?;
        Ok(Self { words, pad })
    }

    /// As [`Words::max_length`].
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.words.max_length()
    }

    /// `text` as `length` token ids, of which the last of the text is kept where it does not fit: it is the end token.
    ///
    /// # Errors
    ///
    /// As [`Words::encode`].
    pub fn encode(&self, text: &str, length: usize) -> Result<Prompt> {
        let mut ids = self.words.encode(text)?;
        let (used, truncated) = (ids.len().min(length), ids.len().saturating_sub(length) as u32);
        if truncated > 0 && used > 0 {
            ids.swap(used - 1, used - 1 + truncated as usize);
        }
        ids.resize(length, self.pad);
        Ok(Prompt { ids, used, truncated })
    }
}

/// Whether the tokenizer in `dir` is a vocabulary and merges, and not a `tokenizer.json`.
pub(crate) fn is_of_byte_pairs(dir: &Path) -> bool {
    !dir.join("tokenizer.json").exists() && dir.join("vocab.json").exists()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
    padding_side: Option<String>,
    truncation_side: Option<String>,
    chat_template: Option<Json>,
    bos_token: Option<Json>,
    eos_token: Option<Json>,
    pad_token: Option<Json>,
    unk_token: Option<Json>,
    added_tokens_decoder: Map<String, Json>,
}

impl TokenizerConfig {
    fn read(dir: &Path) -> Result<Self> {
        Ok(read_optional_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default())
    }

    /// The number of what the library pads with. `path` is this file; one that wants texts padded or cut on the left is refused.
    fn pad(&self, words: &Words, path: &Path) -> Result<u32> {
        for (key, side) in [("padding_side", &self.padding_side), ("truncation_side", &self.truncation_side)] {
            if let Some(side) = side.as_deref().filter(|&side| side != "right") {
                return Err(Error::config(path, format!("{key} is {side:?}; only \"right\" is supported")));
            }
        }
        let pad = SpecialTokens::of(self).pad.ok_or_else(|| Error::config(path, "pad_token is missing"))?;
        let id = words.tokenizer.token_to_id(&pad).filter(|&id| (id as usize) < words.vocabulary);
        id.ok_or_else(|| Error::config(path, format!("pad_token {pad:?} is not in the vocabulary")))
    }
}

struct SpecialTokens {
    bos: Option<String>,
    eos: Option<String>,
    pad: Option<String>,
    unk: Option<String>,
}

impl SpecialTokens {
    /// A special token is written as its text or as an object with the text in `content`.
    fn of(config: &TokenizerConfig) -> Self {
        let text = |token: &Option<Json>| {
            let token = token.as_ref()?;
            token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
        };
        Self {
            bos: text(&config.bos_token),
            eos: text(&config.eos_token),
            pad: text(&config.pad_token),
            unk: text(&config.unk_token),
        }
    }
}

/// The template's file wins over the configuration's entry, as in transformers. The entry is the template itself or a
/// list of named ones.
fn template(dir: &Path, config: &TokenizerConfig) -> Result<(String, PathBuf)> {
    let path = dir.join("chat_template.jinja");
    match std::fs::read_to_string(&path) {
        Ok(template) => return Ok((template, path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::missing(&path, e)),
    }
    let path = dir.join("tokenizer_config.json");
    let named = |list: &Vec<Json>| {
        let default = list.iter().find(|t| t.get("name").and_then(Json::as_str) == Some("default"))?;
        default.get("template")?.as_str().map(str::to_owned)
    };
    let template = config.chat_template.as_ref();
    let template = template.and_then(|t| t.as_str().map(str::to_owned).or_else(|| named(t.as_array()?)));
    template.map(|t| (t, path.clone())).ok_or_else(|| Error::config(&path, "chat_template is missing"))
}
