//! A harness for tests of this workspace and of dependents: registries that a test may ill-treat.
//!
//! Invariants: every registry has a port and a folder of its own and leaves no process and no file
//! behind, even if the test panics. A real etcd is used where it is installed; where it is not, the
//! harness says so loudly, and fails if `SKYNET_REQUIRE_ETCD=1` is set. etcd 3.4 is the `etcd` of the
//! PATH; etcd 3.5 is in the folder that `SKYNET_ETCD_3_5` names.

mod cluster;
mod etcd;
mod instance;
mod proxy;
mod simulated;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::Once,
    time::Duration,
};

use tempfile::TempDir;

pub use self::cluster::{EtcdCluster, NODES, NodeStatus, Traffic};
use self::etcd::{Elections, EtcdProcess, EtcdVersion};
pub use self::instance::instance;
pub use self::proxy::Proxy;
pub use self::simulated::{Network, SimulatedRegistry};
use crate::{
    hint::Hint,
    registry::embedded::{Embedded, EmbeddedConfig, EmbeddedError, Faults},
};

/// Ports that the system does not hand out by itself, so that a restart finds its port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How often a free port is looked for.
const PORT_ATTEMPTS: usize = 100;

/// Why a registry for a test is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestRegistryError {
    /// The embedded one did not start.
    #[error("the embedded registry did not start")]
    Embedded(#[from] EmbeddedError),
    /// This etcd is not installed, and `SKYNET_REQUIRE_ETCD` is set.
    #[error("`{etcd}` is required and not installed")]
    EtcdMissing {
        /// `etcd-3.4` or `etcd-3.5`.
        etcd: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// etcd ended or did not get healthy.
    #[error("etcd at `{address}` did not get healthy within {}s: {log}", patience.as_secs())]
    EtcdUnhealthy {
        /// Where it should have answered.
        address: SocketAddr,
        /// How long was waited.
        patience: Duration,
        /// The end of what it wrote.
        log: String,
    },
    /// No port is free.
    #[error("no free port between {} and {}", PORTS.start, PORTS.end)]
    NoPort,
    /// A folder or process could not be made.
    #[error("could not prepare a registry")]
    Io(#[from] io::Error),
}

impl Hint for TestRegistryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Embedded(error) => error.hint(),
            Self::EtcdMissing { remedy, .. } => {
                Some(format!("{remedy}, or unset `SKYNET_REQUIRE_ETCD`"))
            }
            Self::EtcdUnhealthy { .. } | Self::NoPort | Self::Io(_) => None,
        }
    }
}

/// A registry that belongs to one test.
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddr,
    server: Server,
    /// Holds the data; goes last.
    folder: TempDir,
}

#[derive(Debug)]
enum Server {
    Embedded(Box<Embedded>),
    Etcd(EtcdProcess),
}

impl TestRegistry {
    /// An embedded registry that keeps its data over [`TestRegistry::restart`].
    ///
    /// # Errors
    ///
    /// [`TestRegistryError`] says what is missing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is left.
    pub async fn embedded() -> Result<Self, TestRegistryError> {
        let folder = TempDir::new()?;
        let address = free_address()?;
        let embedded = Embedded::start(embedded_config(address, &folder)).await?;
        Ok(Self {
            address,
            server: Server::Embedded(Box::new(embedded)),
            folder,
        })
    }

    /// A private etcd 3.4 (the one on the PATH), or `None` (and a loud word on stderr) where there
    /// is none.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::EtcdMissing`] if `SKYNET_REQUIRE_ETCD=1` is set and there is none; the
    /// others if it does not come up.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the process is killed.
    pub async fn etcd() -> Result<Option<Self>, TestRegistryError> {
        Self::start_etcd(EtcdVersion::V3_4, Elections::Short).await
    }

    /// The same with etcd's own election timeout instead of the short one of tests, for who measures:
    /// a leader that loses its post because the machine is busy says nothing about the registry.
    ///
    /// # Errors
    ///
    /// As for [`TestRegistry::etcd`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the process is killed.
    pub async fn etcd_with_usual_elections() -> Result<Option<Self>, TestRegistryError> {
        Self::start_etcd(EtcdVersion::V3_4, Elections::Usual).await
    }

    /// A private etcd 3.5 (from the folder that `SKYNET_ETCD_3_5` names), or `None` (and a loud word
    /// on stderr) where there is none.
    ///
    /// # Errors
    ///
    /// As for [`TestRegistry::etcd`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the process is killed.
    pub async fn etcd_3_5() -> Result<Option<Self>, TestRegistryError> {
        Self::start_etcd(EtcdVersion::V3_5, Elections::Short).await
    }

