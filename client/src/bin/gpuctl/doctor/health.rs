//! Is the daemon well? Its program, configuration and unit, and what it needs of the machine.

use gpusched_client::shared::{Bytes, StorageView};

use super::facts::{ConfigFile, Daemon, Facts, Unit};
use super::finding::Finding;

/// The first moment of 2026, before which there was no gpusched, in seconds since the Unix epoch.
const EARLIEST_S: u64 = 1_767_225_600;

/// Are client, installed daemon and running daemon of one version?
pub(super) fn versions(facts: &Facts) -> Finding {
    const CHECK: &str = "versions";
    let client = env!("CARGO_PKG_VERSION");
    let running = match &facts.daemon {
        Daemon::Up { status, .. } => Some(status.version.as_str()),
        Daemon::Absent | Daemon::Denied | Daemon::Silent { .. } | Daemon::Incompatible { .. } | Daemon::Failed(_) => {
            None
        }
    };
    let said = running.map_or_else(|| "unknown".to_owned(), str::to_owned);
    let Some(program) = &facts.program else {
        let seen = format!("gpuctl {client}, running daemon {said}; no gpuschedd beside gpuctl or on the PATH");
        return match running {
            Some(version) if version == client => Finding::ok(CHECK, seen),
            Some(_) => Finding::warning(CHECK, seen, "install gpuctl of the daemon's version"),
            None => Finding::warning(CHECK, seen, "install gpuschedd (`cargo build --release --bins` builds both)"),
        };
    };
    let path = program.path.display();
    if program.version.is_empty() {
        return Finding::failure(CHECK, format!("{path} does not run"), format!("see what `{path} --version` says"));
    }
    let seen = format!("gpuctl {client}, {path} {}, running daemon {said}", program.version);
    match running {
        Some(version) if version != program.version => Finding::warning(
            CHECK,
            format!("{seen}: not what is installed"),
            "`systemctl restart gpusched`; jobs that wait go on afterwards",
        ),
        Some(_) | None if program.version != client => {
            Finding::warning(CHECK, seen, "install gpuctl and gpuschedd of one version")
        }
        Some(_) | None => Finding::ok(CHECK, seen),
    }
}

/// Is the configuration valid?
pub(super) fn config(facts: &Facts) -> Finding {
    const CHECK: &str = "config";
    let name = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map_or_else(|| "no file, the defaults".to_owned(), |path| path.display().to_string())
    };
    match &facts.config {
        ConfigFile::Unasked => Finding::skipped(CHECK, "no gpuschedd to ask"),
        ConfigFile::Unreadable(path) => Finding::skipped(
            CHECK,
            format!("{} may not read {}; `sudo gpuctl doctor` can", facts.caller.name, path.display()),
        ),
        ConfigFile::Valid { path, socket, .. } if *socket == facts.socket.path => {
            Finding::ok(CHECK, format!("{}: valid", name(path)))
        }
        ConfigFile::Valid { path, socket, .. } => Finding::ok(
            CHECK,
            format!("{}: valid; of another daemon, which listens at {}", name(path), socket.display()),
        ),
        ConfigFile::Invalid { path, why } => Finding::failure(
            CHECK,
            format!("{}: {why}", name(path)),
            "correct it; `gpuschedd --check-config` says when it is right",
        ),
    }
}

/// Does systemd keep the daemon?
pub(super) fn unit(facts: &Facts) -> Finding {
    const CHECK: &str = "unit";
    let Some(systemd) = &facts.systemd else {
        return Finding::skipped(CHECK, "systemd does not run here");
    };
    let (service, socket) = (&systemd.service, &systemd.socket);
    let state = |unit: &Unit| format!("{} ({})", unit.active, unit.sub);
    let enabled = |unit: &Unit| unit.file.starts_with("enabled");
    match service.load.as_str() {
        "loaded" => {}
        "" => return Finding::skipped(CHECK, "systemd does not answer"),
        "not-found" => {
            let remedy = "install the units, then `systemctl enable --now gpusched.service`";
            return match &facts.daemon {
                // Somebody started it by hand, and is served.
                Daemon::Up { .. } => Finding::ok(CHECK, "no unit gpusched.service; the daemon was started by hand"),
                Daemon::Absent
                | Daemon::Denied
                | Daemon::Silent { .. }
                | Daemon::Incompatible { .. }
                | Daemon::Failed(_) => Finding::warning(CHECK, "there is no unit gpusched.service", remedy),
            };
        }
        other => {
            let remedy = "`systemd-analyze verify gpusched.service` names the line";
            return Finding::failure(CHECK, format!("systemd cannot use gpusched.service: {other}"), remedy);
        }
    }
    for (name, unit) in [("gpusched.service", service), ("gpusched.socket", socket)] {
        if unit.active == "failed" {
            return Finding::failure(
                CHECK,
                format!("{name} failed: {}", unit.result),
                format!("`journalctl -u {name} -b -n 50` says why; then `systemctl reset-failed {name}` and start it"),
            );
        }
    }
    let seen = format!("gpusched.service {}, gpusched.socket {}", state(service), state(socket));
    if service.active != "active" && socket.active != "active" {
        return Finding::warning(CHECK, seen, "`systemctl enable --now gpusched.service`");
    }
    if !enabled(service) {
        let seen = match enabled(socket) {
            true => format!("{seen}: after a start of the machine, jobs that wait go on only when a client comes"),
            false => format!("{seen}: neither starts with the machine"),
        };
        return Finding::warning(CHECK, seen, "`systemctl enable gpusched.service`");
    }
    match service.restarts {
        0 => Finding::ok(CHECK, seen),
        n => Finding::warning(
            CHECK,
            format!("{seen}; systemd has started it again {n} times"),
            "`journalctl -u gpusched -p warning` says why it ended",
        ),
    }
}

