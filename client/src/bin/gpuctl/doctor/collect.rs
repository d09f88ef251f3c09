//! Looks at the machine, and judges nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use gpusched_client::shared::{SOCKET_ENV, SYSTEM_SOCKET};
use gpusched_client::{Client, Error, Rejection, default_socket};
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgroups};
use tokio::process::Command;
use tokio::time::timeout;

use super::facts::{
    Caller, ConfigFile, Daemon, Disk, Facts, ModelDirectory, Named, NamedBy, Program, Socket, SocketFile, Systemd, Unit,
};
use crate::cli::Global;
use crate::handover;
use crate::render::now_unix_ms;

/// How long anything that is asked may take to answer: the daemon, systemd, gpuschedd.
const PATIENCE: Duration = Duration::from_secs(20);
/// Exists where systemd is the system's first process.
const SYSTEMD: &str = "/run/systemd/system";
/// The configuration of the system's daemon.
const SYSTEM_CONFIG: &str = "/etc/gpusched/gpusched.toml";
/// Where a package puts the models that are shipped.
const PACKAGED_MODELS: &str = "/usr/share/gpusched/models";
/// The most entries of a directory that are looked at.
const MOST_ENTRIES: usize = 4096;

/// Everything.
pub(super) async fn facts(global: &Global) -> Facts {
    let socket = socket(global);
    let config = config(&socket.path).await;
    Facts {
        caller: caller(&socket.file),
        daemon: daemon(&socket.path).await,
        systemd: systemd().await,
        program: program().await,
        disk: disk(&config, &socket.path),
        models: model_directories(&config, &socket.path),
        gpus: gpus(),
        has_cuda_engine: has_cuda_engine(&handover::program()),
        unix_s: now_unix_ms() / 1000,
        config: config.file,
        socket,
    }
}

fn socket(global: &Global) -> Socket {
    let (path, named_by) = match &global.socket {
        Some(path) => (path.clone(), NamedBy::Option),
        None if std::env::var_os(SOCKET_ENV).is_some_and(|value| !value.is_empty()) => {
            (default_socket(), NamedBy::Variable)
        }
        None => (default_socket(), NamedBy::Default),
    };
    let file = match fs::metadata(&path) {
        Ok(data) if data.file_type().is_socket() => SocketFile::There {
            mode: data.mode() & 0o7777,
            owner: Named { id: data.uid(), name: user_name(data.uid()) },
            group: Named { id: data.gid(), name: group_name(data.gid()) },
        },
        Ok(_) => SocketFile::Other,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => SocketFile::Hidden,
        Err(_) => SocketFile::Missing,
    };
    Socket { path, named_by, file }
}

fn user(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}

fn user_name(uid: u32) -> String {
    user(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

fn group(gid: u32) -> Option<Group> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten()
}

fn group_name(gid: u32) -> String {
    group(gid).map_or_else(|| gid.to_string(), |group| group.name)
}

fn caller(socket: &SocketFile) -> Caller {
    let uid = geteuid().as_raw();
    let own = user(uid);
    let listed_in_group = match (socket, &own) {
        (SocketFile::There { group: of, .. }, Some(own)) => {
            own.gid.as_raw() == of.id || group(of.id).is_some_and(|group| group.mem.contains(&own.name))
        }
        _ => false,
    };
    let mut gids: Vec<_> = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
    gids.push(getegid().as_raw());
    Caller { uid, name: user_name(uid), gids, listed_in_group }
}

async fn daemon(path: &Path) -> Daemon {
    let asked = timeout(PATIENCE, async {
        let client = Client::connect(path).await?;
        let status = client.status().await?;
        Ok((client.server().to_owned(), status))
    });
    match asked.await {
        Err(_) => Daemon::Silent { after_s: PATIENCE.as_secs() },
        Ok(Ok((server, status))) => Daemon::Up { server, status: Box::new(status) },
        Ok(Err(Error::NotRunning { .. })) => Daemon::Absent,
        Ok(Err(Error::PermissionDenied { .. })) => Daemon::Denied,
        Ok(Err(Error::Rejected(Rejection::Version { least, most }))) => Daemon::Incompatible { least, most },
        Ok(Err(other)) => Daemon::Failed(other.to_string()),
    }
}

/// Runs a program to its end, if that comes soon.
async fn output(program: &Path, args: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    // The daemon's configuration is to say where it listens, not this environment.
    command.args(args).env_remove(SOCKET_ENV).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.ok()?.ok()
}

async fn systemd() -> Option<Systemd> {
    if !Path::new(SYSTEMD).is_dir() {
        return None;
    }
    Some(Systemd { service: unit("gpusched.service").await, socket: unit("gpusched.socket").await })
}

async fn unit(name: &str) -> Unit {
    const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts";
    let shown = output(Path::new("systemctl"), &["show", name, PROPERTIES]).await;
    shown.map(|shown| properties(&String::from_utf8_lossy(&shown.stdout))).unwrap_or_default()
}

/// What `systemctl show` prints.
fn properties(text: &str) -> Unit {
    let value = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().trim().to_owned()
    };
    Unit {
        load: value("LoadState"),
        active: value("ActiveState"),
        sub: value("SubState"),
        file: value("UnitFileState"),
        result: value("Result"),
        restarts: value("NRestarts").parse().unwrap_or(0),
    }
}

