//! What the service takes in memory: with connections that say nothing, and over a long load.

use std::time::Duration;

use skynet::rpc::{ConnectOptions, Connection};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::load::Call as _;
use crate::peers::{self, Peer};
use crate::process::{self, Server};

/// How many connections say nothing.
pub(crate) const IDLE: usize = 1000;

/// What they may take together, in MiB.
pub(crate) const IDLE_LIMIT_MIB: f64 = 20.0;

/// What the soak asks for each second.
const SOAK_PER_SECOND: u32 = 50_000;

/// The soak's callers, on so many connections, and how often each makes its calls.
const SOAK_SHAPE: (usize, usize) = (5, 10);
const SOAK_TICK: Duration = Duration::from_millis(10);

/// How much more than after its first fifth a process may hold at the soak's end, in MiB: pages that
/// the allocator touches for the first time.
const SOAK_GROWTH_MIB: f64 = 1.0;

#[expect(
    clippy::cast_precision_loss,
    reason = "the memory of a process is far below 2^52 KiB"
)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The service's memory without connections and with many that are idle, in MiB.
pub(crate) async fn idle() -> anyhow::Result<(f64, f64)> {
    let server = Server::start(Peer::Skynet)?;
    let address = server.place.parse()?;
    let before = server.resident_kib()?;
    let mut connections = Vec::new();
    for _ in 0..IDLE {
        connections.push(Connection::open(address, &ConnectOptions::default()).await?);
    }
    // The last one's handshake is read once a call on it is answered.
    let mut caller = peers::Caller::Skynet(connections[IDLE - 1].clone());
    caller.call("served").await?;
    let after = server.resident_kib()?;
    anyhow::ensure!(
        connections.iter().all(|connection| !connection.is_closed()),
        "an idle connection was closed"
    );
    Ok((mib(before), mib(after)))
}

/// Calls at a steady rate for so long; whether both processes held as much memory at the end as
/// after the first fifth.
pub(crate) async fn soak(length: Duration) -> anyhow::Result<bool> {
    let server = Server::start(Peer::Skynet)?;
    let own = std::process::id();
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    let until = began + length;
    for mut caller in peers::callers(Peer::Skynet, &server.place, SOAK_SHAPE).await? {
        tasks.spawn(async move {
            let callers = u32::try_from(SOAK_SHAPE.0 * SOAK_SHAPE.1)?;
            let ticks = u32::try_from(SOAK_TICK.as_millis())?;
            let each = SOAK_PER_SECOND / callers * ticks / 1000;
            let data = "a".repeat(64);
            let mut ticks = interval(SOAK_TICK);
            // Who is late catches up: the rate is what was asked for.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut calls = 0_u32;
            while Instant::now() < until {
                ticks.tick().await;
                for _ in 0..each {
                    caller.call(&data).await?;
                }
                calls += each;
            }
            anyhow::Ok(calls)
        });
    }
    println!(
        "{:>8} {:>12} {:>12}",
        "seconds", "service MiB", "caller MiB"
    );
    let mut seen = Vec::new();
    for fifth in 1..=5 {
        tokio::time::sleep_until(began + length * fifth / 5).await;
        let (service, caller) = (server.resident_kib()?, process::resident_kib(own)?);
        println!(
            "{:>8.0} {:>12.2} {:>12.2}",
            began.elapsed().as_secs_f64(),
            mib(service),
            mib(caller)
        );
        seen.push((service, caller));
    }
    let mut calls = 0.0;
    while let Some(done) = tasks.join_next().await {
        calls += f64::from(done??);
    }
    let (first, last) = (seen[0], seen[4]);
    let growth =
        [(first.0, last.0), (first.1, last.1)].map(|(first, last)| mib(last.saturating_sub(first)));
    let is_flat = growth.iter().all(|growth| *growth <= SOAK_GROWTH_MIB);
    println!(
        "{:.0} calls/s, memory {}: service +{:.2} MiB, caller +{:.2} MiB since the first fifth",
        calls / began.elapsed().as_secs_f64(),
        if is_flat { "flat" } else { "GROWS" },
        growth[0],
        growth[1],
    );
    Ok(is_flat)
}
