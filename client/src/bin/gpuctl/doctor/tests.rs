//! What is wrong, and what is said to help against it.

use gpusched_client::StatusView;
use gpusched_client::shared::{ClassView, EngineView, ModelView, PartitionView, StorageView, VERSION_MAX, VERSION_MIN};

use super::facts::{
    Caller, ConfigFile, Daemon, Disk, Facts, ModelDirectory, Named, NamedBy, Program, Socket, SocketFile, Systemd, Unit,
};
use super::finding::{Finding, Level};
use super::judge;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn named(id: u32, name: &str) -> Named {
    Named { id, name: name.to_owned() }
}

fn unit(active: &str, sub: &str, file: &str) -> Unit {
    Unit {
        load: "loaded".to_owned(),
        active: active.to_owned(),
        sub: sub.to_owned(),
        file: file.to_owned(),
        result: "success".to_owned(),
        restarts: 0,
    }
}

fn status() -> StatusView {
    StatusView {
        version: VERSION.to_owned(),
        uptime_ms: 7_500_000,
        draining: false,
        classes: vec![ClassView {
            name: "heavy".to_owned(),
            queued: 0,
            running: 0,
            backing_off: 0,
            finished: 0,
            out_of_memory: 0,
            paused: false,
            partition: PartitionView::default(),
        }],
        lanes: Vec::new(),
        models: vec![ModelView {
            name: "flux".to_owned(),
            kind: "flux2-klein".to_owned(),
            bytes: 1,
            resident: Vec::new(),
        }],
        preemption: Vec::new(),
        engine: EngineView { up: true, pid: Some(4711), deaths: 0 },
        storage: StorageView {
            journal_bytes: 0,
            blob_bytes: 120 << 20,
            blob_quota_bytes: 20 << 30,
            free_bytes: 90 << 30,
            low_water_bytes: 256 << 20,
        },
    }
}

/// A machine on which all is well, seen by a member of the group.
fn well() -> Facts {
    Facts {
        caller: Caller { uid: 1000, name: "alice".to_owned(), gids: vec![1000, 970], listed_in_group: true },
        socket: Socket {
            path: "/run/gpusched/gpusched.sock".into(),
            named_by: NamedBy::Default,
            file: SocketFile::There { mode: 0o660, owner: named(0, "root"), group: named(970, "gpusched") },
        },
        daemon: Daemon::Up { server: format!("gpuschedd {VERSION}"), status: Box::new(status()) },
        systemd: Some(Systemd {
            service: unit("active", "running", "enabled"),
            socket: unit("active", "running", "enabled"),
        }),
        program: Some(Program { path: "/usr/bin/gpuschedd".into(), version: VERSION.to_owned() }),
        config: ConfigFile::Valid {
            path: Some("/etc/gpusched/gpusched.toml".into()),
            socket: "/run/gpusched/gpusched.sock".into(),
            state_dir: "/var/lib/gpusched".into(),
            low_water_bytes: Some(256 << 20),
        },
        disk: None,
        models: vec![
            ModelDirectory { path: "/var/lib/gpusched/models".into(), models: None },
            ModelDirectory { path: "/usr/share/gpusched/models".into(), models: Some(vec!["flux".to_owned()]) },
        ],
        gpus: Vec::new(),
        has_cuda_engine: false,
        unix_s: 1_796_000_000,
    }
}

/// What a check says of a machine that is well but for one thing.
#[track_caller]
fn with(check: &str, change: impl FnOnce(&mut Facts)) -> (Level, String, String) {
    let mut facts = well();
    change(&mut facts);
    let found = judge(&facts).into_iter().find(|finding| finding.check == check);
    let Finding { level, seen, remedy, .. } = found.expect("there is such a check");
    assert_eq!(remedy.is_some(), level >= Level::Warning, "what is wrong has a remedy, and nothing else has: {seen}");
    (level, seen, remedy.unwrap_or_default())
}

fn status_of(facts: &mut Facts) -> &mut StatusView {
    let Daemon::Up { status, .. } = &mut facts.daemon else { panic!("a daemon that is not up has no status") };
    status
}

#[track_caller]
fn assert_says(found: (Level, String, String), level: Level, seen: &str, remedy: &str) {
    assert_eq!(found.0, level, "{found:?}");
    assert!(found.1.contains(seen), "{found:?}");
    assert!(found.2.contains(remedy), "{found:?}");
}

