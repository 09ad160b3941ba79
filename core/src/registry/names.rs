//! Every name once: instances share the names of their services, versions, regions and hosts.
//!
//! A hundred thousand instances have a few hundred names; shared, they cost less memory, and equal
//! names are neighbors in the cache. Names that nobody uses any more are forgotten now and then.

use std::collections::HashSet;
use std::sync::Arc;

use crate::instance::Instance;

/// So many names are kept before any is forgotten.
const LEAST: usize = 1_024;

/// The names that are in use.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    /// At this size, unused names are looked for.
    sweep_at: usize,
}

impl Names {
    /// The instance with the names shared that others have too.
    pub(super) fn share(&mut self, mut instance: Instance) -> Instance {
        let identity = &mut instance.identity;
        self.replace(&mut identity.service);
        self.replace(&mut identity.version);
        self.replace(&mut identity.region);
        self.replace(&mut identity.host);
        if let Some(process) = &mut instance.process {
            self.replace(&mut process.boot_id);
        }
        if let Some(deployment) = &mut instance.deployment {
            self.replace(deployment);
        }
        for tag in &mut instance.tags {
            self.replace(tag);
        }
        instance
    }

    /// The one copy of a name.
    pub(super) fn one(&mut self, name: &str) -> Arc<str> {
        match self.known.get(name) {
            Some(known) => Arc::clone(known),
            None => self.add(Arc::from(name)),
        }
    }

    fn replace(&mut self, name: &mut Arc<str>) {
        *name = match self.known.get(name) {
            Some(known) => Arc::clone(known),
            None => self.add(Arc::clone(name)),
        };
    }

    fn add(&mut self, name: Arc<str>) -> Arc<str> {
        if self.known.len() >= self.sweep_at.max(LEAST) {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        self.known.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_and_unused_ones_are_forgotten() {
        let mut names = Names::default();
        let first = names.one("a");
        let mut other: Arc<str> = "a".into();
        assert!(!Arc::ptr_eq(&first, &other));
        names.replace(&mut other);
        assert!(Arc::ptr_eq(&first, &other));
        for number in 0..10 * LEAST {
            names.one(&number.to_string());
        }
        assert!(
            names.known.len() <= 2 * LEAST,
            "{} names",
            names.known.len()
        );
        assert!(Arc::ptr_eq(&first, &names.one("a")));
    }
}
