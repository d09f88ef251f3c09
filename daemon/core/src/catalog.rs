//! The models there are, as the engine reported them, and what a job needs to know of its model.

use gpusched_shared::{EditSpec, ImageSpec, InpaintSpec, JobSpec, ModelInfo, Rejection, Task, TaskKind};

use crate::program::checks::derive;
use crate::program::edit::{DEFAULT_GROW, DEFAULT_THRESHOLD};
use crate::program::instruction::Instruction;
use crate::program::reflect::{DEFAULT_CONFIDENCE, DEFAULT_ROUNDS};

/// The most tokens of a text where a job does not say it.
const DEFAULT_TOKENS: u32 = 256;

/// A model, by its place in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub usize);

/// The models there are, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog(Vec<ModelInfo>);

impl Catalog {
    /// A catalog of `models`.
    pub fn new(mut models: Vec<ModelInfo>) -> Self {
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Self(models)
    }

    /// The models, sorted by name.
    pub fn models(&self) -> &[ModelInfo] {
        &self.0
    }

    /// A model.
    pub fn model(&self, id: ModelId) -> Option<&ModelInfo> {
        self.0.get(id.0)
    }

    /// The place of the model called `name`.
    pub fn id_of(&self, name: &str) -> Option<ModelId> {
        self.0.binary_search_by(|model| model.name.as_str().cmp(name)).ok().map(ModelId)
    }

    /// Fills in everything a client left open: the model (the first that can do the task), seed, steps, size, guidance; and, if
    /// it reflects, the judge, the rounds and what to check.
    ///
    /// # Errors
    /// [`Rejection::UnknownModel`], [`Rejection::WrongModel`], or [`Rejection::BadSpec`] for a size that the model's VAE
    /// cannot make.
    pub fn resolve(&self, mut spec: JobSpec, seed: u64) -> Result<JobSpec, Rejection> {
        // The last stage of an edit is its model's; it names those of the others itself.
        let kind = spec.task.kind();
        let done_by = if kind == TaskKind::Edit { TaskKind::Inpaint } else { kind };
        let model = self.choose(done_by, spec.model.as_deref())?;
        spec.model = Some(model.name.clone());
        if let Task::Inpaint(InpaintSpec { image, grow }) = &mut spec.task {
            fill(image, seed, model);
            grow.get_or_insert(DEFAULT_GROW);
        }
        if let Task::Edit(edit) = &mut spec.task {
            read(edit)?;
            edit.seed.get_or_insert(seed);
            edit.steps.get_or_insert(model.default_steps);
            edit.guidance.get_or_insert(model.default_guidance_milli as f32 / 1000.0);
            edit.threshold.get_or_insert(DEFAULT_THRESHOLD);
            edit.grow.get_or_insert(DEFAULT_GROW);
            edit.detector = Some(self.choose(TaskKind::Detect, edit.detector.as_deref())?.name.clone());
            edit.segmenter = Some(self.choose(TaskKind::Segment, edit.segmenter.as_deref())?.name.clone());
        }
        if let Task::Detect(detect) = &mut spec.task {
            detect.threshold.get_or_insert(DEFAULT_THRESHOLD);
        }
        if let Task::Analyze(analyze) = &mut spec.task {
            analyze.max_tokens.get_or_insert(DEFAULT_TOKENS);
        }
        if let Task::Txt2Img(image) | Task::Img2Img(image) = &mut spec.task {
            let size = *image.size.get_or_insert(model.default_size);
            fill(image, seed, model);
            if u64::from(size.width) * u64::from(size.height) > model.max_pixels {
                let reason = format!("{size} has more than the {} pixels that {} makes", model.max_pixels, model.name);
                return Err(Rejection::BadSpec { field: "size".to_owned(), reason });
            }
            let multiple = model.size_multiple.max(1);
            if size.width % multiple != 0 || size.height % multiple != 0 {
                let (name, down) = (&model.name, |side: u32| (side / multiple).max(1) * multiple);
                let (width, height) = (down(size.width), down(size.height));
                return Err(Rejection::BadSpec {
                    field: "size".to_owned(),
                    reason: format!("{size} is not a multiple of {multiple}, as {name} needs; try {width}x{height}"),
                });
            }
        }
        if let Some(reflect) = &mut spec.reflect {
            let judge = self.choose(TaskKind::Vqa, reflect.judge.as_deref())?;
            reflect.judge = Some(judge.name.clone());
            reflect.rounds.get_or_insert(DEFAULT_ROUNDS);
            reflect.confidence.get_or_insert(DEFAULT_CONFIDENCE);
            if reflect.checks.is_empty() {
                reflect.checks = derive(spec.task.text());
            }
        }
        Ok(spec)
    }

