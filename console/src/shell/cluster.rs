//! What the line editor may know of the cluster: the live view and the filter, never the network.
//!
//! Invariants: reading it never waits for anything but another reader; what it counts is counted
//! once per snapshot and filter, however often a key repaints the prompt.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use skynet::query::Query;
use skynet::query::rows::{Known, StatsTable};
use skynet::registry::View;
use skynet::registry::link::Link;
use skynet::registry::snapshot::{Alarm, Snapshot};

/// The live view and the filter, shared by the shell and its line editor.
pub(super) struct Cluster {
    view: Arc<View>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    filter: Query,
    counted: Option<(i64, usize, Counts)>,
}

/// How many instances there are, and how many of them the filter selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Those that the filter selects; `None` when that needs statistics.
    pub(super) matching: Option<usize>,
    /// All of them.
    pub(super) total: usize,
}

/// The counts, the kind of the link and the alarms.
pub(super) type Shown = (Counts, Discriminant<Link>, BTreeMap<Arc<str>, Alarm>);

impl Cluster {
    /// What this view shows, without a filter.
    pub(super) fn new(view: Arc<View>) -> Self {
        Self {
            view,
            state: Mutex::default(),
        }
    }

    /// The cluster as it is known now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.view.snapshot()
    }

    /// How the link to the registry stands.
    pub(super) fn link(&self) -> Link {
        *self.view.link().borrow()
    }

    /// What the prompt shows; it is drawn again when this changes.
    pub(super) fn shown(&self) -> Shown {
        let alarms = self.snapshot().alarms().clone();
        (self.counts(), discriminant(&self.link()), alarms)
    }

    /// The live view itself.
    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The filter.
    pub(super) fn filter(&self) -> Query {
        self.lock().filter.clone()
    }

    /// Says what the filter is from now on.
    pub(super) fn set_filter(&self, filter: Query) {
        *self.lock() = State {
            filter,
            counted: None,
        };
    }

    /// How many instances the filter selects.
    pub(super) fn counts(&self) -> Counts {
        let snapshot = self.snapshot();
        let key = (snapshot.revision(), snapshot.len());
        let mut state = self.lock();
        if let Some((revision, len, counts)) = state.counted
            && (revision, len) == key
        {
            return counts;
        }
        let nothing = StatsTable::new();
        let known = Known::new(&snapshot, &nothing, Timestamp::now());
        let filter = &state.filter;
        let counts = Counts {
            matching: (!filter.needs_stats()).then(|| known.count(filter)),
            total: snapshot.len(),
        };
        state.counted = Some((key.0, key.1, counts));
        counts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
