//! What an instance measures of itself: a recorder for each method, and when the last request came.
//!
//! Invariants: nothing allocates after the start; times come from the monotonic clock, the wall
//! clock is only for display. The figures of the instance are the sums of those of its methods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::context::ServiceInfo;
use crate::metrics::{Counts, MethodMetrics, Recorder, ServiceMetrics, signed};
use crate::rpc::server::Server;
use crate::stats::InstanceStats;

/// How a method ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Panicked,
    Cancelled,
}

/// How many ways there are.
const ENDS: usize = 4;

/// The calls of one method.
pub(super) type Calls = Recorder<ENDS>;

/// An instance's figures.
#[derive(Debug)]
pub(super) struct Figures {
    started: Timestamp,
    clock: Instant,
    /// When the last request came, in microseconds since the start, plus one; zero for none.
    last_us: AtomicU64,
    methods: BTreeMap<Arc<str>, Arc<Calls>>,
}

impl Figures {
    /// Figures of a service with these methods.
    pub(super) fn new<'a>(methods: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        let clock = Instant::now();
        Self {
            started: Timestamp::now(),
            clock,
            last_us: AtomicU64::new(0),
            methods: methods
                .into_iter()
                .map(|name| (Arc::clone(name), Arc::new(Calls::new(clock))))
                .collect(),
        }
    }

    /// When the instance started.
    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    /// Where the calls of a method are counted.
    pub(super) fn method(&self, name: &str) -> Option<&Arc<Calls>> {
        self.methods.get(name)
    }

    /// A request that was read at `received` has reached a method.
    pub(super) fn came(&self, received: Instant) {
        let since = received.saturating_duration_since(self.clock).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX / 2);
        self.last_us.store(since + 1, Ordering::Relaxed);
    }

    /// All of it, of the instance that `info` tells of.
    pub(super) fn metrics(&self, info: &ServiceInfo, server: &Server) -> ServiceMetrics {
        let identity = &info.identity;
        ServiceMetrics {
            service: identity.service.to_string(),
            version: identity.version.to_string(),
            region: identity.region.to_string(),
            host: identity.host.to_string(),
            uuid: identity.id.to_string(),
            address: info.address.to_string(),
            started: self.started.to_string(),
            connections: i64::try_from(server.connections()).unwrap_or(i64::MAX),
            refused: server.refused(),
            methods: self.methods(),
        }
    }

    fn methods(&self) -> Vec<MethodMetrics> {
        let read = self.methods.iter().map(|(name, calls)| {
            let read = calls.read();
            let ended = |end: End| read.ended.get(end as usize).copied().unwrap_or(0);
            MethodMetrics {
                method: name.to_string(),
                calls: read.calls,
                in_flight: read.in_flight,
                succeeded: ended(End::Succeeded),
                failed: ended(End::Failed),
                panicked: ended(End::Panicked),
                cancelled: ended(End::Cancelled),
                latency: read.latency,
            }
        });
        read.collect()
    }

    /// The figures, with `clients` connections.
    pub(super) fn read(&self, clients: usize) -> InstanceStats {
        let mut counts = Counts::default();
        let (mut requests, mut in_flight) = (0, 0);
        for calls in self.methods.values() {
            let (begun, running) = calls.calls();
            requests += begun;
            in_flight += running;
            calls.add_latency(&mut counts);
        }
        let last = self.last_us.load(Ordering::Relaxed);
        InstanceStats {
            clients: i64::try_from(clients).unwrap_or(i64::MAX),
            inflight: signed(in_flight),
            requests: signed(requests),
            avg_us: signed(counts.total_us.checked_div(counts.count).unwrap_or(0)),
            p50_us: counts.percentile_us(500),
            p99_us: counts.percentile_us(990),
            started: self.started.to_string(),
            last: last.checked_sub(1).map_or_else(String::new, |since| {
                let since = SignedDuration::from_micros(signed(since));
                self.started
                    .saturating_add(since)
                    .map_or_else(|_never| String::new(), |last| last.to_string())
            }),
            ..InstanceStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_figures_are_the_sums_of_the_methods() {
        let names = ["A".into(), "B".into()];
        let figures = Figures::new(&names);
        assert_eq!(
            (figures.read(0).p50_us, figures.read(0).last.as_str()),
            (0, "")
        );
        for us in 1..=100 {
            let name = if us % 2 == 0 { "A" } else { "B" };
            let calls = figures.method(name).unwrap();
            figures.came(Instant::now());
            calls.begun();
            let (end, took) = (End::Succeeded as usize, Duration::from_micros(us));
            calls.ended(end, Instant::now(), Some(took));
        }
        figures.method("B").unwrap().begun();
        let read = figures.read(3);
        assert_eq!((read.clients, read.inflight, read.requests), (3, 1, 101));
        assert_eq!(read.avg_us, 50);
        assert!((50..=55).contains(&read.p50_us), "{}", read.p50_us);
        assert!((99..=111).contains(&read.p99_us), "{}", read.p99_us);
        assert_eq!(read.last.parse::<Timestamp>().unwrap(), figures.started());
        let methods = figures.methods();
        let calls: Vec<_> = methods.iter().map(|it| (&*it.method, it.calls)).collect();
        assert_eq!(calls, [("A", 50), ("B", 51)]);
        assert_eq!((methods[1].succeeded, methods[1].in_flight), (50, 1));
    }
}
