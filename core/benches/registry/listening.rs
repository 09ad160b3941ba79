//! A change on its way to listeners: from the call that makes it to the moment at which each of the
//! listeners in all watchers has it in its hands.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use etcd_client::{EventType, WatchOptions, WatchResponse};
use futures_util::future::join_all;
use skynet::instance::{InstanceId, ProcessId};
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registry, View};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Sizes;
use crate::rows;
use crate::server::{PREFIX, Server};
use crate::table::{Figure, Table, Unit, percentile};

/// Listeners in one process.
const LISTENERS: u32 = 5;
/// Other instances of the cluster.
const OTHERS: u32 = 1_000;
/// From one change to the next; what takes longer may be heard together with the next.
const PAUSE: Duration = Duration::from_millis(100);
/// What the slowest of a hundred may take, in milliseconds.
const BUDGET_MS: f64 = 50.0;
/// The first change has this weight.
const FIRST: u32 = 1_000;

/// When each change was made, and how long each listener waited for it.
#[derive(Debug, Default)]
struct Heard {
    made: Mutex<Vec<Instant>>,
    waits_ms: Mutex<Vec<f64>>,
}

impl Heard {
    fn make(&self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(Instant::now());
    }

    /// A listener that knew the weight `last` hears `weight`, and by that of every change between,
    /// which it has waited for as well.
    fn hear(&self, last: u32, weight: u32) {
        let now = Instant::now();
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let change_of = |weight: u32| weight.saturating_sub(FIRST) as usize;
        let first = if last < FIRST { 0 } else { change_of(last) + 1 };
        let heard = made.get(first..=change_of(weight)).unwrap_or_default();
        let mut waits = self.waits_ms.lock().unwrap_or_else(PoisonError::into_inner);
        waits.extend(
            heard
                .iter()
                .map(|change| now.saturating_duration_since(*change).as_secs_f64() * 1e3),
        );
    }

    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.waits_ms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Measures both ways, one after the other.
pub(crate) async fn measure(
    server: &Server,
    sizes: Sizes,
    table: &mut Table,
) -> anyhow::Result<()> {
    let others: Vec<u32> = (1..OTHERS).collect();
    rows::write(&server.client().await?, &others, 100).await?;
    let mut plain = plain(server, sizes).await?;
    let mut ours = ours(server, sizes).await?;
    let what = |share| {
        let listeners = sizes.watchers * LISTENERS;
        format!("a change reaches {listeners} listeners, {share}")
    };
    let at = |ours: &mut Vec<f64>, plain: &mut Vec<f64>, share, name| {
        Figure::new(
            server.name(),
            what(name),
            percentile(ours, share),
            Unit::Milliseconds,
        )
        .beside(percentile(plain, share))
    };
    table.add(&at(&mut ours, &mut plain, 0.5, "p50"));
    table.add(&at(&mut ours, &mut plain, 0.99, "p99").at_most(BUDGET_MS));
    let all = f64::from(sizes.watchers * LISTENERS * sizes.changes);
    let heard = f64::from(u32::try_from(ours.len())?);
    table.add(&Figure::new(
        server.name(),
        "  never heard",
        100.0 * (1.0 - heard / all),
        Unit::Percent,
    ));
    Ok(())
}

async fn ours(server: &Server, sizes: Sizes) -> anyhow::Result<Vec<f64>> {
    let owner = server.registry()?;
    let value = rows::value(0, &ProcessId::own()?);
    let registration = owner.register(rows::identity(0), value);
    registration.registered().await;
    let registries: Vec<Registry> = (0..sizes.watchers)
        .map(|_| server.registry())
        .collect::<Result<_, _>>()?;
    let views: Vec<Arc<View>> = registries.iter().map(Registry::view).collect();
    join_all(views.iter().map(|view| view.ready())).await;
    let heard = Arc::new(Heard::default());
    let mut listeners = JoinSet::new();
    let id = rows::identity(0).id;
    for view in &views {
        for _ in 0..LISTENERS {
            listeners.spawn(listen(Arc::clone(view), id, Arc::clone(&heard)));
        }
    }
    for change in 0..sizes.changes {
        sleep(PAUSE).await;
        heard.make();
        registration.update(|value| value.weight = FIRST + change);
    }
    sleep(10 * PAUSE).await;
    Ok(heard.take())
}

async fn listen(view: Arc<View>, id: InstanceId, heard: Arc<Heard>) {
    let mut changes = view.changes();
    let mut last = 0;
    while changes.changed().await.is_ok() {
        let weight = changes
            .borrow_and_update()
            .instance(id)
            .map_or(0, |one| one.weight);
        if weight >= FIRST && weight != last {
            heard.hear(last, weight);
            last = weight;
        }
    }
}

/// A stream for each watcher, and one reader of it; each counts as all the listeners it stands for.
async fn plain(server: &Server, sizes: Sizes) -> anyhow::Result<Vec<f64>> {
    let heard = Arc::new(Heard::default());
    let mut listeners = JoinSet::new();
    for _ in 0..sizes.watchers {
        let mut client = server.client().await?;
        let options = WatchOptions::new().with_prefix();
        let mut stream = client.watch(format!("{PREFIX}/"), Some(options)).await?;
        let heard = Arc::clone(&heard);
        listeners.spawn(async move {
            let _kept = client;
            let mut last = 0;
            while let Ok(Some(response)) = stream.message().await {
                for weight in weights(&response) {
                    heard.hear(last, weight);
                    last = weight;
                }
            }
        });
    }
    let mut client = server.client().await?;
    let value = rows::value(0, &ProcessId::own()?);
    for change in 0..sizes.changes {
        sleep(PAUSE).await;
        heard.make();
        let value = InstanceValue {
            weight: FIRST + change,
            ..value.clone()
        };
        client
            .put(rows::path(0), serde_json::to_vec(&value)?, None)
            .await?;
    }
    sleep(10 * PAUSE).await;
    client
        .delete(rows::path(0), None)
        .await
        .context("clean up")?;
    Ok(heard.take())
}

/// What was written, by the events of one response.
fn weights(response: &WatchResponse) -> impl Iterator<Item = u32> {
    response
        .events()
        .iter()
        .filter(|event| event.event_type() == EventType::Put)
        .filter_map(|event| event.kv())
        .filter_map(|kv| serde_json::from_slice::<InstanceValue>(kv.value()).ok())
        .map(|value| value.weight)
}