/// Does the engine run?
pub(super) fn engine(facts: &Facts) -> Finding {
    const CHECK: &str = "engine";
    let Daemon::Up { status, .. } = &facts.daemon else {
        return Finding::skipped(CHECK, "the daemon does not say");
    };
    let engine = &status.engine;
    let deaths = engine.deaths;
    let remedy = "`journalctl -u gpusched -p warning` says why it died";
    match (engine.up, engine.pid) {
        (false, _) => Finding::failure(CHECK, format!("down, is being started again; has died {deaths} times"), remedy),
        (true, _) if deaths > 0 => Finding::warning(
            CHECK,
            format!("up, but has died {deaths} times since the daemon started"),
            format!("{remedy}; `gpuctl jobs --history` shows which jobs it took along"),
        ),
        (true, Some(pid)) => Finding::ok(CHECK, format!("up, process {pid}")),
        (true, None) => Finding::ok(CHECK, "up, in the daemon's own process"),
    }
}

/// Does it compute on what there is?
pub(super) fn device(facts: &Facts) -> Finding {
    const CHECK: &str = "device";
    match facts.gpus.as_slice() {
        [] => Finding::ok(CHECK, "computes on the CPU; no NVIDIA device here"),
        gpus => {
            let names: Vec<_> = gpus.iter().map(|path| path.display().to_string()).collect();
            let names = names.join(", ");
            if facts.has_cuda_engine {
                return Finding::ok(CHECK, format!("has an engine for {names}; its log says what it computes on"));
            }
            Finding::warning(
                CHECK,
                format!("computes on the CPU, although there is {names}"),
                "build gpusched-engine-cuda (daemon/engine/cuda) and put it beside gpuschedd",
            )
        }
    }
}

/// Are there models to run?
pub(super) fn models(facts: &Facts) -> Finding {
    const CHECK: &str = "models";
    let found = |wanted: bool| {
        facts.models.iter().filter(move |dir| dir.models.as_ref().is_some_and(|m| m.is_empty() != wanted))
    };
    let places = || facts.models.iter().map(|dir| dir.path.display().to_string()).collect::<Vec<_>>().join(", ");
    let remedy = match found(true).next() {
        Some(dir) => {
            format!("name it: `models = [\"{}\"]` in gpusched.toml, or `gpuschedd serve --models`", dir.path.display())
        }
        None => {
            "put models in the Hugging Face layout into a directory that `models` in gpusched.toml names".to_owned()
        }
    };
    if let Daemon::Up { status, .. } = &facts.daemon {
        let served: Vec<_> = status.models.iter().map(|model| format!("{} ({})", model.name, model.kind)).collect();
        return match served.as_slice() {
            [] => {
                let there = found(true)
                    .next()
                    .map_or_else(String::new, |dir| format!(", though {} has some", dir.path.display()));
                Finding::failure(CHECK, format!("the daemon serves none{there}"), format!("{remedy}, then restart it"))
            }
            served => Finding::ok(CHECK, format!("serves {}", served.join(", "))),
        };
    }
    match found(true).next() {
        Some(dir) => {
            let names = dir.models.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            Finding::ok(CHECK, format!("{} has {names}", dir.path.display()))
        }
        None if facts.models.is_empty() => Finding::skipped(CHECK, "no directory of models is known"),
        None => Finding::warning(CHECK, format!("none seen in {}", places()), remedy),
    }
}

/// Is there room on the disk?
pub(super) fn disk(facts: &Facts) -> Finding {
    const CHECK: &str = "disk";
    let remedy = |place: &str| format!("make room {place}, or lower [storage] and [retention] in gpusched.toml");
    if let Daemon::Up { status, .. } = &facts.daemon {
        let StorageView { blob_bytes, blob_quota_bytes, free_bytes, low_water_bytes, .. } = status.storage;
        let (free, least) = (Bytes(free_bytes), Bytes(low_water_bytes));
        let seen = format!("{free} free (least {least}); files {} of {}", Bytes(blob_bytes), Bytes(blob_quota_bytes));
        return if free_bytes < low_water_bytes {
            Finding::failure(
                CHECK,
                format!("{seen}: new jobs are refused"),
                remedy("on the disk of the state directory"),
            )
        } else if free_bytes / 2 < low_water_bytes {
            Finding::warning(CHECK, format!("{seen}: soon full"), remedy("on the disk of the state directory"))
        } else {
            Finding::ok(CHECK, seen)
        };
    }
    let Some(disk) = &facts.disk else {
        return Finding::skipped(
            CHECK,
            "the daemon does not say, and its state directory is not known or not readable",
        );
    };
    let least = match &facts.config {
        ConfigFile::Valid { low_water_bytes, .. } => low_water_bytes.unwrap_or(0),
        ConfigFile::Unasked | ConfigFile::Unreadable(_) | ConfigFile::Invalid { .. } => 0,
    };
    let place = disk.path.display();
    let seen = format!("{} free at {place} (least {})", Bytes(disk.free_bytes), Bytes(least));
    if disk.free_bytes < least {
        let remedy = remedy(&format!("at {place}"));
        return Finding::failure(CHECK, format!("{seen}: new jobs would be refused"), remedy);
    }
    Finding::ok(CHECK, seen)
}

/// Is the clock set? Ages of jobs are measured with it after a restart of the machine.
pub(super) fn clock(facts: &Facts) -> Finding {
    const CHECK: &str = "clock";
    let seen = crate::render::units::moment(facts.unix_s.saturating_mul(1000));
    if facts.unix_s < EARLIEST_S {
        return Finding::warning(CHECK, format!("{seen}: not set"), "`timedatectl set-ntp true`, or set it by hand");
    }
    Finding::ok(CHECK, seen)
}
