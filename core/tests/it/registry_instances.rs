//! Instances in processes of their own that stand still, or whose clock jumps.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skynet::client::{CallOptions, Client, Place as ClientPlace, ServiceClient};
use skynet::instance::State;
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::TestRegistry;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::instance_process::{Entry, Instance, Noted, Place, SERVICE, executions};

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The shortest TTL that is allowed.
const TTL: Duration = Duration::from_secs(5);
const PREFIX: &str = "/instances";

/// A registry, one client, and a folder for ledgers.
struct Cluster {
    server: TestRegistry,
    registry: Registry,
    client: Client,
    folder: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let server = TestRegistry::embedded().await.unwrap();
        let config = RegistryConfig::at(&server.url()).with_prefix(PREFIX);
        let registry = Registry::new(&config).unwrap();
        Self {
            client: Client::connect_from(&registry, ClientPlace::default()),
            registry,
            server,
            folder: TempDir::new().unwrap(),
        }
    }

    fn place(&self) -> Place<'_> {
        Place {
            endpoints: vec![self.server.url()],
            prefix: PREFIX,
            ttl: TTL,
            folder: self.folder.path(),
        }
    }

    fn service(&self) -> ServiceClient {
        let query = format!("service={SERVICE}");
        self.client.service(query.parse().unwrap())
    }

    async fn lease_of(&self, instance: &Instance) -> Option<i64> {
        let listing = self.registry.snapshot().await.unwrap();
        listing.instance(instance.id).map(|found| found.lease)
    }

    /// Waits until the registry itself says so, and tells how long that took.
    async fn until_registered(&self, instance: &Instance, wanted: bool) -> Duration {
        let began = Instant::now();
        loop {
            let listing = self.registry.snapshot().await.unwrap();
            let found = listing.instance(instance.id);
            if found.is_some_and(|found| found.state == State::Ready) == wanted {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "never registered: {wanted}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn call(service: &ServiceClient, request_id: &str, within: Duration) -> bool {
    let options = CallOptions {
        request_id: Some(request_id.to_owned()),
        deadline: within,
        ..CallOptions::default()
    };
    let entry = Entry { takes_ms: 0 };
    let answer = service.call_with::<_, Noted>("Note", &entry, options).await;
    answer.is_ok()
}

fn was_executed(folder: &Path, request_id: &str) -> bool {
    executions(folder).contains_key(request_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stood_still_is_back_at_once_and_executes_nothing_late() {
    let cluster = Cluster::start().await;
    let instance = Instance::start(0, "host", &cluster.place());
    cluster.until_registered(&instance, true).await;
    let service = cluster.service();
    assert!(call(&service, "before", PATIENCE).await);

    instance.freeze().await;
    for late in 0..5 {
        let id = format!("late-{late}");
        assert!(!call(&service, &id, Duration::from_millis(500)).await);
    }
    // Its lease ends: whoever hangs for longer than that is not there.
    cluster.until_registered(&instance, false).await;
    instance.thaw();
    let back = cluster.until_registered(&instance, true).await;
    assert!(call(&service, "after", PATIENCE).await);
    // What was sent before was read before, on whatever connection.
    sleep(Duration::from_millis(300)).await;
    assert!(was_executed(cluster.folder.path(), "after"));
    for late in 0..5 {
        let id = format!("late-{late}");
        let executed = was_executed(cluster.folder.path(), &id);
        assert!(!executed, "`{id}` was executed after its deadline");
    }
    print_figure(&format!("registered again {back:?} after SIGCONT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_an_hour_costs_no_lease_and_no_call() {
    let Some(library) = faketime() else {
        return;
    };
    let cluster = Cluster::start().await;
    let clock = cluster.folder.path().join("clock");
    // The file is replaced as a whole, so that half of it is never read.
    let set_clock = |offset: &str| {
        let next = cluster.folder.path().join("clock.next");
        std::fs::write(&next, format!("{offset}\n")).unwrap();
        std::fs::rename(&next, &clock).unwrap();
    };
    set_clock("+0");
    let variables = HashMap::from([
        ("LD_PRELOAD", library.as_os_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.as_os_str()),
        ("FAKETIME_NO_CACHE", "1".as_ref()),
        // A clock on the wall can be set; the monotonic one cannot.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
        ("DONT_FAKE_MONOTONIC", "1".as_ref()),
    ]);
    let instance = Instance::start_with(0, "host", &cluster.place(), &variables);
    cluster.until_registered(&instance, true).await;
    let lease = cluster.lease_of(&instance).await;
    let service = cluster.service();
    for (offset, jumped_s) in [("+3600", 3600), ("-3600", -3600)] {
        set_clock(offset);
        // Longer than the TTL, so that a renewal that comes too late, or never, is seen.
        let until = Instant::now() + TTL + Duration::from_secs(1);
        while Instant::now() < until {
            let entry = Entry { takes_ms: 0 };
            let noted: Noted = service.call("Note", &entry).await.unwrap();
            let ahead_s = noted.at_s - jiff::Timestamp::now().as_second();
            assert!((ahead_s - jumped_s).abs() < 60, "{ahead_s} s ahead");
            let now = cluster.lease_of(&instance).await;
            assert_eq!(now, lease, "it was registered anew");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The library that gives a process another clock; `None`, and a loud word, where it is missing.
fn faketime() -> Option<PathBuf> {
    let folders = [
        "/usr/lib/x86_64-linux-gnu/faketime",
        "/usr/lib/aarch64-linux-gnu/faketime",
        "/usr/lib64/faketime",
        "/usr/lib/faketime",
    ];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join("libfaketimeMT.so.1"))
        .find(|library| library.exists());
    if found.is_none() {
        let required = std::env::var("SKYNET_REQUIRE_ETCD").is_ok_and(|value| value == "1");
        assert!(!required, "`libfaketime` is required and not installed");
        // A closed stderr means that nobody wants to hear it.
        let _ = writeln!(
            std::io::stderr(),
            "!!! libfaketime is not installed: the test of jumping clocks did NOT run (install \
             `libfaketime`; SKYNET_REQUIRE_ETCD=1 makes this a failure) !!!"
        );
    }
    found
}

#[expect(
    clippy::print_stdout,
    reason = "figures are for people; tests capture this"
)]
fn print_figure(line: &str) {
    println!("{line}");
}
