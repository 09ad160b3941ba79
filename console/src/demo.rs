//! `sky demo`: a whole cluster on this machine, started, shown and taken away again.
//!
//! Invariants: the registry, the daemons and their services are real processes; leaving, for
//! whatever reason but a kill -9, leaves no process and no file behind and takes five seconds at
//! most.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use skynet::client::{Client, Place};
use skynet::registry::RegistryConfig;
use skynet::session::Session;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::report::plain;
use crate::traffic::TrafficCounters;
use crate::tui::{TuiConfig, run_tui};
use cluster::Cluster;

mod cluster;
pub mod example;
mod layout;
mod reaper;
mod traffic;

/// Options of `sky demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many regions the hosts are dealt to.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub regions: u8,
    /// How many hosts, each with a daemon of its own on an address of its own.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub hosts: u8,
    /// Without a console: print one line of JSON when everything is up, and run until stopped.
    #[arg(long)]
    pub headless: bool,
    /// Leave after this time, for example `30s` or `5m`.
    #[arg(long = "for", value_name = "DURATION")]
    pub run_for: Option<humantime::Duration>,
}

/// Starts the cluster, shows it, and takes it away. `registry` is an etcd to run it on; without any, a registry is started as well.
///
/// # Errors
/// When the cluster cannot be started; what had been started is taken away first.
pub async fn run(args: DemoArgs, registry: Option<RegistryConfig>) -> anyhow::Result<()> {
    reaper::adopt_orphans().context("cannot become the parent of orphaned processes")?;
    let reaping = tokio::spawn(reaper::reap_always());
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signals(stop.clone()));
    let mut cluster = Cluster::new(&args, registry)?;
    let counters = watch::Sender::new(TrafficCounters::default());
    // In a task of its own, so that a panic in it still takes the cluster away.
    let shown = {
        let started = tokio::select! {
            started = cluster.start() => started,
            () = stop.cancelled() => Ok(()),
        };
        match started {
            Ok(()) => tokio::spawn(show(args, cluster.view(), counters.clone(), stop)).await,
            Err(error) => Ok(Err(error)),
        }
    };
    reaping.abort();
    cluster.stop().await;
    signals.abort();
    let shown = shown.context("the demo ended with a panic")??;
    print_counters(&counters.borrow(), shown.headless)
}

/// What the task that shows the cluster needs of it.
pub(super) struct ClusterView {
    session: Session,
    report: String,
    instances: usize,
    daemons: usize,
}

struct Shown {
    headless: bool,
}

async fn show(
    args: DemoArgs,
    cluster: ClusterView,
    counters: watch::Sender<TrafficCounters>,
    stop: CancellationToken,
) -> anyhow::Result<Shown> {
    let DemoArgs {
        headless, run_for, ..
    } = args;
    let timer = stop.clone();
    if let Some(run_for) = run_for {
        tokio::spawn(async move {
            tokio::time::sleep(run_for.into()).await;
            timer.cancel();
        });
    }
    let client = Client::connect_from(cluster.session.registry(), Place::default());
    let counted = counters.subscribe();
    if headless {
        tokio::select! {
            up = all_up(&cluster) => up?,
            () = stop.cancelled() => return Ok(Shown { headless }),
        }
        writeln!(std::io::stdout(), "{}", cluster.report).context("cannot print")?;
        traffic::run(client, counters, stop).await;
    } else {
        let traffic = tokio::spawn(traffic::run(client, counters, stop.clone()));
        let config = TuiConfig {
            traffic: Some(counted),
            shutdown: stop.clone(),
            ..TuiConfig::new(cluster.session.clone())
        };
        let left = run_tui(config).await;
        stop.cancel();
        // It ends by itself within half a second.
        drop(traffic.await);
        left?;
    }
    Ok(Shown { headless })
}

/// Waits until every instance and every daemon is ready, for a minute at most.
async fn all_up(cluster: &ClusterView) -> anyhow::Result<()> {
    let wanted = cluster.instances + cluster.daemons;
    let view = cluster.session.view();
    let mut changes = view.changes();
    let up = changes.wait_for(|snapshot| {
        let ready = |state| state == skynet::instance::State::Ready;
        snapshot.instances().filter(|it| ready(it.state)).count() >= wanted
    });
    match tokio::time::timeout(Duration::from_mins(1), up).await {
        Ok(_up) => Ok(()),
        Err(_elapsed) => {
            let known = view.snapshot().len();
            anyhow::bail!("only {known} of {wanted} instances came up within a minute")
        }
    }
}

async fn stop_on_signals(stop: CancellationToken) {
    let listen =
        |kind| signal(kind).inspect_err(|error| tracing::warn!(%error, "a signal is not heard"));
    let (Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)) = (
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
        listen(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}

fn print_counters(counters: &TrafficCounters, as_json: bool) -> anyhow::Result<()> {
    let TrafficCounters {
        sent,
        ok,
        failed,
        last_error,
    } = counters;
    let mut stdout = std::io::stdout();
    let printed = if as_json {
        let line = serde_json::json!({
            "sent": sent, "ok": ok, "failed": failed, "last_error": last_error
        });
        writeln!(stdout, "{line}")
    } else {
        let error = last_error
            .as_ref()
            .map_or_else(String::new, |error| format!(" ({})", plain(error)));
        writeln!(
            stdout,
            "calls: {sent} sent, {ok} ok, {failed} failed{error}"
        )
    };
    match printed {
        // Whoever read us is gone, and so is the wish for the counters.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot print the counters"),
    }
}
