//! How a fetched picture becomes a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gpusched_client::JobId;

use crate::cli::Target;
use crate::failure::Failure;
use crate::output::Output;
use crate::png::with_text;

/// Keyword of the chunk that names the job.
const JOB_KEYWORD: &str = "gpusched:job";

/// Refuses targets that cannot work before any job is run for them.
pub(crate) fn check(target: &Target, output: &Output) -> Result<(), Failure> {
    target.output.as_deref().map_or(Ok(()), |path| check_file(path, output))
}

/// Refuses files that cannot be written, `-` for standard output excepted, where that is not wanted for something else.
pub(crate) fn check_file(path: &Path, output: &Output) -> Result<(), Failure> {
    if is_stdout(path) {
        if output.json {
            return Err(Failure::Usage("-o - and --json both want standard output; give -o a file".to_owned()));
        }
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let source = if path.is_dir() {
        io::Error::from(io::ErrorKind::IsADirectory)
    } else if !parent.is_dir() {
        io::Error::from(io::ErrorKind::NotFound)
    } else {
        return Ok(());
    };
    Err(Failure::Write { path: path.to_owned(), source })
}

/// Writes the picture of `job`, or of one of its rounds, to its target; the file's path, unless it is standard output.
///
/// The job's number is added here, not by the daemon: its store names files by what they hold, and the picture is the same
/// for every job with the same seed.
pub(crate) fn write(
    png: &[u8],
    job: JobId,
    round: Option<u8>,
    target: &Target,
    output: &Output,
) -> Result<Option<PathBuf>, Failure> {
    let png = with_text(png, JOB_KEYWORD, &job.to_string());
    match &target.output {
        Some(path) if is_stdout(path) => output.bytes(&png).map(|()| None),
        Some(path) => {
            fs::write(path, &png).map_err(|source| Failure::Write { path: path.clone(), source })?;
            Ok(Some(path.clone()))
        }
        None => {
            let round = round.map(|round| format!("-round-{round}")).unwrap_or_default();
            write_new(&png, &format!("gpusched-{job}{round}"), Path::new("")).map(Some)
        }
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Writes to `<name>.png` in `directory`, or with a number appended to the name if there is such a file.
fn write_new(png: &[u8], name: &str, directory: &Path) -> Result<PathBuf, Failure> {
    let mut path = directory.join(format!("{name}.png"));
    for copy in 2u32.. {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                path = directory.join(format!("{name}-{copy}.png"));
            }
            opened => {
                let written = opened.and_then(|mut file: File| file.write_all(png));
                return written.map(|()| path.clone()).map_err(|source| Failure::Write { path, source });
            }
        }
    }
    Err(Failure::Write { path, source: io::ErrorKind::AlreadyExists.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: Output = Output { json: false, quiet: true };

    #[test]
    fn the_default_name_never_overwrites() {
        let directory = tempfile::tempdir().expect("a directory");
        let names: Vec<_> = (0..3).map(|_| write_new(b"x", "gpusched-7", directory.path()).expect("written")).collect();
        let expected = ["gpusched-7.png", "gpusched-7-2.png", "gpusched-7-3.png"];
        assert_eq!(names, expected.map(|name| directory.path().join(name)));
    }

    #[test]
    fn hopeless_targets_are_refused_early() {
        let target = |path: &str| Target { output: Some(path.into()) };
        assert!(check(&target("x.png"), &OUTPUT).is_ok());
        assert!(check(&target("-"), &OUTPUT).is_ok());
        assert!(check(&target("/nonexistent/x.png"), &OUTPUT).is_err());
        assert!(check(&target("/"), &OUTPUT).is_err());
        assert!(check(&target("-"), &Output { json: true, quiet: true }).is_err());
    }
}
