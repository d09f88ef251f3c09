//! Models and what they take: gpuschedd reads their files and has the numbers, and is told what the daemon's partitions are.

use std::ffi::{OsStr, OsString};

use gpusched_client::shared::ClassView;

use crate::cli::{Arguments, Global};
use crate::commands::connect;
use crate::failure::Failure;
use crate::handover::hand_over;
use crate::output::Output;

/// Becomes `gpuschedd models`. Returns only if that is not possible.
pub(crate) async fn run(mut arguments: Arguments, global: &Global, output: &Output) -> Failure {
    if asks_whether_it_fits(&arguments.arguments) {
        let status = match connect(global).await {
            Ok(client) => client.status().await,
            Err(e) => Err(e),
        };
        match status {
            Ok(status) => arguments.arguments.extend(status.classes.iter().map(partition)),
            // There is a plan nevertheless.
            Err(e) => output.note(&format!("what the daemon's partitions are is not known: {e}")),
        }
    }
    hand_over("models", arguments, global)
}

fn partition(class: &ClassView) -> OsString {
    format!("--partition={}={}", class.name, class.partition.cap_bytes).into()
}

/// Whether a plan is wanted, and nothing said of what it shall fit into.
fn asks_whether_it_fits(arguments: &[OsString]) -> bool {
    let given = |option: &str| {
        let is = |text: &str| text == option || text.strip_prefix(option).is_some_and(|rest| rest.starts_with('='));
        arguments.iter().filter_map(|argument| OsStr::to_str(argument)).any(is)
    };
    given("--plan") && !["--cap", "--help", "-h"].into_iter().any(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_asked_only_if_that_matters() {
        let asks = |arguments: &[&str]| asks_whether_it_fits(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(asks(&["--plan", "x"]) && asks(&["--size=64", "--plan=x"]));
        assert!(!asks(&[]) && !asks(&["--planned"]) && !asks(&["--json"]));
        assert!(!asks(&["--plan", "x", "--cap=34GB"]) && !asks(&["--cap", "34GB", "--plan", "x"]));
        assert!(!asks(&["--plan", "--help"]));
    }
}
