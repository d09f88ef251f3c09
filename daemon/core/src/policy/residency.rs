//! Which idle models leave memory when room is needed: those used longest ago.

use crate::catalog::ModelId;
use crate::time::Time;

/// A model in memory that no job uses and that is not pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// The model.
    pub model: ModelId,
    /// Its bytes.
    pub bytes: u64,
    /// When a job last used it.
    pub used: Time,
}

/// The models to drop so that `short_bytes` more are free, least recently used first; `None` if all together are not
/// enough, in which case nothing should be dropped.
pub fn victims(mut idle: Vec<Idle>, short_bytes: u64) -> Option<Vec<ModelId>> {
    idle.sort_by_key(|idle| (idle.used, idle.model));
    let mut freed = 0_u64;
    let mut victims = Vec::new();
    for Idle { model, bytes, .. } in idle {
        if freed >= short_bytes {
            break;
        }
        freed = freed.saturating_add(bytes);
        victims.push(model);
    }
    (freed >= short_bytes).then_some(victims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_first_and_no_more_than_needed() {
        let idle = |model, bytes, used| Idle { model: ModelId(model), bytes, used: Time(used) };
        let all = vec![idle(0, 10, 5), idle(1, 10, 3), idle(2, 10, 4)];
        let victims =
            |short| victims(all.clone(), short).map(|victims| victims.iter().map(|id| id.0).collect::<Vec<_>>());
        assert_eq!(victims(0), Some(vec![]));
        assert_eq!(victims(10), Some(vec![1]));
        assert_eq!(victims(11), Some(vec![1, 2]));
        assert_eq!(victims(30), Some(vec![1, 2, 0]));
        assert_eq!(victims(31), None);
    }
}
