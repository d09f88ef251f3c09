//! CLIP's tokenizer in the files of published pipelines, a vocabulary and merges: brought into the form of a `tokenizer.json`, as
//! transformers' `CLIPTokenizer` does.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::{
    error::{Error, Result},
    loader::read_json,
};

/// What lies between the tokens, and how a text falls into words: special tokens, English endings, letters, single digits, all else.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Tokens that stand for no text of their own, by their text.
pub(crate) struct Special<'a> {
    pub(crate) begin: &'a str,
    pub(crate) end: &'a str,
    pub(crate) unknown: &'a str,
    pub(crate) pad: &'a str,
    /// `added_tokens_decoder`: by number, how tokens are found in a text.
    pub(crate) added: &'a Map<String, Json>,
}

/// The `tokenizer.json` of `vocab.json` and `merges.txt` in `dir`.
///
/// # Errors
///
/// [`Error::Missing`], or [`Error::Config`] if a file is damaged or the vocabulary lacks a special token.
pub(crate) fn tokenizer_json(dir: &Path, special: &Special<'_>) -> Result<Vec<u8>> {
    let (vocabulary_path, merges_path) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let vocabulary: Map<String, Json> = read_json(&vocabulary_path)?;
    let merges = std::fs::read_to_string(&merges_path).map_err(|e| Error::missing(&merges_path, e))?;
    let pair = |line: &str| {
        let (first, second) = line
            .split_once(' ')
            .ok_or_else(|| Error::config(&merges_path, format!("{line:?} is not a pair of tokens")))?;
        Ok(json!([first, second]))
    };
    let lines = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let merges = lines.map(pair).collect::<Result<Vec<_>>>()?;

    let id = |text: &str| {
        let id = vocabulary.get(text).and_then(Json::as_u64);
        id.ok_or_else(|| Error::config(&vocabulary_path, format!("the special token {text:?} has no number")))
    };
    let (begin, end) = (id(special.begin)?, id(special.end)?);
    let mut added: Vec<Json> = special.added.iter().filter_map(|(id, token)| added_token(id, token)).collect();
    for text in [special.begin, special.end, special.unknown, special.pad] {
        if !added.iter().any(|token| token["content"] == text) {
            added.extend(added_token(&id(text)?.to_string(), &json!({"content": text, "special": true})));
        }
    }
    let normalizers = json!([{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]);
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let split = json!({"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [special.end, end],
            "cls": [special.begin, begin],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": null,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": special.unknown,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    Ok(tokenizer.to_string().into_bytes())
}

/// A token as `tokenizer.json` lists it; nothing of one without a number and a text.
fn added_token(id: &str, token: &Json) -> Option<Json> {
    let (id, content) = (id.parse::<u32>().ok()?, token.get("content")?.as_str()?);
    let is = |key: &str| token.get(key).and_then(Json::as_bool).unwrap_or(false);
    Some(json!({
        "id": id,
        "content": content,
        "single_word": is("single_word"),
        "lstrip": is("lstrip"),
        "rstrip": is("rstrip"),
        "normalized": is("normalized"),
        "special": is("special"),
    }))
}
