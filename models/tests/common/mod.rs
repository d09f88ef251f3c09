//! The shipped model with its transformer quantised; also for `tests/e2e`.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

mod copying;

use std::{fs, fs::File, path::Path};

use candle_core::{
    Device,
    quantized::{GgmlDType, QTensor, gguf_file},
};

/// Makes `to` a copy of the FLUX.2 in `shipped`, but for the transformer: its matrices are of this type, in `tiny.gguf`, under
/// diffusers' names. Where rows are no whole blocks, they are numbers.
pub(crate) fn quantise(shipped: &Path, to: &Path, kind: GgmlDType) {
    copying::copy(shipped, to);
    let dense = to.join("transformer/diffusion_pytorch_model.safetensors");
    let tensors = candle_core::safetensors::load(&dense, &Device::Cpu).unwrap();
    fs::remove_file(&dense).unwrap();
    let stored = tensors.iter().map(|(name, tensor)| {
        let blocks = tensor.rank() == 2 && tensor.dims()[1].is_multiple_of(kind.block_size());
        (name, QTensor::quantize(tensor, if blocks { kind } else { GgmlDType::F32 }).unwrap())
    });
    let stored: Vec<_> = stored.collect();
    let named: Vec<_> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let architecture = gguf_file::Value::String("flux".to_owned());
    let mut file = File::create(to.join("transformer/tiny.gguf")).unwrap();
    gguf_file::write(&mut file, &[("general.architecture", &architecture)], &named).unwrap();
}
