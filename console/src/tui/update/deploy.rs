//! Starting a program on hosts: which program, and the question before it.
//!
//! Invariants: the hosts are frozen when the key is pressed; only hosts with a daemon are named.

use std::collections::BTreeSet;
use std::sync::Arc;

use skynet::session::DeployPlan;
use skynet::session::plan::Demand;

use super::change::{close_menu, refusal, row_refusal};
use crate::tui::effect::Effect;
use crate::tui::format::plural;
use crate::tui::rows::{self, window};
use crate::tui::state::layer::{Confirm, DeployPrompt, Layer, Plan};
use crate::tui::state::line::Line;
use crate::tui::state::row::{Row, RowKey};
use crate::tui::state::{State, Tone};

/// Up to so many starts, a `y` is enough.
const FEW: usize = 5;

/// Asks which program to start on the hosts behind the row under the cursor.
pub(super) fn ask_program(state: &mut State) -> Vec<Effect> {
    close_menu(state);
    if let Some(why) = refusal(state).or_else(|| row_refusal(state).map(str::to_owned)) {
        state.toast(Tone::Warning, why);
        return Vec::new();
    }
    let Some(key) = window::under_cursor(state).map(Row::key) else {
        return Vec::new();
    };
    let names: BTreeSet<Arc<str>> = match &key {
        RowKey::Host(name) => [Arc::clone(name)].into(),
        RowKey::Region(region) => state
            .snapshot
            .hosts()
            .filter(|host| host.region == *region)
            .map(|host| Arc::clone(&host.name))
            .collect(),
        key => rows::instances_behind(state, key)
            .iter()
            .map(|instance| Arc::clone(instance.host()))
            .collect(),
    };
    let hosts: Vec<_> = names
        .iter()
        .filter_map(|name| state.snapshot.host(name).cloned())
        .collect();
    if hosts.is_empty() {
        state.toast(
            Tone::Warning,
            "nothing to deploy to: the row has no host with a daemon",
        );
        return Vec::new();
    }
    state.layers.push(Layer::Deploy(Box::new(DeployPrompt {
        hosts,
        line: Line::default(),
        problem: None,
    })));
    Vec::new()
}

/// Enter in the question for a program.
pub(super) fn accept_program(state: &mut State) -> Vec<Effect> {
    let Some(Layer::Deploy(prompt)) = state.layers.last_mut() else {
        return Vec::new();
    };
    let text = prompt.line.text().trim();
    let (path, args) = text.split_once(' ').unwrap_or((text, ""));
    if path.is_empty() {
        prompt.problem = Some("name a program: a path, or a name on the daemon's PATH".to_owned());
        return Vec::new();
    }
    let plan = DeployPlan {
        hosts: prompt.hosts.clone(),
        path: path.to_owned(),
        args: args.trim().to_owned(),
        per_host: 1,
    };
    let count = plan.count();
    let confirm = Confirm {
        title: format!("Deploy to {}", plural(count, "host", "hosts")),
        lines: plan.lines(),
        demand: if count > FEW {
            Demand::Count(count)
        } else {
            Demand::Yes
        },
        plan: Plan::Deploy(Arc::new(plan)),
        typed: Line::default(),
        offset: 0,
    };
    state.layers.pop();
    state.layers.push(Layer::Confirm(Box::new(confirm)));
    Vec::new()
}
