//! Modules and the kernels in them, which are names.

use std::collections::BTreeMap;

/// A module that is loaded.
#[derive(Debug)]
pub(crate) struct Module {
    /// Where on the device its code is.
    pub(crate) code: u64,
    /// The handles of those of its kernels that were asked for.
    pub(crate) functions: BTreeMap<String, usize>,
}
