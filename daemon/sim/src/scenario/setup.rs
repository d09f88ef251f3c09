//! A scenario as the scheduler takes it.

use gpusched_core::{Catalog, Class, FlushRule, GateRule, Plan, PlanError, Quotas, Retry, Route};
use gpusched_shared::{
    AnalyzeSpec, Declared, DetectSpec, EditSpec, ImageSpec, InpaintSpec, JobSpec, ModelInfo, ScoreSpec, SegmentSpec,
    Size, Task, TaskKind, VqaSpec,
};

use super::check::mean_s;
use super::{ArrivalSpec, ClassSpec, Flush, Gate, KindSpec, ModelSpec, ReflectSpec, RouteSpec, Scenario, Seconds};

/// The size of all pictures: the memory a job needs is its model's affair here.
const SIZE: Size = Size { width: 1024, height: 1024 };

impl Scenario {
    /// What the scheduler works by.
    pub(crate) fn plan(&self) -> Result<Plan, PlanError> {
        let classes = self.classes.iter().map(|class| class.class(self.cap_bytes(class))).collect();
        let mut plan = Plan::new(classes, self.routes.iter().map(RouteSpec::route).collect())?;
        let quotas = self.quotas;
        plan.quotas = Quotas {
            queued_per_uid: quotas.queued_per_uid,
            running_per_uid: quotas.running_per_uid,
            ..Quotas::default()
        };
        let retry = self.retry;
        plan.retry = Retry {
            base_ms: retry.base_s.ms(),
            factor_milli: (retry.factor * 1000.0).round() as u64,
            ceiling_ms: retry.ceiling_s.ms(),
            budget: retry.budget,
            seed: self.seed,
        };
        Ok(plan)
    }

    /// The models.
    pub(crate) fn catalog(&self) -> Catalog {
        Catalog::new(self.models.iter().map(|model| self.model_info(model)).collect())
    }

    /// What a client asks for.
    pub(crate) fn job(&self, arrival: &ArrivalSpec) -> JobSpec {
        let (task, steps) = self.kind(&arrival.kind).map_or((TaskKind::Vqa, 1), |kind| (kind.task, kind.steps));
        let image = || ImageSpec {
            prompt: "p".to_owned(),
            seed: Some(0),
            steps: Some(steps),
            size: Some(SIZE),
            guidance: Some(1.0),
        };
        let task = match task {
            TaskKind::Txt2Img => Task::Txt2Img(image()),
            TaskKind::Img2Img => Task::Img2Img(image()),
            TaskKind::Vqa => Task::Vqa(VqaSpec { question: "q".to_owned(), top: 1 }),
            TaskKind::Detect => Task::Detect(DetectSpec { query: "q".to_owned(), threshold: Some(0.5) }),
            TaskKind::Segment => Task::Segment(SegmentSpec { area: None, points: Vec::new() }),
            TaskKind::Inpaint => {
                Task::Inpaint(InpaintSpec { image: ImageSpec { size: None, ..image() }, grow: Some(0) })
            }
            TaskKind::Edit => Task::Edit(Box::new(EditSpec::new("e"))),
            TaskKind::Analyze => Task::Analyze(AnalyzeSpec { prompt: "p".to_owned(), max_tokens: Some(1) }),
            TaskKind::Score => Task::Score(ScoreSpec { text: "t".to_owned() }),
        };
        JobSpec {
            model: self.kind(&arrival.kind).map(|kind| kind.model.clone()),
            priority: arrival.priority,
            queue_timeout_ms: arrival.queue_timeout_s.map(|time| time.ms().max(1)),
            run_timeout_ms: arrival.run_timeout_s.map(|time| time.ms().max(1)),
            reflect: arrival
                .reflect
                .as_ref()
                .map(|spec| spec.reflect(self.judge(spec).map(|kind| kind.model.clone())))
                .map(Box::new),
            ..JobSpec::new(task)
        }
    }

    /// The kind of job that a question about a picture is.
    pub(crate) fn judge(&self, reflect: &ReflectSpec) -> Option<&KindSpec> {
        let mut answering = self.kinds.iter().filter(|kind| kind.task == TaskKind::Vqa);
        answering.find(|kind| reflect.judge.as_ref().is_none_or(|name| *name == kind.name))
    }

