//! The published FLUX.2 klein models, as far as their configurations tell how much memory they take.
//!
//! Sources: the configurations of `black-forest-labs/FLUX.2-klein-*` and of `Qwen/Qwen3-*`. The autoencoder is the same in
//! all of them, and diffusers' default.

use super::{
    config::{PipelineConfig, TransformerConfig, VaeConfig},
    footprint::{Configs, Count},
    pipeline::{Defaults, MAX_TEXT_TOKENS},
    text_encoder::TextEncoder,
    transformer::Transformer,
    vae::Vae,
};
use crate::{census::Census, error::Result, footprint::Breakdown, gguf::Quant, linear::MAX_BAND, qwen3};

/// Bytes of Qwen3's `tokenizer.json`.
const TOKENIZER_FILE_BYTES: u64 = 11_422_654;

/// A published model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// What it is called here.
    pub name: &'static str,
    /// Where it is published.
    pub repository: &'static str,
    /// Distilled to few steps, and so without guidance.
    distilled: bool,
    size: Klein,
}

/// Sizes of the published models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Klein {
    /// With the encoder Qwen3-4B.
    B4,
    /// With the encoder Qwen3-8B.
    B9,
}

/// All of them.
pub const PUBLISHED: [Published; 4] = [
    Published {
        name: "flux2-klein-4b",
        repository: "black-forest-labs/FLUX.2-klein-4B",
        distilled: true,
        size: Klein::B4,
    },
    Published {
        name: "flux2-klein-9b",
        repository: "black-forest-labs/FLUX.2-klein-9B",
        distilled: true,
        size: Klein::B9,
    },
    Published {
        name: "flux2-klein-base-4b",
        repository: "black-forest-labs/FLUX.2-klein-base-4B",
        distilled: false,
        size: Klein::B4,
    },
    Published {
        name: "flux2-klein-base-9b",
        repository: "black-forest-labs/FLUX.2-klein-base-9B",
        distilled: false,
        size: Klein::B9,
    },
];

impl Published {
    /// The one called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        PUBLISHED.iter().find(|published| published.name == name)
    }

    /// What its configuration says about requests.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        let vae = VaeConfig::default();
        Defaults {
            side: vae.sample_side(),
            multiple: 2 * vae.scale(),
            text_tokens: MAX_TEXT_TOKENS as u32,
            distilled: self.distilled,
        }
    }

    /// What its parts need.
    ///
    /// # Errors
    ///
    /// [`Error::Device`](crate::Error::Device), which would be a mistake in the constructors of the parts.
    pub fn breakdown(&self) -> Result<Breakdown> {
        self.breakdown_with(None)
    }

    /// What they need with the transformer in a GGUF file of one type.
    ///
    /// As in the files that are published, that type is the one of the blocks' matrices and their modulation, while what
    /// leads into and out of them stays as it is. Files called `..._M` and the like mix types, and are a little larger.
    ///
    /// # Errors
    ///
    /// As [`Self::breakdown`].
    pub fn quantised(&self, quant: Quant) -> Result<Breakdown> {
        self.breakdown_with(Some(quant))
    }

    fn breakdown_with(&self, quant: Option<Quant>) -> Result<Breakdown> {
        let Counts { text_encoder, transformer, vae } = self.counts()?;
        let all = |census: &Census| Count { read: census.parameters(), ..Count::default() };
        let text = self.size.text_encoder();
        let behind = (text.num_hidden_layers - text.taps()[2]) as u64;
        let head = if self.size.tied() { 0 } else { (text.vocab_size * text.hidden_size) as u64 };
        let unread = behind * text_encoder.parameters_below("model.layers.0.") + text.hidden_size as u64 + head;
        let transformer = Count { read: transformer.parameters(), ..quantised(&transformer, quant) };
        let counts = [Count { unread, ..all(&text_encoder) }, transformer, all(&vae)];
        let configs = Configs {
            text,
            transformer: self.size.transformer(),
            vae: VaeConfig::default(),
            defaults: self.defaults(),
        };
        Ok(configs.breakdown(counts, TOKENIZER_FILE_BYTES))
    }

    /// Its configuration files, with what is read of them here: paths in its directory, and JSON.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`], which would be a mistake in the configurations.
    pub fn files(&self) -> serde_json::Result<[(&'static str, serde_json::Value); 4]> {
        Ok([
            ("model_index.json", serde_json::to_value(PipelineConfig::new(self.distilled))?),
            ("text_encoder/config.json", serde_json::to_value(self.size.text_encoder())?),
            ("transformer/config.json", serde_json::to_value(self.size.transformer())?),
            ("vae/config.json", serde_json::to_value(VaeConfig::default())?),
        ])
    }

    /// The tensors of its parts that are loaded.
    ///
    /// # Errors
    ///
    /// As [`Self::breakdown`].
    pub fn counts(&self) -> Result<Counts> {
        let (text, transformer, vae) = (self.size.text_encoder(), self.size.transformer(), VaeConfig::default());
        Ok(Counts {
            text_encoder: Census::of(|vb| TextEncoder::new(&text, vb))?,
            transformer: Census::of(|vb| Transformer::new(&transformer, vb))?,
            vae: Census::of(|vb| Vae::new(&vae, vb))?,
        })
    }
}

