//! Instances that are registered at once: with leases that many in a process share, and with a
//! lease, a connection and a handle each, as of processes of their own.

use std::time::Duration;

use etcd_client::{Client, GetOptions};
use futures_util::future::{join_all, try_join_all};
use skynet::instance::ProcessId;
use skynet::registry::{Registration, Registry};
use tokio::time::{Instant, sleep, timeout};

use crate::Sizes;
use crate::rows;
use crate::server::{PREFIX, Server};
use crate::table::{Figure, Table, Unit, percentile};

/// How long all may take.
const BUDGET_SECONDS: f64 = 20.0;
/// How long the leases must have held when they are counted: more than their time to live.
const HOLD: Duration = Duration::from_secs(15);
/// After so long the bench gives up on those that do not stand.
const PATIENCE: Duration = Duration::from_mins(1);

/// Registrations that stand, with their handles.
struct Standing {
    /// How long each took, in seconds; those that did not come are missing.
    took: Vec<f64>,
    _registrations: Vec<Registration>,
    _registries: Vec<Registry>,
}

/// Registers on two fresh stretches of the cluster: plainly, then through the machinery; with as
/// many registrations as there are processes, each has a lease of its own.
pub(crate) async fn measure(
    server: &Server,
    sizes: Sizes,
    processes: u32,
    table: &mut Table,
) -> anyhow::Result<()> {
    let n = sizes.registrations;
    let mut client = server.client().await?;
    // A busy machine may be too much for a loop that tries everything once.
    let plain = plain(server, processes, n)
        .await
        .inspect_err(|error| eprintln!("the plain loop failed: {error:#}"))
        .ok();
    let others = count(&mut client).await?;
    let mut standing = ours(server, processes, n).await?;
    let what = if processes == n {
        format!("{n} registered, each with its own lease")
    } else {
        format!("{n} registered by {processes} processes")
    };
    let figure = Figure::new(
        server.name(),
        what,
        percentile(&mut standing.took, 1.0),
        Unit::Seconds,
    )
    .at_most(BUDGET_SECONDS);
    table.add(&match plain {
        Some(plain) => figure.beside(plain.as_secs_f64()),
        None => figure,
    });
    let most = percentile(&mut standing.took, 0.99);
    table.add(&Figure::new(
        server.name(),
        "  99 of 100 of them",
        most,
        Unit::Seconds,
    ));
    let missing = f64::from(n) - f64::from(u32::try_from(standing.took.len())?);
    table.add(&Figure::new(server.name(), "  not registered", missing, Unit::Count).at_most(0.0));
    let revision = server.revision().await?;
    sleep(HOLD).await;
    let lost = others + i64::from(n) - count(&mut client).await?;
    let rewritten = server.revision().await? - revision;
    table.add(
        &Figure::new(
            server.name(),
            format!("  lost or written again in the next {} s", HOLD.as_secs()),
            f64::from(u32::try_from(lost.max(0) + rewritten)?),
            Unit::Count,
        )
        .at_most(0.0),
    );
    drop(standing);
    Ok(())
}

async fn ours(server: &Server, processes: u32, n: u32) -> anyhow::Result<Standing> {
    let process = ProcessId::own()?;
    let began = Instant::now();
    let registries: Vec<Registry> = (0..processes)
        .map(|_| server.registry())
        .collect::<Result<_, _>>()?;
    let registrations: Vec<Registration> = (n..2 * n)
        .zip(registries.iter().cycle())
        .map(|(number, registry)| {
            registry.register(rows::identity(number), rows::value(number, &process))
        })
        .collect();
    let each = registrations.iter().map(async |one| {
        timeout(PATIENCE, one.registered()).await.ok()?;
        Some(began.elapsed().as_secs_f64())
    });
    let took = join_all(each).await.into_iter().flatten().collect();
    Ok(Standing {
        took,
        _registrations: registrations,
        _registries: registries,
    })
}

async fn plain(server: &Server, processes: u32, n: u32) -> anyhow::Result<Duration> {
    let process = ProcessId::own()?;
    let began = Instant::now();
    let loops = (0..processes).map(async |index| {
        let mut client = server.client().await?;
        let lease = client.lease_grant(rows::LEASE_SECONDS, None).await?.id();
        let numbers = (0..n).filter(|number| number % processes == index);
        let registered = numbers.map(async |number| {
            let mut client = client.clone();
            rows::register(&mut client, number, lease, &process).await
        });
        try_join_all(registered).await?;
        anyhow::Ok(client)
    });
    let _connected = try_join_all(loops).await?;
    Ok(began.elapsed())
}

async fn count(client: &mut Client) -> anyhow::Result<i64> {
    let options = GetOptions::new().with_prefix().with_count_only();
    let found = client
        .get(format!("{PREFIX}/instances/"), Some(options))
        .await?;
    Ok(found.count())
}
