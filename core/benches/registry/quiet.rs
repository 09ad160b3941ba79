//! A quiet cluster: instances, their hosts and all their views, and nobody does anything.
//!
//! Nothing may be written; what goes over the wire is renewals of leases and signs of life of the
//! watches. The plain loops renew a lease as often and hold a watch that never asks for a sign.

use std::time::Duration;

use anyhow::Context as _;
use etcd_client::WatchOptions;
use futures_util::future::join_all;
use skynet::instance::ProcessId;
use skynet::registry::{HostRegistration, Registration};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Sizes;
use crate::line::Line;
use crate::rows;
use crate::server::{PREFIX, Server, registry};
use crate::table::{Figure, Table, Unit};

/// Instances on one host.
const ON_ONE_HOST: u32 = 10;
/// How long the cluster settles: a view lists, an entry looks at itself once.
const SETTLE: Duration = Duration::from_secs(3);
/// The usual time to live, in seconds, and the usual renewal.
const TTL: i64 = 10;
const RENEW_EVERY: Duration = Duration::from_millis(3_150);
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Watches the cluster do nothing.
pub(crate) async fn measure(
    server: &Server,
    sizes: Sizes,
    table: &mut Table,
) -> anyhow::Result<()> {
    let line = Line::to(server.address()).await?;
    let plain_line = Line::to(server.address()).await?;
    let process = ProcessId::own()?;
    let mut views = Vec::new();
    let mut registrations = Vec::new();
    for number in 0..sizes.cluster {
        let registry = registry(line.address())?;
        views.push(registry.view());
        let value = rows::value(number, &process);
        registrations.push(registry.register(rows::identity(number), value));
    }
    let mut hosts = Vec::new();
    for number in 0..sizes.cluster.div_ceil(ON_ONE_HOST) {
        let registry = registry(line.address())?;
        views.push(registry.view());
        hosts.push(registry.register_host(rows::host_name(number), rows::host(&process)));
    }
    let stand = async {
        join_all(registrations.iter().map(Registration::registered)).await;
        join_all(hosts.iter().map(HostRegistration::registered)).await;
        join_all(views.iter().map(|one| one.ready())).await;
    };
    timeout(PATIENCE, stand).await.context("no cluster")?;
    let mut plain = JoinSet::new();
    for _ in 0..views.len() {
        plain.spawn(renew_and_watch(plain_line.address().to_string()));
    }
    sleep(SETTLE).await;

    let revision = server.revision().await?;
    let (bytes, plain_bytes) = (line.bytes(), plain_line.bytes());
    sleep(sizes.quiet).await;
    let written = server.revision().await? - revision;
    let per_minute = |bytes: u64| {
        let kib = f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX));
        kib * 60.0 / sizes.quiet.as_secs_f64()
    };
    let name = server.name();
    let what = format!("{} quiet instances write", sizes.cluster);
    let written = f64::from(u32::try_from(written)?);
    table.add(&Figure::new(name, what, written, Unit::Count).at_most(0.0));
    let what = format!("  on the wire, with hosts: {} views", views.len());
    table.add(
        &Figure::new(
            name,
            what,
            per_minute(line.bytes() - bytes),
            Unit::KiBPerMinute,
        )
        .beside(per_minute(plain_line.bytes() - plain_bytes)),
    );
    Ok(())
}

async fn renew_and_watch(address: String) -> anyhow::Result<()> {
    let mut client = etcd_client::Client::connect([address], None).await?;
    let lease = client.lease_grant(TTL, None).await?.id();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await?;
    let options = WatchOptions::new().with_prefix();
    let _watch = client.watch(format!("{PREFIX}/"), Some(options)).await?;
    loop {
        sleep(RENEW_EVERY).await;
        keeper.keep_alive().await?;
        kept.message().await?;
    }
}
