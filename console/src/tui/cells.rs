//! What stands in a cell: text and role, from a row and what is known of it.
//!
//! Invariants: values are those of the moment, even when the order of the rows waits; names are
//! cleaned of control characters. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use skynet::instance::{Instance, State as InstanceState};

use super::columns::Column;
use super::format;
use super::state::State;
use super::state::measure::Measure;
use super::state::row::{Group, Row};
use crate::theme::{Glyphs, Role};

/// How many samples a trend in the table shows.
const TREND: usize = 6;

/// A cell's text and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The text, clean.
    pub text: Cow<'a, str>,
    /// What it means.
    pub role: Role,
}

impl<'a> Cell<'a> {
    fn name(text: &'a str) -> Self {
        Self {
            text: format::clean(text),
            role: Role::Text,
        }
    }

    fn plain(text: String) -> Self {
        Self::new(text, Role::Text)
    }

    fn new(text: impl Into<Cow<'a, str>>, role: Role) -> Self {
        Self {
            text: text.into(),
            role,
        }
    }

    fn unknown() -> Self {
        Self::new(format::UNKNOWN, Role::Muted)
    }

    fn known(text: Option<String>) -> Self {
        text.map_or_else(Self::unknown, Self::plain)
    }
}

/// The instance of a row as the cluster knows it now, or as it was when it is gone.
pub fn present<'a>(state: &'a State, instance: &'a Arc<Instance>) -> &'a Arc<Instance> {
    state.snapshot.instance(instance.id()).unwrap_or(instance)
}

/// The cell of a row in a column.
pub fn cell<'a>(state: &'a State, row: &'a Row, column: Column, glyphs: Glyphs) -> Cell<'a> {
    match row {
        Row::Instance(instance) => {
            let gone = state.snapshot.instance(instance.id()).is_none();
            let instance = present(state, instance);
            instance_cell(state, instance, column, gone, glyphs)
        }
        Row::Group(group) => group_cell(group, column),
    }
}

fn instance_cell<'a>(
    state: &'a State,
    instance: &'a Instance,
    column: Column,
    gone: bool,
    glyphs: Glyphs,
) -> Cell<'a> {
    let measure = state.measures.of(instance.id());
    let stats = measure.map(|measure| &measure.stats);
    match column {
        Column::Service => Cell::name(instance.service()),
        Column::Version => Cell::name(instance.version()),
        Column::Region => Cell::name(instance.region()),
        Column::Host => Cell::name(instance.host()),
        Column::Address => instance
            .address
            .map_or_else(Cell::unknown, |address| Cell::plain(address.to_string())),
        Column::Registered => registered(instance, gone, glyphs),
        Column::Uptime if instance.process.is_some() => {
            Cell::plain(format::uptime(state.age(instance.started)))
        }
        Column::Clients => Cell::known(stats.map(|stats| format::count(stats.clients))),
        Column::Requests => Cell::known(stats.map(|stats| format::count(stats.requests))),
        Column::Rate => Cell::known(measure.and_then(|it| it.rps).map(format::rate)),
        Column::Average => Cell::known(measure.and_then(average).map(format::micros)),
        Column::Last => Cell::known(
            measure
                .and_then(|measure| measure.last)
                .map(|last| format::ago(state.age(last))),
        ),
        Column::Trend => Cell::new(trend(measure, glyphs), Role::Graph),
        Column::Uptime => Cell::unknown(),
        Column::Up
        | Column::Reg
        | Column::Total
        | Column::Hosts
        | Column::Worst
        | Column::Names => Cell::plain(String::new()),
    }
}

/// The mean response time, once there was a request.
pub fn average(measure: &Measure) -> Option<i64> {
    (measure.stats.requests > 0).then_some(measure.stats.avg_us)
}

fn trend(measure: Option<&Measure>, glyphs: Glyphs) -> String {
    let Some(measure) = measure else {
        return String::new();
    };
    let skipped = measure.history.len().saturating_sub(TREND);
    let rates = measure.history.iter().skip(skipped);
    let rates = rates.map(|sample| sample.rps.unwrap_or(0.0));
    format::sparkline(rates, glyphs == Glyphs::Ascii)
}

/// The sign of registration, and the state unless it is ready.
fn registered(instance: &Instance, gone: bool, glyphs: Glyphs) -> Cell<'static> {
    if gone {
        return Cell::new(glyphs.pick("✗ gone", "gone"), Role::Gone);
    }
    let (sign, role) = if instance.registered {
        (glyphs.pick("✓", "yes"), Role::Ok)
    } else {
        (glyphs.pick("–", "no"), Role::Muted)
    };
    if instance.state == InstanceState::Ready {
        return Cell::new(sign, role);
    }
    Cell::new(
        format!("{sign} {}", instance.state),
        state_role(instance.state),
    )
}

/// How a state looks.
pub fn state_role(state: InstanceState) -> Role {
    match state {
        InstanceState::Ready => Role::Ok,
        InstanceState::Starting
        | InstanceState::Pressured
        | InstanceState::Draining
        | InstanceState::Leaving
        | InstanceState::Backoff
        | InstanceState::Suspect => Role::Warn,
        InstanceState::Dead | InstanceState::Crashloop | InstanceState::Failed => Role::Bad,
        InstanceState::Stopped | InstanceState::Done => Role::Muted,
        InstanceState::Gone => Role::Gone,
    }
}

fn group_cell(group: &Group, column: Column) -> Cell<'_> {
    let number =
        |value: usize| Cell::plain(format::count(i64::try_from(value).unwrap_or(i64::MAX)));
    let measured = |text: String| Cell::known((group.measured > 0).then_some(text));
    match column {
        Column::Version => match &group.key {
            super::state::row::RowKey::Version(_, version) => Cell::name(version),
            _ => Cell::plain(String::new()),
        },
        Column::Region => Cell::name(group.region.as_ref().unwrap_or_else(|| group.name())),
        Column::Host | Column::Service => Cell::name(group.name()),
        Column::Address => Cell::known(group.address.map(|address| address.to_string())),
        Column::Up if group.ready < group.total => Cell {
            role: Role::Warn,
            ..number(group.ready)
        },
        Column::Up => number(group.ready),
        Column::Reg if group.registered == 0 && group.total > 0 => Cell {
            role: Role::Bad,
            ..number(group.registered)
        },
        Column::Reg => number(group.registered),
        Column::Total => number(group.total),
        Column::Hosts => number(group.hosts),
        Column::Clients => measured(format::count(group.clients)),
        Column::Requests => measured(format::count(group.requests)),
        Column::Rate => Cell::known(group.rps.map(format::rate)),
        Column::Average => Cell::known(group.avg_us.map(format::micros)),
        Column::Worst => Cell::known(group.worst_us.map(format::micros)),
        Column::Names => {
            let names: Vec<Cow<'_, str>> =
                group.names.iter().map(|name| format::clean(name)).collect();
            Cell::new(names.join(", "), Role::Muted)
        }
        Column::Registered | Column::Uptime | Column::Trend | Column::Last => {
            Cell::plain(String::new())
        }
    }
}
