//! From the cluster, the filter and the order to the rows of a view, and the cursor among them.
//!
//! Invariants: the cursor keeps its identity and its row on the screen, whatever changes around it;
//! a row that vanishes under the eye lingers as a ghost, so that nothing slides into its place;
//! rows are put together only when data, filter, view or order changed. No clock, no I/O.

pub mod group;
pub mod order;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use skynet::instance::Instance;
use skynet::query::explain::Blame;
use skynet::query::rows::Known;
use skynet::query::{Facts, Query};

use super::state::row::{Ghost, Lingering, Row, RowKey};
use super::state::{State, ViewKind};

/// How long a vanished row that is not under the cursor stays.
const GHOST_FOR: Duration = Duration::from_secs(5);

/// How long a vanished row stays while the cursor is on it.
const CURSOR_GHOST_FOR: Duration = Duration::from_mins(1);

/// How long an instance counts as new.
pub const NEW_FOR: Duration = Duration::from_secs(5);

/// Why rows are put together anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The cluster or its measurements changed.
    Data,
    /// The filter changed.
    Filter,
    /// Another view is shown, or another order.
    View,
}

/// Puts the rows together and finds the cursor again.
pub fn rebuild(state: &mut State, cause: Cause) {
    let ghosts = match cause {
        Cause::Data => ghosts(state),
        Cause::Filter | Cause::View => Vec::new(),
    };
    let mut list = match state.view {
        ViewKind::Instances => instances(state),
        _ => group::groups(state),
    };
    state.rows.matched = group::instances_of(&list);
    let ghosts: Vec<Ghost> = ghosts
        .into_iter()
        .filter(|ghost| still_missing(state, &list, ghost))
        .collect();
    list.extend(ghosts.iter().map(|ghost| ghost.row.clone()));
    order::sort(state, &mut list, !ghosts.is_empty());
    let old = std::mem::replace(&mut state.rows.list, list);
    state.rows.ghosts = ghosts;
    state.rows.ordered = state.now.mono;
    state.rows.pending = false;
    state.rows.blame = blame(state);
    place_cursor(state, cause, &old);
}

/// What a query may ask of an instance.
pub fn facts<'a>(state: &'a State, query: &Query, instance: &Instance) -> Facts<'a> {
    let measure = state.measures.of(instance.id());
    Facts {
        stats: measure.map(|measure| &measure.stats),
        rps: measure.and_then(|measure| measure.rps),
        host_address: query
            .asks_for_hosts()
            .then(|| state.snapshot.host(instance.host()))
            .flatten()
            .map(|host| host.address.ip()),
        new: state.age(instance.started) < NEW_FOR,
        ..Facts::at(state.now.wall)
    }
}

/// Whether the query selects the instance, with what is known of it now.
pub fn selects(state: &State, query: &Query, instance: &Instance) -> bool {
    query.is_all() || query.matches(instance, &facts(state, query, instance))
}

/// The instances that the filter selects, in the order of their names.
pub fn selected(state: &State) -> impl Iterator<Item = &Arc<Instance>> {
    let query = state.filter.query();
    state
        .snapshot
        .instances()
        .filter(move |instance| selects(state, query, instance))
}

/// The instances that a row stands for, as the cluster knows them now.
pub fn instances_behind(state: &State, key: &RowKey) -> Vec<Arc<Instance>> {
    match key {
        RowKey::Instance(id) => state.snapshot.instance(*id).cloned().into_iter().collect(),
        key => selected(state)
            .filter(|instance| group::belongs(key, instance))
            .cloned()
            .collect(),
    }
}

fn instances(state: &State) -> Vec<Row> {
    selected(state)
        .map(|instance| Row::Instance(Arc::clone(instance)))
        .collect()
}