    /// A question about a picture of an arrival.
    pub(crate) fn check_job(&self, arrival: &ArrivalSpec, judge: &KindSpec) -> JobSpec {
        self.job(&ArrivalSpec { kind: judge.name.clone(), reflect: None, ..arrival.clone() })
    }

    /// The place of the model of that name.
    pub(crate) fn model(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|model| model.name == name)
    }

    /// The kind of that name.
    pub(crate) fn kind(&self, name: &str) -> Option<&KindSpec> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    /// The bytes of a class's partition.
    pub(crate) fn cap_bytes(&self, class: &ClassSpec) -> u64 {
        class.partition.map_or_else(|| self.device.as_u64().saturating_sub(self.given_bytes()), |size| size.as_u64())
    }

    /// The bytes of all partitions that are given.
    pub(super) fn given_bytes(&self) -> u64 {
        let given = self.classes.iter().filter_map(|class| class.partition);
        given.fold(0, |sum, size| sum.saturating_add(size.as_u64()))
    }

    fn model_info(&self, model: &ModelSpec) -> ModelInfo {
        let mut tasks: Vec<TaskKind> = Vec::new();
        for kind in self.kinds.iter().filter(|kind| kind.model == model.name) {
            if !tasks.contains(&kind.task) {
                tasks.push(kind.task);
            }
        }
        ModelInfo {
            name: model.name.clone(),
            kind: "simulated".to_owned(),
            tasks,
            bytes: model.weights.as_u64(),
            default_size: SIZE,
            size_multiple: 1,
            max_pixels: u64::from(SIZE.width) * u64::from(SIZE.height),
            default_steps: 1,
            default_guidance_milli: 1000,
            declared: Declared {
                weights_bytes: model.weights.as_u64(),
                run_bytes: model.memory.as_u64(),
                run_bytes_per_pixel: 0,
            },
        }
    }
}

impl ClassSpec {
    fn class(&self, cap_bytes: u64) -> Class {
        Class {
            name: self.name.clone(),
            lanes: self.lanes,
            queue_limit: self.queue,
            priority: self.priority,
            cap_bytes,
            flush: match self.flush {
                Flush::BeforeEach => FlushRule::BeforeEach,
                Flush::OnPressure => FlushRule::OnPressure,
                Flush::Never => FlushRule::Never,
            },
            gate: match self.gate {
                Gate::Off => None,
                Gate::Block => Some(GateRule {
                    min_share_milli: self.min_share_percent * 10,
                    window_ms: self.min_share_window_s.ms(),
                }),
            },
            aging_ms: self.aging_s.ms(),
            batch_wait_ms: self.batch_wait_s.ms(),
            keep_alive_ms: self.keep_alive_s.map(Seconds::ms),
            pinned: self.pin.clone(),
        }
    }
}

impl RouteSpec {
    fn route(&self) -> Route {
        Route {
            task: self.task,
            model: self.model.clone(),
            uid: self.uid,
            min_steps: self.min_steps,
            max_steps: self.max_steps,
            ..Route::to(self.class.clone())
        }
    }
}

impl ModelSpec {
    /// What a job uses at its peak beside the weights, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        // So that a tenth more than this is not more than what is promised.
        self.peak.map_or_else(|| (u128::from(self.memory.as_u64()) * 10 / 11) as u64, |peak| peak.as_u64())
    }

    /// What a job is promised beside the weights at the most: what is declared, or a tenth more than what is measured.
    pub(crate) fn footprint_bytes(&self) -> u64 {
        let peak = self.peak_bytes();
        self.memory.as_u64().max(peak.saturating_add(peak / 10))
    }
}

impl KindSpec {
    /// How long a job computes on average when nothing slows it down, in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        mean_s(self.run_s) * 1e6
    }

    /// Yield points of a job, the end included.
    pub(crate) fn yields(&self) -> u64 {
        u64::from(self.steps) * u64::from(self.yields_per_step)
    }
}
