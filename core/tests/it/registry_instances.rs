//! Instances in processes of their own that stand still, or whose clock jumps.

use std::path::Path;
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

#[expect(
    clippy::print_stdout,
    reason = "figures are for people; tests capture this"
)]
fn print_figure(line: &str) {
    println!("{line}");
}
