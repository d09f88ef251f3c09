//! `gpuctl doctor`: looks at everything that keeps people from the daemon, and says what to do about it.
//!
//! [`collect`] looks, and judges nothing; [`facts`] is what it saw; [`reach`] and [`health`] judge, and look at nothing;
//! [`finding`] is what they come to.

mod collect;
mod facts;
mod finding;
mod health;
mod reach;
#[cfg(test)]
mod tests;

use serde_json::json;

use self::facts::Facts;
use self::finding::{Finding, Level};
use crate::cli::Global;
use crate::commands::to_json;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Looks, tells, and ends as the worst finding has it.
pub(crate) async fn run(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let findings = judge(&collect::facts(global).await);
    let healthy = findings.iter().all(|finding| finding.level != Level::Failure);
    if output.json {
        output.document(&json!({ "healthy": healthy, "checks": to_json(&findings)? }))?;
    } else {
        output.text(&finding::list(&findings))?;
        output.note(&finding::summary(&findings));
    }
    Ok(if healthy { Exit::Done } else { Exit::Unwell })
}

/// Every check, in the order in which one would mend things.
fn judge(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Finding; 11] = [
        health::versions,
        health::config,
        health::unit,
        reach::socket,
        reach::access,
        reach::daemon,
        health::engine,
        health::device,
        health::models,
        health::disk,
        health::clock,
    ];
    checks.iter().map(|check| check(facts)).collect()
}
