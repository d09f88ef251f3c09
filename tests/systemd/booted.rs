//! The installed package in a systemd that has booted.

use serde_json::Value;

use crate::machine::Machine;
use crate::until;

/// Submits a job that takes until it is cancelled, detached, as somebody in the machine.
const SUBMIT_LONG: &str = "gpuctl submit txt2img 'a blue square' --steps 500 --size 128 --seed 3 --detach";

/// All jobs there are and were, newest first.
fn jobs(machine: &Machine) -> Vec<Value> {
    serde_json::from_str(&machine.sh("gpuctl jobs --all --json")).expect("JSON")
}

#[test]
fn a_client_starts_it_and_systemd_says_how_it_does() {
    let Some(machine) = Machine::boot() else { return };
    machine
        .sh("useradd --create-home --groups gpusched ann; useradd --create-home ben; systemctl start gpusched.socket");
    assert_eq!(machine.service("ActiveState"), "inactive");
    assert_eq!(machine.sh("stat -c '%a %U %G' /run/gpusched/gpusched.sock").trim(), "660 root gpusched");
    assert!(!machine.is_so("runuser -u ben -- gpuctl status"), "who is not of its group may not connect");

    machine.sh(&format!("cd /home/ann; runuser -u ann -- {SUBMIT_LONG}"));
    assert_eq!(machine.service("ActiveState"), "active");
    machine.until("systemctl status gpusched.service | grep -q 'Status: \"1 running, 0 queued, heavy [1-9]'");
    let status = machine.sh("systemctl status gpusched.service");
    assert!(status.contains("TriggeredBy: ") && status.contains("gpusched.socket"), "{status}");
    assert_eq!(machine.service("User"), "gpusched");

    // Whose it is was seen through the socket, though the service has namespaces of its own.
    let ann: u32 = machine.sh("id -u ann").trim().parse().expect("a number");
    let uids: Vec<_> = jobs(&machine).iter().map(|job| job["uid"].clone()).collect();
    assert_eq!(uids, [ann]);
    machine.sh("cd /home/ann; runuser -u ann -- gpuctl cancel 1");
    machine.sh("cd /home/ann; runuser -u ann -- gpuctl submit txt2img 'a red circle' --steps 2 --size 64 -o made.png; test -s made.png");
    // So are its metrics, of a socket of the daemon's own.
    let page = "curl --silent --fail --unix-socket /run/gpusched/metrics.sock http://gpusched/metrics";
    machine.until(&format!("{page} | grep -q '^gpusched_build_info'"));
    // Its story is in the journal, under its number.
    let done = "journalctl JOB_ID=2 --output=json | grep '\"OUTCOME\":\"done\"'";
    machine.until(&format!("{done} | grep -q '\"CLIENT_UID\":\"{ann}\"'"));

    machine.sh("systemctl stop gpusched.service");
    assert_eq!((machine.service("ActiveState"), machine.service("Result")), ("inactive".into(), "success".into()));
    machine.sh("test -S /run/gpusched/gpusched.sock; gpuctl jobs --all; systemctl is-active gpusched.service");
    machine.sh("systemctl stop gpusched.socket gpusched.service; test ! -e /run/gpusched/gpusched.sock");
    assert!(machine.journal().contains("stopped"), "{}", machine.journal());
    assert!(machine.is_so("test -z \"$(systemctl --failed --no-legend 'gpusched*')\""));
    // It is confined as it says, the engine too, with what the unit lets it do.
    assert!(!machine.journal().contains("not confined as it should be"), "{}", machine.journal());
}

#[test]
fn killed_it_is_back_with_its_jobs() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("systemctl enable --now gpusched.service");
    machine.sh(SUBMIT_LONG);
    for _ in 0..2 {
        machine.sh("gpuctl submit txt2img 'a red circle' --steps 2 --size 64 --detach");
    }
    machine.until("systemctl status gpusched.service | grep -q 'Status: \"1 running, 2 queued'");
    let before = machine.service("MainPID");
    // A client that connects while there is no daemon waits for the next one.
    machine.sh("systemctl kill --kill-whom=main --signal=KILL gpusched.service; gpuctl status");
    machine.until("test $(systemctl show --value --property=NRestarts gpusched.service) -ge 1");
    machine.until("systemctl is-active gpusched.service");
    assert_ne!(machine.service("MainPID"), before);
    assert_eq!(jobs(&machine).len(), 3);
    machine.sh("gpuctl cancel 1");
    let done = |job: &Value| job["state"]["done"]["image"].is_object();
    until("the others are done", || jobs(&machine).iter().filter(|job| done(job)).count() == 2);
    machine.sh("systemctl stop gpusched.socket gpusched.service");
}

