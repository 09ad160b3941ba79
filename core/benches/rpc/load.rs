//! One round of calls, as fast as they come back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Somebody who makes one call after the other.
pub(crate) trait Call: Send + 'static {
    /// One call, whose answer must be as long as what was sent.
    fn call(&mut self, data: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// How much is asked at once, of what size, for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Connections, and calls in flight on each.
    pub(crate) shape: (usize, usize),
    pub(crate) bytes: usize,
    pub(crate) round: Duration,
}

/// What one round brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} {}",
            self.per_second, self.p50_us, self.p99_us
        )
    }
}

fn data(load: Load) -> Arc<str> {
    "a".repeat(load.bytes).into()
}

/// The callers, each with a few calls behind it.
pub(crate) async fn warmed_up<C: Call>(mut callers: Vec<C>, load: Load) -> anyhow::Result<Vec<C>> {
    let data = data(load);
    for caller in &mut callers {
        caller.call(&data).await?;
    }
    Ok(callers)
}

/// Calls until the round is over; how long each took in nanoseconds, and how long all did.
pub(crate) async fn calls<C: Call>(
    callers: Vec<C>,
    load: Load,
) -> anyhow::Result<(Vec<u32>, Duration)> {
    let data = data(load);
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    let until = began + load.round;
    for mut caller in callers {
        let data = Arc::clone(&data);
        tasks.spawn(async move {
            let mut took: Vec<u32> = Vec::with_capacity(4096);
            let mut now = Instant::now();
            while now < until {
                caller.call(&data).await?;
                let then = Instant::now();
                took.push(u32::try_from((then - now).as_nanos()).unwrap_or(u32::MAX));
                now = then;
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.append(&mut done??);
    }
    Ok((took, began.elapsed()))
}

/// One round for its speed.
pub(crate) async fn speed<C: Call>(callers: Vec<C>, load: Load) -> anyhow::Result<Measured> {
    let (mut took, elapsed) = calls(callers, load).await?;
    took.sort_unstable();
    let at = |percent: usize| {
        took.get(took.len() * percent / 100)
            .map(|nanos| f64::from(*nanos) / 1000.0)
            .context("not one call was made")
    };
    let calls = u32::try_from(took.len())?;
    Ok(Measured {
        per_second: f64::from(calls) / elapsed.as_secs_f64(),
        p50_us: at(50)?,
        p99_us: at(99)?,
    })
}
