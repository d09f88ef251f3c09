//! Which models lie in a set of directories.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use candle_core::DType;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    flux2::files::TransformerFiles,
    loader::{WeightFiles, read_json},
    sd3,
};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A FLUX.2 klein pipeline: pictures from text and reference pictures.
    Flux2Klein,
    /// A Stable Diffusion 3 pipeline: pictures from text, and parts of pictures made anew.
    Sd3,
    /// A ViLT with a head over answers: questions about pictures.
    ViltVqa,
    /// A CLIP: how well texts fit a picture.
    Clip,
    /// An OWLv2: where in a picture is what texts name.
    Owlv2,
    /// A SAM2: what in a picture a box or points are about.
    Sam2,
    /// A Qwen3 with its language model's head: texts that answer questions.
    Qwen3,
}

impl Kind {
    /// The kind of a model of this class, whose files lie in its directory itself.
    fn of_class(name: &str) -> Option<Self> {
        match name {
            "ViltForQuestionAnswering" => Some(Self::ViltVqa),
            "CLIPModel" => Some(Self::Clip),
            "Owlv2ForObjectDetection" => Some(Self::Owlv2),
            "Sam2Model" | "Sam2VideoModel" => Some(Self::Sam2),
            "Qwen3ForCausalLM" => Some(Self::Qwen3),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flux2Klein => "flux2-klein",
            Self::Sd3 => "sd3",
            Self::ViltVqa => "vilt-vqa",
            Self::Clip => "clip",
            Self::Owlv2 => "owlv2",
            Self::Sam2 => "sam2",
            Self::Qwen3 => "qwen3",
        })
    }
}

/// A model found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The directory's name.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// What it is for.
    pub kind: Kind,
    /// Size of its weight files on disk.
    pub bytes: u64,
}

impl Entry {
    /// The type in which most of its weights are stored; of a pipeline, those of its transformer, or if that is in GGUF,
    /// which most often is quantised, those of its text encoder. Reads files' headers only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] and [`Error::Weights`] for unusable files.
    pub fn stored_type(&self) -> Result<DType> {
        let dir = match self.kind {
            Kind::Flux2Klein => match TransformerFiles::find(&self.path.join("transformer"))? {
                TransformerFiles::Tensors(files) => return files.stored_type(),
                TransformerFiles::Gguf(_) => self.path.join("text_encoder"),
            },
            Kind::Sd3 => self.path.join(sd3::TRANSFORMER),
            Kind::ViltVqa | Kind::Clip | Kind::Owlv2 | Kind::Sam2 | Kind::Qwen3 => self.path.clone(),
        };
        WeightFiles::find(&dir)?.stored_type()
    }
}

