//! A transformer from a GGUF file: what it computes, what it takes, and files that are refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

mod common;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, quantized::GgmlDType};
use gpusched_models::{
    Error, Interrupted, Kind, Picture, Site, Unobserved, YieldPoint,
    flux2::{
        self, Pipeline, Request,
        config::TransformerConfig,
        files::TransformerFiles,
        transformer::{Reference, Transformer},
    },
    gguf::{Header, Quant},
    loader::Progress,
    scan,
};
use serde_json::Value;
use tempfile::TempDir;

const CPU: Device = Device::Cpu;
/// Largest error tolerated, relative to the largest value.
const TOLERANCE: f64 = 1e-4;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/transformer-gguf")
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/flux2-klein-tiny")
}

fn transformer(dir: &Path) -> Result<Transformer, Error> {
    let config = TransformerConfig::read(&dir.join("config.json"))?;
    TransformerFiles::find(dir)?.load(&config, &CPU, DType::F32, &Progress::new(&Unobserved, 1))
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest value wanted.
fn error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.dims(), want.dims());
    let (got, want) = (values(got), values(want));
    let largest = want.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let apart = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
    let worst = apart.fold(0.0, |most: f64, apart| if apart.is_nan() { f64::NAN } else { most.max(apart) });
    assert!(largest > 0.0 && worst.is_finite(), "{worst} of {largest}");
    worst / largest
}

/// Blocks of every type, against what diffusers makes of the numbers in them by the reference's reading.
#[test]
fn it_computes_what_diffusers_does_with_the_same_numbers() {
    let dir = fixture();
    let io = candle_core::safetensors::load(dir.join("io.safetensors"), &CPU).unwrap();
    let notes: Value = serde_json::from_slice(&fs::read(dir.join("io.json")).unwrap()).unwrap();
    let transformer = transformer(&dir).unwrap();
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let mut worst = 0.0f64;
    for (case, notes) in notes["transformer"].as_object().unwrap() {
        let tensor = |part: &str| io[&format!("{case}.{part}")].clone();
        let shapes = notes["references"].as_array().unwrap();
        let references = shapes.iter().enumerate().map(|(i, shape)| Reference {
            tokens: tensor(&format!("reference{i}")),
            rows: number(&shape[0]),
            columns: number(&shape[1]),
        });
        let references: Vec<_> = references.collect();
        let (rows, columns) = (number(&notes["rows"]), number(&notes["columns"]));
        let context = transformer.context(&tensor("text"), rows, columns, &references).unwrap();
        let (sigma, guidance) = (notes["sigma"].as_f64().unwrap() as f32, notes["guidance"].as_f64().map(|g| g as f32));
        let got = transformer.forward(&tensor("tokens"), &context, sigma, guidance, &Unobserved).unwrap();
        worst = worst.max(error(&got, &tensor("out")));
    }
    println!("transformer from GGUF, all types: largest relative error {worst:.1e}");
    assert!(worst <= TOLERANCE, "{worst:e}");

    let file = File::open(dir.join("transformer.gguf")).unwrap();
    let length = file.metadata().unwrap().len();
    let kinds: Vec<_> = Header::read(file, length).unwrap().tensors.into_values().map(|tensor| tensor.kind).collect();
    for quant in Quant::ALL {
        assert!(kinds.iter().any(|kind| Quant::of(*kind) == Some(quant)), "{}", quant.name());
    }
    for plain in [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16] {
        assert!(kinds.contains(&plain), "{plain:?}");
    }
}

/// The shipped model with its transformer in GGUF.
struct Quantised {
    dir: TempDir,
}

impl Quantised {
    fn of(kind: GgmlDType) -> Self {
        let dir = tempfile::tempdir().unwrap();
        common::quantise(&shipped(), &dir.path().join("tiny"), kind);
        Self { dir }
    }

    fn model(&self) -> PathBuf {
        self.dir.path().join("tiny")
    }

    fn transformer(&self) -> PathBuf {
        self.model().join("transformer")
    }

