//! Which class a job goes to: ordered rules, the first that matches wins.

use gpusched_shared::{JobSpec, TaskKind};

/// A rule. What is `None` matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Only this task.
    pub task: Option<TaskKind>,
    /// Only this model.
    pub model: Option<String>,
    /// Where it goes.
    pub class: String,
}

/// The class that `routes` send `spec` to.
pub fn route<'a>(routes: &'a [Route], spec: &JobSpec) -> Option<&'a str> {
    let matches = |rule: &&Route| {
        rule.task.is_none_or(|task| task == spec.task.kind())
            && rule.model.as_ref().is_none_or(|model| Some(model) == spec.model.as_ref())
    };
    routes.iter().find(matches).map(|rule| rule.class.as_str())
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{Task, VqaSpec};

    use super::*;

    #[test]
    fn first_match_wins() {
        let rule = |task, model: Option<&str>, class: &str| Route {
            task,
            model: model.map(str::to_owned),
            class: class.to_owned(),
        };
        let rules = [
            rule(Some(TaskKind::Txt2Img), None, "heavy"),
            rule(None, Some("big"), "heavy"),
            rule(Some(TaskKind::Vqa), None, "light"),
        ];
        let vqa = |model: &str| JobSpec {
            task: Task::Vqa(VqaSpec { question: "what?".to_owned(), top: 1 }),
            model: Some(model.to_owned()),
            deadline_ms: None,
        };
        assert_eq!(route(&rules, &vqa("small")), Some("light"));
        assert_eq!(route(&rules, &vqa("big")), Some("heavy"));
        assert_eq!(route(&rules[..1], &vqa("small")), None);
    }
}
