//! Gathers the figures of the host, of the daemon and of its children for `SkynetDaemon.Stats`.
//!
//! Invariants: children are asked side by side, a bounded number at a time, and never longer than
//! the question may take; one that does not answer is left out. Nothing is written to the registry.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use skynet::instance::{InstanceId, ProcessId};
use skynet::service::Service;
use skynet::stats::{DaemonStats, HostStats, InstanceStats};
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin::AdminLink;
use crate::measure::{Meter, ProcessUse};
use crate::supervisor::{Known, SupervisorHandle};

/// How many children are asked at the same time.
const SIDE_BY_SIDE: usize = 64;

/// How long a child may take when the question has no deadline.
const USUAL_LIMIT: Duration = Duration::from_secs(1);

/// What is left of a deadline for the way back.
const WAY_BACK: Duration = Duration::from_millis(20);

/// How often processes are sampled although nobody asks.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Gathers figures; a cheap clone.
#[derive(Debug, Clone)]
pub struct Figures {
    supervisor: SupervisorHandle,
    own: InstanceId,
    /// The daemon's own service, which has these figures among its methods: so it is not kept alive.
    service: Arc<OnceLock<Weak<Service>>>,
    meter: Arc<Mutex<Meter>>,
}

impl Figures {
    /// Figures of this supervisor's children and of the daemon, which is the instance `own`.
    pub fn new(supervisor: SupervisorHandle, own: InstanceId) -> Self {
        Self {
            supervisor,
            own,
            service: Arc::default(),
            meter: Arc::default(),
        }
    }

    /// From now on the daemon's own figures are among them.
    pub fn include(&self, service: &Arc<Service>) {
        // There is one service for the life of a daemon.
        let _ = self.service.set(Arc::downgrade(service));
    }

    /// Those whose processes are measured: the children that live, and the daemon itself.
    async fn known(&self) -> Vec<Known> {
        let mut known = self.supervisor.known().await;
        known.push(Known {
            id: self.own,
            process: ProcessId::own().ok(),
            admin: None,
            identity: None,
        });
        known
    }

    /// The daemon's own figures, as far as they are asked for.
    fn own_stats(&self, known: &[Known]) -> Option<(InstanceId, InstanceStats)> {
        let is_asked = known.iter().any(|known| known.id == self.own);
        let service = self.service.get().filter(|_| is_asked)?.upgrade()?;
        Some((self.own, service.stats()))
    }

    /// Samples the processes now and then, so that a first question finds something to compare with.
    /// Never returns.
    pub async fn sample(&self) {
        let mut times = tokio::time::interval(SAMPLE_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.meter.is_poisoned() {
            times.tick().await;
            let known = self.known().await;
            self.measure(known.clone()).await;
            let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
            let alive: HashSet<&ProcessId> = known
                .iter()
                .filter_map(|known| known.process.as_ref())
                .collect();
            meter.keep(|id| alive.contains(id));
        }
    }

    /// The figures of the host, and of those among the daemon and its children that have these ids
    /// (of all when there are none), as far as they answer before `deadline`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn gather(&self, ids: &[InstanceId], deadline: Option<Instant>) -> DaemonStats {
        let limit = deadline.map_or(USUAL_LIMIT, |deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .saturating_sub(WAY_BACK)
                .min(USUAL_LIMIT)
        });
        let mut known = self.known().await;
        known.retain(|known| ids.is_empty() || ids.contains(&known.id));
        let own = self.own_stats(&known);
        let links = known
            .iter()
            .filter_map(|known| Some((known.id, known.admin.clone()?)))
            .collect();
        let (answers, (host, uses)) = tokio::join!(ask_all(links, limit), self.measure(known));
        let instances = answers.into_iter().chain(own).map(|(id, stats)| {
            let used = uses.get(&id).copied().unwrap_or_default();
            let stats = InstanceStats {
                cpu_pct: used.cpu_pct,
                rss_bytes: used.rss_bytes,
                ..stats
            };
            (id.to_string(), stats)
        });
        DaemonStats {
            host,
            instances: instances.collect(),
        }
    }

    async fn measure(&self, known: Vec<Known>) -> (HostStats, HashMap<InstanceId, ProcessUse>) {
        let meter = Arc::clone(&self.meter);
        let measured = tokio::task::spawn_blocking(move || {
            let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let uses = known
                .iter()
                .filter_map(|known| Some((known.id, meter.process(known.process.as_ref()?, now)?)))
                .collect();
            (meter.host(now), uses)
        });
        measured.await.unwrap_or_else(|error| {
            tracing::error!(%error, "measuring broke off");
            Default::default()
        })
    }
}

async fn ask_all(
    links: Vec<(InstanceId, AdminLink)>,
    limit: Duration,
) -> Vec<(InstanceId, InstanceStats)> {
    let questions = links
        .into_iter()
        .map(|(id, link)| async move { Some((id, link.stats(limit).await.ok()?)) });
    futures_util::stream::iter(questions)
        .buffer_unordered(SIDE_BY_SIDE)
        .filter_map(std::future::ready)
        .collect()
        .await
}
