//! Can the caller reach the daemon? The socket, who may use it, and whether anybody answers.

use std::time::Duration;

use gpusched_client::shared::{SOCKET_ENV, VERSION_MAX, VERSION_MIN};

use super::facts::{Daemon, Facts, NamedBy, SocketFile};
use super::finding::Finding;
use crate::render::units::span;

/// The uid of nobody, whom the daemon refuses: it also stands for everyone whose uid the kernel cannot tell.
const NOBODY: u32 = 65_534;

/// How to get a daemon that listens there.
fn start(facts: &Facts) -> String {
    let loaded = |unit: &super::facts::Unit| unit.load == "loaded";
    let command = match &facts.systemd {
        Some(systemd) if loaded(&systemd.socket) => "`systemctl start gpusched.socket`",
        Some(systemd) if loaded(&systemd.service) => "`systemctl start gpusched`",
        Some(_) | None => "`gpuschedd serve`",
    };
    let otherwise = match facts.socket.named_by {
        NamedBy::Default => String::new(),
        NamedBy::Variable => format!(", or correct ${SOCKET_ENV}, which names this socket"),
        NamedBy::Option => ", or correct --socket, which names this one".to_owned(),
    };
    format!("start the daemon with {command}{otherwise}")
}

/// Is there a socket?
pub(super) fn socket(facts: &Facts) -> Finding {
    const CHECK: &str = "socket";
    let path = facts.socket.path.display();
    match &facts.socket.file {
        SocketFile::There { mode, owner, group } => {
            let seen = format!("{path}, {}:{}, mode {mode:04o}", owner.name, group.name);
            if mode & 0o002 == 0 {
                return Finding::ok(CHECK, seen);
            }
            let remedy =
                format!("if that is not meant: `chmod 0660 {path}`, and put those who may in group {}", group.name);
            Finding::warning(CHECK, format!("{seen}: everyone on this machine may hand in jobs"), remedy)
        }
        SocketFile::Missing => Finding::failure(CHECK, format!("there is no {path}"), start(facts)),
        SocketFile::Hidden => Finding::failure(
            CHECK,
            format!("{} may not look into the directory of {path}", facts.caller.name),
            format!("have its owner allow it: `chmod o+x` on the directories that lead to {path}"),
        ),
        SocketFile::Other => Finding::failure(
            CHECK,
            format!("{path} is not a socket"),
            format!("name the daemon's socket with --socket or ${SOCKET_ENV}"),
        ),
    }
}

/// May the caller use it?
pub(super) fn access(facts: &Facts) -> Finding {
    const CHECK: &str = "access";
    let caller = &facts.caller;
    let who = format!("{} (uid {})", caller.name, caller.uid);
    if caller.uid == NOBODY {
        let remedy = "run gpuctl as a user of its own (in a container: map the uid)";
        return Finding::failure(CHECK, format!("the daemon refuses {who}: it may be anyone"), remedy);
    }
    let SocketFile::There { mode, owner, group } = &facts.socket.file else {
        return Finding::skipped(CHECK, format!("{who}; no socket to have access to"));
    };
    // As the kernel has it: the first of owner, group and others that fits decides.
    let (allowed, as_what) = if caller.uid == 0 {
        (true, "root".to_owned())
    } else if caller.uid == owner.id {
        (mode & 0o200 != 0, "the owner of the socket".to_owned())
    } else if caller.gids.contains(&group.id) {
        (mode & 0o020 != 0, format!("a member of group {}", group.name))
    } else {
        (mode & 0o002 != 0, "anyone".to_owned())
    };
    let (gid, group) = (group.id, &group.name);
    if allowed {
        Finding::ok(CHECK, format!("{who} may connect, as {as_what}"))
    } else if as_what != "anyone" {
        let remedy = format!("`sudo chmod 0660 {}`", facts.socket.path.display());
        Finding::failure(CHECK, format!("{who} is {as_what}, but mode {mode:04o} does not let that connect"), remedy)
    } else if caller.listed_in_group {
        let seen = format!("{who} has joined group {group}, but after this session began");
        Finding::failure(CHECK, seen, format!("log out and in again, or run `newgrp {group}`"))
    } else if gid == 0 {
        // Nobody is to join that group for this.
        let remedy = format!(
            "start the daemon by its units, whose socket is group gpusched's, or `sudo chgrp gpusched {}`",
            facts.socket.path.display()
        );
        Finding::failure(CHECK, format!("the socket is {group}'s alone, and {who} is not {}", owner.name), remedy)
    } else {
        let remedy = format!("`sudo usermod -aG {group} {}`, then log out and in again", caller.name);
        Finding::failure(CHECK, format!("{who} is not in group {group}, which owns the socket"), remedy)
    }
}

/// Does anybody answer?
pub(super) fn daemon(facts: &Facts) -> Finding {
    const CHECK: &str = "daemon";
    const LOG: &str = "`journalctl -u gpusched -n 50` says why; `systemctl restart gpusched` starts it anew";
    let path = facts.socket.path.display();
    match &facts.daemon {
        Daemon::Up { server, status } => {
            let seen = format!("{server} answers, up {}", span(Duration::from_millis(status.uptime_ms)));
            let paused: Vec<_> = status.classes.iter().filter(|class| class.paused).collect();
            if status.draining {
                Finding::warning(CHECK, format!("{seen}; takes no new jobs, it is draining"), "`gpuctl drain --off`")
            } else if let [first, ..] = paused[..] {
                let names: Vec<_> = paused.iter().map(|class| class.name.as_str()).collect();
                let seen = format!("{seen}; starts no jobs of {}: paused", names.join(", "));
                Finding::warning(CHECK, seen, format!("`gpuctl resume {}`", first.name))
            } else {
                Finding::ok(CHECK, seen)
            }
        }
        Daemon::Absent => Finding::failure(CHECK, format!("nobody listens at {path}"), start(facts)),
        Daemon::Denied => Finding::failure(CHECK, "the system does not let you connect", "see `access` above"),
        Daemon::Silent { after_s } => {
            Finding::failure(CHECK, format!("somebody listens at {path}, but said nothing for {after_s} s"), LOG)
        }
        Daemon::Incompatible { least, most } => Finding::failure(
            CHECK,
            format!("the daemon speaks protocol {least} to {most}, this gpuctl {VERSION_MIN} to {VERSION_MAX}"),
            "install gpuctl and gpuschedd of one version, then `systemctl restart gpusched`",
        ),
        Daemon::Failed(why) => Finding::failure(CHECK, format!("asking the daemon failed: {why}"), LOG),
    }
}
