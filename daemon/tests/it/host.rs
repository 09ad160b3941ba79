//! A host under test: a registry, a state folder, a daemon process, and a guard that ends it all.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skynet::instance::{Instance, InstanceId, ProcessId, State};
use skynet::registry::embedded::{Embedded, EmbeddedConfig};
use skynet::registry::{Registry, RegistryConfig, View};
use skynet::rpc::conn::{ConnectOptions, Connection, Request, RequestInfo};
use skynet::rpc::typed;
use skynet_daemon::process;
use tokio::time::Instant;

use crate::child::SERVICE;

/// How long a condition may take to become true.
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until something is so.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The host under test.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) registry: Registry,
    view: Arc<View>,
    daemon: Option<Child>,
    embedded: Option<Embedded>,
}

impl Host {
    /// A host with a registry of its own and no daemon yet.
    pub(crate) async fn new() -> Self {
        let embedded = Embedded::start(EmbeddedConfig::default()).await.unwrap();
        let mut host = Self::at(&embedded.url());
        host.embedded = Some(embedded);
        host
    }

    /// A host whose registry is, or will be, at `url`.
    pub(crate) fn at(url: &str) -> Self {
        let registry = Registry::new(&RegistryConfig::at(url)).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            view: registry.view(),
            registry,
            daemon: None,
            embedded: None,
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Writes the file of services and returns its path.
    pub(crate) fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("services.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The daemon's command line, to which a test may add.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skydaemon"));
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .args(["--registry", &self.registry.endpoints().join(",")])
            .args(["--region", "east", "--host", "h1", "--drain", "5s"])
            .arg("--state")
            .arg(self.state())
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon.
    pub(crate) fn start(&mut self, mut command: Command) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("daemon.log"))
            .unwrap();
        self.daemon = Some(command.stderr(log).spawn().unwrap());
    }

    /// Starts the daemon with a file that runs the fixture `count` times.
    pub(crate) fn start_with_fixtures(&mut self, count: u32) {
        let file = self.file(&crate::child::described(count));
        let mut command = self.command();
        command.arg(file);
        self.start(command);
    }

    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Sends the daemon a signal by its name and waits for its end.
    pub(crate) async fn end_daemon(&mut self, signal: &str) -> ExitStatus {
        send(signal, self.daemon_pid());
        self.daemon_ended().await
    }

    pub(crate) async fn daemon_ended(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        until("the daemon has ended", async || daemon.try_wait().unwrap()).await
    }

    /// The daemon's own id, once its service is registered.
    pub(crate) fn daemon_id(&self) -> Option<InstanceId> {
        let snapshot = self.view.snapshot();
        let mut own = snapshot.of_service(skynet::daemon_api::DAEMON_SERVICE);
        own.next().map(|daemon| daemon.identity.id)
    }

    /// The instances of the fixture that are ready.
    pub(crate) fn ready(&self) -> Vec<Arc<Instance>> {
        let snapshot = self.view.snapshot();
        let ready = snapshot.of_service(SERVICE);
        ready
            .filter(|instance| instance.state == State::Ready)
            .map(Arc::clone)
            .collect()
    }

    pub(crate) async fn until_ready(&self, count: usize) -> Vec<Arc<Instance>> {
        until("the fixtures are ready", async || {
            Some(self.ready()).filter(|ready| ready.len() == count)
        })
        .await
    }

    /// What the registry shows of an instance or child.
    pub(crate) fn shown(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.view.snapshot().instance(id).map(Arc::clone)
    }

    /// The children that are told to the registry because they are not registered.
    pub(crate) fn told(&self) -> Vec<Arc<Instance>> {
        let snapshot = self.view.snapshot();
        let told = snapshot.instances().filter(|row| row.lease == 0);
        told.map(Arc::clone).collect()
    }

    /// The daemon's address, once its host is registered by the process that runs now.
    pub(crate) async fn daemon_address(&self) -> std::net::SocketAddr {
        let pid = self.daemon_pid();
        until("the daemon's host is registered", async || {
            let snapshot = self.view.snapshot();
            let host = snapshot.host("h1")?;
            (host.process.pid == pid).then_some(host.address)
        })
        .await
    }

    /// Calls a method of the daemon: the result and the daemon's own error.
    pub(crate) async fn ask<O: DeserializeOwned>(
        &self,
        method: &str,
        input: &impl Serialize,
    ) -> (O, Option<String>) {
        let address = self.daemon_address().await;
        let connection = Connection::open(address, &ConnectOptions::default())
            .await
            .unwrap();
        let input = typed::encode(input).unwrap();
        let reply = connection
            .call(Request {
                service: "SkynetDaemon",
                method,
                info: RequestInfo::default(),
                input: &input,
            })
            .await
            .unwrap();
        let output = typed::decode(&reply.output).unwrap();
        (output, reply.service_error)
    }

    /// The same of a method that must not fail.
    pub(crate) async fn get<O: DeserializeOwned>(&self, method: &str, input: &impl Serialize) -> O {
        let (output, error) = self.ask(method, input).await;
        assert_eq!(error, None, "{method}");
        output
    }

    /// Deploys the fixture by a request.
    pub(crate) async fn deploy(&self) -> InstanceId {
        let (servicepath, args) = crate::child::deployable();
        let request = skynet::daemon_api::DeployRequest { servicepath, args };
        let reply: skynet::daemon_api::ChildUuid = self.get("Deploy", &request).await;
        reply.uuid.parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("daemon.log"));
            println!("the daemon's log:\n{}", log.unwrap_or_default());
        }
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        // Whatever the test did, nothing that carries a mark of its children lives on.
        let notes = skynet_daemon::store::load(&self.state().join("children.json"));
        let marked = process::find_marked().unwrap_or_default();
        for id in notes
            .into_iter()
            .flat_map(|loaded| loaded.noted.children.into_keys())
        {
            if let Some(Ok(Some(child))) = marked.get(&id).map(process::adopt) {
                drop(child.kill());
            }
        }
    }
}

/// Sends a signal by its name.
pub(crate) fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success(), "cannot send {signal} to {pid}");
}

pub(crate) fn is_alive(process: &ProcessId) -> bool {
    process.is_alive().unwrap()
}

/// The processes of these instances.
pub(crate) fn processes(instances: &[Arc<Instance>]) -> Vec<ProcessId> {
    let mut processes: Vec<ProcessId> = instances
        .iter()
        .map(|instance| instance.process.clone().unwrap())
        .collect();
    processes.sort_by_key(|process| process.pid);
    processes
}
