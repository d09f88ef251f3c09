//! Which class a job goes to: ordered rules, the first that matches wins.

use std::fmt;

use gpusched_shared::{JobSpec, RuleView, TaskKind, Uid};

/// A rule. What is `None` matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Only this task.
    pub task: Option<TaskKind>,
    /// Only this model.
    pub model: Option<String>,
    /// Only this uid's jobs.
    pub uid: Option<Uid>,
    /// Only pictures of at least so many pixels.
    pub min_pixels: Option<u64>,
    /// Only pictures of at most so many pixels.
    pub max_pixels: Option<u64>,
    /// Only jobs of at least so many diffusion steps.
    pub min_steps: Option<u32>,
    /// Only jobs of at most so many diffusion steps.
    pub max_steps: Option<u32>,
    /// Where it goes.
    pub class: String,
}

/// The class that `routes` send a job to. `spec` has nothing left open.
pub fn route<'a>(routes: &'a [Route], spec: &JobSpec, uid: Uid) -> Option<&'a str> {
    routes.iter().find(|rule| rule.failing(spec, uid).is_none()).map(|rule| rule.class.as_str())
}

/// The rules up to and including the one that takes the job, and why each of those before it does not.
pub fn explain(routes: &[Route], spec: &JobSpec, uid: Uid) -> Vec<RuleView> {
    let mut rules = Vec::new();
    for rule in routes {
        let fails = rule.failing(spec, uid);
        let taken = fails.is_none();
        rules.push(RuleView { rule: rule.to_string(), fails });
        if taken {
            break;
        }
    }
    rules
}

impl Route {
    /// A rule for everything.
    pub fn to(class: impl Into<String>) -> Self {
        Self { class: class.into(), ..Self::default() }
    }

    /// A rule for a task.
    pub fn of_task(task: TaskKind, class: impl Into<String>) -> Self {
        Self { task: Some(task), ..Self::to(class) }
    }

    /// The first condition that a job does not meet.
    fn failing(&self, spec: &JobSpec, uid: Uid) -> Option<String> {
        let pixels = spec.task.size().map(|size| u64::from(size.width) * u64::from(size.height));
        let steps = spec.task.image().and_then(|image| image.steps);
        // A job without pixels or steps meets no condition on them.
        let within = |what: &str, value: Option<u64>, least: Option<u64>, most: Option<u64>| {
            let fails = match value {
                _ if least.is_none() && most.is_none() => false,
                None => true,
                Some(value) => least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most),
            };
            fails.then(|| value.map_or(format!("it has no {what}"), |value| format!("it has {value} {what}")))
        };
        let (task, model) = (spec.task.kind(), spec.model.as_deref().unwrap_or_default());
        if self.task.is_some_and(|wanted| wanted != task) {
            Some(format!("its task is {task}"))
        } else if self.model.as_deref().is_some_and(|wanted| wanted != model) {
            Some(format!("its model is {model}"))
        } else if self.uid.is_some_and(|wanted| wanted != uid) {
            Some(format!("its uid is {uid}"))
        } else {
            within("pixels", pixels, self.min_pixels, self.max_pixels).or_else(|| {
                within("steps", steps.map(u64::from), self.min_steps.map(u64::from), self.max_steps.map(u64::from))
            })
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = [
            self.task.map(|task| format!("task = {task}")),
            self.model.as_ref().map(|model| format!("model = {model}")),
            self.uid.map(|uid| format!("uid = {uid}")),
            self.min_pixels.map(|pixels| format!("pixels >= {pixels}")),
            self.max_pixels.map(|pixels| format!("pixels <= {pixels}")),
            self.min_steps.map(|steps| format!("steps >= {steps}")),
            self.max_steps.map(|steps| format!("steps <= {steps}")),
        ];
        let conditions: Vec<String> = conditions.into_iter().flatten().collect();
        let conditions = if conditions.is_empty() { "anything".to_owned() } else { conditions.join(", ") };
        write!(f, "{conditions} -> {}", self.class)
    }
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{ImageSpec, Size, Task, VqaSpec};

    use super::*;

    fn vqa(model: &str) -> JobSpec {
        let task = Task::Vqa(VqaSpec { question: "what?".to_owned(), top: 1 });
        JobSpec { model: Some(model.to_owned()), ..JobSpec::new(task) }
    }

    fn image(side: u32, steps: u32) -> JobSpec {
        let size = Some(Size { width: side, height: side });
        JobSpec::new(Task::Txt2Img(ImageSpec { steps: Some(steps), size, ..ImageSpec::new("x") }))
    }

    #[test]
    fn first_match_wins() {
        let rules = [
            Route::of_task(TaskKind::Txt2Img, "heavy"),
            Route { model: Some("big".to_owned()), ..Route::to("heavy") },
            Route { uid: Some(7), ..Route::to("guests") },
            Route::of_task(TaskKind::Vqa, "light"),
        ];
        assert_eq!(route(&rules, &vqa("small"), 1), Some("light"));
        assert_eq!(route(&rules, &vqa("small"), 7), Some("guests"));
        assert_eq!(route(&rules, &vqa("big"), 7), Some("heavy"));
        assert_eq!(route(&rules[..1], &vqa("small"), 1), None);
    }

    #[test]
    fn sizes_and_steps_are_bounded_on_both_sides() {
        let pixels = Route { min_pixels: Some(64 * 64), max_pixels: Some(128 * 128), ..Route::to("c") };
        let steps = Route { min_steps: Some(4), max_steps: Some(8), ..Route::to("c") };
        for (rule, spec, goes) in [
            (&pixels, image(63, 5), false),
            (&pixels, image(64, 5), true),
            (&pixels, image(128, 5), true),
            (&pixels, image(129, 5), false),
            (&pixels, vqa("m"), false),
            (&steps, image(64, 3), false),
            (&steps, image(64, 4), true),
            (&steps, image(64, 8), true),
            (&steps, image(64, 9), false),
            (&steps, vqa("m"), false),
        ] {
            assert_eq!(route(std::slice::from_ref(rule), &spec, 1).is_some(), goes, "{rule}: {spec:?}");
        }
    }

    #[test]
    fn explanations_end_with_the_rule_that_takes_it() {
        let rules = [
            Route::of_task(TaskKind::Vqa, "light"),
            Route { max_pixels: Some(100), min_steps: Some(2), ..Route::to("small") },
            Route::to("heavy"),
            Route::to("never reached"),
        ];
        let view =
            |rule: &str, fails: Option<&str>| RuleView { rule: rule.to_owned(), fails: fails.map(str::to_owned) };
        assert_eq!(
            explain(&rules, &image(64, 4), 1),
            [
                view("task = vqa -> light", Some("its task is txt2img")),
                view("pixels <= 100, steps >= 2 -> small", Some("it has 4096 pixels")),
                view("anything -> heavy", None),
            ]
        );
        let small = Route { model: Some("m".to_owned()), uid: Some(3), ..Route::to("x") };
        assert_eq!(explain(std::slice::from_ref(&small), &image(8, 1), 3)[0].fails.as_deref(), Some("its model is "));
        assert_eq!(explain(&[small], &vqa("m"), 4)[0].fails.as_deref(), Some("its uid is 4"));
        assert_eq!(explain(&rules[1..2], &vqa("m"), 1)[0].fails.as_deref(), Some("it has no pixels"));
        assert_eq!(explain(&rules[1..2], &image(8, 1), 1)[0].fails.as_deref(), Some("it has 1 steps"));
    }
}
