//! Where the daemon listens.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gpusched_shared::{SOCKET_ENV, SYSTEM_SOCKET};

/// The socket to use when none is named: `$GPUSCHED_SOCKET`, else the system's daemon if it is there, else the user's own
/// under `$XDG_RUNTIME_DIR`, else the system's.
pub fn default_socket() -> PathBuf {
    resolve(env::var_os, Path::exists)
}

fn resolve(variable: impl Fn(&'static str) -> Option<OsString>, exists: impl Fn(&Path) -> bool) -> PathBuf {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let system = PathBuf::from(SYSTEM_SOCKET);
    if let Some(named) = set(SOCKET_ENV) {
        return named;
    }
    match set("XDG_RUNTIME_DIR") {
        Some(run) if !exists(&system) => run.join("gpusched/gpusched.sock"),
        Some(_) | None => system,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(named: &str, run: &str, system_exists: bool) -> PathBuf {
        resolve(|name| Some(if name == SOCKET_ENV { named } else { run }.into()), |_| system_exists)
    }

    #[test]
    fn the_variable_wins_then_the_system_then_the_user() {
        assert_eq!(with("/a/b", "/run/user/1", true), Path::new("/a/b"));
        assert_eq!(with("", "/run/user/1", true), Path::new(SYSTEM_SOCKET));
        assert_eq!(with("", "/run/user/1", false), Path::new("/run/user/1/gpusched/gpusched.sock"));
        assert_eq!(with("", "", false), Path::new(SYSTEM_SOCKET));
    }
}
