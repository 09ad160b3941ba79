//! The embedded registry in a process of its own, which can be killed, frozen and started again.
//!
//! The process is this very test binary: it runs the one test below that serves if it is told to.

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{Client, PutOptions};
use rustix::process::{Pid, Signal, kill_process};
use skynet::{
    registry::embedded::{Embedded, EmbeddedConfig},
    testing::free_address,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Tells the process where to listen and what to open.
const SERVE: &str = "SKYNET_TEST_REGISTRY";

/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

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
pub(super) struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    pub(super) fn start(address: SocketAddr, folder: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "registry_process::serves_if_it_is_told_to"])
            .env(SERVE, format!("{address} {}", folder.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// On a disk of its own with 8 MiB, mounted at `folder` for this process only; `None` (and a
    /// loud word) where that is not allowed.
    pub(super) fn start_on_small_disk(address: SocketAddr, folder: &Path) -> Option<Self> {
        let mount = "mount -t tmpfs -o size=8m tmpfs \"$0\"";
        let unshare = |script: String| {
            let mut command = Command::new("unshare");
            let namespaces = ["--user", "--map-root-user", "--mount", "sh", "-c"];
            command.args(namespaces).arg(script).arg(folder);
            command
        };
        let tried = unshare(mount.to_owned()).output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            let _ = writeln!(
                std::io::stderr(),
                "!!! no file system can be mounted here: the test of a full disk did NOT run !!!"
            );
            return None;
        }
        let child = unshare(format!("{mount} && exec \"$@\""))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "registry_process::serves_if_it_is_told_to"])
            .env(SERVE, format!("{address} {}", folder.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, address })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) async fn client(&self) -> Client {
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

    pub(super) fn signal(&self, signal: Signal) {
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