    /// The model called `wanted`, or the first that does the task.
    fn choose(&self, task: TaskKind, wanted: Option<&str>) -> Result<&ModelInfo, Rejection> {
        let able = |model: &&ModelInfo| model.tasks.contains(&task);
        match wanted {
            None => self.0.iter().find(able).ok_or_else(|| Rejection::UnknownModel {
                name: format!("any for {task}"),
                available: self.names(|_| true),
            }),
            Some(name) => {
                let model = self.0.iter().find(|model| model.name == name).ok_or_else(|| Rejection::UnknownModel {
                    name: name.to_owned(),
                    available: self.names(|model| able(&model)),
                })?;
                Some(model).filter(able).ok_or_else(|| Rejection::WrongModel {
                    model: name.to_owned(),
                    task: task.to_string(),
                    available: self.names(|model| able(&model)),
                })
            }
        }
    }

    fn names(&self, which: impl Fn(&ModelInfo) -> bool) -> String {
        let names: Vec<&str> = self.0.iter().filter(|model| which(model)).map(|model| model.name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

fn fill(image: &mut ImageSpec, seed: u64, model: &ModelInfo) {
    image.seed.get_or_insert(seed);
    image.steps.get_or_insert(model.default_steps);
    image.guidance.get_or_insert(model.default_guidance_milli as f32 / 1000.0);
}

/// Fills in what an edit's instruction says.
fn read(edit: &mut EditSpec) -> Result<(), Rejection> {
    if edit.target.is_some() && edit.prompt.is_some() {
        return Ok(());
    }
    let Some(Instruction { target, prompt }) = Instruction::read(&edit.instruction) else {
        let reason = "does not say what is to be changed and into what, as \"make the circle blue\" does; say it with target and prompt";
        return Err(Rejection::BadSpec { field: "instruction".to_owned(), reason: reason.to_owned() });
    };
    edit.target.get_or_insert(target);
    edit.prompt.get_or_insert(prompt);
    Ok(())
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{Declared, Reflect, Size, TaskKind};

    use super::*;

    fn catalog() -> Catalog {
        let model = |name: &str, tasks: &[TaskKind]| ModelInfo {
            name: name.to_owned(),
            kind: "k".to_owned(),
            tasks: tasks.to_vec(),
            bytes: 1,
            default_size: Size { width: 64, height: 64 },
            size_multiple: 16,
            max_pixels: 64 * 128,
            default_steps: 20,
            default_guidance_milli: 3000,
            declared: Declared::default(),
        };
        Catalog::new(vec![model("vilt", &[TaskKind::Vqa]), model("flux", &[TaskKind::Txt2Img, TaskKind::Img2Img])])
    }

    fn txt2img(model: Option<&str>, size: Option<Size>) -> JobSpec {
        let task = Task::Txt2Img(ImageSpec { size, ..ImageSpec::new("x") });
        JobSpec { model: model.map(str::to_owned), ..JobSpec::new(task) }
    }

    #[test]
    fn fills_in_what_is_open() {
        let spec = catalog().resolve(txt2img(None, None), 7).expect("flux does it");
        let Task::Txt2Img(image) = spec.task else { unreachable!() };
        assert_eq!(spec.model.as_deref(), Some("flux"));
        assert_eq!((image.seed, image.steps, image.guidance), (Some(7), Some(20), Some(3.0)));
    }

    #[test]
    fn fills_in_how_to_reflect() {
        let spec = JobSpec { reflect: Some(Box::default()), ..txt2img(None, None) };
        let reflect = catalog().resolve(spec.clone(), 7).expect("vilt judges").reflect.expect("it reflects");
        assert_eq!((reflect.judge.as_deref(), reflect.rounds, reflect.confidence), (Some("vilt"), Some(4), Some(0.9)));
        assert_eq!(reflect.checks.len(), 1);
        let no_judge = Reflect { judge: Some("flux".to_owned()), ..Reflect::default() };
        let refused =
            catalog().resolve(JobSpec { reflect: Some(Box::new(no_judge)), ..spec }, 7).expect_err("it paints");
        assert!(refused.to_string().contains("does not do vqa; there is vilt"), "{refused}");
    }

    #[test]
    fn models_are_found_by_name() {
        let catalog = catalog();
        assert_eq!(catalog.id_of("vilt"), Some(ModelId(1)));
        assert_eq!(catalog.id_of("gone"), None);
        assert_eq!(catalog.model(ModelId(0)).map(|model| model.name.as_str()), Some("flux"));
    }

    #[test]
    fn refuses_with_what_would_work() {
        let refusal = |model, size| catalog().resolve(txt2img(model, size), 0).expect_err("refused").to_string();
        assert_eq!(refusal(Some("gone"), None), r#"no model "gone" here; there is flux"#);
        assert!(refusal(Some("vilt"), None).contains("does not do txt2img; there is flux"));
        assert!(refusal(None, Some(Size { width: 128, height: 128 })).contains("more than the 8192 pixels"));
        assert!(refusal(None, Some(Size { width: 70, height: 64 })).contains("try 64x64"));
    }
}
