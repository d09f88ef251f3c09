//! What the executable says there is.

use std::process::Command;

use gpusched_engine_cuda::facts::Facts;
use serde_json::Value;

/// What `probe` prints with these settings of the software driver.
fn probe(settings: &[(&str, &str)]) -> Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_gpusched-engine-cuda"));
    let output = program.arg("probe").envs(settings.iter().copied()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn facts(settings: &[(&str, &str)]) -> Facts {
    let said = probe(settings);
    serde_json::from_value(said["ready"].clone()).unwrap_or_else(|e| panic!("{e}: {said}"))
}

#[test]
fn the_device_the_driver_and_others_memory_are_told() {
    let alone = facts(&[("SOFTCUDA_MEMORY", "24G"), ("SOFTCUDA_NAME", "A GPU")]);
    assert_eq!((alone.name.as_str(), alone.compute.as_str(), alone.cuda.as_str()), ("A GPU", "8.0", "13.0"));
    assert_eq!((alone.total_bytes, alone.version.as_str()), (24 << 30, env!("CARGO_PKG_VERSION")));
    assert!(alone.free_bytes < alone.total_bytes && alone.tenants.is_empty() && alone.driver.is_some(), "{alone:?}");
    let shared = facts(&[("SOFTCUDA_MEMORY", "24G"), ("SOFTCUDA_OTHERS", "10G")]);
    assert_eq!(alone.free_bytes - shared.free_bytes, 10 << 30);
    assert_eq!(shared.tenants.iter().map(|tenant| tenant.bytes).sum::<u64>(), 10 << 30);
}

#[test]
fn what_is_missing_is_one_sentence() {
    for (settings, why) in [
        (("SOFTCUDA_DEVICES", "0"), "there is no GPU that CUDA can use"),
        (
            ("SOFTCUDA_DRIVER", "12000"),
            "NVIDIA's driver is too old: it knows CUDA 12.0, and memory pools with a cap came with 12.2",
        ),
        (("SOFTCUDA_POOLS", "0"), "this GPU's driver has no memory pools"),
    ] {
        let said = probe(&[settings]);
        let missing = said["missing"].as_str().unwrap_or_else(|| panic!("{said}"));
        assert!(missing.contains(why) && !missing.contains('\n'), "{missing}");
    }
}

#[test]
fn only_a_daemon_can_start_an_engine() {
    let output = Command::new(env!("CARGO_BIN_EXE_gpusched-engine-cuda"))
        .arg("engine")
        .stdin(std::process::Stdio::null())
        .output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("gpusched-engine-cuda: "), "{output:?}");
}
