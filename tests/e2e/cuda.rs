//! The daemon with an engine for NVIDIA GPUs: chosen where there is one, missed in a sentence where there is none. With the
//! executable over the software driver where `GPUSCHED_CUDA_ENGINE` names it, which `tests/softcuda/suite.sh` does; without it those
//! tests say that they saw nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpusched_client::{AttemptEnd, JobId, Outcome, vqa};

use crate::harness::daemon::{Daemon, Ended, Home, Setup, gpuschedd};
use crate::harness::picture::red_circle_file;
use crate::harness::programs::program;
use crate::harness::{assert_well, made, metrics, outcome, quick};

/// The executable, if there is one here.
fn engine() -> Option<PathBuf> {
    let engine = env::var_os("GPUSCHED_CUDA_ENGINE").map(PathBuf::from);
    if engine.is_none() {
        println!("skipped: GPUSCHED_CUDA_ENGINE names no executable; tests/softcuda/suite.sh makes one");
    }
    engine
}

/// A home whose daemon is to use this executable.
fn home(backend: &str, engine: &Path, more: &str) -> Home {
    // A test that fails for it would otherwise wait for a backoff.
    let retry = "[retry]\nbase_ms = 1\nceiling_ms = 1\n";
    let text = format!(
        "[engine]\nbackend = {backend:?}\nrestart_base_ms = 10\n\n[engine.cuda]\nprogram = {engine:?}\noverhead = \"64MiB\"\n{more}\n\n{retry}"
    );
    // It lives as long as the test process, which has a handful of them.
    let more: &'static str = Box::leak(text.into_boxed_str());
    Home::new(&Setup { more, ..Setup::default() })
}

/// The daemon's command, with these settings of the software driver.
fn command(home: &Home, settings: &[(&str, &str)]) -> Command {
    let mut command = gpuschedd(&home.file("gpusched.toml"));
    command.envs(settings.iter().copied());
    command
}

fn start(engine: &Path, more: &str, settings: &[(&str, &str)]) -> Daemon {
    let home = home("cuda", engine, more);
    let command = command(&home, settings);
    home.start_as(command)
}

fn ends(daemon: &Daemon, job: JobId) -> Vec<Option<AttemptEnd>> {
    daemon.client().history(job).expect("told").into_iter().map(|attempt| attempt.end).collect()
}

#[test]
fn the_daemon_links_nothing_of_cuda() {
    let bytes = std::fs::read(program("gpuschedd")).expect("it is there");
    for name in ["cuMemAllocAsync", "cuLaunchKernel", "cublasCreate_v2"] {
        assert!(!bytes.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
    }
}

#[test]
fn a_gpu_that_must_be_there_is_missed_in_a_sentence() {
    let home = home("cuda", Path::new("/nowhere/gpusched-engine-cuda"), "");
    let refused = Ended::of(command(&home, &[])).expect(1).stderr;
    assert!(refused.contains("/nowhere/gpusched-engine-cuda cannot be used: No such file or directory"), "{refused}");
    assert!(refused.contains("set engine.backend = \"cpu\" or \"auto\""), "{refused}");
}

#[test]
fn without_a_gpu_the_daemon_goes_on_with_the_cpu_and_says_why() {
    let home = home("auto", Path::new("/nowhere/gpusched-engine-cuda"), "");
    let command = command(&home, &[]);
    let daemon = home.start_as(command);
    daemon.until_logged("the engine computes on the CPU: /nowhere/gpusched-engine-cuda cannot be used");
    assert_well(&daemon);
}

#[test]
fn without_a_driver_the_same() {
    let Some(engine) = engine() else { return };
    let bare = |home: &Home| {
        let mut command = command(home, &[]);
        command.env_remove("LD_LIBRARY_PATH");
        command
    };
    let auto = home("auto", &engine, "");
    let command = bare(&auto);
    let daemon = auto.start_as(command);
    daemon.until_logged("the engine computes on the CPU: gpusched-engine-cuda: there is no lib");
    assert_well(&daemon);
    let refused = Ended::of(bare(&home("cuda", &engine, ""))).expect(1).stderr;
    assert!(refused.contains("gpusched-engine-cuda: there is no lib"), "{refused}");
}

#[test]
fn jobs_run_on_the_gpu() {
    let Some(engine) = engine() else { return };
    let daemon = start(&engine, "", &[("SOFTCUDA_OTHERS", "8G"), ("SOFTCUDA_NAME", "A GPU")]);
    let log = daemon.log();
    assert!(log.contains("the engine computes on A GPU ("), "{log}");
    assert!(log.contains("the GPU is not this daemon's alone, and the classes get less for it: 8"), "{log}");
    let client = daemon.client();
    let image = client.submit(quick(), Vec::new(), true).expect("accepted");
    made(&client, image);
    let answer = client.submit(vqa("what color is the shape?"), vec![red_circle_file()], true).expect("accepted");
    let view = client.wait(answer).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Answers { .. }), "{:?}", view.state);
    // What the device itself took of it is counted, by the device's clock.
    let page = metrics::read(&daemon.home().file("metrics.sock"));
    assert_eq!(
        page.value(r#"gpusched_device_info{backend="cuda",device="A GPU",driver="580.65.06",cuda="13.0"}"#),
        1.0
    );
    for lane in [r#"{class="heavy",lane="heavy-0"}"#, r#"{class="light",lane="light-0"}"#] {
        assert!(page.value(&format!("gpusched_lane_device_seconds_total{lane}")) > 0.0, "{lane}: {}", page.text);
    }
    // The partitions are shares of what is left of the GPU.
    let status = client.status().expect("status");
    let caps: u64 = status.classes.iter().map(|class| class.partition.cap_bytes).sum();
    assert!(caps > 20 << 30 && caps < 40 << 30, "{caps}");
    assert_well(&daemon);
}

#[test]
fn a_device_that_is_lost_costs_an_attempt_and_an_engine() {
    let Some(engine) = engine() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let once = directory.path().join("once");
    let once = once.to_str().expect("text");
    let daemon = start(&engine, "", &[("SOFTCUDA_FAULT_AT", "400+"), ("SOFTCUDA_ONCE", once)]);
    let client = daemon.client();
    let job = client.submit(quick().steps(4), Vec::new(), false).expect("accepted");
    assert_eq!(made(&client, job).attempts, 2);
    assert_eq!(ends(&daemon, job), [Some(AttemptEnd::EngineLost), Some(AttemptEnd::Done)]);
    daemon.until_logged("its device failed, and only a new process can use it again");
    assert_eq!(client.status().expect("status").engine.deaths, 1);
    assert_well(&daemon);
}

#[test]
fn memory_of_the_gpu_that_runs_out_costs_an_attempt() {
    let Some(engine) = engine() else { return };
    // Both tries of one allocation, somewhere in the first picture.
    let daemon = start(&engine, "", &[("SOFTCUDA_OOM_AT", "900,901")]);
    let client = daemon.client();
    let job = client.submit(quick().steps(4), Vec::new(), false).expect("accepted");
    assert_eq!(made(&client, job).attempts, 2);
    assert_eq!(ends(&daemon, job), [Some(AttemptEnd::OutOfMemory), Some(AttemptEnd::Done)]);
    assert_well(&daemon);
}