/// Names of the transformer's matrices that are quantised begin with one of these.
const QUANTISED: [&str; 4] =
    ["transformer_blocks.", "single_transformer_blocks.", "double_stream_modulation", "single_stream_modulation"];

fn quantised(transformer: &Census, quant: Option<Quant>) -> Count {
    let mut count = Count::default();
    for (name, shape) in transformer.tensors() {
        let &[rows, columns] = shape.as_slice() else { continue };
        let (rows, columns) = (rows as u64, columns as u64);
        let inside = QUANTISED.iter().any(|prefix| name.starts_with(prefix));
        if let Some(bytes) = quant.filter(|_| inside).and_then(|quant| quant.bytes(rows, columns)) {
            count.quantised.parameters += rows * columns;
            count.quantised.bytes += bytes;
            count.band = count.band.max((rows * columns).min(MAX_BAND as u64));
        }
    }
    count
}

/// The tensors of each part.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the parts")]
pub struct Counts {
    pub text_encoder: Census,
    pub transformer: Census,
    pub vae: Census,
}

impl Klein {
    fn transformer(self) -> TransformerConfig {
        let (num_layers, num_single_layers, num_attention_heads) = match self {
            Self::B4 => (5, 20, 24),
            Self::B9 => (8, 24, 32),
        };
        TransformerConfig {
            num_layers,
            num_single_layers,
            num_attention_heads,
            joint_attention_dim: 3 * self.text_encoder().hidden_size,
            guidance_embeds: false,
            ..TransformerConfig::default()
        }
    }

    fn text_encoder(self) -> qwen3::Config {
        let (hidden_size, intermediate_size) = match self {
            Self::B4 => (2560, 9728),
            Self::B9 => (4096, 12_288),
        };
        qwen3::Config {
            hidden_size,
            intermediate_size,
            num_hidden_layers: 36,
            num_attention_heads: 32,
            num_key_value_heads: Some(8),
            tie_word_embeddings: self.tied(),
            ..qwen3::Config::default()
        }
    }