    async fn start_etcd(
        version: EtcdVersion,
        elections: Elections,
    ) -> Result<Option<Self>, TestRegistryError> {
        let folder = TempDir::new()?;
        let address = free_address()?;
        let started = EtcdProcess::start(version, elections, address, folder.path());
        let Some(process) = started.await? else {
            return missing(version);
        };
        Ok(Some(Self {
            address,
            server: Server::Etcd(process),
            folder,
        }))
    }

    /// `embedded`, `etcd-3.4` or `etcd-3.5`, for messages.
    pub fn name(&self) -> &'static str {
        match &self.server {
            Server::Embedded(_) => "embedded",
            Server::Etcd(process) => process.version().name(),
        }
    }

    /// Where it listens; stays the same over a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the data are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What goes wrong on request; `None` for an etcd, and while it is killed. A restart has none
    /// of the faults of before.
    ///
    /// # Cancel safety
    ///
    /// Looks only.
    pub async fn faults(&self) -> Option<Faults> {
        match &self.server {
            Server::Embedded(embedded) => embedded.faults().await,
            Server::Etcd(_) => None,
        }
    }

    /// Ends it like `kill -9`: connections break off, nothing is said, acknowledged writes stay.
    ///
    /// # Cancel safety
    ///
    /// Safe: it ends in any case.
    pub async fn kill(&mut self) {
        match &mut self.server {
            Server::Embedded(embedded) => embedded.kill().await,
            Server::Etcd(process) => process.kill(),
        }
    }

    /// Starts it again on the same address with the same data; kills it before if it runs.
    ///
    /// # Errors
    ///
    /// As for the first start.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the registry may be down; restart it again.
    pub async fn restart(&mut self) -> Result<(), TestRegistryError> {
        self.kill().await;
        match &mut self.server {
            Server::Embedded(embedded) => {
                **embedded = Embedded::start(embedded_config(self.address, &self.folder)).await?;
            }
            Server::Etcd(process) => {
                let (version, elections) = (process.version(), process.elections());
                *process = EtcdProcess::start(version, elections, self.address, self.folder.path())
                    .await?
                    .ok_or(TestRegistryError::EtcdMissing {
                        etcd: version.name(),
                        remedy: version.remedy(),
                    })?;
            }
        }
        Ok(())
    }
}

fn embedded_config(address: SocketAddr, folder: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig {
        listen: address,
        data: Some(folder.path().to_owned()),
        // Etcd's processes get the same.
        progress_every: Duration::from_millis(200),
        ..EmbeddedConfig::default()
    }
}

/// An address of 127.0.0.1 that nobody listens on, outside of the ports that the system takes for
/// outgoing connections.
///
/// # Errors
///
/// [`TestRegistryError::NoPort`] if none is found.
pub fn free_address() -> Result<SocketAddr, TestRegistryError> {
    (0..PORT_ATTEMPTS)
        .map(|_| SocketAddr::from(([127, 0, 0, 1], fastrand::u16(PORTS))))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .ok_or(TestRegistryError::NoPort)
}

/// The `etcdctl` of etcd 3.4 (the one on the PATH), to be run with API 3; `None` (and a loud word on
/// stderr) where there is none.
///
/// # Errors
///
/// [`TestRegistryError::EtcdMissing`] if `SKYNET_REQUIRE_ETCD=1` is set and there is none.
pub fn etcdctl() -> Result<Option<Command>, TestRegistryError> {
    command_of(EtcdVersion::V3_4, "etcdctl")
}

/// The `etcdctl` of etcd 3.5 (from the folder that `SKYNET_ETCD_3_5` names), as [`etcdctl`].
///
/// # Errors
///
/// As for [`etcdctl`].
pub fn etcdctl_3_5() -> Result<Option<Command>, TestRegistryError> {
    command_of(EtcdVersion::V3_5, "etcdctl")
}

fn command_of(version: EtcdVersion, name: &str) -> Result<Option<Command>, TestRegistryError> {
    let Some(program) = version.program(name) else {
        return missing(version);
    };
    let mut command = Command::new(program);
    command.env("ETCDCTL_API", "3");
    Ok(Some(command))
}

/// Nothing, once that was said, past the capture of test output; a failure where it is required.
fn missing<T>(version: EtcdVersion) -> Result<Option<T>, TestRegistryError> {
    static SAID: [Once; 2] = [Once::new(), Once::new()];

    let (etcd, remedy) = (version.name(), version.remedy());
    if std::env::var("SKYNET_REQUIRE_ETCD").is_ok_and(|value| value == "1") {
        return Err(TestRegistryError::EtcdMissing { etcd, remedy });
    }
    SAID[usize::from(version == EtcdVersion::V3_5)].call_once(|| {
        // A closed stderr means that nobody wants to hear it.
        let _ = writeln!(
            io::stderr(),
            "!!! {etcd} is not installed: the tests that need it did NOT run ({remedy}; \
             SKYNET_REQUIRE_ETCD=1 makes this a failure) !!!"
        );
    });
    Ok(None)
}
