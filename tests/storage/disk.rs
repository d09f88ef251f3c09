//! A disk as it is and as it is on the medium, and what a crash can leave of it.
//!
//! When the process dies, everything that was written is there. When the power fails, a file holds what it held when it was
//! last synced, and of what was written since, any 512-byte sectors; a directory names what it named when it was last
//! synced, and any of what has been made, renamed or removed since.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::tape::Event;

const SECTOR: usize = 512;

/// What is left of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    Everything,
    Some,
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    now: Vec<u8>,
    since: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Directory,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    now: BTreeMap<PathBuf, Entry>,
    synced: BTreeMap<PathBuf, Entry>,
}

/// Directories and files, as after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Image {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Disk {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(path) => {
                self.now.insert(path.clone(), Entry::File(self.files.len()));
                self.files.push(File::default());
            }
            Event::MakeDirectory(path) => drop(self.now.insert(path.clone(), Entry::Directory)),
            Event::Write { path, offset, bytes } => {
                let file = self.file(path);
                put(&mut file.now, *offset, bytes);
                file.since.push(Pending::Write { offset: *offset, bytes: bytes.clone() });
            }
            Event::Resize { path, length } => {
                let file = self.file(path);
                file.now.resize(*length, 0);
                file.since.push(Pending::Resize(*length));
            }
            Event::Sync(path) => {
                let file = self.file(path);
                file.synced = file.now.clone();
                file.since.clear();
            }
            Event::SyncDirectory(path) => {
                let within = |name: &Path| name.parent() == Some(path.as_path());
                self.synced.retain(|name, _| !within(name));
                let named = self.now.iter().filter(|(name, _)| within(name));
                self.synced.extend(named.map(|(name, entry)| (name.clone(), *entry)));
            }
            Event::Rename { from, to } => {
                let entry = self.now.remove(from).expect("what is renamed is there");
                self.now.insert(to.clone(), entry);
            }
            // SQLite removes its logs without looking whether they are there.
            Event::Remove(path) => drop(self.now.remove(path)),
            Event::Promise(_) => {}
        }
    }

    fn file(&mut self, path: &Path) -> &mut File {
        match self.now.get(path) {
            Some(Entry::File(index)) => &mut self.files[*index],
            other => panic!("{} is {other:?}", path.display()),
        }
    }

    /// What is there after the process has died.
    pub(crate) fn after_death(&self) -> Image {
        let mut image = Image::default();
        for (path, entry) in &self.now {
            image.put(path, *entry, |index| self.files[index].now.clone());
        }
        image
    }

    /// What is there after the power has failed, with so much of what was not synced.
    pub(crate) fn after_power_failure(&self, content: Left, names: Left, rng: &mut Rng) -> Image {
        let mut image = Image::default();
        let all: BTreeSet<_> = self.now.keys().chain(self.synced.keys()).collect();
        for path in all {
            let (synced, now) = (self.synced.get(path), self.now.get(path));
            let entry = if keep(names, rng) { now } else { synced };
            if let Some(entry) = entry {
                image.put(path, *entry, |index| self.files[index].after_power_failure(content, rng));
            }
        }
        image
    }
}

fn keep(left: Left, rng: &mut Rng) -> bool {
    match left {
        Left::Nothing => false,
        Left::Everything => true,
        Left::Some => rng.bool(),
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl File {
    fn after_power_failure(&self, left: Left, rng: &mut Rng) -> Vec<u8> {
        let mut content = self.synced.clone();
        for pending in &self.since {
            match pending {
                Pending::Resize(length) => {
                    if keep(left, rng) {
                        content.resize(*length, 0);
                    }
                }
                Pending::Write { offset, bytes } => {
                    let (mut at, end) = (*offset, offset + bytes.len());
                    while at < end {
                        let next = ((at / SECTOR + 1) * SECTOR).min(end);
                        if keep(left, rng) {
                            put(&mut content, at, &bytes[at - offset..next - offset]);
                        }
                        at = next;
                    }
                }
            }
        }
        content
    }
}

impl Image {
    /// Directories come before what is in them; what is in one that is not there is not there either.
    fn put(&mut self, path: &Path, entry: Entry, content: impl FnOnce(usize) -> Vec<u8>) {
        let parent = path.parent().expect("relative");
        if parent != Path::new("") && !self.directories.contains(parent) {
            return;
        }
        match entry {
            Entry::Directory => drop(self.directories.insert(path.into())),
            Entry::File(index) => drop(self.files.insert(path.into(), content(index))),
        }
    }

    /// Makes it real below an empty directory.
    pub(crate) fn write_to(&self, root: &Path) {
        for directory in &self.directories {
            fs::create_dir(root.join(directory)).expect("made");
        }
        for (path, content) in &self.files {
            fs::write(root.join(path), content).expect("written");
        }
    }
}