    /// Whether the language model's head is the embeddings over again.
    fn tied(self) -> bool {
        self == Self::B4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(name: &str) -> [(u64, u64); 3] {
        let parts = Published::find(name).unwrap().breakdown().unwrap().parts;
        let parts: Vec<_> = parts.iter().map(|part| (part.parameters, part.unread)).collect();
        parts.try_into().unwrap()
    }

    #[test]
    fn language_models_are_of_their_published_sizes() {
        for (name, whole) in [("flux2-klein-4b", 4_022_468_096), ("flux2-klein-9b", 8_190_735_360)] {
            let [(read, unread), ..] = parameters(name);
            assert_eq!(read + unread, whole, "{name}");
        }
    }

    #[test]
    fn transformers_are_as_large_as_their_names_say() {
        let [_, (b4, 0), (vae, 0)] = parameters("flux2-klein-4b") else { panic!("unread weights") };
        let [_, (b9, 0), (same, 0)] = parameters("flux2-klein-9b") else { panic!("unread weights") };
        assert!((3_800_000_000..4_000_000_000).contains(&b4), "{b4}");
        assert!((9_000_000_000..9_200_000_000).contains(&b9), "{b9}");
        assert_eq!(vae, same);
    }

    /// 34 GB were published for a picture: both the whole checkpoint and what is used of it with what runs explain them.
    #[test]
    fn klein_9b_explains_34_gb() {
        const BF16: u64 = 2;
        let breakdown = Published::find("flux2-klein-9b").unwrap().breakdown().unwrap();
        let whole: u64 = breakdown.parts.iter().map(|part| (part.parameters + part.unread) * BF16).sum();
        assert!((33_000_000_000..36_000_000_000).contains(&whole), "{whole}");
        let footprint = breakdown.footprint();
        let run = footprint.run_numbers + footprint.run_numbers_per_pixel * 1024 * 1024;
        let peak = (footprint.parameters + run) * BF16 + footprint.tables_bytes;
        assert!((33_000_000_000..36_000_000_000).contains(&peak), "{peak}");
    }

    #[test]
    fn its_files_are_read_as_what_they_were_made_of() {
        for published in &PUBLISHED {
            let dir = tempfile::tempdir().unwrap();
            for (path, json) in published.files().unwrap() {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, json.to_string()).unwrap();
            }
            let at = |path: &str| dir.path().join(path);
            assert_eq!(PipelineConfig::read(&at("model_index.json")).unwrap().is_distilled, published.distilled);
            let text = TextEncoder::config(&at("text_encoder/config.json")).unwrap();
            let transformer = TransformerConfig::read(&at("transformer/config.json")).unwrap();
            let vae = VaeConfig::read(&at("vae/config.json")).unwrap();
            let counts = Counts {
                text_encoder: Census::of(|vb| TextEncoder::new(&text, vb)).unwrap(),
                transformer: Census::of(|vb| Transformer::new(&transformer, vb)).unwrap(),
                vae: Census::of(|vb| Vae::new(&vae, vb)).unwrap(),
            };
            assert_eq!(counts, published.counts().unwrap(), "{}", published.name);
        }
    }

    #[test]
    fn quantised_matrices_take_the_bits_of_their_type() {
        let published = Published::find("flux2-klein-9b").unwrap();
        let dense = published.breakdown().unwrap();
        for (name, bits) in [("q8_0", 8.5), ("q6_k", 6.5625), ("q5_k", 5.5), ("q4_k", 4.5), ("q4_0", 4.5)] {
            let breakdown = published.quantised(name.parse().unwrap()).unwrap();
            let [text, transformer, vae] = breakdown.parts[..] else { panic!("three parts") };
            assert_eq!([text, vae], [dense.parts[0], dense.parts[2]]);
            assert_eq!(transformer.parameters, dense.parts[1].parameters);
            let quantised = transformer.quantised;
            assert_eq!(quantised.bytes as f64 * 8.0, quantised.parameters as f64 * bits, "{name}");
            // What stays as it is are the embedders of text, time and latents, and the last layer.
            let rest = transformer.parameters - quantised.parameters;
            assert!((100_000_000..120_000_000).contains(&rest), "{rest}");
            let footprint = breakdown.footprint();
            let weights = breakdown.parts.iter().map(|part| part.weights_bytes(2)).sum::<u64>();
            assert_eq!(footprint.parameters * 2 + footprint.quantised_bytes, weights);
            assert!(transformer.run_numbers > dense.parts[1].run_numbers, "bands are converted");
        }
    }

    #[test]
    fn guidance_takes_two_prompts() {
        let most = |name| Published::find(name).unwrap().breakdown().unwrap().parts[1].run_numbers_per_pixel;
        assert!(most("flux2-klein-base-4b") > most("flux2-klein-4b"));
    }
}
