//! A small disk that a test may fill.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, gone when it is dropped.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None`, and a word about it, where the system lets nobody mount; with `CI` in the environment that fails the test, so
    /// that it is not left out for ever without anybody knowing.
    pub(crate) fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir(&at).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self(at)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(e) => e.to_string(),
        };
        let skipped = format!("cannot mount a tmpfs here, so what a full or read-only disk does is not tried: {why}");
        assert!(
            env::var_os("CI").is_none(),
            "{skipped}. With CI set nothing is skipped: run this as root, or unset CI"
        );
        eprintln!("SKIPPED: {skipped}. With CI set this fails");
        None
    }

    /// A path in it.
    pub(crate) fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Fills it to the last byte; the file that does.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.file("ballast");
        let mut file = File::create(&path).expect("made");
        while file.write_all(&[7; 4096]).is_ok() {}
        path
    }

    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.expect("it runs").success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
