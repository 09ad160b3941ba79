//! The store against a simple model: a list of all states that ever were.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Store, Version, Want};
use crate::registry::embedded::range::KeyRange;

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8),
    Delete(u8, u8),
    /// Some puts and deletes of different keys in one revision.
    Both(u8, u8),
    Compact(u8),
    /// Write everything down and read it back.
    Restore,
    /// Write some revisions and take them back.
    TakeBack(u8, u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..8_u8, any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        2 => (0..8_u8, 0..4_u8).prop_map(|(key, n_keys)| Op::Delete(key, n_keys)),
        2 => (0..8_u8, 0..8_u8).prop_map(|(put, gone)| Op::Both(put, gone)),
        1 => any::<u8>().prop_map(Op::Compact),
        1 => Just(Op::Restore),
        1 => (0..8_u8, 0..8_u8).prop_map(|(put, gone)| Op::TakeBack(put, gone)),
    ];
    proptest::collection::vec(op, 0..120)
}

type KeyState = (Bytes, i64, i64, i64);

/// Every state that ever was, by revision.
struct Model {
    states: Vec<BTreeMap<Bytes, KeyState>>,
}

impl Model {
    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    fn newest(&self) -> &BTreeMap<Bytes, KeyState> {
        self.states.last().unwrap()
    }

    fn put(state: &mut BTreeMap<Bytes, KeyState>, key: Bytes, value: Bytes, revision: i64) {
        let (create, version) = state
            .get(&key)
            .map_or((revision, 1), |old| (old.1, old.3 + 1));
        state.insert(key, (value, create, revision, version));
    }
}

fn key(number: u8) -> Bytes {
    Bytes::from(vec![b'k', number])
}

fn span(from: u8, n_keys: u8) -> KeyRange {
    KeyRange::new(&key(from), &key(from + n_keys))
}

fn shown(versions: &[std::sync::Arc<Version>]) -> BTreeMap<Bytes, KeyState> {
    let shown = versions.iter().map(|version| {
        let state = (
            version.value.clone(),
            version.create_revision,
            version.mod_revision,
            version.version,
        );
        (version.key.clone(), state)
    });
    shown.collect()
}

/// Every version that the store holds, as a disk would hold them.
fn rows(store: &Store) -> Vec<Version> {
    let mut rows: Vec<Version> = store
        .keys
        .values()
        .flatten()
        .map(|version| Version::clone(version))
        .collect();
    rows.sort_by_key(|version| (version.mod_revision, version.sub));
    rows
}

fn apply(store: &mut Store, model: &mut Model, history: usize, op: &Op) {
    let mut state = model.newest().clone();
    let revision = model.revision() + 1;
    let mut changes = store.change();
    match op {
        Op::Put(number, value) => {
            let value = Bytes::from(vec![*value]);
            Model::put(&mut state, key(*number), value.clone(), revision);
            changes.put(key(*number), value, 0);
        }
        Op::Delete(from, n_keys) => {
            let range = span(*from, *n_keys);
            let gone = changes.delete(&range);
            let before = state.len();
            state.retain(|key, _| !range.contains(key));
            assert_eq!(gone.len(), before - state.len());
        }
        Op::Both(put, gone) if put != gone => {
            Model::put(&mut state, key(*put), Bytes::new(), revision);
            changes.put(key(*put), Bytes::new(), 0);
            state.remove(&key(*gone));
            changes.delete(&KeyRange::One(key(*gone)));
        }
        Op::Both(..) => {}
        Op::Compact(at) => {
            drop(changes);
            let at = i64::from(*at) % (store.revision() + 2);
            let is_possible = at > store.compacted() && at <= store.revision();
            assert_eq!(store.compact(at).is_ok(), is_possible);
            return;
        }
        Op::TakeBack(put, gone) => {
            changes.put(key(*put), Bytes::new(), 0);
            changes.finish();
            let mut changes = store.change();
            changes.delete(&span(*gone, 3));
            changes.put(key(*put + 10), Bytes::new(), 0);
            changes.finish();
            // As the owner does it: nothing above what readers see is compacted.
            store.compact_history(revision - 1);
            store.take_back(revision - 1);
            assert_eq!(store.revision(), model.revision());
            return;
        }
        Op::Restore => {
            drop(changes);
            let kept = rows(store);
            *store = Store::restore(history, store.revision(), store.compacted(), kept);
            return;
        }
    }
    let is_new = changes.finish().is_some();
    if is_new {
        model.states.push(state);
        store.compact_history(i64::MAX);
    }
    assert_eq!(store.revision(), model.revision());
}

