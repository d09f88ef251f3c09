//! Which idle models leave memory when room is needed: first those that no job under way is known to need yet, and of either kind
//! those used longest ago.

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
    /// Whether a job of several stages that is under way will need it.
    pub wanted: bool,
}

/// The models to drop so that `short_bytes` more are free, in the order in which they go; `None` if all together are not enough, in
/// which case nothing should be dropped.
pub fn victims(mut idle: Vec<Idle>, short_bytes: u64) -> Option<Vec<ModelId>> {
    idle.sort_by_key(|idle| (idle.wanted, idle.used, idle.model));
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
        let idle = |model, bytes, used| Idle { model: ModelId(model), bytes, used: Time(used), wanted: false };
        let all = vec![idle(0, 10, 5), idle(1, 10, 3), idle(2, 10, 4)];
        let victims =
            |short| victims(all.clone(), short).map(|victims| victims.iter().map(|id| id.0).collect::<Vec<_>>());
        assert_eq!(victims(0), Some(vec![]));
        assert_eq!(victims(10), Some(vec![1]));
        assert_eq!(victims(11), Some(vec![1, 2]));
        assert_eq!(victims(30), Some(vec![1, 2, 0]));
        assert_eq!(victims(31), None);

        let mut wanted = all.clone();
        wanted[1].wanted = true;
        let victims = super::victims(wanted.clone(), 20).unwrap_or_default();
        assert_eq!(victims, [ModelId(2), ModelId(0)], "what is wanted stays while anything else can go");
        assert_eq!(super::victims(wanted, 21).map(|victims| victims.len()), Some(3), "and no longer");
    }
}