/// What has vanished from under the eye, and what lingers already.
fn ghosts(state: &State) -> Vec<Ghost> {
    let now = state.now.mono;
    let cursor = state.table().cursor.as_ref();
    let mut ghosts: Vec<Ghost> = Vec::new();
    for ghost in &state.rows.ghosts {
        let under_cursor = cursor.is_some_and(|key| ghost.row.is(key));
        let stays = if under_cursor {
            CURSOR_GHOST_FOR
        } else {
            GHOST_FOR
        };
        let age = now.saturating_duration_since(ghost.since);
        let worth = under_cursor || ghost.why == Lingering::Gone;
        if age < stays && worth {
            ghosts.push(ghost.clone());
        }
    }
    for row in window::visible(state) {
        let key = row.key();
        if ghosts.iter().any(|ghost| ghost.row.is(&key)) {
            continue;
        }
        let under_cursor = cursor == Some(&key);
        if let Some(why) = vanished(state, row)
            && (under_cursor || why == Lingering::Gone)
            && state.rows.lingering(&key).is_none()
        {
            ghosts.push(Ghost {
                row: row.clone(),
                why,
                since: now,
            });
        }
    }
    ghosts
}

/// Whether a row's instance is gone or no longer selected; groups are judged by the new list.
fn vanished(state: &State, row: &Row) -> Option<Lingering> {
    match row {
        Row::Instance(instance) => match state.snapshot.instance(instance.id()) {
            None => Some(Lingering::Gone),
            Some(present) if selects(state, state.filter.query(), present) => None,
            Some(_) => Some(Lingering::Unmatched),
        },
        Row::Group(_) => Some(Lingering::Gone),
    }
}

fn still_missing(state: &State, list: &[Row], ghost: &Ghost) -> bool {
    match &ghost.row {
        row @ Row::Instance(_) => vanished(state, row).is_some(),
        Row::Group(group) => !list.iter().any(|row| row.is(&group.key)),
    }
}

/// When the next ghost goes.
pub fn next_ghost_end(state: &State) -> Option<tokio::time::Instant> {
    let cursor = state.table().cursor.as_ref();
    state
        .rows
        .ghosts
        .iter()
        .map(|ghost| {
            let under_cursor = cursor.is_some_and(|key| ghost.row.is(key));
            ghost.since
                + if under_cursor {
                    CURSOR_GHOST_FOR
                } else {
                    GHOST_FOR
                }
        })
        .min()
}

/// When nothing is left: which term took the last row.
fn blame(state: &State) -> Option<Blame> {
    let query = state.filter.query();
    if state.rows.matched > 0 || state.snapshot.is_empty() || query.is_all() {
        return None;
    }
    let (stats, rates) = state.measures.tables();
    let known = Known {
        rps: Some(&rates),
        ..Known::new(&state.snapshot, &stats, state.now.wall)
    };
    known.blame(query)
}

/// Finds the cursor among the new rows; `old` are those among which it stood.
fn place_cursor(state: &mut State, cause: Cause, old: &[Row]) {
    if let Some(trace) = state.table().trace.clone()
        && state.rows.list.iter().any(|row| row.is(&trace))
    {
        let table = state.table_mut();
        table.cursor = Some(trace);
        table.trace = None;
    }
    let found = state
        .table()
        .cursor
        .as_ref()
        .and_then(|key| index_of(state, key));
    if found.is_none() && cause == Cause::Filter {
        let hidden = state.table().cursor.clone();
        let next = neighbor(state, old);
        let table = state.table_mut();
        table.trace = table.trace.take().or(hidden);
        table.cursor = next;
    } else if found.is_none() {
        state.table_mut().cursor = None;
    }
    window::settle(state);
}

fn index_of(state: &State, key: &RowKey) -> Option<usize> {
    state.rows.list.iter().position(|row| row.is(key))
}

/// The nearest row after the cursor's old place that is still there, or else before it.
fn neighbor(state: &State, old: &[Row]) -> Option<RowKey> {
    let at = state.table().selected?;
    let query = state.filter.query();
    let remains = |row: &&Row| match row {
        Row::Instance(instance) => state
            .snapshot
            .instance(instance.id())
            .is_some_and(|present| selects(state, query, present)),
        Row::Group(group) => state.rows.list.iter().any(|row| row.is(&group.key)),
    };
    let after = old.iter().skip(at).find(remains);
    let before = || old.iter().take(at).rev().find(remains);
    after.or_else(before).map(Row::key)
}
