//! Changes: what they hit, and the question before them.
//!
//! Invariants: the targets are frozen when the verb's key is pressed; nothing is asked while the link
//! is lost, the filter is broken, or the row is only a ghost; Skynet's own daemons are not hit from
//! here.

use std::sync::Arc;

use skynet::instance::{Instance, State as InstanceState};
use skynet::query::{Query, Verb};
use skynet::session::plan::ChangePlan;

use super::deploy;
use crate::tui::effect::Effect;
use crate::tui::format::plural;
use crate::tui::rows::{self, window};
use crate::tui::state::layer::{Confirm, Layer, Plan};
use crate::tui::state::line::Line;
use crate::tui::state::row::{Lingering, Row, RowKey};
use crate::tui::state::{State, Tone};

/// One entry of the menu of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Change the instances behind the row.
    Change(Verb),
    /// Start a program on the hosts behind the row.
    Deploy,
}

/// The menu of actions.
pub const MENU: [Entry; 6] = [
    Entry::Change(Verb::Register),
    Entry::Change(Verb::Unregister),
    Entry::Change(Verb::Restart),
    Entry::Change(Verb::Stop),
    Entry::Change(Verb::Start),
    Entry::Deploy,
];

/// Why nothing may be changed now, if so.
pub(super) fn refusal(state: &State) -> Option<String> {
    let broken = "the filter does not parse: mend or clear it (`/`) before acting on rows";
    state
        .link
        .refusal()
        .or_else(|| state.filter.is_broken().then(|| broken.to_owned()))
}

/// Why the row under the cursor cannot be acted on, if so.
pub(super) fn row_refusal(state: &State) -> Option<&'static str> {
    let Some(row) = window::under_cursor(state) else {
        return Some("there is no row to act on");
    };
    let gone = match row {
        Row::Instance(instance) => state.snapshot.instance(instance.id()).is_none(),
        Row::Group(_) => false,
    };
    match state.rows.lingering(&row.key()) {
        Some(Lingering::Gone) => Some("the row is gone: move the cursor to another one"),
        Some(Lingering::Unmatched) => Some("the row no longer matches the filter"),
        None if gone => Some("the row is gone: move the cursor to another one"),
        None => None,
    }
}

pub(super) fn open_menu(state: &mut State) -> Vec<Effect> {
    match refusal(state).or_else(|| row_refusal(state).map(str::to_owned)) {
        Some(why) => state.toast(Tone::Warning, why),
        None => state.layers.push(Layer::Menu(0)),
    }
    Vec::new()
}

/// Enter in the menu.
pub(super) fn choose(state: &mut State) -> Vec<Effect> {
    let Some(Layer::Menu(chosen)) = state.layers.last() else {
        return Vec::new();
    };
    match MENU.get(*chosen) {
        Some(Entry::Change(verb)) => under_cursor(state, *verb),
        Some(Entry::Deploy) => deploy::ask_program(state),
        None => Vec::new(),
    }
}

pub(super) fn close_menu(state: &mut State) {
    if matches!(state.layers.last(), Some(Layer::Menu(_))) {
        state.layers.pop();
    }
}

/// A change of what the row under the cursor stands for.
pub(super) fn under_cursor(state: &mut State, verb: Verb) -> Vec<Effect> {
    close_menu(state);
    if let Some(why) = refusal(state).or_else(|| row_refusal(state).map(str::to_owned)) {
        state.toast(Tone::Warning, why);
        return Vec::new();
    }
    let Some(key) = window::under_cursor(state).map(Row::key) else {
        return Vec::new();
    };
    let instances = rows::instances_behind(state, &key);
    let what = match &key {
        RowKey::Instance(_) => "the row under the cursor".to_owned(),
        key if state.filter.query().is_all() => format!("all instances {}", group_name(key)),
        key => format!("all instances {} that match the filter", group_name(key)),
    };
    confirm(state, verb, &instances, &what);
    Vec::new()
}

fn group_name(key: &RowKey) -> String {
    match key {
        RowKey::Instance(id) => format!("with id `{id}`"),
        RowKey::Region(name) => format!("in region `{name}`"),
        RowKey::Host(name) => format!("on host `{name}`"),
        RowKey::Service(name) => format!("of service `{name}`"),
        RowKey::Version(name, version) => format!("of service `{name}` version `{version}`"),
    }
}

/// A change of what matches `query` among the rows that the filter selects.
pub(super) fn matching(state: &mut State, verb: Verb, query: &Query) -> Vec<Effect> {
    if let Some(why) = refusal(state) {
        state.toast(Tone::Warning, why);
        return Vec::new();
    }
    let instances: Vec<Arc<Instance>> = rows::selected(state)
        .filter(|instance| rows::selects(state, query, instance))
        .cloned()
        .collect();
    confirm(
        state,
        verb,
        &instances,
        &format!("what matches `{query}` among the rows"),
    );
    Vec::new()
}

/// Freezes the targets and asks.
fn confirm(state: &mut State, verb: Verb, instances: &[Arc<Instance>], what: &str) {
    let (system, usual): (Vec<_>, Vec<_>) =
        instances.iter().partition(|instance| instance.is_system());
    let targets: Vec<&Arc<Instance>> = usual
        .into_iter()
        .filter(|instance| applies(verb, instance))
        .collect();
    if targets.is_empty() {
        let why = nothing_to_do(verb, instances.len(), system.len());
        state.toast(Tone::Warning, why);
        return;
    }
    let plan = ChangePlan::freeze(verb, targets, &state.snapshot);
    let mut lines = vec![format!("Target: {what}.")];
    let left_out = instances.len() - system.len() - plan.targets.len();
    if left_out > 0 {
        let already = plural(left_out, "instance is", "instances are");
        lines.push(format!("{already} left out: {}.", no_need(verb)));
    }
    if !system.is_empty() {
        let daemons = plural(system.len(), "daemon", "daemons");
        lines.push(format!("{daemons} of Skynet left out."));
    }
    lines.push(String::new());
    lines.extend(plan.lines());
    state.layers.push(Layer::Confirm(Box::new(Confirm {
        title: plan.title(),
        demand: plan.demand(),
        plan: Plan::Change(Arc::new(plan)),
        lines,
        typed: Line::default(),
        offset: 0,
    })));
}

/// Whether the verb would change anything of the instance.
fn applies(verb: Verb, instance: &Instance) -> bool {
    let runs = !instance.state.is_child_only();
    match verb {
        Verb::Register => runs && !instance.registered,
        Verb::Unregister => runs && instance.registered,
        Verb::Start => !runs,
        Verb::Stop => !matches!(instance.state, InstanceState::Stopped | InstanceState::Done),
        Verb::Restart => runs,
    }
}

fn no_need(verb: Verb) -> &'static str {
    match verb {
        Verb::Register => "they are registered or do not run",
        Verb::Unregister => "they are not registered",
        Verb::Start => "they run already",
        Verb::Stop => "they are stopped already",
        Verb::Restart => "they do not run",
    }
}

fn nothing_to_do(verb: Verb, count: usize, system: usize) -> String {
    if count == 0 {
        return format!("nothing to {verb}: no instance matches");
    }
    if system == count {
        return format!(
            "nothing to {verb}: daemons belong to Skynet itself and are not changed from here"
        );
    }
    let word = plural(count - system, "instance", "instances");
    format!("nothing to {verb} among {word}: {}", no_need(verb))
}