#[test]
fn where_all_is_well_there_is_nothing_to_do() {
    let findings = judge(&well());
    assert!(findings.iter().all(|finding| finding.level == Level::Ok && finding.remedy.is_none()), "{findings:?}");
    assert_eq!(findings.len(), 11);
}

#[test]
fn who_is_not_in_the_group_is_told_how_to_join() {
    let outside = |facts: &mut Facts| {
        facts.caller.gids = vec![1000];
        facts.caller.listed_in_group = false;
        facts.daemon = Daemon::Denied;
    };
    let remedy = "`sudo usermod -aG gpusched alice`, then log out and in again";
    assert_says(with("access", outside), Level::Failure, "alice (uid 1000) is not in group gpusched", remedy);
    assert_says(with("daemon", outside), Level::Failure, "does not let you connect", "`access`");
    assert_says(with("engine", outside), Level::Skipped, "does not say", "");
}

#[test]
fn nobody_is_told_to_join_root() {
    let by_hand = with("access", |facts| {
        facts.socket.file = SocketFile::There { mode: 0o660, owner: named(0, "root"), group: named(0, "root") };
        facts.caller.listed_in_group = false;
    });
    assert_says(by_hand, Level::Failure, "alice (uid 1000) is not root", "`sudo chgrp gpusched /run/gpusched/");
}

#[test]
fn who_has_just_joined_must_log_in_again() {
    let stale = with("access", |facts| facts.caller.gids = vec![1000]);
    assert_says(stale, Level::Failure, "after this session began", "newgrp gpusched");
}

#[test]
fn modes_count_as_the_kernel_counts_them() {
    fn there(facts: &mut Facts, with: u32) {
        let SocketFile::There { mode, .. } = &mut facts.socket.file else { panic!("no socket") };
        *mode = with;
    }
    let closed = with("access", |facts| there(facts, 0o600));
    assert_says(closed, Level::Failure, "a member of group gpusched, but mode 0600", "chmod 0660");
    let open = with("socket", |facts| there(facts, 0o666));
    assert_says(open, Level::Warning, "everyone on this machine", "`chmod 0660 /run/gpusched/gpusched.sock`");
    let own = with("access", |facts| {
        there(facts, 0o600);
        facts.caller.uid = 0;
    });
    assert_says(own, Level::Ok, "as root", "");
    let nobody = with("access", |facts| facts.caller.uid = 65_534);
    assert_says(nobody, Level::Failure, "refuses", "user of its own");
}

#[test]
fn a_daemon_that_is_not_there_is_started_as_it_is_installed() {
    let gone = |facts: &mut Facts| {
        facts.socket.file = SocketFile::Missing;
        facts.daemon = Daemon::Absent;
    };
    assert_says(with("socket", gone), Level::Failure, "there is no /run/gpusched", "`systemctl start gpusched.socket`");
    assert_says(with("daemon", gone), Level::Failure, "nobody listens", "`systemctl start gpusched.socket`");
    assert_says(with("access", gone), Level::Skipped, "no socket", "");
    let service_alone = with("daemon", |facts| {
        gone(facts);
        facts.systemd.as_mut().expect("systemd").socket = Unit { load: "not-found".to_owned(), ..Unit::default() };
    });
    assert_says(service_alone, Level::Failure, "", "`systemctl start gpusched`");
    let by_hand = with("daemon", |facts| {
        gone(facts);
        (facts.systemd, facts.socket.named_by) = (None, NamedBy::Variable);
    });
    assert_says(by_hand, Level::Failure, "", "`gpuschedd serve`, or correct $GPUSCHED_SOCKET");
    let named = with("socket", |facts| {
        gone(facts);
        facts.socket.named_by = NamedBy::Option;
    });
    assert_says(named, Level::Failure, "", "--socket");
}

#[test]
fn what_lies_in_the_socket_s_place_is_told() {
    let other = with("socket", |facts| facts.socket.file = SocketFile::Other);
    assert_says(other, Level::Failure, "is not a socket", "--socket or $GPUSCHED_SOCKET");
    let hidden = with("socket", |facts| facts.socket.file = SocketFile::Hidden);
    assert_says(hidden, Level::Failure, "may not look into", "chmod o+x");
}

