//! The order of rows: by one column, ties by name and at last by uuid.
//!
//! Invariants: the order is total, so that rows never jitter; what is not known stands last in both
//! directions. Pure.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;

use skynet::instance::{Instance, State as InstanceState};
use skynet::query::version;

use super::super::cells::{average, present};
use super::super::columns::Column;
use super::super::state::State;
use super::super::state::row::{Group, Row, RowKey};

/// What a row is ordered by.
#[derive(Debug, Clone, PartialEq)]
enum Rank {
    Name(Arc<str>),
    Version(Arc<str>),
    Address(SocketAddr),
    /// Registered ones first, then by state.
    Standing(bool, InstanceState),
    Count(i64),
    Amount(f64),
    Unknown,
}

/// Orders `rows`, which come in the order of their names unless others were `added` behind.
pub fn sort(state: &State, rows: &mut Vec<Row>, added: bool) {
    let sort = state.table().sort;
    let natural = Column::of(state.view).first() == Some(&sort.column);
    if natural && !added && !sort.descending {
        return;
    }
    let mut ranked: Vec<(Rank, Row)> = rows
        .drain(..)
        .map(|row| (rank(state, &row, sort.column), row))
        .collect();
    ranked.sort_by(|(left, left_row), (right, right_row)| {
        compare(left, right, sort.descending).then_with(|| by_name(left_row, right_row))
    });
    rows.extend(ranked.into_iter().map(|(_, row)| row));
}

fn compare(left: &Rank, right: &Rank, descending: bool) -> Ordering {
    let order = match (left, right) {
        (Rank::Unknown, Rank::Unknown) => return Ordering::Equal,
        (Rank::Unknown, _) => return Ordering::Greater,
        (_, Rank::Unknown) => return Ordering::Less,
        (Rank::Name(left), Rank::Name(right)) => left.cmp(right),
        (Rank::Version(left), Rank::Version(right)) => version::compare(left, right),
        (Rank::Address(left), Rank::Address(right)) => left.cmp(right),
        (Rank::Standing(left, left_state), Rank::Standing(right, right_state)) => {
            right.cmp(left).then(left_state.cmp(right_state))
        }
        (Rank::Count(left), Rank::Count(right)) => left.cmp(right),
        (Rank::Amount(left), Rank::Amount(right)) => left.total_cmp(right),
        // One column gives one kind of rank.
        _ => Ordering::Equal,
    };
    if descending { order.reverse() } else { order }
}

fn by_name(left: &Row, right: &Row) -> Ordering {
    match (left, right) {
        (Row::Instance(left), Row::Instance(right)) => left.identity.cmp(&right.identity),
        (Row::Group(left), Row::Group(right)) => key_order(&left.key, &right.key),
        (Row::Instance(_), Row::Group(_)) => Ordering::Less,
        (Row::Group(_), Row::Instance(_)) => Ordering::Greater,
    }
}

pub(super) fn key_order(left: &RowKey, right: &RowKey) -> Ordering {
    match (left, right) {
        (RowKey::Version(left, left_version), RowKey::Version(right, right_version)) => left
            .cmp(right)
            .then_with(|| version::compare(left_version, right_version))
            .then_with(|| left_version.cmp(right_version)),
        (RowKey::Instance(left), RowKey::Instance(right)) => left.cmp(right),
        (
            RowKey::Region(left) | RowKey::Host(left) | RowKey::Service(left),
            RowKey::Region(right) | RowKey::Host(right) | RowKey::Service(right),
        ) => left.cmp(right),
        _ => Ordering::Equal,
    }
}

fn rank(state: &State, row: &Row, column: Column) -> Rank {
    match row {
        Row::Instance(instance) => instance_rank(state, present(state, instance), column),
        Row::Group(group) => group_rank(group, column),
    }
}

fn instance_rank(state: &State, instance: &Instance, column: Column) -> Rank {
    let measure = state.measures.of(instance.id());
    let count = |value: Option<i64>| value.map_or(Rank::Unknown, Rank::Count);
    match column {
        Column::Service => Rank::Name(Arc::clone(instance.service())),
        Column::Version => Rank::Version(Arc::clone(instance.version())),
        Column::Region => Rank::Name(Arc::clone(instance.region())),
        Column::Host => Rank::Name(Arc::clone(instance.host())),
        Column::Address => instance.address.map_or(Rank::Unknown, Rank::Address),
        Column::Registered => Rank::Standing(instance.registered, instance.state),
        // The youngest first, as the shortest uptime is the smallest number.
        Column::Uptime => Rank::Count(instance.started.as_microsecond().saturating_neg()),
        Column::Clients => count(measure.map(|measure| measure.stats.clients)),
        Column::Requests => count(measure.map(|measure| measure.stats.requests)),
        Column::Average | Column::Worst => count(measure.and_then(average)),
        Column::Rate | Column::Trend => measure
            .and_then(|measure| measure.rps)
            .map_or(Rank::Unknown, Rank::Amount),
        Column::Last => count(
            measure
                .and_then(|measure| measure.last)
                .map(|last| last.as_microsecond().saturating_neg()),
        ),
        Column::Up | Column::Reg | Column::Total | Column::Hosts | Column::Names => Rank::Unknown,
    }
}

fn group_rank(group: &Group, column: Column) -> Rank {
    let number = |value: usize| Rank::Count(i64::try_from(value).unwrap_or(i64::MAX));
    let count = |value: Option<i64>| value.map_or(Rank::Unknown, Rank::Count);
    let measured = |value: i64| count((group.measured > 0).then_some(value));
    match column {
        Column::Version => match &group.key {
            RowKey::Version(_, version) => Rank::Version(Arc::clone(version)),
            _ => Rank::Unknown,
        },
        Column::Region => Rank::Name(Arc::clone(
            group.region.as_ref().unwrap_or_else(|| group.name()),
        )),
        Column::Host | Column::Service => Rank::Name(Arc::clone(group.name())),
        Column::Address => group.address.map_or(Rank::Unknown, Rank::Address),
        Column::Up => number(group.ready),
        Column::Reg | Column::Registered => number(group.registered),
        Column::Total => number(group.total),
        Column::Hosts => number(group.hosts),
        Column::Clients => measured(group.clients),
        Column::Requests => measured(group.requests),
        Column::Average => count(group.avg_us),
        Column::Worst => count(group.worst_us),
        Column::Rate => group.rps.map_or(Rank::Unknown, Rank::Amount),
        Column::Uptime | Column::Trend | Column::Last | Column::Names => Rank::Unknown,
    }
}
