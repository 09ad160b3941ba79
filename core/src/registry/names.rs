//! Every name once: instances share the names of their services, versions, regions and hosts.
//!
//! A hundred thousand instances have a few hundred names; shared, they cost less memory, and equal
//! names are neighbors in the cache. Names that nobody uses any more are forgotten now and then.

use std::collections::HashSet;
use std::sync::Arc;

use crate::instance::Identity;

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
    /// The identity with its names shared.
    pub(super) fn share(&mut self, identity: Identity) -> Identity {
        let Identity {
            service,
            version,
            region,
            host,
            id,
        } = identity;
        Identity {
            service: self.one(service),
            version: self.one(version),
            region: self.one(region),
            host: self.one(host),
            id,
        }
    }

    fn one(&mut self, name: Arc<str>) -> Arc<str> {
        if let Some(known) = self.known.get(&name) {
            return Arc::clone(known);
        }
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
    use crate::instance::InstanceId;

    #[test]
    fn equal_names_are_one_and_unused_ones_are_forgotten() {
        let mut names = Names::default();
        let identity = |service: &str| Identity {
            service: service.into(),
            version: "1".into(),
            region: "r".into(),
            host: "r".into(),
            id: InstanceId::nil(),
        };
        let first = names.share(identity("a"));
        let second = names.share(identity("a"));
        assert!(Arc::ptr_eq(&first.service, &second.service));
        assert!(Arc::ptr_eq(&first.region, &first.host));
        for number in 0..10 * LEAST {
            names.share(identity(&number.to_string()));
        }
        assert!(
            names.known.len() <= 2 * LEAST,
            "{} names",
            names.known.len()
        );
        assert!(Arc::ptr_eq(
            &first.service,
            &names.share(identity("a")).service
        ));
    }
}