#[test]
fn a_daemon_that_does_not_answer_is_told_from_one_that_does_not_understand() {
    let silent = with("daemon", |facts| facts.daemon = Daemon::Silent { after_s: 5 });
    assert_says(silent, Level::Failure, "said nothing for 5 s", "`journalctl -u gpusched -n 50`");
    let other = with("daemon", |facts| facts.daemon = Daemon::Incompatible { least: 1, most: 2 });
    let seen = format!("speaks protocol 1 to 2, this gpuctl {VERSION_MIN} to {VERSION_MAX}");
    assert_says(other, Level::Failure, &seen, "of one version");
    let failed = with("daemon", |facts| facts.daemon = Daemon::Failed("too many connections".to_owned()));
    assert_says(failed, Level::Failure, "too many connections", "journalctl");
    let draining = with("daemon", |facts| status_of(facts).draining = true);
    assert_says(draining, Level::Warning, "up 2 h 5 min; takes no new jobs", "`gpuctl drain --off`");
    let paused = with("daemon", |facts| status_of(facts).classes[0].paused = true);
    assert_says(paused, Level::Warning, "starts no jobs of heavy", "`gpuctl resume heavy`");
}

#[test]
fn units_are_judged() {
    let service = |change: fn(&mut Unit)| {
        with("unit", move |facts| change(&mut facts.systemd.as_mut().expect("systemd").service))
    };
    let failed = service(|unit| (unit.active, unit.result) = ("failed".to_owned(), "watchdog".to_owned()));
    assert_says(failed, Level::Failure, "failed: watchdog", "`journalctl -u gpusched.service -b -n 50`");
    let bad = service(|unit| unit.load = "bad-setting".to_owned());
    assert_says(bad, Level::Failure, "bad-setting", "systemd-analyze verify");
    let restarted = service(|unit| unit.restarts = 3);
    assert_says(restarted, Level::Warning, "started it again 3 times", "journalctl");
    let by_socket = service(|unit| unit.file = "disabled".to_owned());
    assert_says(by_socket, Level::Warning, "only when a client comes", "`systemctl enable gpusched.service`");
    let waiting = service(|unit| (unit.active, unit.sub) = ("inactive".to_owned(), "dead".to_owned()));
    assert_says(waiting, Level::Ok, "gpusched.service inactive (dead)", "");
    let missing = service(|unit| unit.load = "not-found".to_owned());
    assert_says(missing, Level::Ok, "by hand", "");
    assert_says(service(|unit| unit.load.clear()), Level::Skipped, "does not answer", "");
    assert_says(with("unit", |facts| facts.systemd = None), Level::Skipped, "systemd does not run here", "");

    let both = |active: &'static str, file: &'static str| {
        with("unit", move |facts| {
            let unit = unit(active, "x", file);
            facts.systemd = Some(Systemd { service: unit.clone(), socket: unit });
        })
    };
    assert_says(both("inactive", "enabled"), Level::Warning, "inactive", "`systemctl enable --now gpusched.service`");
    assert_says(both("active", "disabled"), Level::Warning, "neither starts", "`systemctl enable gpusched.service`");
    let uninstalled = with("unit", |facts| {
        facts.systemd = Some(Systemd {
            service: Unit { load: "not-found".to_owned(), ..Unit::default() },
            socket: Unit::default(),
        });
        facts.daemon = Daemon::Absent;
    });
    assert_says(uninstalled, Level::Warning, "there is no unit", "install the units");
}

#[test]
fn versions_are_compared() {
    let program = |facts: &mut Facts, version: &str| {
        facts.program = Some(Program { path: "/usr/bin/gpuschedd".into(), version: version.to_owned() });
    };
    let upgraded = with("versions", |facts| status_of(facts).version = "0.0.9".to_owned());
    assert_says(upgraded, Level::Warning, "running daemon 0.0.9: not what is installed", "systemctl restart gpusched");
    let mixed = with("versions", |facts| {
        program(facts, "9.9.9");
        facts.daemon = Daemon::Absent;
    });
    assert_says(mixed, Level::Warning, "9.9.9", "of one version");
    assert_says(with("versions", |facts| program(facts, "")), Level::Failure, "does not run", "--version");
    assert_says(with("versions", |facts| facts.program = None), Level::Ok, "no gpuschedd beside", "");
    let alone = with("versions", |facts| (facts.program, facts.daemon) = (None, Daemon::Absent));
    assert_says(alone, Level::Warning, "no gpuschedd beside", "install gpuschedd");
    let other = with("versions", |facts| {
        facts.program = None;
        status_of(facts).version = "9.9.9".to_owned();
    });
    assert_says(other, Level::Warning, "9.9.9", "install gpuctl of the daemon's version");
}

