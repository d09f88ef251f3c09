//! Sockets that were there before the daemon.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use gpusched_client::blocking::Client;
use nix::sys::signal::Signal;

use crate::daemon::{Home, Running, quick};
use crate::listener::Manager;
use crate::{have, until};

#[test]
fn the_first_client_starts_it_and_the_socket_stays() {
    if !have(&["systemd-socket-activate"]) {
        return;
    }
    let home = Home::new("", "");
    let (metrics, gpuschedd) = (home.file("metrics.sock"), home.gpuschedd());
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--fdname=control:metrics:surplus", "-l"]).arg(home.socket()).arg("-l").arg(&metrics);
    command.arg("-l").arg(home.file("surplus.sock")).arg(gpuschedd.get_program()).args(gpuschedd.get_args());
    let daemon = Running::start(&home, command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()));
    until("there is a socket", || home.socket().exists());
    assert!(!home.file("state").exists(), "nobody has asked for it yet");

    let client = home.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    client.wait(job).expect("waited for");
    daemon.until_logged(", which systemd keeps");
    daemon.until_logged("handed over by systemd and not used: descriptor \"surplus\"");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    assert!(home.socket().exists(), "it is not the daemon's");
}

/// Hands a socket over, as systemd does: from descriptor 3 on, for the process that becomes the daemon.
fn hand_over(home: &Home, name: &str, socket: OwnedFd) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"", "sh"]);
    let gpuschedd = home.gpuschedd();
    command.arg(gpuschedd.get_program()).args(gpuschedd.get_args());
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).stdin(File::from(socket));
    command
}

#[test]
fn clients_of_a_daemon_that_crashes_wait_for_the_next() {
    let home = Home::new("", "");
    let manager = Manager::listen(home.file("notify"));
    let daemon = Running::start(&home, home.gpuschedd().env("NOTIFY_SOCKET", manager.path()));
    let mut stored = manager.until_said("FDSTORE=1");
    assert_eq!(stored.value("FDNAME"), Some("stored-control"));
    let socket = stored.descriptors.pop().expect("it came along");
    daemon.signal(Signal::SIGKILL);
    assert!(!daemon.ended().success());

    // There is no daemon, and still nobody is refused.
    let path = home.socket();
    let waits = std::thread::spawn(move || Client::connect(path)?.status());
    let mut command = hand_over(&home, "stored-control", socket);
    let daemon = Running::start(&home, command.env("NOTIFY_SOCKET", manager.path()));
    waits.join().expect("no panic").expect("answered");
    // Once it has handed the socket over in its turn, what removes it is said by its end.
    manager.until_said("FDSTORE=1");
    daemon.signal(Signal::SIGTERM);
    manager.until("to keep it no longer", |message| message.says("FDSTOREREMOVE=1") && !message.says("FDSTORE=1"));
    assert!(daemon.ended().success());
    assert!(!home.socket().exists(), "a daemon made it, and the last one removes it");
}

#[test]
fn a_stored_socket_that_nobody_finds_is_made_anew() {
    let home = Home::new("", "");
    let gone = std::os::unix::net::UnixListener::bind(home.socket()).expect("bound");
    std::fs::remove_file(home.socket()).expect("removed");
    let mut command = hand_over(&home, "stored-control", gone.into());
    let daemon = Running::start(&home, command.env_remove("NOTIFY_SOCKET"));
    daemon.until_logged("its file is gone; another is made");
    daemon.until_logged("listening on");
    home.client().status().expect("it is well");
}
