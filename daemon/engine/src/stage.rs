//! Runs one stage: finds the model, reads the pictures, calls the model, turns what it says into a product.

use std::fs::File;

use candle_core::Tensor;
use gpusched_models::{Error, Interrupted, Picture, flux2};
use gpusched_shared::spec::MAX_IMAGE_PIXELS;
use gpusched_shared::{Answer, FailureKind, ImageSpec, JobSpec, Size, Task, VqaSpec};

use crate::catalog::Catalog;
use crate::command::Stage;
use crate::device::Diagnosis;
use crate::event::{Event, Failure, Product};
use crate::residency::Model;
use crate::yield_point::LaneYield;
use crate::{inpaint, picture, product, region, text};

/// Why a stage made nothing.
pub(crate) enum Stopped {
    /// It was told to stop.
    Interrupted,
    /// It could not go on.
    Failed(Failure),
    /// The device could not.
    Device(candle_core::Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Interrupted> for Stopped {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Interrupted(_) => return Self::Interrupted,
            Error::Device(e) => return Self::Device(e),
            Error::Input(_) => FailureKind::Input,
            Error::Missing { .. } | Error::Config { .. } | Error::Weights { .. } | Error::Tokenizer { .. } => {
                FailureKind::Model
            }
        };
        Self::Failed(Failure { kind, message: error.to_string() })
    }
}

/// How a stage ends that makes nothing.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was told to stop.
    Interrupted,
    /// It could not go on.
    Failed(Failure),
    /// Nobody can use the device any more, and why.
    Lost(String),
}

/// Runs a stage to its end or to where `at` stops it. All it held is free when this returns, but for the product.
pub(crate) fn run(stage: &Stage, pictures: &[File], catalog: &Catalog, at: &LaneYield<'_>) -> Result<Product, Ended> {
    conclude(attempt(stage, pictures, catalog, at), at)
}

/// What a stage ends with that made this: its memory since the last yield point is yet to be looked at.
fn conclude(made: Result<Product, Stopped>, at: &LaneYield<'_>) -> Result<Product, Ended> {
    let kept = made.and_then(|product| {
        at.end()?;
        Ok(product)
    });
    kept.map_err(|stopped| match stopped {
        // The models know of one way to be interrupted; which it was, the yield point knows.
        Stopped::Interrupted => match (at.out_of_memory(), at.failed()) {
            (Some(out_of_memory), _) => Ended::Failed(out_of_memory.into()),
            (None, Some(Error::Device(e))) => of_device(&e, at),
            (None, Some(e)) => Ended::Failed(Failure::engine(e.to_string())),
            (None, None) => Ended::Interrupted,
        },
        Stopped::Device(e) => of_device(&e, at),
        Stopped::Failed(failure) => Ended::Failed(failure),
    })
}

fn of_device(error: &candle_core::Error, at: &LaneYield<'_>) -> Ended {
    match at.stream.diagnose(error) {
        Diagnosis::OutOfMemory(bytes) => Ended::Failed(at.refused(bytes).into()),
        // Not what may be around it, such as where it came from.
        Diagnosis::Lost => Ended::Lost(error.to_string().lines().next().unwrap_or_default().to_owned()),
        Diagnosis::Well => Ended::Failed(Failure::engine(format!("device: {error}"))),
    }
}

fn attempt(stage: &Stage, pictures: &[File], catalog: &Catalog, at: &LaneYield<'_>) -> Result<Product, Stopped> {
    let spec = &stage.spec;
    let name = spec.model.as_deref().ok_or_else(|| Failure::engine("the stage names no model"))?;
    let resident = at.partition.residency.get(catalog.find(name)?, at)?;
    at.begin()?;
    let pictures = pictures.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    match (&spec.task, &resident.model) {
        (Task::Txt2Img(image) | Task::Img2Img(image), Model::Flux2(pipeline)) => {
            generate(pipeline, spec, image, (&pictures, stage.preview_after), at)
        }
        (Task::Vqa(vqa), Model::Vilt(model)) => {
            let VqaSpec { question, top } = vqa;
            let answers = model.answer(first(&pictures)?, question, usize::from(*top), at)?;
            let answers = answers.into_iter().map(|a| Answer { label: a.label, score: a.score });
            Ok(Product::Answers(at.handing_out(|| answers.collect())))
        }
        (Task::Detect(asked), Model::Owlv2(model)) => region::detect(model, first(&pictures)?, asked, at),
        (Task::Segment(asked), Model::Sam2(model)) => region::segment(model, first(&pictures)?, asked, at),
        (Task::Txt2Img(image), Model::Sd3(pipeline)) => inpaint::generate(pipeline, spec, image, at),
        (Task::Inpaint(asked), Model::Sd3(pipeline)) => inpaint::inpaint(pipeline, spec, asked, &pictures, at),
        (Task::Score(asked), Model::Clip(model)) => region::score(model, first(&pictures)?, asked, at),
        (Task::Analyze(asked), Model::Qwen3(model)) => text::analyze(model, asked, at),
        (task, _) => Err(Failure::engine(format!("model {name} does not do {}", task.kind())).into()),
    }
}

