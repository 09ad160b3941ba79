//! A registry on paused time: the embedded one and its clients as tasks of one test, over
//! connections that lead nowhere.
//!
//! Invariants: no thread, no socket, no disk, no blocking call, so an hour passes in milliseconds;
//! every endpoint and every client's network fails by itself. What is not repeatable though the
//! test seeds `fastrand`: the order in which `tokio::select!` looks at its branches, and the order
//! of hash maps.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::io::duplex;

use crate::registry::{
    Connection, Registry, RegistryConfig,
    embedded::{Faults, Line, Path, Simulated, Wire},
};

/// Bytes on their way in one direction.
const IN_FLIGHT: usize = 64 * 1024;

/// The embedded registry in the test's own runtime.
#[derive(Debug)]
pub struct SimulatedRegistry {
    server: Arc<Simulated>,
    /// One per endpoint.
    lines: Vec<Line>,
}

/// What lies between one client and all endpoints. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct Network {
    line: Line,
}

impl Network {
    /// From now on this becomes of the bytes.
    pub fn set(&self, path: Path) {
        self.line.set(path);
    }

    /// Breaks the connections off that stand.
    pub fn cut(&self) {
        self.line.cut();
    }
}

impl SimulatedRegistry {
    /// A registry with one endpoint. Call it on a current-thread runtime, or paused time will not
    /// help.
    pub fn new() -> Self {
        Self::with_endpoints(1)
    }

    /// One state behind several endpoints, as a cluster of etcd shows it.
    pub fn with_endpoints(n_endpoints: usize) -> Self {
        let n_endpoints = n_endpoints.max(1);
        Self {
            server: Arc::new(Simulated::start(n_endpoints)),
            lines: (0..n_endpoints).map(|_| Line::default()).collect(),
        }
    }

    /// What goes wrong on request.
    pub fn faults(&self) -> Faults {
        self.server.faults().clone()
    }

    /// What becomes of the bytes between everybody and one endpoint; an endpoint that is not there
    /// changes nothing.
    pub fn set_path(&self, endpoint: usize, path: Path) {
        if let Some(line) = self.lines.get(endpoint) {
            line.set(path);
        }
    }

    /// Breaks the connections to one endpoint off.
    pub fn cut(&self, endpoint: usize) {
        if let Some(line) = self.lines.get(endpoint) {
            line.cut();
        }
    }

    /// The settings of a client: all endpoints, a time to live of 10 s, calls of 5 s.
    pub fn config(&self, prefix: &str) -> RegistryConfig {
        let urls: Vec<String> = (0..self.lines.len())
            .map(|endpoint| format!("http://registry-{endpoint}:2379"))
            .collect();
        RegistryConfig {
            call_timeout: Duration::from_secs(5),
            ttl: Duration::from_secs(10),
            ..RegistryConfig::at(&urls.join(","))
        }
        .with_prefix(prefix)
    }

    /// A client on a network of its own that works.
    pub fn client(&self, prefix: &str) -> Registry {
        self.client_over(&self.config(prefix), &Network::default())
    }

    /// A client on this network.
    ///
    /// # Panics
    ///
    /// If the settings name other endpoints than [`SimulatedRegistry::config`].
    pub fn client_over(&self, config: &RegistryConfig, network: &Network) -> Registry {
        let server = Arc::downgrade(&self.server);
        let lines = self.lines.clone();
        let network = network.clone();
        let connector = move |url: String| {
            let server = Weak::clone(&server);
            let (lines, network) = (lines.clone(), network.clone());
            async move {
                let endpoint = endpoint_of(&url).filter(|endpoint| *endpoint < lines.len());
                let endpoint = endpoint.ok_or(io::ErrorKind::HostUnreachable)?;
                let line = lines.get(endpoint).cloned().unwrap_or_default();
                network.line.open().await?;
                line.open().await?;
                let server = server.upgrade().ok_or(io::ErrorKind::ConnectionRefused)?;
                let (near, far) = duplex(IN_FLIGHT);
                let door = server.door(endpoint);
                door.and_then(|door| door.try_send(far).ok())
                    .ok_or(io::ErrorKind::ConnectionRefused)?;
                let wire: Connection = Box::new(Wire::new(near, vec![network.line, line]));
                Ok(wire)
            }
            .boxed()
        };
        #[expect(clippy::expect_used, reason = "the settings are this harness's own")]
        Registry::over(config, Arc::new(connector)).expect("the endpoints of a simulated registry")
    }
}

impl Default for SimulatedRegistry {
    fn default() -> Self {
        Self::new()
    }
}

fn endpoint_of(url: &str) -> Option<usize> {
    let host = url.strip_prefix("http://registry-")?;
    host.split(':').next()?.parse().ok()
}
