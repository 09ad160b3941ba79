//! The load mode of the example clients: as many calls as a service takes, or so many a second, and
//! what became of them.
//!
//! Times are measured from when a call was due: one that has to wait for its turn, because those
//! before it take long, is as late as its user would find it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skynet::client::{CallError, CallOptions, ServiceClient};
use skynet::hint::{Hint, chain};
use skynet::metrics::ServiceClientMetrics;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

/// The flags of the load mode.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Calls again and again, and tells calls/s and percentiles
    #[arg(long = "load")]
    pub(crate) wanted: bool,
    /// Calls a second to begin; as many as possible unless it is said
    #[arg(long, requires = "wanted")]
    rate: Option<f64>,
    /// Calls under way at once
    #[arg(long, requires = "wanted", default_value_t = 64)]
    concurrency: usize,
    /// How long, like `10s` or `5m`
    #[arg(long = "for", requires = "wanted", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long a call may take, like `500ms`
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) deadline: Duration,
}

impl Load {
    /// How each call is made.
    pub(crate) fn options(&self) -> CallOptions {
        CallOptions {
            deadline: self.deadline,
            ..CallOptions::default()
        }
    }
}

/// The error, and what to do about it.
pub(crate) fn advised(error: &CallError) -> anyhow::Error {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}"));
    let advice = chain(error) + hint.as_deref().unwrap_or_default();
    anyhow::anyhow!(advice)
}

/// How late the runtime's timer may be by itself; that is not the service's fault.
const TIMER: Duration = Duration::from_millis(2);

/// When each call that is under way was due.
type Due = Arc<Mutex<HashMap<usize, Instant>>>;

/// The inputs, each when it is due, until the time is over.
fn inputs<I: Send + 'static>(
    load: &Load,
    due: &Due,
    input: impl Fn(usize) -> I + Send + 'static,
) -> impl Stream<Item = I> + Send + 'static {
    let start = Instant::now();
    let (end, pace) = (start + load.duration, load.rate.map(f64::recip));
    let due = Arc::clone(due);
    let numbers = futures_util::stream::unfold(0_usize, move |number| {
        let due = Arc::clone(&due);
        async move {
            let mut at = match pace {
                #[expect(clippy::cast_precision_loss, reason = "calls are counted")]
                Some(pace) => start + Duration::from_secs_f64(pace * number as f64),
                None => Instant::now(),
            };
            if at >= end {
                return None;
            }
            // Its grain is a millisecond, also for what is due now.
            if at > Instant::now() {
                sleep_until(at).await;
            }
            let now = Instant::now();
            if now.saturating_duration_since(at) < TIMER {
                at = now;
            }
            let mut due = due.lock().unwrap_or_else(PoisonError::into_inner);
            due.insert(number, at);
            Some((number, number + 1))
        }
    });
    numbers.map(input)
}

/// Calls `method` with inputs that are made from their number, and prints what became of it.
///
/// # Errors
/// When not one call succeeded: with what became of the first.
#[expect(clippy::print_stdout, reason = "this is what the example is for")]
pub(crate) async fn run<I, O>(
    client: &ServiceClient,
    method: &str,
    load: &Load,
    input: impl Fn(usize) -> I + Send + 'static,
) -> anyhow::Result<()>
where
    I: Serialize + Send + Sync + 'static,
    O: DeserializeOwned + Send + 'static,
{
    let due = Due::default();
    let calls = client.calls_from(method, inputs(load, &due, input));
    let calls = calls.at_most(load.concurrency).with(load.options());
    let mut answers = calls.as_completed::<O>();
    let start = Instant::now();
    let (mut all, mut second) = (Times::default(), Times::default());
    let mut first_error: Option<CallError> = None;
    let mut tick = interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            answer = answers.next() => {
                let Some((number, answer)) = answer else { break };
                let at = due.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                let took = at.map_or(Duration::ZERO, |at| at.elapsed());
                all.add(took);
                second.add(took);
                if let Err(error) = answer {
                    first_error.get_or_insert(error);
                }
            }
            now = tick.tick() => {
                let seconds = now.saturating_duration_since(start).as_secs();
                let failed = failures(&client.metrics());
                println!("{seconds:>5} s  {:>8} calls/s  {}  {failed} failed", second.count, second.percentiles());
                second = Times::default();
            }
            _ = &mut interrupted => break,
        }
    }
    drop(answers);
    let elapsed = start.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "calls are counted")]
    let per_second = all.count as f64 / elapsed.as_secs_f64();
    println!(
        "total: {} calls in {elapsed:.1?}, {per_second:.0} calls/s",
        all.count
    );
    println!("times: {}", all.percentiles());
    tell_outcomes(&client.metrics());
    let Some(error) = first_error else {
        return Ok(());
    };
    println!("the first that failed: {}", advised(&error));
    anyhow::ensure!(client.metrics().succeeded > 0, "not one call succeeded");
    Ok(())
}

fn failures(metrics: &ServiceClientMetrics) -> i64 {
    metrics.failed + metrics.not_sent + metrics.not_executed + metrics.unknown
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn tell_outcomes(metrics: &ServiceClientMetrics) {
    println!(
        "outcomes: {} succeeded, {} failed, {} not sent, {} not executed, {} unknown; {} retries",
        metrics.succeeded,
        metrics.failed,
        metrics.not_sent,
        metrics.not_executed,
        metrics.unknown,
        metrics.retries,
    );
}

/// Times of calls, each rounded to three digits, so that a long run needs no more memory than a
/// short one.
#[derive(Debug, Default)]
struct Times {
    count: u64,
    by_us: BTreeMap<u64, u64>,
}

impl Times {
    fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let unit = 10_u64.pow(us.max(1).ilog10().saturating_sub(2));
        *self.by_us.entry(us / unit * unit).or_default() += 1;
        self.count += 1;
    }

    /// What this many of a thousand took at most.
    fn percentile(&self, per_mille: u64) -> Duration {
        let rank = (self.count * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (us, count) in &self.by_us {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(*us);
            }
        }
        Duration::ZERO
    }

    fn percentiles(&self) -> String {
        [
            ("p50", 500),
            ("p90", 900),
            ("p99", 990),
            ("p99.9", 999),
            ("max", 1000),
        ]
        .map(|(name, per_mille)| format!("{name} {:>7?}", self.percentile(per_mille)))
        .join("  ")
    }
}
