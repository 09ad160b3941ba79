//! Answers to questions, and what came of what was confirmed.
//!
//! Invariants: the plan that was shown is the plan that is carried out, and only by the right answer
//! while the link is live; partial failure is never told as success.

use skynet::query::Verb;

use crate::tui::effect::{Effect, TargetOutcome, Ticket};
use crate::tui::state::layer::{Layer, Plan};
use crate::tui::state::{Running, State, Tone};

/// How many failures a message tells one by one.
const TOLD: usize = 4;

/// Enter after an answer was typed.
pub(super) fn answer_typed(state: &mut State) -> Vec<Effect> {
    match state.layers.last() {
        Some(Layer::Confirm(confirm)) => {
            let text = confirm.typed.text().to_owned();
            answer(state, &text)
        }
        _ => Vec::new(),
    }
}

/// An answer to the question on top: only the right one does anything.
pub(super) fn answer(state: &mut State, text: &str) -> Vec<Effect> {
    let Some(Layer::Confirm(confirm)) = state.layers.last() else {
        return Vec::new();
    };
    if let Some(why) = state.link.refusal() {
        state.toast(Tone::Warning, format!("nothing was done: {why}"));
        return Vec::new();
    }
    if !confirm.demand.is_met_by(text) {
        state.layers.pop();
        state.toast(Tone::Warning, "not confirmed: nothing was done");
        return Vec::new();
    }
    let plan = confirm.plan.clone();
    state.layers.pop();
    let ticket = state.ticket();
    let (what, done, effect) = match plan {
        Plan::Change(plan) => (
            format!("{} {}", plan.verb, plan.targets.len()),
            past(plan.verb),
            Effect::Change { ticket, plan },
        ),
        Plan::Deploy(plan) => (
            format!("deploy to {}", plan.count()),
            "started",
            Effect::Deploy { ticket, plan },
        ),
    };
    state.running.push(Running { ticket, what, done });
    vec![effect]
}

const fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Register => "registered",
        Verb::Unregister => "unregistered",
        Verb::Start => "started",
        Verb::Stop => "stopped",
        Verb::Restart => "restarted",
    }
}

/// A change was not even begun.
pub(super) fn refused(state: &mut State, ticket: Ticket, why: &str) -> Vec<Effect> {
    if let Some(at) = state.running.iter().position(|it| it.ticket == ticket) {
        let running = state.running.remove(at);
        state.toast(
            Tone::Failure,
            format!("{}: nothing was done: {why}", running.what),
        );
    }
    Vec::new()
}

/// A change came to its end: partial failure is never told as success.
pub(super) fn done(state: &mut State, ticket: Ticket, results: &[TargetOutcome]) -> Vec<Effect> {
    let Some(at) = state.running.iter().position(|it| it.ticket == ticket) else {
        return Vec::new();
    };
    let running = state.running.remove(at);
    let failures: Vec<&TargetOutcome> = results
        .iter()
        .filter(|result| result.outcome.is_err())
        .collect();
    let succeeded = results.len() - failures.len();
    let headline = format!("{} {succeeded} of {}", running.done, results.len());
    if failures.is_empty() {
        state.toast(Tone::Good, headline);
        return Vec::new();
    }
    for failure in failures.iter().take(TOLD).rev() {
        if let Err(why) = &failure.outcome {
            state.toast(Tone::Failure, format!("{}: {why}", failure.target));
        }
    }
    let more = failures.len().saturating_sub(TOLD);
    let rest = if more > 0 {
        format!(", {more} more failed alike or otherwise")
    } else {
        String::new()
    };
    state.toast(
        Tone::Failure,
        format!("{headline}, {} failed{rest}", failures.len()),
    );
    Vec::new()
}
