//! What the tensors of a transformer are called in the original checkpoint, and so in most GGUF files, and what diffusers
//! calls them.
//!
//! As diffusers' `convert_flux2_transformer_checkpoint_to_diffusers`: the original has queries, keys and values of a stream
//! in one matrix, and in the last layer's modulation shift before scale.

use std::ops::Range;

use crate::{gguf::Stored, quantised::Renamed};

/// In front of all names, in files that hold more than a transformer.
const PREFIX: &str = "model.diffusion_model.";

/// Original and diffusers' names of what is there once.
const SINGLE: [(&str, &str); 10] = [
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"),
    ("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"),
    ("double_stream_modulation_img.lin", "double_stream_modulation_img.linear"),
    ("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"),
    ("single_stream_modulation.lin", "single_stream_modulation.linear"),
    ("final_layer.linear", "proj_out"),
];

/// Likewise within a double-stream block,
const DOUBLE_BLOCK: [(&str, &str); 10] = [
    ("img_attn.norm.query_norm", "attn.norm_q"),
    ("img_attn.norm.key_norm", "attn.norm_k"),
    ("img_attn.proj", "attn.to_out.0"),
    ("img_mlp.0", "ff.linear_in"),
    ("img_mlp.2", "ff.linear_out"),
    ("txt_attn.norm.query_norm", "attn.norm_added_q"),
    ("txt_attn.norm.key_norm", "attn.norm_added_k"),
    ("txt_attn.proj", "attn.to_add_out"),
    ("txt_mlp.0", "ff_context.linear_in"),
    ("txt_mlp.2", "ff_context.linear_out"),
];

/// and within a single-stream block.
const SINGLE_BLOCK: [(&str, &str); 4] = [
    ("linear1", "attn.to_qkv_mlp_proj"),
    ("linear2", "attn.to_out"),
    ("norm.query_norm", "attn.norm_q"),
    ("norm.key_norm", "attn.norm_k"),
];

/// Matrices that are three of diffusers'.
const QKV: [(&str, [&str; 3]); 2] =
    [("img_attn.qkv", ["to_q", "to_k", "to_v"]), ("txt_attn.qkv", ["add_q_proj", "add_k_proj", "add_v_proj"])];

/// diffusers' names for a tensor of a file, and the rows that go by each. A name that is not the original's stays as it is.
pub(super) fn renamed(name: &str, stored: &Stored) -> Vec<Renamed> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let (rows, _) = stored.rows();
    let all = |name: String| vec![(name, one(0..rows))];
    // The original calls a norm's weight its scale.
    let Some(layer) = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".scale")) else {
        return all(name.to_owned());
    };
    if layer == "final_layer.adaLN_modulation.1" {
        let half = rows / 2;
        return vec![("norm_out.linear.weight".to_owned(), vec![half..rows, 0..half])];
    }
    if let Some((index, within)) = layer.strip_prefix("double_blocks.").and_then(|rest| rest.split_once('.')) {
        let block = format!("transformer_blocks.{index}");
        if let Some((_, parts)) = QKV.iter().find(|(original, _)| *original == within) {
            let third = rows / 3;
            let part = |(name, start): (&&str, u64)| {
                let end = if start == 2 { rows } else { (start + 1) * third };
                (format!("{block}.attn.{name}.weight"), one(start * third..end))
            };
            return parts.iter().zip(0..).map(part).collect();
        }
        if let Some(within) = find(&DOUBLE_BLOCK, within) {
            return all(format!("{block}.{within}.weight"));
        }
    }
    if let Some((index, within)) = layer.strip_prefix("single_blocks.").and_then(|rest| rest.split_once('.'))
        && let Some(within) = find(&SINGLE_BLOCK, within)
    {
        return all(format!("single_transformer_blocks.{index}.{within}.weight"));
    }
    all(find(&SINGLE, layer).map_or_else(|| name.to_owned(), |layer| format!("{layer}.weight")))
}

fn one(rows: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(rows).collect()
}

fn find(names: &[(&str, &'static str)], original: &str) -> Option<&'static str> {
    names.iter().find(|(name, _)| *name == original).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlDType;

    use super::*;

    fn of(name: &str, rows: u64) -> Vec<Renamed> {
        renamed(name, &Stored { kind: GgmlDType::F32, shape: vec![rows, 4], start: 0 })
    }

    #[test]
    fn joint_matrices_are_taken_apart_by_rows() {
        let name = |of: &str| format!("transformer_blocks.3.attn.{of}.weight");
        assert_eq!(
            of("double_blocks.3.txt_attn.qkv.weight", 6),
            [(name("add_q_proj"), one(0..2)), (name("add_k_proj"), one(2..4)), (name("add_v_proj"), one(4..6))]
        );
        let swapped = ("norm_out.linear.weight".to_owned(), vec![5..10, 0..5]);
        assert_eq!(of("model.diffusion_model.final_layer.adaLN_modulation.1.weight", 10), [swapped]);
    }

    #[test]
    fn other_names_stay() {
        for name in
            ["x_embedder.weight", "transformer_blocks.0.attn.to_q.weight", "double_blocks.0.new.bias", "", "lora"]
        {
            assert_eq!(of(name, 2), [(name.to_owned(), one(0..2))]);
        }
        let norm = "single_transformer_blocks.7.attn.norm_k.weight".to_owned();
        for ending in ["scale", "weight"] {
            assert_eq!(of(&format!("single_blocks.7.norm.key_norm.{ending}"), 1), [(norm.clone(), one(0..1))]);
        }
    }
}
