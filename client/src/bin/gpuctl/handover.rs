//! Commands that need the scheduler itself, which gpuschedd has and gpuctl has not: gpuschedd takes over.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{Arguments, Global};
use crate::failure::Failure;

/// The program that takes over.
const PROGRAM: &str = "gpuschedd";

/// Becomes `gpuschedd <command> <arguments>`. Returns only if that is not possible.
pub(crate) fn hand_over(command: &'static str, arguments: Arguments, global: &Global) -> Failure {
    let program = program();
    let mut all = vec![OsString::from(command)];
    all.extend(given(global));
    all.extend(arguments.arguments);
    let source = Command::new(&program).args(all).exec();
    Failure::HandOver { command, program, source }
}

/// gpuschedd, as installed with this program, or its bare name.
pub(crate) fn program() -> PathBuf {
    let own = env::current_exe().ok();
    beside(own.as_deref(), Path::exists)
}

/// The program beside this one, as built or installed together; else its bare name, which is sought on the PATH.
fn beside(own: Option<&Path>, exists: impl Fn(&Path) -> bool) -> PathBuf {
    let neighbour = own.and_then(Path::parent).map(|directory| directory.join(PROGRAM));
    neighbour.filter(|path| exists(path)).unwrap_or_else(|| PROGRAM.into())
}

/// The options that gpuctl found for itself before the first argument that is none of its own.
fn given(global: &Global) -> Vec<OsString> {
    let mut options = Vec::new();
    if let Some(socket) = &global.socket {
        options.extend(["--socket".into(), socket.clone().into_os_string()]);
    }
    options.extend(global.json.then(|| "--json".into()));
    options.extend(global.quiet.then(|| "--quiet".into()));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbour_comes_before_the_path() {
        let own = Path::new("/opt/bin/gpuctl");
        assert_eq!(beside(Some(own), |_| true), Path::new("/opt/bin/gpuschedd"));
        assert_eq!(beside(Some(own), |_| false), Path::new("gpuschedd"));
        assert_eq!(beside(None, |_| true), Path::new("gpuschedd"));
    }

    #[test]
    fn no_option_gets_lost() {
        let global = Global { socket: Some("/x".into()), json: true, quiet: true };
        assert_eq!(given(&global), ["--socket", "/x", "--json", "--quiet"]);
        assert_eq!(given(&Global { socket: None, json: false, quiet: false }), Vec::<OsString>::new());
    }
}