/// The models directly below `dirs`, sorted by name.
///
/// Where two directories hold a model of the same name, the earlier in `dirs` wins. Anything that is not a complete
/// model of a [`Kind`] known here is passed over, and so are directories in `dirs` that do not exist.
///
/// # Errors
///
/// [`Error::Missing`] if one of `dirs` exists but cannot be listed.
pub fn scan(dirs: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut found = BTreeMap::new();
    for dir in dirs {
        let listing = match std::fs::read_dir(dir) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::missing(dir, e)),
        };
        for item in listing {
            let path = item.map_err(|e| Error::missing(dir, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            if found.contains_key(&name) {
                continue;
            }
            if let Some((kind, bytes)) = recognise(&path) {
                found.insert(name.clone(), Entry { name, path, kind, bytes });
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Components of a pipeline that hold weights.
pub(crate) const KLEIN_PARTS: [&str; 3] = ["text_encoder", "transformer", "vae"];

fn recognise(path: &Path) -> Option<(Kind, u64)> {
    let bytes = |dir: &Path| WeightFiles::find(dir).and_then(|files| files.bytes()).ok();
    let index: Option<PipelineClass> = read_json(&path.join("model_index.json")).ok();
    let class = index.map(|index| index.class_name).unwrap_or_default();
    if sd3::CLASSES.contains(&class.as_str()) {
        let parts = sd3::parts(path);
        return Some((Kind::Sd3, parts.iter().map(|part| bytes(part)).sum::<Option<u64>>()?));
    }
    if class == "Flux2KleinPipeline" {
        let [text_encoder, transformer, vae] = KLEIN_PARTS.map(|part| path.join(part));
        let transformer = TransformerFiles::find(&transformer).and_then(|files| files.bytes()).ok()?;
        return Some((Kind::Flux2Klein, bytes(&text_encoder)? + transformer + bytes(&vae)?));
    }
    let config: ModelClass = read_json(&path.join("config.json")).ok()?;
    let kind = config.architectures.iter().find_map(|class| Kind::of_class(class))?;
    Some((kind, bytes(path)?))
}

#[derive(Deserialize)]
struct PipelineClass {
    #[serde(rename = "_class_name")]
    class_name: String,
}

#[derive(Deserialize)]
struct ModelClass {
    #[serde(default)]
    architectures: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn vilt(dir: &Path, weights: &str) {
        write(&dir.join("config.json"), r#"{"architectures": ["ViltForQuestionAnswering"]}"#);
        write(&dir.join("model.safetensors"), weights);
    }

    #[test]
    fn knows_its_models_and_skips_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        vilt(&first.join("b"), "12345");
        vilt(&second.join("b"), "another");
        vilt(&second.join("a"), "123");
        write(&first.join("bert/config.json"), r#"{"architectures": ["BertModel"]}"#);
        write(&first.join("broken/config.json"), "{");
        write(&first.join("sam2/config.json"), r#"{"architectures": ["Sam2Model"]}"#);
        write(&first.join("sam2/model.safetensors"), "55555");
        write(&first.join("a file"), "");
        write(&first.join("no-weights/config.json"), r#"{"architectures": ["ViltForQuestionAnswering"]}"#);
        let klein = second.join("klein");
        write(&klein.join("model_index.json"), r#"{"_class_name": "Flux2KleinPipeline", "is_distilled": true}"#);
        write(&klein.join("text_encoder/model.safetensors.index.json"), r#"{"weight_map": {"x": "1", "y": "2"}}"#);
        write(&klein.join("text_encoder/1"), "1");
        write(&klein.join("text_encoder/2"), "22");
        write(&klein.join("transformer/diffusion_pytorch_model.safetensors"), "333");
        write(&klein.join("vae/diffusion_pytorch_model.safetensors"), "4444");
        let classes = [("clip", "CLIPModel"), ("owl", "Owlv2ForObjectDetection"), ("qwen", "Qwen3ForCausalLM")];
        for (name, class) in classes {
            write(&second.join(name).join("config.json"), &format!("{{\"architectures\": [\"{class}\"]}}"));
            write(&second.join(name).join("model.safetensors"), "12");
        }
        let sd3 = second.join("sd3");
        write(&sd3.join("model_index.json"), r#"{"_class_name": "StableDiffusion3Pipeline"}"#);
        for part in ["text_encoder", "text_encoder_2", "transformer", "vae"] {
            write(&sd3.join(part).join("model.safetensors"), "123");
        }
        let third = second.join("sd3-third");
        write(&third.join("model_index.json"), r#"{"_class_name": "StableDiffusion3InpaintPipeline"}"#);
        for part in ["text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae"] {
            write(&third.join(part).join("model.safetensors"), "123");
        }
        // The original checkpoint beside the components is not read, so it does not count.
        write(&klein.join("flux2-klein.safetensors"), "0123456789");

        let found = scan(&[first.clone(), second.clone(), root.path().join("nowhere")]).unwrap();
        let found: Vec<_> = found.iter().map(|e| (e.name.as_str(), e.path.clone(), e.kind, e.bytes)).collect();
        assert_eq!(
            found,
            [
                ("a", second.join("a"), Kind::ViltVqa, 3),
                ("b", first.join("b"), Kind::ViltVqa, 5),
                ("clip", second.join("clip"), Kind::Clip, 2),
                ("klein", klein, Kind::Flux2Klein, 10),
                ("owl", second.join("owl"), Kind::Owlv2, 2),
                ("qwen", second.join("qwen"), Kind::Qwen3, 2),
                ("sam2", first.join("sam2"), Kind::Sam2, 5),
                ("sd3", sd3, Kind::Sd3, 12),
                ("sd3-third", third, Kind::Sd3, 15),
            ]
        );
        assert_eq!(Kind::Flux2Klein.to_string(), "flux2-klein");
        assert_eq!(Kind::ViltVqa.to_string(), "vilt-vqa");
        assert_eq!((Kind::Clip.to_string(), Kind::Owlv2.to_string()), ("clip".to_owned(), "owlv2".to_owned()));
        assert_eq!((Kind::Sam2.to_string(), Kind::Sd3.to_string()), ("sam2".to_owned(), "sd3".to_owned()));
        assert_eq!(Kind::Qwen3.to_string(), "qwen3");
    }
}
