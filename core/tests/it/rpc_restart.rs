//! Rolling restarts: every instance of a service is replaced by another process while calls go on,
//! and not one of them fails; neither those of our clients, which are told, nor those of a client of
//! 2012, which is not.
//!
//! Every run of the tests replaces three instances. For longer, with a thousand calls a second, one
//! command runs it and prints the figures:
//!
//! ```text
//! cargo test --release -p skynet --test it rpc_restart -- --ignored --nocapture
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skynet::client::{CallOptions, Client, Place as ClientPlace};
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::TestRegistry;
use tempfile::TempDir;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::instance_process::{Entry, Instance, Noted, Place, SERVICE, executions};
use crate::rpc_support::PATIENCE;
use old_client::OldClient;

mod old_client;

const PREFIX: &str = "/restart";
const INSTANCES: u32 = 3;
const PER_SECOND: u32 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_our_clients_no_call() {
    ours(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_clients_of_2012_no_call() {
    old(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute; the file's head has the command"]
async fn rolling_restarts_again_and_again_cost_our_clients_no_call() {
    ours(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute; the file's head has the command"]
async fn rolling_restarts_again_and_again_cost_clients_of_2012_no_call() {
    old(5).await;
}

/// The instances, and a client that sees them.
struct Cluster {
    server: TestRegistry,
    client: Client,
    running: Vec<Instance>,
    started: u32,
    folder: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let server = TestRegistry::embedded().await.unwrap();
        let config = RegistryConfig::at(&server.url()).with_prefix(PREFIX);
        let registry = Registry::new(&config).unwrap();
        let mut cluster = Self {
            client: Client::connect_from(&registry, ClientPlace::default()),
            server,
            running: Vec::new(),
            started: 0,
            folder: TempDir::new().unwrap(),
        };
        for _ in 0..INSTANCES {
            cluster.start_one();
        }
        cluster.until_listed().await;
        cluster
    }

    fn start_one(&mut self) {
        let place = Place {
            endpoints: vec![self.server.url()],
            prefix: PREFIX,
            ttl: Duration::from_secs(5),
            folder: self.folder.path(),
        };
        self.running
            .push(Instance::start(self.started, "host", &place));
        self.started += 1;
    }

    /// Waits until the client knows all that run.
    async fn until_listed(&self) {
        let mut changes = self.client.view().changes();
        let all = changes.wait_for(|snapshot| {
            let known = |instance: &Instance| snapshot.instance(instance.id).is_some();
            self.running.iter().all(known)
        });
        let all = tokio::time::timeout(PATIENCE, all).await;
        drop(all.expect("not all came").unwrap());
    }

    /// Replaces each instance: the new one stands before the old one is asked to go.
    async fn restart_all(&mut self) {
        for _ in 0..self.running.len() {
            self.start_one();
            self.until_listed().await;
            let mut goes = self.running.remove(0);
            goes.terminate();
            assert!(goes.ended().await, "an instance ended badly");
        }
    }

    async fn end(self) -> usize {
        for instance in self.running {
            assert!(instance.finish().await, "an instance ended badly");
        }
        let executed = executions(self.folder.path());
        let twice = executed.values().filter(|times| **times > 1).count();
        assert_eq!(twice, 0, "executed twice");
        executed.len()
    }
}

/// What became of the calls.
#[derive(Default)]
struct Figures {
    calls: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
    longest_us: AtomicU64,
}

impl Figures {
    fn note(&self, result: Result<(), String>, took: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(took, Ordering::Relaxed);
        if let Err(error) = result {
            self.failed.lock().unwrap().push(error);
        }
    }

    /// Waits until so many more calls are over.
    async fn further(&self, count: u64) {
        let wanted = self.calls.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + PATIENCE;
        while self.calls.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "nobody answers");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[expect(
        clippy::print_stdout,
        reason = "figures are for people; tests capture this"
    )]
    fn judge(&self, what: &str, took: Duration, executed: usize) {
        let failed = self.failed.lock().unwrap();
        let calls = self.calls.load(Ordering::Relaxed);
        println!(
            "{what}: {calls} calls in {:.1} s, {} failed, {executed} executed, longest {} us",
            took.as_secs_f64(),
            failed.len(),
            self.longest_us.load(Ordering::Relaxed)
        );
        let some: Vec<_> = failed.iter().take(5).collect();
        assert!(
            failed.is_empty(),
            "{} of {calls} failed: {some:#?}",
            failed.len()
        );
        assert_eq!(u64::try_from(executed).unwrap(), calls);
    }
}

/// How long a call takes, so that some are under way whenever something happens.
fn entry(number: u64) -> Entry {
    Entry {
        takes_ms: if number.is_multiple_of(50) { 100 } else { 0 },
    }
}

async fn ours(rounds: u32) {
    let mut cluster = Cluster::start().await;
    let query = format!("service={SERVICE}");
    let service = cluster.client.service(query.parse().unwrap());
    let figures = Arc::new(Figures::default());
    let (stop, calls) = (CancellationToken::new(), TaskTracker::new());
    let load = {
        let (figures, calls) = (Arc::clone(&figures), calls.clone());
        async move {
            let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            for number in 0_u64.. {
                ticks.tick().await;
                let (service, figures) = (service.clone(), Arc::clone(&figures));
                calls.spawn(async move {
                    let options = CallOptions {
                        request_id: Some(format!("call-{number}")),
                        ..CallOptions::default()
                    };
                    let began = Instant::now();
                    let entry = entry(number);
                    let called = service.call_with::<_, Noted>("Note", &entry, options).await;
                    let called = called
                        .map(drop)
                        .map_err(|error| skynet::hint::chain(&error));
                    figures.note(called, began.elapsed());
                });
            }
        }
    };
    let began = Instant::now();
    let load = tokio::spawn(stop.clone().run_until_cancelled_owned(load));
    for _ in 0..rounds {
        figures.further(100).await;
        cluster.restart_all().await;
    }
    figures.further(100).await;
    stop.cancel();
    load.await.unwrap();
    calls.close();
    calls.wait().await;
    let took = began.elapsed();
    let executed = cluster.end().await;
    figures.judge("our client", took, executed);
}

async fn old(rounds: u32) {
    /// Each has one call under way at a time, as a client of 2012 has.
    const CLIENTS: u32 = 8;
    let mut cluster = Cluster::start().await;
    let figures = Arc::new(Figures::default());
    let stop = CancellationToken::new();
    let clients = TaskTracker::new();
    let began = Instant::now();
    for client in 0..CLIENTS {
        let query = format!("service={SERVICE} registered state=ready");
        let listener = cluster.client.listen(query.parse().unwrap());
        let (figures, stop) = (Arc::clone(&figures), stop.clone());
        clients.spawn(async move {
            let mut calling = OldClient::new(listener);
            let mut ticks = interval(Duration::from_secs(1) * CLIENTS / PER_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            for number in 0_u64.. {
                ticks.tick().await;
                if stop.is_cancelled() {
                    return;
                }
                let began = Instant::now();
                let request_id = format!("old-{client}-{number}");
                let called = calling.call("Note", &request_id, entry(number)).await;
                figures.note(called, began.elapsed());
            }
        });
    }
    for _ in 0..rounds {
        figures.further(100).await;
        cluster.restart_all().await;
    }
    figures.further(100).await;
    stop.cancel();
    clients.close();
    clients.wait().await;
    let took = began.elapsed();
    let executed = cluster.end().await;
    figures.judge("clients of 2012", took, executed);
}
