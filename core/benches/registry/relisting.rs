//! Listing a large cluster: for the first time, and again after a compaction went past a view.
//!
//! The line to the registry stands still while instances come, change and go and the history is
//! compacted; then it breaks. One writer goes on all the time. What is published first must be
//! whole, rows that did not change must be the ones that stood there, and nothing may be missing
//! when the writer stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use etcd_client::Client;
use skynet::instance::{Instance, InstanceId, State};
use skynet::registry::View;
use skynet::registry::key::Key;
use skynet::registry::snapshot::Snapshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Sizes;
use crate::line::Line;
use crate::memory;
use crate::rows;
use crate::server::{PREFIX, Server, registry};
use crate::table::{Figure, Table, Unit};

/// What listing again may take, in seconds.
const BUDGET_SECONDS: f64 = 2.0;
/// And in memory, in MiB.
const BUDGET_MIB: f64 = 100.0;
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// From one write of the writer to the next.
const WRITE_EVERY: Duration = Duration::from_millis(5);

/// Measures the first listing, and two compactions.
pub(crate) async fn measure(
    server: &Server,
    sizes: Sizes,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut client = server.client().await?;
    let all: Vec<u32> = (0..sizes.rows).collect();
    rows::write(&client, &all, 100).await?;
    let (plain, plain_extra) = plain(&mut client).await?;

    let line = Line::to(server.address()).await?;
    let registry = registry(line.address())?;
    let before = memory::Before::now();
    let began = Instant::now();
    let view = registry.view();
    timeout(PATIENCE, view.ready()).await.context("no view")?;
    let took = began.elapsed().as_secs_f64();
    let extra = before.extra();
    let name = server.name();
    let what = |what: &str| format!("{what} of {}", sizes.rows);
    table.add(&Figure::new(name, what("first listing"), took, Unit::Seconds).beside(plain));
    table.add(
        &Figure::new(
            name,
            "  allocated, the view included",
            extra.allocated,
            Unit::MiB,
        )
        .beside(plain_extra.allocated),
    );
    let mut rows = Rows {
        first: 0,
        end: sizes.rows,
    };
    let hundredth = sizes.rows / 100;
    // The gone stay on the screen as suspects for a while, so they come last.
    for (said, rewritten, replaced) in [
        ("all changed", sizes.rows, 0),
        ("a hundredth changed", hundredth / 2, hundredth / 4),
    ] {
        let again = list_again(&line, &mut client, &view, &mut rows, (rewritten, replaced)).await?;
        let what = what(&format!("relist after compaction, {said},"));
        table.add(
            &Figure::new(name, what, again.took, Unit::Seconds)
                .at_most(BUDGET_SECONDS)
                .beside(plain),
        );
        for (what, extra, plain) in [
            (
                "  allocated above before",
                again.extra.allocated,
                plain_extra.allocated,
            ),
            (
                "  resident above before",
                again.extra.resident,
                plain_extra.resident,
            ),
        ] {
            table.add(
                &Figure::new(name, what, extra, Unit::MiB)
                    .at_most(BUDGET_MIB)
                    .beside(plain),
            );
        }
        let n_replaced = f64::from(u32::try_from(again.n_replaced)?);
        table.add(
            &Figure::new(
                name,
                "  rows that are not the old ones",
                n_replaced,
                Unit::Count,
            )
            // The writer's own row is one more.
            .at_most(f64::from(rewritten + 2 * replaced + 1)),
        );
    }
    Ok(())
}

/// Which instances there are: the writer's, and those from the first to the end.
#[derive(Debug, Clone, Copy)]
struct Rows {
    first: u32,
    end: u32,
}

async fn plain(client: &mut Client) -> anyhow::Result<(f64, memory::Extra)> {
    let before = memory::Before::now();
    let began = Instant::now();
    let listed = rows::list(client).await?;
    let took = began.elapsed().as_secs_f64();
    let extra = before.extra();
    drop(listed);
    Ok((took, extra))
}

/// What listing again was like.
struct Again {
    took: f64,
    extra: memory::Extra,
    n_replaced: usize,
}

async fn list_again(
    line: &Line,
    client: &mut Client,
    view: &View,
    rows: &mut Rows,
    (rewritten, replaced): (u32, u32),
) -> anyhow::Result<Again> {
    line.freeze();
    let was = view.snapshot();
    let gone: Vec<u32> = (rows.first..rows.first + replaced).collect();
    rows.first += replaced;
    let weight = 200 + rows.first;
    let rewritten: Vec<u32> = (rows.first..rows.first + rewritten).collect();
    let come: Vec<u32> = (rows.end..rows.end + replaced).collect();
    rows.end += replaced;
    rows::delete(client, &gone).await?;
    rows::write(client, &come, weight).await?;
    let revision = rows::write(client, &rewritten, weight).await?;
    client.compact(revision, None).await?;
    let stop = CancellationToken::new();
    let writer = tokio::spawn(write_on(client.clone(), rows.end - 1, stop.clone()));
    sleep(10 * WRITE_EVERY).await;

    let mut changes = view.changes();
    changes.mark_unchanged();
    let before = memory::Before::now();
    let began = Instant::now();
    line.cut();
    timeout(PATIENCE, changes.changed())
        .await
        .context("nothing was published")??;
    let took = began.elapsed().as_secs_f64();
    let extra = before.extra();
    let now = Arc::clone(&changes.borrow_and_update());
    ensure!(now.revision() >= revision, "an old view was published");
    let n_listed = listed(&now).count();
    ensure!(
        n_listed == (rows.end - rows.first) as usize,
        "{n_listed} instances were published"
    );
    let n_replaced = now
        .instances()
        .filter(|one| {
            let old = was.instance(one.id());
            old.is_none_or(|old| !Arc::ptr_eq(old, one))
        })
        .count();
    stop.cancel();
    let last = writer.await??;
    let caught_up = changes.wait_for(|now| now.revision() >= last);
    let caught_up = timeout(PATIENCE, caught_up).await;
    drop(caught_up.context("the writer's last change never came")??);
    compare(client, &view.snapshot()).await?;
    Ok(Again {
        took,
        extra,
        n_replaced,
    })
}

/// The instances that the registry has.
fn listed(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Instance>> {
    snapshot
        .instances()
        .filter(|one| one.state != State::Suspect)
}

/// Changes one instance again and again; returns the revision of the last change.
async fn write_on(client: Client, number: u32, stop: CancellationToken) -> anyhow::Result<i64> {
    let mut weight = 1_000_000;
    loop {
        weight += 1;
        let revision = rows::write(&client, &[number], weight).await?;
        if stop.is_cancelled() {
            return Ok(revision);
        }
        sleep(WRITE_EVERY).await;
    }
}

/// Holds the view against a plain listing: every row at the revision of its last change.
async fn compare(client: &mut Client, snapshot: &Snapshot) -> anyhow::Result<()> {
    let mut standing = BTreeMap::new();
    for kv in rows::list(client).await? {
        let Some(Key::Instance(identity)) = Key::parse(PREFIX, kv.key()) else {
            continue;
        };
        standing.insert(identity.id, kv.mod_revision());
    }
    let seen: BTreeMap<InstanceId, i64> = listed(snapshot)
        .map(|one| (one.id(), one.mod_revision))
        .collect();
    ensure!(
        seen == standing,
        "the view is not what stands in the registry"
    );
    Ok(())
}
