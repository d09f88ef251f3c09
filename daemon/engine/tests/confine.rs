//! What the engine's process may do. Each test runs this program again, for there is no way back from being confined.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpusched_engine::confine::confine;

/// Set for the program that is run again, to the directory that it may read.
const READABLE: &str = "GPUSCHED_TEST_READABLE";

/// Runs this test of this program again; what it says of what it tried.
fn again(test: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let real = directory.path().join("real");
    let models = directory.path().join("models");
    fs::create_dir_all(real.join("unet")).and_then(|()| fs::create_dir(&models)).expect("directories");
    fs::write(real.join("unet/weights"), "weights")
        .and_then(|()| fs::write(directory.path().join("secret"), "secret"))
        .expect("files");
    std::os::unix::fs::symlink(&real, models.join("linked")).expect("a link");
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["--exact", test, "--nocapture"]).env(READABLE, &models).output();
    let output = output.expect("it runs");
    let text = format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    text
}

/// The directory, in the program that is run again.
fn readable() -> Option<PathBuf> {
    std::env::var_os(READABLE).map(PathBuf::from)
}

/// Whether the kernel has what restricts files.
fn has_landlock(missing: &[String]) -> bool {
    !missing.iter().any(|what| what.contains("Landlock"))
}

#[test]
fn forbidden_things_fail_and_needed_ones_do_not() {
    let Some(models) = readable() else {
        let text = again("forbidden_things_fail_and_needed_ones_do_not");
        assert!(text.contains("all was tried"), "{text}");
        return;
    };
    let (here, _there) = UnixStream::pair().expect("a pair");
    let missing = confine(std::slice::from_ref(&models), &[]).expect("confined");
    println!("missing: {missing:?}");
    assert!(!missing.iter().any(|what| what.contains("seccomp")), "{missing:?}");

    let refused = |result: std::io::Result<()>| assert_eq!(result.map_err(|e| e.raw_os_error()), Err(Some(1)), "EPERM");
    refused(TcpListener::bind("127.0.0.1:0").map(drop));
    refused(UdpSocket::bind("127.0.0.1:0").map(drop));
    refused(UnixStream::connect("/run/anything").map(drop));
    refused(Command::new("/bin/true").status().map(drop));
    refused(rustix::thread::set_thread_uid(rustix::process::getuid()).map_err(Into::into));
    refused(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into));

    // In threads as well; and these work, and what the link and memory files need.
    let thread = std::thread::spawn(move || {
        assert!(TcpListener::bind("127.0.0.1:0").is_err());
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5).expect("it may be nice");
        (&here).write_all(b"still connected").expect("the link works");
        let file = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
        File::from(file).write_all(&[1; 4096]).expect("written");
    });
    thread.join().expect("all of it");

    assert_eq!(fs::read(models.join("linked/unet/weights")).expect("a model, also where a link leads"), b"weights");
    fs::read_to_string("/proc/self/statm").expect("what it holds");
    if has_landlock(&missing) {
        let secret = models.parent().expect("it has one").join("secret");
        let denied = |path: &Path| fs::read(path).map_err(|e| e.kind()) == Err(std::io::ErrorKind::PermissionDenied);
        assert!(denied(&secret));
        assert!(denied(Path::new("/etc/passwd")));
        assert!(OpenOptions::new().write(true).open(models.join("linked/unet/weights")).is_err());
        assert!(File::create(models.join("new")).is_err());
        assert!(fs::remove_file(models.join("linked")).is_err());
    }
    println!("all was tried");
}
