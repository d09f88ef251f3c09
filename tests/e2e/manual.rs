//! Man pages and completions, as the programs make them for packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::programs::program;

/// Has both programs write into a directory; the files there.
fn generate(option: &str, directory: &Path) -> Vec<PathBuf> {
    for name in ["gpuctl", "gpuschedd"] {
        let output = Command::new(program(name)).arg("generate").arg(option).arg(directory).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let entries = fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn names(files: &[PathBuf]) -> BTreeSet<&str> {
    files.iter().map(|path| path.file_name().and_then(|name| name.to_str()).expect("a name")).collect()
}

/// True if there is such a program.
fn there_is(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Runs a program that must have nothing to say against a file.
fn accept(program: &str, args: &[&str], file: &Path) {
    let output = Command::new(program).args(args).arg(file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {}: {said}", file.display());
}

#[test]
fn every_command_has_a_page_that_formats() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = generate("--man", &directory.path().join("made/if/need/be"));
    let names = names(&files);
    for page in [
        "gpuctl.1",
        "gpuctl-submit.1",
        "gpuctl-submit-txt2img.1",
        "gpuctl-top.1",
        "gpuctl-doctor.1",
        "gpuctl-models.1",
        "gpuschedd.8",
        "gpuschedd-models.8",
        "gpuschedd-journal.8",
        "gpusched.toml.5",
    ] {
        assert!(names.contains(page), "{page} is not in {names:?}");
    }
    for hidden in ["gpuctl-generate.1", "gpuschedd-engine.8", "gpuschedd-generate.8"] {
        assert!(!names.contains(hidden), "{hidden}");
    }
    let formats = there_is("groff");
    if !formats {
        println!("there is no groff: what the pages look like was not checked");
    }
    for file in &files {
        let text = fs::read_to_string(file).expect("text");
        assert!(text.contains(".SH NAME") && text.len() > 200, "{}: {text}", file.display());
        if formats {
            accept("groff", &["-Kutf8", "-man", "-Tutf8", "-ww", "-z"], file);
        }
    }
    let text = |name: &str| fs::read_to_string(directory.path().join("made/if/need/be").join(name)).expect("text");
    assert!(text("gpuctl.1").contains(".SH \"EXIT CODES\""), "users look for them there");
    // The configuration's page has every key, for it quotes the file.
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/gpusched.toml")).expect("text");
    let page = text("gpusched.toml.5").replace("\\-", "-").replace("\\&", "");
    for key in shipped.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        assert!(page.contains(key), "{key}");
    }
}

#[test]
fn shells_take_the_completions() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = generate("--completions", directory.path());
    let expected = ["_gpuctl", "_gpuschedd", "gpuctl.bash", "gpuctl.fish", "gpuschedd.bash", "gpuschedd.fish"];
    assert_eq!(names(&files), BTreeSet::from(expected));
    for file in &files {
        assert!(fs::metadata(file).expect("there").len() > 500, "{}", file.display());
    }
    for name in ["gpuctl", "gpuschedd"] {
        let script = format!(". ./{name}.bash && complete -p {name}");
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-ec", &script]).current_dir(directory.path());
        let output = bash.output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(&format!("-F _{name}")),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Checked where it can be.
        if there_is("zsh") {
            accept("zsh", &["-f", "-n"], &directory.path().join(format!("_{name}")));
        }
        if there_is("fish") {
            accept("fish", &["--no-execute"], &directory.path().join(format!("{name}.fish")));
        }
    }
    // What bash offers after `gpuctl do`.
    let script =
        "COMP_WORDS=(gpuctl do); COMP_CWORD=1; . ./gpuctl.bash; _gpuctl gpuctl do gpuctl; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let output = bash.args(["--norc", "--noprofile", "-c", script]).current_dir(directory.path()).output();
    assert_eq!(String::from_utf8_lossy(&output.expect("bash runs").stdout).trim(), "doctor");
}
