//! Service classes.

/// A service class: jobs that queue together for the same lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// How many of its jobs run at once.
    pub lanes: u32,
    /// How many may wait.
    pub queue_limit: u32,
}
