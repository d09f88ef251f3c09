//! A copy of a fixture, to be spoilt.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

#[path = "copying.rs"]
mod copying;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

/// A model in a directory of models, where it is the only one.
pub(crate) struct Model {
    pub(crate) models: TempDir,
}

impl Model {
    pub(crate) fn copy(fixture: &str) -> Self {
        let model = Self { models: tempfile::tempdir().unwrap() };
        copying::copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture), &model.dir());
        model
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.models.path().join("copy")
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    pub(crate) fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }

    /// Sets what stands at a pointer such as `/text_config/hidden_size`.
    pub(crate) fn set(&self, file: &str, pointer: &str, value: Value) {
        let mut config = self.json(file);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        fs::write(self.path(file), config.to_string()).unwrap();
    }
}
