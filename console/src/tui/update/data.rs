//! What the world says: the cluster, the link, measurements, time, the size of the screen.
//!
//! Invariants: while the user moves, and while the order hangs on values that change all the time,
//! rows are put in order at most every two seconds, values go on in between; a result whose ticket
//! is not awaited is dropped.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use skynet::instance::Instance;
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;
use tokio::time::Instant;

use super::answer;
use crate::tui::effect::{Effect, Outcome, Ticket};
use crate::tui::layout::{Shape, layout};
use crate::tui::rows::{self, Cause, group, window};
use crate::tui::state::row::{Row, RowKey};
use crate::tui::state::{Moment, State, Tone, ViewKind};

/// How long after a move the order still waits.
const SETTLE: Duration = Duration::from_millis(1_500);

/// How often rows are put in order while the order waits.
const REORDER: Duration = Duration::from_secs(2);

/// How many instances are asked for measurements at once.
const MAX_ASKED: usize = 20_000;

pub(super) fn snapshot(state: &mut State, snapshot: Arc<Snapshot>) -> Vec<Effect> {
    let first = state.snapshot.is_empty();
    state.snapshot = snapshot;
    state.totals = group::totals(state);
    if first {
        rows::rebuild(state, Cause::Data);
    } else {
        refresh(state);
    }
    Vec::new()
}

pub(super) fn link(state: &mut State, link: Link) -> Vec<Effect> {
    let was_live = state.link.is_connected();
    state.link = link;
    match (was_live, link.is_connected()) {
        (true, false) => {
            state.before_loss = Some((state.now.mono, Arc::clone(&state.snapshot)));
        }
        (false, true) => {
            if let Some((since, before)) = state.before_loss.take() {
                let away = state.now.mono.saturating_duration_since(since);
                let text = format!(
                    "back after {} s: {}",
                    away.as_secs(),
                    difference(&before, state)
                );
                state.toast(Tone::Good, text);
            }
        }
        (true, true) | (false, false) => {}
    }
    Vec::new()
}

/// What changed while the link was lost: `+3 −1, 12 changed`.
fn difference(before: &Snapshot, state: &State) -> String {
    let now = &state.snapshot;
    let (mut added, mut changed) = (0, 0);
    for instance in now.instances() {
        match before.instance(instance.id()) {
            None => added += 1,
            Some(old) if old.mod_revision != instance.mod_revision => changed += 1,
            Some(_) => {}
        }
    }
    let removed = before
        .instances()
        .filter(|instance| now.instance(instance.id()).is_none())
        .count();
    format!("+{added} −{removed}, {changed} changed")
}

pub(super) fn resync(state: &mut State) -> Vec<Effect> {
    let text = match (
        state.link.is_connected(),
        state.snapshot.alarms().is_empty(),
    ) {
        (true, true) => "reading the registry again",
        (true, false) => "reading the registry again; what vanished is believed and goes soon",
        (false, _) => "trying the registry now",
    };
    state.toast(Tone::Good, text);
    vec![Effect::Resync]
}

pub(super) fn resize(state: &mut State, width: u16, height: u16) -> Vec<Effect> {
    state.size = (width, height);
    state.table_mut().forget_widths();
    window::settle(state);
    Vec::new()
}

pub(super) fn finished(state: &mut State, ticket: Ticket, outcome: Outcome) -> Vec<Effect> {
    match outcome {
        Outcome::Stats(stats) => {
            let now = state.now.mono;
            if state.measures.take(ticket, stats, now) {
                measured(state);
            }
            Vec::new()
        }
        Outcome::Done(results) => answer::done(state, ticket, &results),
        Outcome::Refused(why) => answer::refused(state, ticket, &why),
    }
}

/// Measurements changed: rows only when filter, order or sums hang on them.
fn measured(state: &mut State) {
    let ordered_by = state.table().sort.column.is_measured();
    let sums = state.view != ViewKind::Instances;
    if ordered_by || sums || state.filter.query().needs_stats() {
        refresh(state);
    } else {
        window::settle(state);
    }
}