#[test]
fn the_configuration_is_told_by_name() {
    let path = || Some("/etc/gpusched/gpusched.toml".into());
    let wrong = with("config", |facts| {
        facts.config = ConfigFile::Invalid { path: path(), why: "unknown field `lane`".to_owned() };
    });
    assert_says(wrong, Level::Failure, "gpusched.toml: unknown field `lane`", "`gpuschedd --check-config`");
    let secret = with("config", |facts| facts.config = ConfigFile::Unreadable("/etc/x".into()));
    assert_says(secret, Level::Skipped, "alice may not read /etc/x; `sudo gpuctl doctor` can", "");
    assert_says(with("config", |facts| facts.config = ConfigFile::Unasked), Level::Skipped, "no gpuschedd", "");
    let other = with("config", |facts| facts.socket.path = "/tmp/x".into());
    assert_says(other, Level::Ok, "of another daemon, which listens at /run/gpusched/gpusched.sock", "");
}

#[test]
fn the_engine_and_its_device_are_told() {
    let down = with("engine", |facts| status_of(facts).engine = EngineView { up: false, pid: None, deaths: 4 });
    assert_says(down, Level::Failure, "has died 4 times", "journalctl");
    let dying = with("engine", |facts| status_of(facts).engine.deaths = 2);
    assert_says(dying, Level::Warning, "has died 2 times", "`gpuctl jobs --history`");
    let idle = with("device", |facts| facts.gpus = vec!["/dev/nvidia0".into()]);
    assert_says(idle, Level::Warning, "the CPU, although there is /dev/nvidia0", "gpusched-engine-cuda");
    let used = with("device", |facts| (facts.gpus, facts.has_cuda_engine) = (vec!["/dev/nvidia0".into()], true));
    assert_says(used, Level::Ok, "an engine for /dev/nvidia0", "");
}

#[test]
fn models_are_looked_for_where_they_may_be() {
    let unserved = with("models", |facts| status_of(facts).models.clear());
    let remedy = "`models = [\"/usr/share/gpusched/models\"]`";
    assert_says(unserved, Level::Failure, "serves none, though /usr/share/gpusched/models has some", remedy);
    let nowhere = with("models", |facts| {
        status_of(facts).models.clear();
        facts.models.pop();
    });
    assert_says(nowhere, Level::Failure, "serves none", "put models in the Hugging Face layout");
    let down =
        |models: Vec<ModelDirectory>| with("models", |facts| (facts.daemon, facts.models) = (Daemon::Absent, models));
    let directory = |models| ModelDirectory { path: "/m".into(), models };
    assert_says(down(vec![directory(Some(vec!["a".into(), "b".into()]))]), Level::Ok, "/m has a, b", "");
    assert_says(down(vec![directory(Some(Vec::new()))]), Level::Warning, "none seen in /m", "put models");
    assert_says(down(Vec::new()), Level::Skipped, "no directory", "");
}

#[test]
fn a_full_disk_is_told_by_the_daemon_and_without_it() {
    let free = |bytes: u64| with("disk", move |facts| status_of(facts).storage.free_bytes = bytes);
    assert_says(free(1 << 20), Level::Failure, "new jobs are refused", "make room on the disk");
    assert_says(free(300 << 20), Level::Warning, "soon full", "make room");
    let local = |free_bytes: u64| {
        with("disk", move |facts| {
            facts.daemon = Daemon::Absent;
            facts.disk = Some(Disk { path: "/var/lib/gpusched".into(), free_bytes });
        })
    };
    assert_says(local(1 << 20), Level::Failure, "1.0 MiB free at /var/lib/gpusched (least 256 MiB)", "make room at");
    assert_says(local(1 << 30), Level::Ok, "1.0 GiB free", "");
    assert_says(with("disk", |facts| facts.daemon = Daemon::Absent), Level::Skipped, "does not say", "");
}

#[test]
fn a_clock_that_was_never_set_is_noticed() {
    let unset = with("clock", |facts| facts.unix_s = 86_400);
    assert_says(unset, Level::Warning, "1970-01-02", "timedatectl");
}