#[test]
fn a_reload_takes_what_is_safe_and_complains_of_nonsense() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("systemctl start gpusched.service");
    let pid = machine.service("MainPID");
    machine.sh("sed -i 's/^queued_per_uid = .*/queued_per_uid = 7/; s/^policy = .*/policy = \"fifo\"/' /etc/gpusched/gpusched.toml");
    machine.sh("systemctl reload gpusched.service");
    machine.until("journalctl -u gpusched.service | grep -q 'applied: limits.queued_per_uid'");
    machine.until("journalctl -u gpusched.service | grep -q 'only when the daemon is started again: policy'");
    machine.until("systemctl is-active gpusched.service");
    machine.sh("echo 'nonsense = 1' | cat - /etc/gpusched/gpusched.toml >/tmp/toml; cat /tmp/toml >/etc/gpusched/gpusched.toml");
    machine.sh("systemctl reload gpusched.service");
    machine
        .until("systemctl status gpusched.service | grep -q 'Status: .*the configuration was not taken: .*nonsense'");
    machine.sh("sed -i '/^nonsense/d' /etc/gpusched/gpusched.toml; systemctl reload gpusched.service");
    machine
        .until("systemctl status gpusched.service | grep -q 'Status: \"0 running, 0 queued, heavy 0 %, light 0 %\"'");
    assert_eq!(machine.service("MainPID"), pid, "it is the same daemon all the while");
    machine.sh("gpuctl status");
}

#[test]
fn a_daemon_that_does_not_get_on_is_started_again() {
    let Some(machine) = Machine::boot() else { return };
    // As it is shipped: less, and a machine under load has it killed before the test does.
    machine.drop_in("");
    machine.sh("systemctl start gpusched.service");
    machine.sh("systemctl kill --kill-whom=main --signal=STOP gpusched.service");
    machine.until("journalctl -u gpusched.service | grep -q 'Watchdog timeout'");
    machine.until("test $(systemctl show --value --property=NRestarts gpusched.service) -ge 1");
    machine.drop_in("[Service]\nWatchdogSec=120s\n");
    machine.sh("systemctl reset-failed 'gpusched*'; systemctl restart gpusched.service; gpuctl status");
}

#[test]
fn sockets_for_metrics_come_up_before_the_daemon() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("systemctl enable --now gpusched.service");
    // What its unit's comment says: alone it is refused, for systemd hands over sockets when it starts the service.
    assert!(!machine.is_so("systemctl start gpusched-metrics.socket"));
    machine.sh("systemctl enable gpusched-metrics.socket; systemctl restart gpusched.service");
    machine.sh("systemctl is-active gpusched-metrics.socket gpusched.socket gpusched.service; test -S /run/gpusched/metrics.sock");
    let page = "curl --silent --fail --unix-socket /run/gpusched/metrics.sock http://gpusched/metrics";
    machine.until(&format!("{page} | grep -q '^gpusched_build_info'"));
    machine.sh("gpuctl status");
}

#[test]
fn without_its_socket_unit_the_service_keeps_its_socket_over_a_crash() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("systemctl mask gpusched.socket");
    machine.sh("systemctl start gpusched.service; gpuctl status");
    machine.until("test $(systemctl show --value --property=NFileDescriptorStore gpusched.service) = 1");
    machine.sh("systemctl kill --kill-whom=main --signal=KILL gpusched.service; gpuctl status");
    machine.until("test $(systemctl show --value --property=NRestarts gpusched.service) = 1");
    machine.sh("systemctl stop gpusched.service; test ! -e /run/gpusched/gpusched.sock");
}