pub(super) fn clock(state: &mut State, moment: Moment) -> Vec<Effect> {
    state.now = moment;
    let now = moment.mono;
    state.toasts.retain(|toast| toast.until > now);
    state.quit_until = state.quit_until.filter(|until| *until > now);
    state.interrupt_until = state.interrupt_until.filter(|until| *until > now);
    let ghosts_end = rows::next_ghost_end(state).is_some_and(|end| end <= now);
    if ghosts_end || settles_at(state).is_some_and(|at| at <= now) {
        rows::rebuild(state, Cause::Data);
    }
    Vec::new()
}

/// Puts rows together now, or notes that they wait.
pub(super) fn refresh(state: &mut State) {
    state.rows.pending = true;
    if settles_at(state).is_some_and(|at| at <= state.now.mono) {
        rows::rebuild(state, Cause::Data);
    } else {
        window::settle(state);
    }
}

/// When waiting rows are put in order.
pub(super) fn settles_at(state: &State) -> Option<Instant> {
    if !state.rows.pending {
        return None;
    }
    let table = state.table();
    let now = state.now.mono;
    let moving = table
        .moved
        .is_some_and(|moved| now.saturating_duration_since(moved) < SETTLE);
    if moving || table.sort.column.is_measured() {
        Some(state.rows.ordered + REORDER)
    } else {
        Some(now)
    }
}

/// Whether anything on the screen shows measurements.
pub(super) fn needs_measures(state: &State) -> bool {
    let regions = layout(state);
    // Narrow rows show a measurement unless they are ordered by something else.
    let shown = regions.shape == Shape::Narrow
        || regions
            .columns
            .iter()
            .any(|place| place.column.is_measured());
    let details = state.preview && regions.detail.height > 0;
    state.link.is_connected()
        && !state.rows.list.is_empty()
        && (shown || details || ordered_by_measures(state))
}

fn ordered_by_measures(state: &State) -> bool {
    state.table().sort.column.is_measured() || state.filter.query().needs_stats()
}

/// Asks for measurements when they are due and something needs them.
pub(super) fn ask(state: &mut State) -> Vec<Effect> {
    let now = state.now.mono;
    if !needs_measures(state) {
        return Vec::new();
    }
    if lacks_measures(state) {
        state.measures.hurry(now);
    }
    if now < state.measures.due() {
        return Vec::new();
    }
    let ticket = state.ticket();
    let instances = wanted(state);
    state.measures.ask(ticket, &instances, now);
    if instances.is_empty() {
        return Vec::new();
    }
    vec![Effect::Stats { ticket, instances }]
}

/// Whether a row on the screen has not been asked for yet.
fn lacks_measures(state: &State) -> bool {
    window::visible(state).iter().any(|row| match row {
        Row::Instance(instance) => state.measures.is_new(instance),
        Row::Group(group) => group.measured == 0 && group.total > 0 && state.measures.is_idle(),
    })
}

/// The instances whose measurements something on the screen needs.
fn wanted(state: &State) -> Vec<Arc<Instance>> {
    let mut asked = HashSet::new();
    let mut wanted: Vec<Arc<Instance>> = Vec::new();
    let mut add = |instance: &Arc<Instance>| {
        if instance.address.is_some() && wanted.len() < MAX_ASKED && asked.insert(instance.id()) {
            wanted.push(Arc::clone(instance));
        }
    };
    if state.filter.query().needs_stats() {
        // What the filter would select once it is known cannot be told before.
        state.snapshot.instances().for_each(&mut add);
    } else if state.table().sort.column.is_measured() {
        rows::selected(state).for_each(&mut add);
    }
    let mut groups: HashSet<RowKey> = HashSet::new();
    for row in window::visible(state)
        .iter()
        .chain(window::under_cursor(state))
    {
        match row {
            Row::Instance(instance) => {
                if let Some(present) = state.snapshot.instance(instance.id()) {
                    add(present);
                }
            }
            Row::Group(group) => drop(groups.insert(group.key.clone())),
        }
    }
    if !groups.is_empty() {
        rows::selected(state)
            .filter(|instance| groups.contains(&group::key_of(state.view, instance)))
            .for_each(&mut add);
    }
    wanted
}
