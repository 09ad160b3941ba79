//! The values of the registry that cannot be read: each is said once, and counted while it stands.
//!
//! Invariants: what is read again and again is not said again and again; a bounded number of keys is
//! remembered, however many a hostile writer spoils.

use std::collections::HashMap;

use etcd_client::KeyValue;

/// Of so many the revisions are known; beyond, they are said and counted no more.
const MOST: usize = 10_000;

/// A value that could not be read.
#[derive(Debug, PartialEq)]
pub(super) struct Unread {
    key: Vec<u8>,
    revision: i64,
    error: String,
}

impl Unread {
    pub(super) fn of(kv: &KeyValue, error: &serde_json::Error) -> Self {
        Self {
            key: kv.key().to_vec(),
            revision: kv.mod_revision(),
            error: error.to_string(),
        }
    }
}

/// The keys whose values cannot be read, and at which revision that was said.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    said: HashMap<Vec<u8>, i64>,
}

impl Unreadable {
    /// One more, or one that is known at this revision. `true` when it was news, and was said.
    pub(super) fn add(&mut self, unread: Unread) -> bool {
        let Unread {
            key,
            revision,
            error,
        } = unread;
        if self.said.get(&key) == Some(&revision)
            || (self.said.len() >= MOST && !self.said.contains_key(&key))
        {
            return false;
        }
        tracing::warn!(
            key = %String::from_utf8_lossy(&key), revision, %error,
            "an entry of the registry cannot be read, it is passed over"
        );
        self.said.insert(key, revision);
        true
    }

    /// The key is gone, or its value can be read.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if !self.said.is_empty() {
            self.said.remove(key);
        }
    }

    /// A listing told of these and of no others.
    pub(super) fn replace(&mut self, listed: Vec<Unread>) {
        let mut known = std::mem::take(&mut self.said);
        for unread in listed.into_iter().take(MOST) {
            match known.remove(&unread.key) {
                Some(revision) if revision == unread.revision => {
                    self.said.insert(unread.key, revision);
                }
                _ => drop(self.add(unread)),
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.said.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(key: &str, revision: i64) -> Unread {
        Unread {
            key: key.as_bytes().to_vec(),
            revision,
            error: "it is not".to_owned(),
        }
    }

    #[test]
    fn each_is_said_once_per_revision_and_counted_while_it_stands() {
        let mut unreadable = Unreadable::default();
        assert!(unreadable.add(unread("a", 1)));
        assert!(!unreadable.add(unread("a", 1)));
        assert!(unreadable.add(unread("a", 2)));
        unreadable.replace(vec![unread("a", 2), unread("b", 3)]);
        assert_eq!(unreadable.len(), 2);
        assert!(!unreadable.add(unread("a", 2)), "a listing forgets nothing");
        unreadable.forget(b"a");
        unreadable.replace(Vec::new());
        assert_eq!(unreadable.len(), 0);
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut unreadable = Unreadable::default();
        for number in 0..=MOST {
            let _said = unreadable.add(unread(&number.to_string(), 1));
        }
        assert_eq!(unreadable.len(), MOST);
    }
}