/// The scheduler fills everything in.
pub(crate) fn open() -> Failure {
    Failure::engine("the stage leaves something open")
}

fn first(pictures: &[Picture]) -> Result<&Picture, Failure> {
    pictures.first().ok_or_else(|| Failure::engine("the stage came without its picture"))
}

fn generate(
    pipeline: &flux2::Pipeline,
    spec: &JobSpec,
    image: &ImageSpec,
    (references, preview_after): (&[Picture], Option<u32>),
    at: &LaneYield<'_>,
) -> Result<Product, Stopped> {
    let size = image.size.ok_or_else(open)?;
    let request = flux2::Request {
        prompt: &image.prompt,
        references,
        width: size.width,
        height: size.height,
        steps: image.steps.ok_or_else(open)?,
        guidance: f64::from(image.guidance.ok_or_else(open)?),
        seed: image.seed.ok_or_else(open)?,
    };
    let show = |latents: &Tensor| show(pipeline, latents, at);
    let preview = preview_after.map(|after| flux2::Preview { after, show: &show });
    let made = pipeline.generate_with_preview(&request, preview, at)?;
    Ok(at.handing_out(|| product::image(&made.picture, spec, image, made.truncated_tokens))?)
}

/// Shows the picture that latents are of. The stage goes on if that fails, but not if it is told to stop meanwhile.
fn show(pipeline: &flux2::Pipeline, latents: &Tensor, at: &LaneYield<'_>) -> Result<(), Error> {
    let why = match at.dispensable(|| pipeline.picture(latents, at)) {
        Ok(Some(picture)) => match at.handing_out(|| product::preview(&picture)) {
            Ok(png) => {
                let size = Size { width: picture.width(), height: picture.height() };
                at.say(Event::Previewed { job: at.job, png, size });
                return Ok(());
            }
            Err(e) => e.to_string(),
        },
        Ok(None) => "out of memory".to_owned(),
        Err(Error::Interrupted(stopped)) => return Err(stopped.into()),
        Err(e) => e.to_string(),
    };
    tracing::debug!(JOB_ID = at.job.0, "no preview: {why}");
    Ok(())
}

