//! One instance in a process of its own, with a ledger of what it has executed.
//!
//! The process is this very test binary: it runs the one test below that serves if it is told to. It
//! has a registry handle, and so a lease, of its own, and ends when its standard input does: nothing
//! is left even of a harness that is killed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use skynet::instance::InstanceId;
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::{Context, Service, ServiceError};
use tokio::io::AsyncReadExt;

/// Tells the process what it is to serve.
const SERVE: &str = "SKYNET_TEST_INSTANCE";
/// What the service is called.
pub(crate) const SERVICE: &str = "Ledger";

/// The parameter of `Note`: how long the method takes, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) takes_ms: i64,
}

/// The result of `Note`: who has noted it, and when by its own clock on the wall.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) by: String,
    pub(crate) at_s: i64,
}

#[derive(Serialize, Deserialize)]
struct Told {
    endpoints: Vec<String>,
    prefix: String,
    ttl_s: u64,
    host: String,
    id: InstanceId,
    ledger: std::path::PathBuf,
}

#[tokio::test]
async fn serves_if_it_is_told_to() {
    let Ok(told) = std::env::var(SERVE) else {
        return;
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let told: Told = serde_json::from_str(&told).unwrap();
    let registry = Registry::new(&RegistryConfig {
        endpoints: told.endpoints,
        prefix: told.prefix,
        ttl: Duration::from_secs(told.ttl_s),
        ..RegistryConfig::default()
    })
    .unwrap();
    let ledger = File::options().create(true).append(true).open(told.ledger);
    let ledger = Arc::new(Mutex::new(ledger.unwrap()));
    let service = Service::builder(SERVICE)
        .host(&told.host)
        .id(told.id)
        .admin(false)
        .method("Note", move |context: Context, entry: Entry| {
            let ledger = Arc::clone(&ledger);
            async move {
                // One write per line, which the system keeps even if the process is killed.
                let line = format!("{}\n", context.request_id());
                ledger.lock().unwrap().write_all(line.as_bytes()).unwrap();
                let takes = u64::try_from(entry.takes_ms).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(takes)).await;
                Ok::<_, ServiceError>(Noted {
                    by: context.service().identity.id.to_string(),
                    at_s: jiff::Timestamp::now().as_second(),
                })
            }
        })
        .start(&registry)
        .await
        .unwrap();
    let mut nothing = Vec::new();
    tokio::io::stdin().read_to_end(&mut nothing).await.unwrap();
    service.stop().await;
    registry.release().await.unwrap();
}

/// Where the instances of one test are registered.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) endpoints: Vec<String>,
    pub(crate) prefix: &'a str,
    pub(crate) ttl: Duration,
    /// Holds ledgers and logs.
    pub(crate) folder: &'a Path,
}

/// An instance's process; killed at the end, whatever happens.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    child: Child,
}

impl Instance {
    pub(crate) fn start(number: u32, host: &str, place: &Place<'_>) -> Self {
        Self::start_with(number, host, place, &HashMap::<&str, &str>::new())
    }

    /// The same with more variables in its environment.
    pub(crate) fn start_with<V: AsRef<OsStr>>(
        number: u32,
        host: &str,
        place: &Place<'_>,
        variables: &HashMap<&str, V>,
    ) -> Self {
        let id = InstanceId::from_u128(u128::from(number) + 1);
        let told = Told {
            endpoints: place.endpoints.clone(),
            prefix: place.prefix.to_owned(),
            ttl_s: place.ttl.as_secs(),
            host: host.to_owned(),
            id,
            ledger: place.folder.join(format!("{number}.ledger")),
        };
        let log = File::create(place.folder.join(format!("{number}.log"))).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "instance_process::serves_if_it_is_told_to"])
            .arg("--nocapture")
            .env(SERVE, serde_json::to_string(&told).unwrap())
            .env("RUST_LOG", "skynet=debug")
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { id, child }
    }

    /// Stops the process, and waits until it stands still.
    pub(crate) async fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
            // The state stands behind the name, which is in parentheses.
            let stat = stat.unwrap();
            if stat.rsplit(')').next().unwrap().starts_with(" T ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often each request was executed, over all instances of a folder.
pub(crate) fn executions(folder: &Path) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "ledger") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                *counts.entry(line.to_owned()).or_default() += 1;
            }
        }
    }
    counts
}
