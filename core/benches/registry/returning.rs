//! A registry that is killed and comes back under many views: how soon all are live again, how they
//! spread, and that none of them lists the cluster anew, since each resumes behind what it has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use skynet::instance::InstanceId;
use skynet::registry::link::Link;
use skynet::registry::{Registry, View};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::Sizes;
use crate::rows;
use crate::server::Server;
use crate::table::{Figure, Table, Unit, percentile};

/// How long the registry is away.
const AWAY: Duration = Duration::from_secs(3);
/// How long it may take until the last view is live: the longest wait of the backoff and a connect.
const BUDGET_SECONDS: f64 = 6.0;
/// The window in which the views that come back together are counted, in seconds.
const WINDOW_SECONDS: f64 = 0.1;
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Instances of the cluster.
const ROWS: u32 = 1_000;

static LISTINGS: AtomicU64 = AtomicU64::new(0);

/// Counts the log lines that tell of a listing.
struct Counter;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Counter {
    fn on_event(
        &self,
        _event: &tracing::Event<'_>,
        _context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        LISTINGS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts every listing of this process from now on.
pub(crate) fn count_listings() {
    let listings = tracing_subscriber::filter::Targets::new()
        .with_target("skynet::registry::list", tracing::Level::DEBUG);
    let subscriber = tracing_subscriber::registry().with(Counter.with_filter(listings));
    // It fails only if there is one already.
    let _known = tracing::subscriber::set_global_default(subscriber);
}

/// Kills the registry under its views.
pub(crate) async fn measure(
    server: &mut Server,
    sizes: Sizes,
    table: &mut Table,
) -> anyhow::Result<()> {
    let numbers: Vec<u32> = (1..ROWS).collect();
    rows::write(&server.client().await?, &numbers, 100).await?;
    let registries: Vec<Registry> = (0..sizes.watchers)
        .map(|_| server.registry())
        .collect::<Result<_, _>>()?;
    let views: Vec<Arc<View>> = registries.iter().map(Registry::view).collect();
    join_all(views.iter().map(|view| view.ready())).await;
    let listings = LISTINGS.load(Ordering::Relaxed);
    server.kill().await?;
    let lost = views.iter().map(|view| async {
        let mut link = view.link();
        let _closed = link.wait_for(|link| !link.is_live()).await;
    });
    timeout(PATIENCE, join_all(lost)).await.context("no loss")?;
    sleep(AWAY).await;
    let mut live = JoinSet::new();
    for view in &views {
        let mut link = view.link();
        live.spawn(async move {
            let _closed = link.wait_for(Link::is_live).await;
            Instant::now()
        });
    }
    server.restart().await?;
    let back = Instant::now();
    let all = timeout(PATIENCE, live.join_all()).await;
    let all = all.context("a view did not come back")?;
    let mut waits: Vec<f64> = all
        .iter()
        .map(|at| at.saturating_duration_since(back).as_secs_f64())
        .collect();
    // One more change shows that they follow, and do not only say so.
    rows::write(&server.client().await?, &[0], 100).await?;
    let id = rows::identity(0).id;
    timeout(PATIENCE, join_all(views.iter().map(|view| seen(view, id))))
        .await
        .context("a view does not follow")?;

    let listings = LISTINGS.load(Ordering::Relaxed) - listings;
    let slowest = percentile(&mut waits, 1.0);
    let name = server.name();
    let what = format!("{} views live after a kill and restart", sizes.watchers);
    table.add(&Figure::new(name, what, slowest, Unit::Seconds).at_most(BUDGET_SECONDS));
    let half = percentile(&mut waits, 0.5);
    table.add(&Figure::new(name, "  half of them", half, Unit::Seconds));
    // Those that asked while it started are all answered at once; that they ask one by one is
    // shown on paused time.
    let busiest = busiest(&waits, WINDOW_SECONDS);
    let what = "  the most of them within 100 ms";
    table.add(&Figure::new(name, what, busiest, Unit::Percent));
    let listings = f64::from(u32::try_from(listings)?);
    table.add(&Figure::new(name, "  listings by all of them", listings, Unit::Count).at_most(0.0));
    Ok(())
}

async fn seen(view: &View, id: InstanceId) {
    let mut changes = view.changes();
    let _closed = changes.wait_for(|now| now.instance(id).is_some()).await;
}

/// The largest share of the sorted times that lies within `window`, in percent.
fn busiest(sorted: &[f64], window: f64) -> f64 {
    let within = |first: &f64| sorted.partition_point(|at| *at <= first + window);
    let most = sorted
        .iter()
        .enumerate()
        .map(|(index, first)| within(first) - index)
        .max()
        .unwrap_or(0);
    let share = |n: usize| u32::try_from(n).map_or(0.0, f64::from);
    100.0 * share(most) / share(sorted.len()).max(1.0)
}
