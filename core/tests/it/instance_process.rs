//! One instance in a process of its own, with a ledger of what it has executed.
//!
//! The process is this very test binary: it runs the one test below that serves if it is told to. It
//! has a registry handle, and so a lease, of its own, and ends when its standard input does: nothing
//! is left even of a harness that is killed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use skynet::instance::{InstanceId, ProcessId, State};
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registry, RegistryConfig};
use skynet::rpc::Limits;
use skynet::service::{Builder, Context, Service, ServiceError};

use crate::rpc_support::PATIENCE;

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
    setup: Setup,
}

/// What an instance has of its own.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// How many calls it runs at once; as many as usual if none is said.
    pub(crate) room: Option<usize>,
    /// Its port; any free one if none is said.
    pub(crate) port: Option<u16>,
    /// The address in the registry, where something before the instance listens.
    pub(crate) announced: Option<SocketAddr>,
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
    let ledger = Ledger::open(&told.ledger);
    let mut limits = Limits::default();
    limits.per_service = told.setup.room.unwrap_or(limits.per_service);
    let ports = told.setup.port.map_or(9000..=9999, |port| port..=port);
    let builder = methods(Service::builder(SERVICE), &ledger)
        .host(&told.host)
        .id(told.id)
        .ports(ports)
        .limits(limits)
        .admin(false);
    let (service, _registration) = match told.setup.announced {
        None => (builder.start(&registry).await.unwrap(), None),
        Some(announced) => {
            let service = builder.serve().await.unwrap();
            let value = announcement(&service, announced);
            let registration = registry.register(service.info().identity.clone(), value);
            (service, Some(registration))
        }
    };
    tokio::select! {
        () = end_of_input() => service.stop().await,
        () = service.until_stopped() => {}
    }
    registry.release().await.unwrap();
}

/// Waits for the end of standard input, in a thread that holds up nothing when the process ends.
async fn end_of_input() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut nothing = Vec::new();
        std::io::stdin().read_to_end(&mut nothing).unwrap();
        // Nobody waits for it when the process is told otherwise.
        let _ = tell.send(());
    });
    told.await.unwrap();
}

/// What the process has executed, on a file that survives it.
#[derive(Clone)]
struct Ledger(Arc<Mutex<File>>);

impl Ledger {
    fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path);
        Self(Arc::new(Mutex::new(file.unwrap())))
    }

    /// One write per line, which the system keeps even if the process is killed.
    fn note(&self, context: &Context) {
        let line = format!("{}\n", context.request_id());
        self.0.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

async fn work(context: Context, entry: Entry, ledger: Ledger) -> Noted {
    ledger.note(&context);
    let takes = u64::try_from(entry.takes_ms).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(takes)).await;
    Noted {
        by: context.service().identity.id.to_string(),
        at_s: jiff::Timestamp::now().as_second(),
    }
}

/// `Note` works, `Fail` works and then fails, `Panic` works and then panics.
fn methods(builder: Builder, ledger: &Ledger) -> Builder {
    let (noting, failing, panicking) = (ledger.clone(), ledger.clone(), ledger.clone());
    builder
        .method("Note", move |context: Context, entry: Entry| {
            let working = work(context, entry, noting.clone());
            async move { Ok::<_, ServiceError>(working.await) }
        })
        .method("Fail", move |context: Context, entry: Entry| {
            let working = work(context, entry, failing.clone());
            async move {
                working.await;
                Err::<Noted, _>(ServiceError::new("on purpose"))
            }
        })
        .method("Panic", move |context: Context, entry: Entry| {
            let working = work(context, entry, panicking.clone());
            async move {
                let noted = working.await;
                assert!(noted.by.is_empty(), "a panic on purpose");
                Ok::<_, ServiceError>(noted)
            }
        })
}

/// The entry of an instance that is reached elsewhere than where it listens.
fn announcement(service: &Service, announced: SocketAddr) -> InstanceValue {
    InstanceValue {
        address: announced,
        admin_address: None,
        process: ProcessId::own().unwrap(),
        started: jiff::Timestamp::now(),
        registered: service.is_registered(),
        state: State::Ready,
        reason: None,
        deployment: None,
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: Vec::new(),
        other: serde_json::Map::new(),
    }
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
        Self::launch(number, host, place, variables, Setup::default())
    }

    /// The same at a place of its own.
    pub(crate) fn start_at(number: u32, host: &str, place: &Place<'_>, setup: Setup) -> Self {
        Self::launch(number, host, place, &HashMap::<&str, &str>::new(), setup)
    }

    fn launch<V: AsRef<OsStr>>(
        number: u32,
        host: &str,
        place: &Place<'_>,
        variables: &HashMap<&str, V>,
        setup: Setup,
    ) -> Self {
        let id = InstanceId::from_u128(u128::from(number) + 1);
        let told = Told {
            endpoints: place.endpoints.clone(),
            prefix: place.prefix.to_owned(),
            ttl_s: place.ttl.as_secs(),
            host: host.to_owned(),
            id,
            ledger: place.folder.join(format!("{number}.ledger")),
            setup,
        };
        // One that is started again writes behind what its predecessor wrote.
        let log = place.folder.join(format!("{number}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
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

    /// Asks the process to end, as an operator does.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Ends the process without a word, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the process has ended by itself; whether it ended well.
    pub(crate) async fn ended(&mut self) -> bool {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(tokio::time::Instant::now() < deadline, "it does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the process in good order: nothing that it was sent is left undone.
    pub(crate) async fn finish(mut self) -> bool {
        drop(self.child.stdin.take());
        self.ended().await
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
