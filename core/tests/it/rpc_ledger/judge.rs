//! Compares what callers were told with what was executed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use skynet::rpc::Outcome;

use super::load::{AllTold, Told};

/// Retries may be a fifth of the calls and ten a second, and ten at the beginning.
const PER_CALL: f64 = 1.2;
const PER_SECOND: f64 = 10.0;

/// Fails unless every caller was told the truth.
pub(crate) fn judge(told: &AllTold, executed: &HashMap<String, u32>) {
    let lies: Vec<_> = told
        .calls
        .iter()
        .filter_map(|(id, told)| {
            let times = executed.get(id).copied().unwrap_or(0);
            lie(told, times).map(|why| format!("{id}: {why}: executed {times} times, {told:?}"))
        })
        .collect();
    print(&figures(told, executed));
    assert!(lies.is_empty(), "{} lies: {lies:#?}", lies.len());
    let unasked = executed.keys().find(|id| !told.calls.contains_key(*id));
    assert_eq!(unasked, None, "executed and never asked for");
    let (attempts, most) = attempts(told);
    assert!(attempts <= most, "{attempts} attempts, at most {most}");
    let succeeded = told.calls.values().any(|told| told.failed.is_none());
    assert!(succeeded, "nothing succeeded");
}

/// What is not true, if anything is not.
fn lie(told: &Told, times: u32) -> Option<&'static str> {
    if times > 1 && !told.kind.may_run_twice() {
        return Some("executed twice");
    }
    let executed = times > 0;
    match told.failed.as_ref().map(|(outcome, _)| *outcome) {
        None if !executed => Some("succeeded and never executed"),
        Some(Outcome::Failed) if !executed => Some("failed and never executed"),
        Some(Outcome::NotSent | Outcome::NotExecuted) if executed => Some("executed all the same"),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test")]
fn attempts(told: &AllTold) -> (f64, f64) {
    let calls = told.calls.len() as f64;
    let most = PER_CALL * calls + PER_SECOND * (told.took.as_secs_f64() + 1.0);
    (calls + told.further_attempts as f64, most)
}

fn figures(told: &AllTold, executed: &HashMap<String, u32>) -> String {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut took: Vec<Duration> = Vec::new();
    for call in told.calls.values() {
        let end = call.failed.as_ref().map_or_else(
            || "succeeded".to_owned(),
            |(outcome, _)| format!("failed as \"{outcome}\""),
        );
        *ends.entry(end).or_default() += 1;
        if call.failed.is_none() {
            took.push(call.took);
        }
    }
    took.sort_unstable();
    let percentile = |pct: usize| took.get((took.len() * pct / 100).min(took.len() - 1));
    let percentiles = [50, 90, 99, 100].map(|pct| percentile(pct).copied().unwrap_or_default());
    let twice = |may: bool| {
        let calls = told.calls.iter();
        calls
            .filter(|(id, told)| {
                told.kind.may_run_twice() == may
                    && executed.get(*id).is_some_and(|times| *times > 1)
            })
            .count()
    };
    let (attempts, most) = attempts(told);
    format!(
        "{} calls in {:.1} s: {ends:?}; {attempts} attempts of {most:.0} allowed; executed {}, \
         twice though they may not: {}, twice as they may: {}; p50, p90, p99, longest of what \
         succeeded: {percentiles:?}",
        told.calls.len(),
        told.took.as_secs_f64(),
        executed.len(),
        twice(false),
        twice(true),
    )
}

/// One line for who runs it with `--nocapture`.
#[expect(
    clippy::print_stdout,
    reason = "figures are for people; tests capture this"
)]
fn print(line: &str) {
    println!("{line}");
}
