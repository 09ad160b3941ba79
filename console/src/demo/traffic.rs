//! Steady traffic through the cluster, with counters.
//!
//! Invariant: a call is counted as sent when it begins and as ok or failed when it ends; calls that
//! the demo itself gives up when it leaves count as neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skynet::client::{CallError, Client, ServiceClient};
use skynet::hint::chain;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::traffic::TrafficCounters;

/// Calls under way at most; more would only queue.
const AT_ONCE: usize = 512;
/// How often the counters are shown.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// How long calls under way are waited for at the end.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

#[derive(Serialize)]
struct Index {
    index: i64,
}

#[derive(Deserialize)]
struct Number {
    index: i64,
    value: i64,
}

#[derive(Serialize, Deserialize)]
struct Nap {
    ms: i64,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
}

/// Makes calls until it is told to stop, waits a little for those that are under way, and shows the
/// counters all the while.
pub(super) async fn run(
    client: Client,
    show: watch::Sender<TrafficCounters>,
    stop: CancellationToken,
) {
    let counts = Arc::new(Counts::default());
    let service = |name: &str| {
        // The names are ours and plain, so the query always reads.
        name.parse().map(|query| client.service(query)).ok()
    };
    let (Some(upcase), Some(fibonacci), Some(sleeper)) = (
        service("service=TestService registered"),
        service("service=Fibonacci registered"),
        service("service=Sleeper registered"),
    ) else {
        return;
    };
    let mut calls: JoinSet<Result<(), CallError>> = JoinSet::new();
    let mut upcases = every(Duration::from_millis(20));
    let mut numbers = every(Duration::from_millis(250));
    let mut naps = every(Duration::from_millis(200));
    let mut shown = every(SHOW_EVERY);
    let mut last_error = None;
    let mut turn: i64 = 0;
    let mut leave_at = None;
    loop {
        let is_over = leave_at.is_some_and(|leave_at| Instant::now() >= leave_at);
        if is_over || (leave_at.is_some() && calls.is_empty()) {
            show.send_replace(counters(&counts, last_error));
            return;
        }
        let room = leave_at.is_none() && calls.len() < AT_ONCE;
        tokio::select! {
            () = stop.cancelled(), if leave_at.is_none() => {
                leave_at = Some(Instant::now() + LEAVE_WITHIN);
            }
            _ = upcases.tick(), if room => {
                turn += 1;
                let data = format!("call number {turn}");
                let wanted = data.to_uppercase();
                let upcase = upcase.clone();
                begin(&mut calls, &counts, async move {
                    let text: Text = call(&upcase, "Upcase", Text { data }).await?;
                    debug_assert_eq!(text.data, wanted);
                    Ok(())
                });
            }
            _ = numbers.tick(), if room => {
                let (fibonacci, index) = (fibonacci.clone(), turn % 8);
                begin(&mut calls, &counts, async move {
                    let number: Number = call(&fibonacci, "Index", Index { index }).await?;
                    debug_assert!(number.index == index && number.value >= 0);
                    Ok(())
                });
            }
            _ = naps.tick(), if room => {
                let sleeper = sleeper.clone();
                begin(&mut calls, &counts, async move {
                    let _nap: Nap = call(&sleeper, "Sleep", Nap { ms: 100 }).await?;
                    Ok(())
                });
            }
            Some(ended) = calls.join_next() => {
                let outcome = match ended {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(chain(&error)),
                    Err(panic) => Some(panic.to_string()),
                };
                let count = if outcome.is_none() { &counts.ok } else { &counts.failed };
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(error) = outcome {
                    tracing::warn!(%error, "a call failed");
                    last_error = Some(error);
                    show.send_replace(counters(&counts, last_error.clone()));
                }
            }
            _ = shown.tick() => {
                show.send_replace(counters(&counts, last_error.clone()));
            }
        }
    }
}

async fn call<I: Serialize, O: DeserializeOwned>(
    service: &ServiceClient,
    method: &str,
    input: I,
) -> Result<O, CallError> {
    service.call(method, &input).await
}

fn begin(
    calls: &mut JoinSet<Result<(), CallError>>,
    counts: &Counts,
    call: impl Future<Output = Result<(), CallError>> + Send + 'static,
) {
    counts.sent.fetch_add(1, Ordering::Relaxed);
    calls.spawn(call);
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick would come at once, three times over.
    ticks.reset_at(Instant::now() + period);
    ticks
}

fn counters(counts: &Counts, last_error: Option<String>) -> TrafficCounters {
    TrafficCounters {
        sent: counts.sent.load(Ordering::Relaxed),
        ok: counts.ok.load(Ordering::Relaxed),
        failed: counts.failed.load(Ordering::Relaxed),
        last_error,
    }
}
