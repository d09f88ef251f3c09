//! gpuctl, started and awaited.

use std::process::{Child, Command, Output, Stdio};

use gpusched_client::JobId;
use gpusched_client::shared::{Request, Response};

use super::{Daemon, Peer};

pub fn start(daemon: &Daemon, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gpuctl"))
        .args(args)
        .arg("--socket")
        .arg(daemon.socket())
        .current_dir(daemon.directory())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gpuctl starts")
}

pub async fn end(child: Child) -> (i32, String, String) {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let Output { status, stdout, stderr } = output.await.expect("no panic").expect("gpuctl ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("not killed"), text(stdout), text(stderr))
}

/// Accepts the job that is submitted as number 7, and returns the id of the watch that follows.
pub async fn accept(peer: &mut Peer, attached: bool) -> u64 {
    let (id, request) = peer.request().await;
    assert!(matches!(request, Request::Submit { attached: a, .. } if a == attached), "{request:?}");
    peer.say(id, Response::Accepted(JobId(7))).await;
    peer.expect(Request::Watch(JobId(7))).await
}