async fn program() -> Option<Program> {
    let path = handover::program();
    match output(&path, &["--version"]).await {
        Some(said) if said.status.success() => {
            let text = String::from_utf8_lossy(&said.stdout);
            let version = text.split_whitespace().last().unwrap_or_default().to_owned();
            Some(Program { path, version })
        }
        // A bare name is what to seek on the PATH, where there was none.
        _ if path.is_absolute() => Some(Program { path, version: String::new() }),
        _ => None,
    }
}

/// The configuration, with the directories of models that it names.
struct Config {
    file: ConfigFile,
    models: Vec<PathBuf>,
}

async fn config(socket: &Path) -> Config {
    let system = Path::new(SYSTEM_CONFIG);
    let wanted = (geteuid().is_root() || socket == Path::new(SYSTEM_SOCKET)) && system.exists();
    let path = wanted.then(|| system.to_owned());
    let without_models = |file| Config { file, models: Vec::new() };
    if let Some(path) = &path
        && fs::File::open(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    {
        return without_models(ConfigFile::Unreadable(path.clone()));
    }
    let args = if path.is_some() { &["--check-config", "--config", SYSTEM_CONFIG][..] } else { &["--check-config"] };
    let Some(said) = output(&handover::program(), args).await else { return without_models(ConfigFile::Unasked) };
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr).trim().trim_start_matches("gpuschedd: ").to_owned();
        return without_models(ConfigFile::Invalid { path, why });
    }
    effective(path.clone(), &String::from_utf8_lossy(&said.stdout)).unwrap_or_else(|| {
        let why = "gpuschedd prints it in a way that this gpuctl does not understand".to_owned();
        without_models(ConfigFile::Invalid { path, why })
    })
}

/// What `gpuschedd --check-config` prints.
fn effective(path: Option<PathBuf>, text: &str) -> Option<Config> {
    let table: toml::Table = text.parse().ok()?;
    let at = |key: &str| table.get(key)?.as_str().map(PathBuf::from);
    let low_water = table.get("storage").and_then(|storage| storage.get("low_water")).and_then(toml::Value::as_str);
    let low_water_bytes = low_water.and_then(|text| text.parse().ok()).map(|bytes: bytesize::ByteSize| bytes.as_u64());
    let models = table.get("models").and_then(toml::Value::as_array).into_iter().flatten();
    let models = models.filter_map(toml::Value::as_str).map(PathBuf::from).collect();
    let file = ConfigFile::Valid { path, socket: at("socket")?, state_dir: at("state_dir")?, low_water_bytes };
    Some(Config { file, models })
}