fn read(file: &File) -> Result<Picture, Stopped> {
    let bytes = picture::read(file).map_err(|why| Failure::engine(format!("a picture {why}")))?;
    Ok(Picture::decode(&bytes, MAX_IMAGE_PIXELS).map_err(|e| Failure::input(e.to_string()))?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use gpusched_models::{Site, YieldPoint as _};
    use gpusched_shared::JobId;

    use super::*;
    use crate::account::{Account, charge, credit, current};
    use crate::command::{GateKind, PartitionSpec};
    use crate::device::Cpu;
    use crate::faults::{Fault, Kind};
    use crate::partition::Partition;
    use crate::pulse::Pulse;
    use crate::yield_point::{On, Sharing, Told};

    /// How a stage ends that takes `bytes` in passing, of which 10 are promised and 100 the cap, and then makes `made`.
    fn ends(bytes: u64, made: Result<Product, Stopped>) -> Result<Product, Ended> {
        ends_with(None, 100, bytes, made)
    }

    /// The same with another cap, and a fault that it meets at its end.
    fn ends_with(
        fault: Option<Fault>,
        cap_bytes: u64,
        bytes: u64,
        made: Result<Product, Stopped>,
    ) -> Result<Product, Ended> {
        on_lane(fault, cap_bytes, |at| {
            take_in_passing(bytes);
            conclude(made, at)
        })
    }

    fn take_in_passing(bytes: u64) {
        charge(current(), bytes);
        credit(current(), bytes);
    }

    /// Runs `work` as a stage that was promised 10 bytes.
    fn on_lane<T: Send>(fault: Option<Fault>, cap_bytes: u64, work: impl FnOnce(&LaneYield<'_>) -> T + Send) -> T {
        let partition = PartitionSpec { name: "heavy".to_owned(), cap_bytes, gate: GateKind::None };
        let partition = Partition::new(0, &partition, Arc::new(Cpu)).unwrap();
        let lane = Account::open(Some(&partition.account)).unwrap();
        let stage = || {
            lane.adopt_thread();
            let sink: crate::Sink = Arc::new(|event| panic!("{event:?}"));
            let stop = AtomicBool::new(false);
            let pulse = Pulse::default();
            let told = Told { job: JobId(1), stop: &stop, lease_bytes: 10, fault };
            let at = LaneYield::new(
                told,
                &sink,
                &pulse,
                On { lane: &lane, partition: &partition, stream: &Cpu, sharing: Sharing::ALL },
            );
            work(&at)
        };
        std::thread::scope(|scope| scope.spawn(stage).join().unwrap())
    }

    fn product() -> Product {
        Product::Answers(Vec::new())
    }

    #[test]
    fn what_a_stage_took_after_its_last_yield_point_counts() {
        assert!(matches!(ends(100, Ok(product())), Ok(made) if made == product()));
        let Err(Ended::Failed(failure)) = ends(101, Ok(product())) else { panic!("it was over its memory") };
        let FailureKind::OutOfMemory(out_of_memory) = failure.kind else { panic!("{failure}") };
        assert_eq!((out_of_memory.requested_bytes, out_of_memory.used_bytes), (101, 101));
    }

    #[test]
    fn what_a_stage_can_do_without_costs_it_nothing() {
        let reach = |at: &LaneYield<'_>| Ok(at.reach(Site::VaeStage)?);
        on_lane(None, 100, |at| {
            take_in_passing(20);
            assert!(matches!(at.dispensable(|| reach(at)), Ok(Some(()))));
            let tried = at.dispensable(|| {
                take_in_passing(101);
                reach(at)
            });
            assert!(matches!(tried, Ok(None)), "{tried:?}");
            assert!(reach(at).is_ok() && at.usage().peak_bytes == 20);
            assert!(matches!(conclude(Ok(product()), at), Ok(made) if made == product()));
            let failed = at.dispensable(|| Err::<(), _>(Error::Input("bad".to_owned())));
            assert!(matches!(failed, Err(Error::Input(_))), "{failed:?}");
            let stopped = at.dispensable(|| Err::<(), _>(Interrupted.into()));
            assert!(matches!(stopped, Err(Error::Interrupted(_))), "{stopped:?}");
        });
    }

    #[test]
    fn a_stage_that_made_nothing_ends_for_its_own_reason() {
        assert!(matches!(ends(101, Err(Stopped::Interrupted)), Err(Ended::Interrupted)));
        let failure = Failure::input("bad");
        let ended = ends(101, Err(Stopped::Failed(failure.clone())));
        assert!(matches!(ended, Err(Ended::Failed(kept)) if kept == failure));
    }

    fn refused(kind: Kind) -> gpusched_shared::OutOfMemory {
        let ended = ends_with(Some(Fault { kind, after: 100 }), 1 << 20, 20_000, Ok(product()));
        let Err(Ended::Failed(failure)) = ended else { panic!("it ended well") };
        let FailureKind::OutOfMemory(out_of_memory) = failure.kind else { panic!("{failure}") };
        assert_eq!((out_of_memory.requested_bytes, out_of_memory.used_bytes), (20_000, 20_000));
        out_of_memory
    }

    #[test]
    fn faults_happen_at_the_end_at_the_latest_and_with_real_numbers() {
        assert!(matches!(ends_with(None, 1 << 20, 20_000, Ok(product())), Ok(made) if made == product()));
        assert_eq!(refused(Kind::OutOfMemory).cap_bytes, 1 << 20);
        assert!(refused(Kind::Squeeze).cap_bytes < 20_000);
    }

    #[test]
    fn a_squeeze_leaves_alone_who_needs_no_more() {
        let fault = Some(Fault { kind: Kind::Squeeze, after: 100 });
        assert!(matches!(ends_with(fault, 1 << 20, 10, Ok(product())), Ok(made) if made == product()));
    }
}
