//! What a running daemon takes of a configuration that has changed, and what it does not.
//!
//! Taken at once: `stop_timeout_s`, `[limits]` (of connections for those made from then on; but for `picture_readers`),
//! `[retry]`, `[retention]`, and as long as the classes are the same, their `queue`, `priority`, `flush`,
//! `min_share_percent`, `min_share_window_s`, `aging_s` and `batch_wait_s`, and all of `[[route]]`. Everything else is what
//! lanes, memory, the engine and the files are made of, and takes a restart.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{ClassConfig, Config, Limits};

/// What becomes of a configuration that was read anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// What the daemon works by from here on.
    pub config: Config,
    /// The keys whose new values are in it.
    pub applied: Vec<String>,
    /// The keys whose new values need a restart.
    pub restart: Vec<String>,
}

/// What a daemon that works by `running` takes of `read`. Both are valid.
pub fn reload(running: &Config, read: &Config) -> Reload {
    let taken = Config {
        stop_timeout_s: read.stop_timeout_s,
        limits: Limits { picture_readers: running.limits.picture_readers, ..read.limits.clone() },
        retry: read.retry.clone(),
        retention: read.retention.clone(),
        ..running.clone()
    };
    let names = |config: &Config| config.classes.iter().map(|class| class.name.clone()).collect::<Vec<_>>();
    let with_classes = (names(running) == names(read)).then(|| Config {
        classes: running.classes.iter().zip(&read.classes).map(|(old, new)| class(old, new)).collect(),
        routes: read.routes.clone(),
        ..taken.clone()
    });
    // What is valid with the rest of the new one need not be with the rest of the old: a gate's window, for one, is shorter
    // than the time after which the engine takes a parked lane for stuck.
    let valid = [with_classes, Some(taken)].into_iter().flatten().find(|config| config.check().is_ok());
    let config = valid.unwrap_or_else(|| running.clone());
    let (applied, restart) = (changed(running, &config), changed(&config, read));
    Reload { config, applied, restart }
}

/// A class with what it takes of another that has its name.
fn class(old: &ClassConfig, new: &ClassConfig) -> ClassConfig {
    ClassConfig {
        queue: new.queue,
        priority: new.priority,
        flush: new.flush,
        min_share_percent: new.min_share_percent,
        min_share_window_s: new.min_share_window_s,
        aging_s: new.aging_s,
        batch_wait_s: new.batch_wait_s,
        ..old.clone()
    }
}

/// The keys in which two differ, in the alphabet's order.
fn changed(one: &Config, other: &Config) -> Vec<String> {
    let (one, other) = (keys(one), keys(other));
    let all: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = all.into_iter().filter(|key| one.get(*key) != other.get(*key));
    // Of a class that is new or gone its name says enough.
    let class = |key: &str| key.starts_with("class.").then(|| key.rsplit_once('.').map(|(class, _)| class.to_owned()));
    let known = |keys: &BTreeMap<String, Value>, class: &str| keys.contains_key(&format!("{class}.lanes"));
    let names: BTreeSet<String> = differ
        .map(|key| match class(key).flatten() {
            Some(class) if !known(&one, &class) || !known(&other, &class) => class,
            Some(_) | None => key.clone(),
        })
        .collect();
    names.into_iter().collect()
}

/// Every key of the file and its value: `limits.connections`, `class.heavy.lanes`; all routes are one.
fn keys(config: &Config) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    // It is plain data, so this does not fail; if it did, nothing would be said to have changed.
    for (key, value) in Table::try_from(config).unwrap_or_default() {
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is, it is compared as it is")]
        match value {
            Value::Table(section) => {
                keys.extend(section.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            Value::Array(classes) if key == "class" => {
                for class in classes.into_iter().filter_map(|class| class.try_into::<Table>().ok()) {
                    let name = class.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                    keys.extend(class.into_iter().map(|(key, value)| (format!("class.{name}.{key}"), value)));
                }
            }
            value => drop(keys.insert(key, value)),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Durability, Policy, Size};

    /// What becomes of the default after this change.
    fn after(change: impl FnOnce(&mut Config)) -> Reload {
        let running = Config::default();
        let mut read = running.clone();
        change(&mut read);
        read.check().expect("valid");
        reload(&running, &read)
    }

    #[test]
    fn nothing_changed_is_nothing_done() {
        let same = after(|_| {});
        assert_eq!(same, Reload { config: Config::default(), applied: Vec::new(), restart: Vec::new() });
    }

    #[test]
    fn what_is_safe_is_taken_and_the_rest_named() {
        let Reload { config, applied, restart } = after(|config| {
            config.stop_timeout_s = 7;
            config.limits.queued_per_uid = 3;
            config.limits.picture_readers = 9;
            config.retry.budget = 1;
            config.retention.max_bytes = Size(5);
            config.storage.low_water = Size(1 << 30);
            config.policy = Policy::Fifo;
            config.classes[0].aging_s = 1;
            config.classes[0].lanes = 2;
            config.classes[1].durability = Durability::Power;
            config.routes.truncate(1);
        });
        let taken = [
            "class.heavy.aging_s",
            "limits.queued_per_uid",
            "retention.max_bytes",
            "retry.budget",
            "route",
            "stop_timeout_s",
        ];
        assert_eq!(applied, taken);
        let left =
            ["class.heavy.lanes", "class.light.durability", "limits.picture_readers", "policy", "storage.low_water"];
        assert_eq!(restart, left);
        assert_eq!((config.stop_timeout_s, config.limits.queued_per_uid, config.limits.picture_readers), (7, 3, 4));
        assert_eq!((config.classes[0].aging_s, config.classes[0].lanes, config.routes.len()), (1, 1, 1));
        assert_eq!((config.policy, config.storage.low_water), (Policy::MultiQueue, Size(256 << 20)));
        assert_eq!(reload(&config, &config).applied, [""; 0]);
    }

    #[test]
    fn another_set_of_classes_takes_a_restart_and_the_rest_does_not() {
        let Reload { config, applied, restart } = after(|config| {
            config.stop_timeout_s = 7;
            config.classes[0].name = "large".to_owned();
            config.classes[1].aging_s = 1;
            config.routes.truncate(0);
        });
        assert_eq!(applied, ["stop_timeout_s"]);
        assert_eq!(restart, ["class.heavy", "class.large", "class.light.aging_s", "route"]);
        assert_eq!((&config.classes, &config.routes), (&Config::default().classes, &Config::default().routes));
    }

    #[test]
    fn what_fits_only_with_the_rest_of_the_file_waits_for_the_restart() {
        let Reload { config, applied, restart } = after(|config| {
            config.stop_timeout_s = 7;
            config.engine.parked_timeout_s = 80_000;
            config.classes[0].min_share_window_s = 3600;
            config.classes[1].min_share_window_s = 3600;
        });
        // 3600 s are below the 3700 s of the old one, so here it does fit.
        assert_eq!(restart, ["engine.parked_timeout_s"]);
        assert_eq!(applied.len(), 3);
        let mut running = config;
        running.engine.parked_timeout_s = 100;
        running.classes.iter_mut().for_each(|class| class.min_share_window_s = 10);
        let mut read = running.clone();
        (read.engine.parked_timeout_s, read.classes[0].min_share_window_s, read.retry.budget) = (3700, 200, 1);
        let Reload { config, applied, restart } = reload(&running, &read);
        assert_eq!(applied, ["retry.budget"]);
        assert_eq!(restart, ["class.heavy.min_share_window_s", "engine.parked_timeout_s"]);
        config.check().expect("valid");
    }
}
