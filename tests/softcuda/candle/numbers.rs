//! What the device computes where it works with numbers, beside what candle computes on the CPU.

use candle_core::cuda::cudarc::driver::sys::CUresult;
use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::{Conv2dConfig, Init, VarBuilder, VarMap, ops, rotary_emb};

use crate::cases::{answer, lost};

/// Numbers from -2 to 2 that look like none in particular.
fn some(shape: &[usize], seed: usize, device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|n: usize| 2. * ((n * 7919 + seed * 104_729) as f32 * 0.37).sin()).collect();
    Tensor::from_vec(numbers, shape, device)
}

/// All the kinds of operations that the models are made of.
fn results(device: &Device) -> Result<Vec<(&'static str, Tensor)>> {
    let some = |shape: &[usize], seed| some(shape, seed, device);
    let (a, b) = (some(&[2, 3, 4], 1)?, some(&[2, 4, 5], 2)?);
    let picture = some(&[2, 3, 6, 5], 3)?;
    let row = some(&[4], 4)?;
    let half = a.to_dtype(DType::BF16)?;
    let small = a.to_dtype(DType::F16)?;
    let (cosines, sines) = (some(&[3, 2], 5)?, some(&[3, 2], 6)?);
    let heads = some(&[1, 2, 3, 4], 7)?;
    let convolution =
        |config| candle_nn::Conv2d::new(some(&[4, 3, 3, 3], 8)?, Some(some(&[4], 9)?), config).forward(&picture);
    let ids = Tensor::from_slice(&[2_u32, 0, 2], 3, device)?;
    let mask = a.gt(&a.affine(-1., 0.5)?)?;
    Ok(vec![
        ("product", a.matmul(&b)?),
        ("product with a transposed one", a.matmul(&a.transpose(1, 2)?)?),
        ("product of a transposed one", a.transpose(1, 2)?.matmul(&a)?),
        ("product in bf16", half.matmul(&b.to_dtype(DType::BF16)?)?),
        ("product in f16", small.matmul(&b.to_dtype(DType::F16)?)?),
        ("product in f64", a.to_dtype(DType::F64)?.matmul(&b.to_dtype(DType::F64)?)?),
        ("sum with a row", a.broadcast_add(&row)?),
        ("quotient in bf16", half.broadcast_div(&row.exp()?.to_dtype(DType::BF16)?)?),
        ("affine", a.affine(0.3, -1.5)?),
        ("affine in f16", small.affine(0.3, -1.5)?),
        ("exp", a.exp()?),
        ("silu", a.silu()?),
        ("silu in bf16", half.silu()?),
        ("gelu", a.gelu()?),
        ("gelu by erf", a.gelu_erf()?),
        ("tanh of what is transposed", a.transpose(0, 2)?.tanh()?),
        ("powers", a.abs()?.powf(1.7)?),
        ("waves", a.sin()?.add(&a.cos()?)?),
        ("between bounds", a.clamp(-0.5, 0.7)?),
        ("sigmoid", ops::sigmoid(&a)?),
        ("softmax", ops::softmax_last_dim(&a)?),
        ("softmax along another", ops::softmax(&a, 1)?),
        ("rms norm", ops::rms_norm(&a, &row, 1e-5)?),
        ("layer norm", ops::layer_norm(&a, &row, &some(&[4], 10)?, 1e-5)?),
        ("rotated halves", rotary_emb::rope(&heads, &cosines, &sines)?),
        ("rotated pairs", rotary_emb::rope_i(&heads, &cosines, &sines)?),
        ("convolution", convolution(Conv2dConfig { padding: 1, ..Default::default() })?),
        ("convolution with steps", convolution(Conv2dConfig { stride: 2, ..Default::default() })?),
        ("larger picture", picture.upsample_nearest2d(12, 10)?),
        ("mean", a.mean(1)?),
        ("sum of all", a.sum_all()?),
        ("sum of many", some(&[3, 50], 11)?.sum(1)?),
        ("highest", a.max(0)?),
        ("lowest", a.min(D::Minus1)?),
        ("place of the highest", a.argmax(D::Minus1)?),
        ("rows by number", some(&[3, 4], 12)?.index_select(&ids, 0)?),
        ("columns by number", a.index_select(&ids, 2)?),
        ("one or the other", mask.where_cond(&a, &a.neg()?)?),
        ("side by side", Tensor::cat(&[&a, &a.narrow(2, 1, 2)?], 2)?),
        ("with zeros around", picture.pad_with_zeros(2, 1, 0)?),
        ("repeated", row.repeat((2, 3))?),
        ("whole numbers", a.affine(10., 20.)?.to_dtype(DType::U8)?),
    ])
}

pub(crate) fn same_as_on_the_cpu() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let numbers = |tensor: &Tensor| -> Vec<f64> {
        tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    };
    let (on_device, on_cpu) = (results(&device).unwrap(), results(&Device::Cpu).unwrap());
    assert_eq!(on_device.len(), on_cpu.len());
    let mut wrong = Vec::new();
    for ((name, is), (_, should)) in on_device.iter().zip(&on_cpu) {
        assert_eq!((is.dims(), is.dtype()), (should.dims(), should.dtype()), "{name}");
        let tolerance = match is.dtype() {
            DType::BF16 => 0.05,
            DType::F16 => 0.01,
            _ => 1e-4,
        };
        let (is, should) = (numbers(&is.to_device(&Device::Cpu).unwrap()), numbers(should));
        let far = is.iter().zip(&should).find(|(is, should)| (*is - *should).abs() > tolerance * should.abs().max(1.));
        if let Some((is, should)) = far {
            wrong.push(format!("{name}: {is} for {should}"));
        }
        assert!(should.iter().any(|number| *number != 0.), "{name} is more than zeros");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // Weights that were trained elsewhere come by the way of a variable map.
    let map = VarMap::new();
    let vars = VarBuilder::from_varmap(&map, DType::F32, &device);
    let ones = vars.get_with_hints((2, 2), "ones", Init::Const(1.)).unwrap();
    assert_eq!(ones.to_vec2::<f32>().unwrap(), [[1., 1.], [1., 1.]]);
}

pub(crate) fn bad_index() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let rows = Tensor::zeros((3, 4), DType::F32, &device).unwrap();
    let ids = Tensor::from_slice(&[3_u32], 1, &device).unwrap();
    let chosen = rows.index_select(&ids, 0).unwrap();
    let failed = chosen.to_vec2::<f32>().unwrap_err();
    assert_eq!(answer(&failed), Some(CUresult::CUDA_ERROR_ASSERT), "{failed}");
    lost()
}
