//! One watcher: which changes it wants, and how far it has come.
//!
//! Pure. A watcher pulls from the store's log and owns no queue, so a slow one costs nothing but
//! its position. Invariants: it sees every wanted change exactly once, in order; the changes of one
//! revision are never torn apart; a position that the log no longer reaches is reported as lost.

use etcd_client::proto::{PbEvent, PbWatchResponse};

use super::{
    range::KeyRange,
    read::{key_value, tombstone},
    store::{Change, Store},
};

/// A pull ends after the revision that reaches one of these, so that answers stay small.
const MAX_EVENTS: usize = 1000;
const MAX_BYTES: usize = 1024 * 1024;

const EVENT_DELETE: i32 = 1;
const FILTER_NO_PUT: i32 = 0;
const FILTER_NO_DELETE: i32 = 1;

/// What a client asked to watch.
#[derive(Debug)]
pub(super) struct Watcher {
    range: KeyRange,
    /// The next revision to look at.
    next: i64,
    filters: Vec<i32>,
    prev_kv: bool,
    fragment: bool,
    /// Whether the client wants to hear from time to time that nothing happened.
    pub(super) progress_notify: bool,
}

/// What a pull found.
#[derive(Debug)]
pub(super) enum Pulled {
    /// Nothing new: the watcher has seen all.
    Synced,
    /// Changes; pull again for more.
    Changes(Vec<Change>),
    /// The log no longer reaches back to the watcher.
    Lost,
}

impl Watcher {
    /// A watcher of `range` that begins with the revision `next`.
    pub(super) fn new(range: KeyRange, next: i64) -> Self {
        Self {
            range,
            next,
            filters: Vec::new(),
            prev_kv: false,
            fragment: false,
            progress_notify: false,
        }
    }

    /// Leaves out the kinds of events that the filters name; unknown filters change nothing.
    pub(super) fn with_filters(mut self, filters: Vec<i32>) -> Self {
        self.filters = filters;
        self
    }

    /// Adds what stood there before to every event.
    pub(super) fn with_prev_kv(mut self, prev_kv: bool) -> Self {
        self.prev_kv = prev_kv;
        self
    }

    /// Lets answers be cut into pieces.
    pub(super) fn with_fragments(mut self, fragment: bool) -> Self {
        self.fragment = fragment;
        self
    }

    /// Whether it starts below what the store can still tell.
    pub(super) fn is_compacted(&self, store: &Store) -> bool {
        self.next < store.compacted()
    }

    /// The last revision that it has seen.
    pub(super) fn seen(&self) -> i64 {
        self.next - 1
    }

    /// Takes the next wanted changes up to the revision `newest`.
    pub(super) fn pull(&mut self, store: &Store, newest: i64) -> Pulled {
        if self.next > newest {
            return Pulled::Synced;
        }
        if self.next < store.log_start() && store.log_start() > super::store::FIRST_REVISION + 1 {
            return Pulled::Lost;
        }
        let mut pulled = Vec::new();
        let mut n_bytes = 0;
        for (revision, changes) in store.log(self.next, newest) {
            for change in changes.iter().filter(|change| self.wants(change)) {
                let mut change = change.clone();
                // What stood there is what a read just before the change finds.
                if revision <= store.compacted() {
                    change.before = None;
                }
                let before = change.before.as_ref().filter(|_| self.prev_kv);
                n_bytes += change.now.size() + before.map_or(0, |before| before.size());
                pulled.push(change);
            }
            self.next = revision + 1;
            if pulled.len() >= MAX_EVENTS || n_bytes >= MAX_BYTES {
                return Pulled::Changes(pulled);
            }
        }
        self.next = newest + 1;
        if pulled.is_empty() {
            Pulled::Synced
        } else {
            Pulled::Changes(pulled)
        }
    }

    /// Shows changes as the answers that carry them; headers and ids are left to the caller.
    pub(super) fn respond(&self, changes: &[Change]) -> Vec<PbWatchResponse> {
        let events = changes.iter().map(|change| self.event(change));
        if !self.fragment {
            return vec![PbWatchResponse {
                events: events.collect(),
                ..PbWatchResponse::default()
            }];
        }
        let mut responses: Vec<PbWatchResponse> = Vec::new();
        let mut n_bytes = 0;
        for event in events {
            let size = prost::Message::encoded_len(&event);
            match responses.last_mut() {
                Some(last) if n_bytes + size <= MAX_BYTES => last.events.push(event),
                last => {
                    if let Some(last) = last {
                        last.fragment = true;
                    }
                    n_bytes = 0;
                    responses.push(PbWatchResponse {
                        events: vec![event],
                        ..PbWatchResponse::default()
                    });
                }
            }
            n_bytes += size;
        }
        responses
    }

    /// Whether it is to hear of the change.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let filter = if change.now.is_tombstone() {
            FILTER_NO_DELETE
        } else {
            FILTER_NO_PUT
        };
        self.range.contains(&change.now.key) && !self.filters.contains(&filter)
    }

    fn event(&self, change: &Change) -> PbEvent {
        let mut event = PbEvent::default();
        if change.now.is_tombstone() {
            event.r#type = EVENT_DELETE;
            event.kv = Some(tombstone(&change.now));
        } else {
            event.kv = Some(key_value(&change.now));
        }
        if self.prev_kv {
            event.prev_kv = change.before.as_ref().map(|before| key_value(before));
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_stood_there_before_counts_where_it_is_sent() {
        let mut store = Store::new(100);
        for _ in 0..10 {
            let mut changes = store.change();
            changes.put(Bytes::from("key"), Bytes::from(vec![b'x'; 1_000_000]), 0);
            changes.finish();
            let mut changes = store.change();
            changes.delete(&KeyRange::One(Bytes::from("key")));
            changes.finish();
        }
        let range = KeyRange::One(Bytes::from("key"));
        for (prev_kv, n_expected) in [(false, 4), (true, 2)] {
            let mut watcher = Watcher::new(range.clone(), 2).with_prev_kv(prev_kv);
            let mut n_seen = 0;
            while let Pulled::Changes(changes) = watcher.pull(&store, store.revision()) {
                n_seen += changes.len();
                assert!(changes.len() <= n_expected, "{}", changes.len());
            }
            assert_eq!(n_seen, 20);
        }
    }
}