/// The file system of the state directory, if the configuration is that of the daemon asked about.
fn disk(config: &Config, socket: &Path) -> Option<Disk> {
    let ConfigFile::Valid { socket: own, state_dir, .. } = &config.file else { return None };
    if own != socket {
        return None;
    }
    let free = nix::sys::statvfs::statvfs(state_dir).ok()?;
    let free_bytes = free.blocks_available().saturating_mul(free.fragment_size());
    Some(Disk { path: state_dir.clone(), free_bytes })
}

fn model_directories(config: &Config, socket: &Path) -> Vec<ModelDirectory> {
    let applies = matches!(&config.file, ConfigFile::Valid { socket: own, .. } if own == socket);
    let configured = config.models.iter().filter(|_| applies).cloned();
    let shipped = [PathBuf::from(PACKAGED_MODELS)].into_iter().chain(in_sources()).filter(|path| path.is_dir());
    let mut directories: Vec<ModelDirectory> = Vec::new();
    for path in configured.chain(shipped) {
        if directories.iter().all(|known| known.path != path) {
            directories.push(ModelDirectory { models: models_in(&path), path });
        }
    }
    directories
}

/// The models of the sources that this program was built in and still lies in.
fn in_sources() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().skip(1).take(4).map(|above| above.join("models/weights")).find(|path| path.is_dir())
}

fn models_in(path: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(path).ok()?.take(MOST_ENTRIES).filter_map(Result::ok);
    let is_model = |path: &Path| ["model_index.json", "config.json"].iter().any(|name| path.join(name).is_file());
    let models = entries.filter(|entry| is_model(&entry.path()));
    let mut names: Vec<_> = models.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Some(names)
}

/// Beside the daemon's program or in libexec, as it looks itself.
fn has_cuda_engine(gpuschedd: &Path) -> bool {
    let beside = gpuschedd.parent();
    let libexec = beside.and_then(Path::parent).map(|prefix| prefix.join("libexec/gpusched"));
    let places = [beside.map(Path::to_owned), libexec];
    places.into_iter().flatten().any(|place| place.join("gpusched-engine-cuda").is_file())
}

fn gpus() -> Vec<PathBuf> {
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = fs::read_dir("/dev").into_iter().flatten().take(MOST_ENTRIES).filter_map(Result::ok);
    let mut nodes: Vec<_> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_gpu)).map(|entry| entry.path()).collect();
    nodes.sort();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_systemctl_prints_them() {
        let text = "Result=exit-code\nNRestarts=3\nLoadState=loaded\nActiveState=failed\nSubState=failed\n\
                    UnitFileState=enabled\n";
        let expected = Unit {
            load: "loaded".to_owned(),
            active: "failed".to_owned(),
            sub: "failed".to_owned(),
            file: "enabled".to_owned(),
            result: "exit-code".to_owned(),
            restarts: 3,
        };
        assert_eq!(properties(text), expected);
        assert_eq!(properties("Failed to connect to bus"), Unit::default());
    }

    #[test]
    fn configurations_are_read_as_gpuschedd_prints_them() {
        let text =
            "socket = \"/s\"\nstate_dir = \"/d\"\nmodels = [\"/m\", \"/n\"]\n[storage]\nlow_water = \"256.0 MiB\"\n";
        let config = effective(None, text).expect("a configuration");
        assert_eq!(config.models, [PathBuf::from("/m"), PathBuf::from("/n")]);
        let ConfigFile::Valid { path: None, socket, state_dir, low_water_bytes } = config.file else {
            panic!("not valid")
        };
        assert_eq!((socket, state_dir, low_water_bytes), ("/s".into(), "/d".into(), Some(256 << 20)));
        assert!(effective(None, "socket = 1").is_none());
    }

    #[test]
    fn models_are_known_by_their_files() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, file) in [("flux", "model_index.json"), ("vilt", "config.json"), ("notes", "README.md")] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
            fs::write(directory.path().join(name).join(file), "{}").expect("written");
        }
        assert_eq!(models_in(directory.path()), Some(vec!["flux".to_owned(), "vilt".to_owned()]));
        assert_eq!(models_in(&directory.path().join("missing")), None);
    }
}