fn check(store: &Store, model: &Model) {
    let all = KeyRange::new(&[0], &[0]);
    for revision in 1..=model.revision() {
        let readable = store.check_revision(revision, store.revision());
        assert_eq!(readable.is_ok(), revision >= store.compacted());
        if readable.is_err() {
            continue;
        }
        let expected = &model.states[usize::try_from(revision - 1).unwrap()];
        let found = store.read(&all, revision, Want::First(0));
        assert_eq!(&shown(&found.versions), expected, "at revision {revision}");
        assert_eq!(found.count, expected.len());
        let first = store.read(&all, revision, Want::First(2));
        assert_eq!(first.versions.len(), expected.len().min(2));
        assert_eq!(first.count, expected.len());
        let count = store.read(&all, revision, Want::Count);
        assert_eq!((count.count, count.versions.len()), (expected.len(), 0));
    }
    check_log(store, model);
}

/// Replaying the log from any readable revision leads to the newest state.
fn check_log(store: &Store, model: &Model) {
    let from = store.log_start().max(2);
    if from > model.revision() {
        return;
    }
    let mut state = model.states[usize::try_from(from - 2).unwrap()].clone();
    let mut expected_revision = from;
    for (revision, changes) in store.log(from, store.revision()) {
        assert_eq!(revision, expected_revision, "the log has no gap");
        expected_revision += 1;
        for change in changes.iter() {
            assert_eq!(change.now.mod_revision, revision);
            if let Some(before) = &change.before {
                let known = &state[&change.now.key];
                assert_eq!((&before.value, before.mod_revision), (&known.0, known.2));
            }
            if change.now.is_tombstone() {
                assert!(state.remove(&change.now.key).is_some());
            } else {
                let now = shown(std::slice::from_ref(&change.now));
                state.extend(now);
            }
        }
        let then = &model.states[usize::try_from(revision - 1).unwrap()];
        assert_eq!(&state, then, "after revision {revision}");
    }
    assert_eq!(expected_revision, model.revision() + 1);
}

proptest! {
    #[test]
    fn the_store_agrees_with_a_list_of_all_states(ops in ops(), history in 1..40_usize) {
        let mut store = Store::new(history);
        let mut model = Model { states: vec![BTreeMap::new()] };
        for op in &ops {
            apply(&mut store, &mut model, history, op);
        }
        check(&store, &model);
    }

    #[test]
    fn dropped_rows_are_exactly_those_that_the_store_forgot(ops in ops()) {
        let mut store = Store::new(8);
        let mut disk: BTreeMap<(i64, i64), Version> = BTreeMap::new();
        // Of commits that failed: the store forgot the rows, the disk has them still.
        let mut undropped = Vec::new();
        for op in &ops {
            if let Op::TakeBack(put, gone) = op {
                let before = store.revision();
                let mut changes = store.change();
                changes.put(key(*put), Bytes::new(), 0);
                changes.finish();
                let mut changes = store.change();
                changes.delete(&span(*gone, 3));
                changes.finish();
                undropped.extend(store.compact_history(before));
                store.take_back(before);
                continue;
            }
            let (value, number) = match op {
                Op::Put(number, value) => (Some(*value), *number),
                Op::Delete(number, _) | Op::Both(number, _) => (None, *number),
                Op::Compact(_) | Op::Restore | Op::TakeBack(..) => continue,
            };
            let mut changes = store.change();
            match value {
                Some(value) => drop(changes.put(key(number), Bytes::from(vec![value]), 0)),
                None => drop(changes.delete(&span(number, 2))),
            }
            let written = changes.finish();
            for change in written.iter().flat_map(|changes| changes.iter()) {
                let row = Version::clone(&change.now);
                disk.insert((row.mod_revision, row.sub), row);
            }
            let dropped = store.compact_history(i64::MAX);
            for place in undropped.drain(..).chain(dropped) {
                prop_assert!(disk.remove(&place).is_some());
            }
        }
        for place in undropped {
            prop_assert!(disk.remove(&place).is_some());
        }
        let kept: Vec<Version> = disk.into_values().collect();
        prop_assert_eq!(kept, rows(&store));
    }
}
