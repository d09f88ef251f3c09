//! The whole engine: what it makes on the GPU beside what it makes on the CPU, and what a broken context does to it.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_core::{DType, Tensor};
use gpusched_engine::device::{Cpu, Device, Diagnosis};
use gpusched_engine::{Command, DeviceSpec, Engine, Event, GateKind, Product, Setup, Sink, Stage};
use gpusched_engine_cuda::{Cuda, Loss};
use gpusched_models::Picture;
use gpusched_shared::{ImageSpec, JobId, JobSpec, Size, Task, VqaSpec};

use crate::Seen;
use crate::setup::{HEAVY, LIGHT, failed, open, setup};

/// The longest that a stage may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// The largest difference of a channel of a pixel, of 255: between half and full precision it is about 2.6 % over 12 steps.
const PIXEL: u8 = 13;
/// The largest difference of a score.
const SCORE: f32 = 0.02;

/// What a device makes of a picture's and of a question's stage.
fn products(device: Arc<dyn Device>, setup: &Setup) -> Result<(Picture, Vec<(String, f32)>), String> {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let sink: Sink = Arc::new(move |event| {
        if let Ok(sender) = sender.lock() {
            let _ = sender.send(event);
        }
    });
    let engine = Engine::start_on(&device, setup, &sink).map_err(|e| e.to_string())?;
    let size = Some(Size { width: 64, height: 64 });
    let image =
        ImageSpec { seed: Some(7), steps: Some(8), size, guidance: Some(3.0), ..ImageSpec::new("a red circle") };
    let samples = setup.models[0].join("flux2-klein-tiny/samples.png");
    let samples = File::open(&samples).map_err(|e| format!("{}: {e}", samples.display()))?;
    let question = VqaSpec { question: "what color is the shape?".to_owned(), top: 3 };
    let stages = [
        (HEAVY, "flux2-klein-tiny", Task::Txt2Img(image), Vec::new()),
        (LIGHT, "vilt-tiny", Task::Vqa(question), vec![samples.into()]),
    ];
    let mut made = Vec::new();
    for (number, (lane, model, task, files)) in (1..).zip(stages) {
        let spec = JobSpec { model: Some(model.to_owned()), ..JobSpec::new(task) };
        let stage = Stage { spec, pictures: files.len(), preview_after: None };
        let run = Command::Run { job: JobId(number), attempt: 1, lane, stage, lease_bytes: 1 << 40, flush: false };
        engine.command(run, files).map_err(|e| e.to_string())?;
        loop {
            match events.recv_timeout(PATIENCE).map_err(|_| "the engine does not end".to_owned())? {
                Event::Finished(_, result, _) => {
                    made.push(result.map_err(|e| e.to_string())?);
                    break;
                }
                Event::Interrupted(..) => return Err("a stage was interrupted".to_owned()),
                Event::Started(_)
                | Event::Progress(..)
                | Event::Parked { .. }
                | Event::Resumed(_)
                | Event::Previewed { .. }
                | Event::Wrote { .. }
                | Event::OnDevice { .. }
                | Event::Loaded { .. }
                | Event::Unloaded { .. }
                | Event::Flushed { .. }
                | Event::Missed { .. }
                | Event::Inspected { .. } => {}
            }
        }
    }
    let [Product::Image { png, .. }, Product::Answers(answers)] = made.as_slice() else {
        return Err("stages made something else".to_owned());
    };
    let picture = Picture::decode(png, 1 << 20).map_err(|e| e.to_string())?;
    Ok((picture, answers.iter().map(|answer| (answer.label.clone(), answer.score)).collect()))
}

/// The shipped models make the same on the GPU as on the CPU, but for precision.
pub(crate) fn parity() -> Result<Vec<Seen>, String> {
    let setup = setup(GateKind::Block, DeviceSpec::default());
    let (of_cpu, said_by_cpu) = products(Arc::new(Cpu), &setup)?;
    let (of_gpu, said_by_gpu) = products(Arc::new(Cuda::new(Loss::Stay)), &setup)?;
    let most = of_cpu.rgb().iter().zip(of_gpu.rgb()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(u8::MAX);
    let words = |said: &[(String, f32)]| said.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
    let apart = said_by_cpu.iter().zip(&said_by_gpu).map(|((_, a), (_, b))| (a - b).abs()).fold(0.0, f32::max);
    let first = |said: &[(String, f32)]| words(said).first().cloned().unwrap_or_default();
    let same = first(&said_by_cpu) == first(&said_by_gpu);
    Ok(vec![
        Seen::new("picture, pixels apart", format!("at most {PIXEL} of 255"), most.to_string(), most <= PIXEL),
        Seen::new("answer", first(&said_by_cpu), first(&said_by_gpu), same),
        Seen::new("its scores apart", format!("at most {SCORE}"), format!("{apart:.4}"), apart <= SCORE),
    ])
}

/// A kernel with an index that is too high breaks the context, and that is recognised. Nothing works after it.
pub(crate) fn poison() -> Result<Vec<Seen>, String> {
    // A device that is lost takes nothing back.
    let opened = ManuallyDrop::new(open(GateKind::Block, DeviceSpec::default())?);
    let (lane, other) = (&opened.streams[HEAVY], &opened.streams[1]);
    let table = ManuallyDrop::new(Tensor::zeros((4, 8), DType::F32, lane.device()).map_err(failed)?);
    let index = ManuallyDrop::new(Tensor::new(&[1_000_000_u32], lane.device()).map_err(failed)?);
    let met = table.index_select(&index, 0).map(ManuallyDrop::new).and_then(|_| lane.synchronize());
    let diagnosis = met.as_ref().err().map(|e| lane.diagnose(e));
    let elsewhere = other.synchronize().err().map(|e| other.diagnose(&e));
    Ok(vec![
        Seen::new("the lane", "Some(Lost)", format!("{diagnosis:?}"), diagnosis == Some(Diagnosis::Lost)),
        Seen::new("another lane", "Some(Lost)", format!("{elsewhere:?}"), elsewhere == Some(Diagnosis::Lost)),
    ])
}