    fn load(&self, observer: &dyn YieldPoint) -> Result<Pipeline, Error> {
        Pipeline::load(&self.model(), &CPU, DType::F32, observer)
    }
}

fn picture(pipeline: &Pipeline) -> Picture {
    let (prompt, references) = ("a red circle left of a blue square", &[][..]);
    let request = Request { prompt, references, width: 64, height: 64, steps: 8, guidance: 3.0, seed: 7 };
    pipeline.generate(&request, &Unobserved).unwrap().picture
}

/// The mean difference of channels, of 255.
fn apart(one: &Picture, other: &Picture) -> f64 {
    let sum: u64 = one.rgb().iter().zip(other.rgb()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.rgb().len() as f64
}

#[test]
fn a_picture_is_close_to_that_of_the_dense_model() {
    let shipped = shipped();
    let dense = picture(&Pipeline::load(&shipped, &CPU, DType::F32, &Unobserved).unwrap());
    let grey = Picture::new(64, 64, vec![128; 64 * 64 * 3]).unwrap();
    let [q8, q4] = [GgmlDType::Q8_0, GgmlDType::Q4_0].map(|kind| {
        let pipeline = Quantised::of(kind).load(&Unobserved).unwrap();
        let made = picture(&pipeline);
        assert_eq!(made, picture(&pipeline), "{kind:?}: the same seed gives the same picture");
        apart(&made, &dense)
    });
    let far = apart(&grey, &dense);
    println!("mean difference of channels, of 255: q8_0 {q8:.2}, q4_0 {q4:.2}, a grey picture {far:.1}");
    assert!(q8 < 2.0 && q8 < q4 && q4 < far / 2.0, "q8_0 {q8}, q4_0 {q4}, grey {far}");
}

#[test]
fn half_precision_computes_with_the_same_blocks() {
    let model = Quantised::of(GgmlDType::Q8_0);
    let half = Pipeline::load(&model.model(), &CPU, DType::F16, &Unobserved).unwrap();
    let (half, full) = (picture(&half), picture(&model.load(&Unobserved).unwrap()));
    let apart = apart(&half, &full);
    assert!(apart < 2.0, "{apart}");
}

#[test]
fn it_is_found_and_counted_as_it_is_stored() {
    let model = Quantised::of(GgmlDType::Q4_0);
    let [found] = scan(&[model.dir.path().to_owned()]).unwrap().try_into().unwrap();
    assert_eq!((found.name.as_str(), found.kind), ("tiny", Kind::Flux2Klein));
    let file = model.transformer().join("tiny.gguf");
    let shipped = shipped();
    let dense = flux2::breakdown(&shipped).unwrap();
    let dense_file = shipped.join("transformer/diffusion_pytorch_model.safetensors");
    let [entry] = scan(&[shipped.parent().unwrap().to_owned()])
        .unwrap()
        .into_iter()
        .filter(|entry| entry.name == "flux2-klein-tiny")
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let size = |path: &Path| path.metadata().unwrap().len();
    assert_eq!(found.bytes, entry.bytes - size(&dense_file) + size(&file));
    // The transformer does not say what its numbers were before: the encoder does.
    assert_eq!(found.stored_type().unwrap(), entry.stored_type().unwrap());

    let breakdown = flux2::breakdown(&model.model()).unwrap();
    let (part, before) = (breakdown.parts[1], dense.parts[1]);
    assert_eq!((part.name, part.parameters), (before.name, before.parameters));
    assert_eq!((breakdown.parts[0], breakdown.parts[2]), (dense.parts[0], dense.parts[2]));
    // 18 bytes for 32 numbers.
    assert_eq!(part.quantised.bytes * 32, part.quantised.parameters * 18);
    assert!(part.quantised.parameters > part.parameters * 9 / 10, "{part:?}");
    assert_eq!(part.weights_bytes(4), (part.parameters - part.quantised.parameters) * 4 + part.quantised.bytes);
    let footprint = breakdown.footprint();
    assert_eq!(footprint.quantised_bytes, part.quantised.bytes);
    let all: u64 = breakdown.parts.iter().map(|part| part.parameters).sum();
    assert_eq!(footprint.parameters + part.quantised.parameters, all);
}

#[test]
fn only_one_file_can_be_the_transformer() {
    let model = Quantised::of(GgmlDType::Q8_0);
    let file = model.transformer().join("tiny.gguf");
    fs::copy(&file, model.transformer().join("other.gguf")).unwrap();
    match model.load(&Unobserved) {
        Err(Error::Config { path, reason }) => {
            assert_eq!(path, model.transformer());
            assert!(reason.contains("several GGUF files"), "{reason}");
        }
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(scan(&[model.dir.path().to_owned()]).unwrap(), []);
    fs::remove_file(file).unwrap();
    assert!(model.load(&Unobserved).is_ok());
    fs::remove_file(model.transformer().join("other.gguf")).unwrap();
    assert!(matches!(model.load(&Unobserved), Err(Error::Missing { .. })));
}

#[test]
fn loading_can_be_stopped_and_tells_of_its_files() {
    struct Stop(std::cell::RefCell<Vec<Site>>, usize);
    impl YieldPoint for Stop {
        fn reach(&self, site: Site) -> Result<(), Interrupted> {
            self.0.borrow_mut().push(site);
            if self.0.borrow().len() > self.1 { Err(Interrupted) } else { Ok(()) }
        }
    }
    let model = Quantised::of(GgmlDType::Q8_0);
    let whole = Stop(std::cell::RefCell::default(), usize::MAX);
    model.load(&whole).unwrap();
    let sites = whole.0.into_inner();
    let expected: Vec<_> = (0..=3).map(|done| Site::WeightFile { done, total: 3 }).collect();
    assert_eq!(sites, expected);
    for after in 0..sites.len() {
        assert!(matches!(model.load(&Stop(std::cell::RefCell::default(), after)), Err(Error::Interrupted(_))));
    }
}

/// The fixture, with a file of these bytes.
fn refusal(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture().join("config.json"), dir.path().join("config.json")).unwrap();
    fs::write(dir.path().join("x.gguf"), bytes).unwrap();
    match transformer(dir.path()) {
        Err(Error::Weights { path, reason }) => {
            assert_eq!(path, dir.path().join("x.gguf"));
            reason
        }
        other => panic!("{:?}", other.map(drop)),
    }
}

#[test]
fn damaged_files_are_refused() {
    let whole = fs::read(fixture().join("transformer.gguf")).unwrap();
    for length in [0, 3, 4, 7, 8, 20, 24, 100, 1000, whole.len() / 2, whole.len() - 64] {
        let reason = refusal(&whole[..length]);
        assert!(reason.contains("is cut short"), "{length}: {reason}");
    }
    let at = |text: &str| whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let spoilt = |start: usize, with: &[u8]| {
        let mut bytes = whole.clone();
        bytes[start..start + with.len()].copy_from_slice(with);
        refusal(&bytes)
    };
    let many = u64::MAX.to_le_bytes();
    let first = "img_in.weight";
    // After a tensor's name come its count of dimensions, two of them, its type and its offset.
    let info = at(first) + first.len();
    let word = 1u32.to_le_bytes();
    for (start, with, says) in [
        (0, &b"GGML"[..], "is not a GGUF file"),
        (4, &word[..], "of GGUF version 1"),
        (4, &[0, 0, 0, 3], "in little endian"),
        (8, &many[..], "tensors; up to"),
        (16, &many[..], "entries of metadata; up to"),
        (24, &many[..], "for a key of its metadata"),
        (at("passed.over") + 11, &[77, 0, 0, 0], "metadata of type 77"),
        (at("passed.over") + 11 + 8, &many[..], "is cut short"),
        (info - first.len() - 8, &many[..], "for a tensor"),
        (info - 1, &[0xff], "that is no text"),
        (info - 1, &b"x"[..], "lacks x_embedder.weight"),
        (info, &[9, 0, 0, 0], "9 dimensions"),
        (info + 4, &many[..], "impossible shape"),
        (info + 4, &0u64.to_le_bytes()[..], "impossible shape"),
        (info + 4, &8u64.to_le_bytes()[..], "[64, 8]; the configuration asks for [64, 16]"),
        (info + 12, &(1u64 << 30).to_le_bytes()[..], "is cut short"),
        (info + 20, &[23, 0, 0, 0], "type 23, which is not supported; f32, f16, bf16, q8_0"),
        (info + 20, &[12, 0, 0, 0], "no whole blocks of 256"),
        (info + 24, &[1], "not aligned to 32"),
        (info + 24, &many[..7], "not aligned"),
        (info + 24, &(1u64 << 62).to_le_bytes()[..], "is cut short"),
        (info + 24, &64u64.to_le_bytes()[..], "in the place of another"),
        (at("txt_in.weight"), &b"img_in.weight"[..], "two tensors called"),
    ] {
        let reason = spoilt(start, with);
        assert!(reason.contains(says), "{says:?} is not in {reason:?}");
    }
}

/// Metadata that is hostile to a reader that keeps it, or believes it.
#[test]
fn metadata_is_bounded_whatever_it_says() {
    let file = |entries: u64, metadata: &[u8]| {
        let counts = [0u64.to_le_bytes(), entries.to_le_bytes()].concat();
        refusal(&[&b"GGUF\x03\0\0\0"[..], &counts, metadata].concat())
    };
    let entry = |key: &str, value: &[u8]| [&(key.len() as u64).to_le_bytes(), key.as_bytes(), value].concat();
    let array = |of: u32, count: u64| {
        [9u32.to_le_bytes(), of.to_le_bytes()].concat().into_iter().chain(count.to_le_bytes()).collect::<Vec<_>>()
    };
    for alignment in [0u32, 3, 1 << 31] {
        let value = [4u32.to_le_bytes(), alignment.to_le_bytes()].concat();
        let reason = file(1, &entry("general.alignment", &value));
        assert!(reason.contains("aligns tensors"), "{reason}");
    }
    assert!(file(1, &entry("x", &array(8, u64::MAX))).contains("is cut short"));
    assert!(file(1, &entry("x", &array(10, u64::MAX))).contains("is cut short"));
    let deep: Vec<u8> = array(9, 1)
        .into_iter()
        .chain([9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat().repeat(1000))
        .collect();
    assert!(file(1, &entry("x", &deep)).contains("too many arrays"));
    // A million empty lists are passed over, not kept; what is missed then is the first tensor.
    let empty = [0u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat().repeat(1 << 20);
    let lists: Vec<u8> = array(9, 1 << 20).into_iter().chain(empty).collect();
    assert!(file(1, &entry("x", &lists)).contains("lacks"));
    let long: Vec<u8> = array(0, 17 << 20).into_iter().chain(vec![0; 17 << 20]).collect();
    assert!(file(1, &entry("x", &long)).contains("larger than 16777216 bytes"));
}

/// Bytes of a good file's header, a few of them changed: refused, or of tensors that lie within the file.
#[test]
fn no_header_is_believed() {
    let whole = fs::read(fixture().join("transformer.gguf")).unwrap();
    let header = Header::read(whole.as_slice(), whole.len() as u64).unwrap();
    let begin = header.tensors.values().map(|tensor| tensor.start).min().unwrap() as usize;
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = whole[..begin].to_vec();
        for _ in 0..=draw(3) {
            bytes[draw(begin)] = [0, 1, 0x7f, 0x80, 0xff][draw(5)];
        }
        let length = whole.len() as u64;
        let Ok(header) = Header::read(bytes.as_slice(), length) else { continue };
        read += 1;
        assert!(header.tensors.values().all(|tensor| tensor.start + tensor.bytes() <= length), "{header:?}");
    }
    assert!((1000..20_000).contains(&read), "{read} of 20000 were read");
}
