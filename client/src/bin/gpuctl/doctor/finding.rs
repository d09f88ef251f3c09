//! What a check comes to, and how it is shown.

use serde::Serialize;

use crate::render::clean;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    /// Could not be looked at from here; another check says why.
    Skipped,
    /// Works, but not as one would want it.
    Warning,
    /// Does not work.
    Failure,
}

/// What a check comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, in a word.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What was seen.
    pub(super) seen: String,
    /// What to do about it; none where nothing is wrong.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, seen: seen.into(), remedy: None }
    }

    pub(super) fn skipped(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, level: Level::Skipped, seen: seen.into(), remedy: None }
    }

    pub(super) fn warning(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn failure(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Failure, seen: seen.into(), remedy: Some(remedy.into()) }
    }
}

/// Findings as a list, each remedy below what it is for. Without the last line break.
pub(super) fn list(findings: &[Finding]) -> String {
    let word = |level| match level {
        Level::Ok => "ok",
        Level::Skipped => "-",
        Level::Warning => "warning",
        Level::Failure => "FAILURE",
    };
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let lines = findings.iter().flat_map(|finding| {
        let Finding { check, level, seen, remedy } = finding;
        let head = format!("{:<7}  {check:<width$}  {}", word(*level), clean(seen));
        let below = remedy.as_ref().map(|remedy| format!("{:7}  {:width$}  -> {}", "", "", clean(remedy)));
        std::iter::once(head).chain(below)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What it all comes to, in a line.
pub(super) fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    match (count(Level::Failure), count(Level::Warning)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warnings) => format!("it works; {}", plural(warnings, "warning")),
        (failures, warnings) => format!("{}, {}", plural(failures, "failure"), plural(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_stand_below_what_they_are_for() {
        let findings = [
            Finding::ok("socket", "there"),
            Finding::failure("access", "a\u{7}b may not", "do this"),
            Finding::skipped("engine", "unknown"),
            Finding::warning("disk", "full", "empty it"),
        ];
        let expected = "\
ok       socket  there
FAILURE  access  a\\u{7}b may not
                 -> do this
-        engine  unknown
warning  disk    full
                 -> empty it";
        assert_eq!(list(&findings), expected);
        assert_eq!(summary(&findings), "1 failure, 1 warning");
        assert_eq!(summary(&findings[3..]), "it works; 1 warning");
        assert_eq!(summary(&findings[..1]), "nothing is wrong");
    }

    #[test]
    fn documents_name_levels_in_lower_case() {
        let document = serde_json::to_value(Finding::failure("socket", "gone", "start it")).expect("JSON");
        let expected =
            serde_json::json!({ "check": "socket", "level": "failure", "seen": "gone", "remedy": "start it" });
        assert_eq!(document, expected);
    }
}
