//! The embedded registry in a process of its own, which is killed, frozen and started again.
//!
//! The process is this very test binary: it runs the one test below that serves if it is told to.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{Client, GetOptions, PutOptions, WatchOptions};
use rustix::process::{Pid, Signal, kill_process};
use skynet::{
    registry::embedded::{Embedded, EmbeddedConfig},
    testing::free_address,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Tells the process where to listen and what to open.
const SERVE: &str = "SKYNET_TEST_REGISTRY";

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn serves_if_it_is_told_to() {
    let Ok(told) = std::env::var(SERVE) else {
        return;
    };
    let (address, folder) = told.split_once(' ').unwrap();
    let _registry = Embedded::start(EmbeddedConfig {
        listen: address.parse().unwrap(),
        data: Some(folder.into()),
        ..EmbeddedConfig::default()
    })
    .await
    .unwrap();
    std::future::pending::<()>().await;
}

/// A registry's process; killed at the end, whatever happens.
struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    fn start(address: SocketAddr, folder: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "registry_process::serves_if_it_is_told_to"])
            .env(SERVE, format!("{address} {}", folder.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    async fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let connected = Client::connect([format!("http://{}", self.address)], None).await;
            if let Ok(mut client) = connected
                && client.status().await.is_ok()
            {
                return client;
            }
            assert!(Instant::now() < deadline, "the registry does not come up");
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes `{writer}/{n}` until the registry goes away; returns how many were acknowledged.
async fn write_until_it_is_gone(mut client: Client, writer: String, lease: i64) -> usize {
    let mut n_acknowledged = 0;
    loop {
        let options = PutOptions::new().with_lease(lease);
        let key = format!("{writer}/{n_acknowledged:05}");
        let put = client.put(key, format!("{n_acknowledged}"), Some(options));
        match timeout(PATIENCE, put).await.unwrap() {
            Ok(_) => n_acknowledged += 1,
            Err(_) => return n_acknowledged,
        }
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    const WRITERS: usize = 8;

    let folder = TempDir::new().unwrap();
    let address = free_address().unwrap();
    let mut serving = Serving::start(address, folder.path());
    let mut client = serving.client().await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let gone = client.lease_grant(600, None).await.unwrap().id();
    client.lease_revoke(gone).await.unwrap();
    let cluster_id = client
        .status()
        .await
        .unwrap()
        .header()
        .unwrap()
        .cluster_id();

    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let client = serving.client().await;
            let name = format!("{round}-{writer}");
            let work = write_until_it_is_gone(client, name.clone(), lease);
            writers.push((name, tokio::spawn(work)));
        }
        // Kill it in the middle of the writing, whenever that is.
        let enough = format!("{round}-0/00040");
        let deadline = Instant::now() + PATIENCE;
        while client.get(enough.as_str(), None).await.unwrap().count() == 0 {
            assert!(Instant::now() < deadline, "nothing is written");
        }
        serving.signal(Signal::KILL);
        for (name, writer) in writers {
            acknowledged.push((name, writer.await.unwrap()));
        }
        drop(serving);
        serving = Serving::start(address, folder.path());
        client = serving.client().await;
        check(&mut client, &acknowledged, lease).await;
    }
    let header = client.status().await.unwrap();
    let header = header.header().unwrap();
    assert_eq!(header.cluster_id(), cluster_id);
    assert_eq!(header.raft_term(), 4, "one more with every start");
    assert_eq!(client.leases().await.unwrap().leases().len(), 1);
    client.lease_revoke(lease).await.unwrap();
    let all = GetOptions::new().with_all_keys().with_count_only();
    assert_eq!(client.get("", Some(all)).await.unwrap().count(), 0);
}

async fn check(client: &mut Client, acknowledged: &[(String, usize)], lease: i64) {
    let left = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(left.granted_ttl(), 600);
    assert!(left.ttl() > 590, "a restart gives the whole TTL: {left:?}");
    let mut n_keys = 0;
    for (writer, n_acknowledged) in acknowledged {
        assert!(*n_acknowledged > 0);
        let prefix = Some(GetOptions::new().with_prefix());
        let read = client.get(format!("{writer}/"), prefix).await.unwrap();
        // The one that was under way when it was killed may be there as well.
        let n_found = read.kvs().len();
        assert!(
            n_found == *n_acknowledged || n_found == *n_acknowledged + 1,
            "{n_acknowledged} of {writer} were acknowledged, {n_found} are there"
        );
        for (idx, kv) in read.kvs().iter().enumerate() {
            assert_eq!(kv.value_str().unwrap(), idx.to_string());
            assert_eq!((kv.version(), kv.lease()), (1, lease));
        }
        n_keys += n_found;
    }
    // The history is whole as well.
    let options = WatchOptions::new().with_all_keys().with_start_revision(2);
    let mut watch = client.watch("", Some(options)).await.unwrap();
    let mut revision = 1;
    while revision < i64::try_from(n_keys).unwrap() + 1 {
        let response = timeout(PATIENCE, watch.message()).await.unwrap();
        for event in response.unwrap().unwrap().events() {
            revision += 1;
            assert_eq!(event.kv().unwrap().mod_revision(), revision);
        }
    }
}

#[tokio::test]
async fn a_registry_that_stood_still_takes_no_lease_of_the_living() {
    let folder = TempDir::new().unwrap();
    let serving = Serving::start(free_address().unwrap(), folder.path());
    let mut client = serving.client().await;
    let lease = client.lease_grant(2, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    let renewing = tokio::spawn(async move {
        loop {
            keeper.keep_alive().await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.ttl(), 2, "the lease was taken");
            sleep(Duration::from_millis(200)).await;
        }
    });
    let options = Some(PutOptions::new().with_lease(lease));
    client.put("key", "v", options).await.unwrap();
    serving.signal(Signal::STOP);
    sleep(Duration::from_secs(3)).await;
    serving.signal(Signal::CONT);
    // Longer than the TTL: whatever wants to expire does so within it.
    let deadline = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < deadline {
        assert_eq!(client.get("key", None).await.unwrap().count(), 1);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!renewing.is_finished());
    renewing.abort();
}
