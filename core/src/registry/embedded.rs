//! A registry inside this process: one node that serves etcd's v3 gRPC API.
//!
//! Where one machine is enough, this is the registry; clients cannot tell it from etcd. The state is
//! pure (`store`, `lease`, `txn`, `watch`) and belongs to one thread (`owner`), which commits to the
//! disk (`disk`) before anybody sees a write; the services are thin adapters over it.
//!
//! Invariants: an acknowledged write survives `kill -9`; every queue has a bound; it runs on threads
//! of its own, so stopping it never waits for a client, and a busy host program does not expire
//! leases. It does not know what the keys mean.

mod auth_service;
mod authority;
mod check;
mod checksum;
mod disk;
mod engine;
mod error;
#[cfg(feature = "testing")]
mod faults;
mod kv_service;
mod lease;
mod lease_service;
mod maintenance_service;
mod node;
mod owner;
mod range;
mod read;
mod refusal;
mod server;
#[cfg(feature = "testing")]
mod simulated;
mod space;
mod store;
mod txn;
mod watch;
mod watch_service;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tokio::sync::Mutex;

#[cfg(feature = "testing")]
pub use self::faults::{FaultRefused, Faults, Leases, Path, Standing, Tally};
use self::server::Running;
pub use self::{
    disk::{
        backup::{Restored, restore},
        repair::{Repaired, repair},
    },
    error::EmbeddedError,
};
#[cfg(feature = "testing")]
pub(crate) use self::{
    faults::{Line, Wire},
    simulated::Simulated,
};

/// How long a stop waits for clients to take their last answers.
const GRACE: Duration = Duration::from_millis(500);

/// How many revisions are kept if nobody says otherwise.
const HISTORY: usize = 10_000;

/// How often idle watchers hear of their progress if nobody says otherwise, as in etcd.
const PROGRESS_EVERY: Duration = Duration::from_mins(10);

/// Where an embedded registry listens and what it keeps.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder that holds the data, made if it is missing; `None` keeps all in memory.
    pub data: Option<PathBuf>,
    /// How many revisions watchers and readers can go back, at least 1.
    pub history: usize,
    /// How many bytes the kept keys may take before writes are refused, as etcd's
    /// `--quota-backend-bytes`.
    pub quota_bytes: u64,
    /// Whether `listen` may be an address that other machines reach.
    pub allow_insecure: bool,
    /// How often an idle watcher that asked for it hears how far it is.
    pub progress_every: Duration,
}

impl Default for EmbeddedConfig {
    /// A free port of 127.0.0.1, in memory, 10,000 revisions, 2 GiB.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: None,
            history: HISTORY,
            quota_bytes: space::DEFAULT_QUOTA,
            allow_insecure: false,
            progress_every: PROGRESS_EVERY,
        }
    }
}

/// A running registry; dropping it ends it at once.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

impl Embedded {
    /// Opens the data, listens and serves. It answers as soon as this returns.
    ///
    /// # Errors
    ///
    /// Says what is in the way: the address ([`EmbeddedError::NotLoopback`],
    /// [`EmbeddedError::AddressInUse`], [`EmbeddedError::Bind`]), the folder
    /// ([`EmbeddedError::Folder`], [`EmbeddedError::Locked`]), what is in it
    /// ([`EmbeddedError::Damaged`], [`EmbeddedError::Format`]) or the system
    /// ([`EmbeddedError::Threads`]).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens; the data folder is free again a moment later.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        // Reading the file blocks; the closure owns all it makes, so a dropped start leaves nothing.
        let started = tokio::task::spawn_blocking(move || Running::start(&config)).await;
        let running = match started {
            Ok(running) => running?,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The caller's runtime is shutting down.
                Err(cancelled) => {
                    let source = std::io::Error::other(cancelled);
                    return Err(EmbeddedError::Threads { source });
                }
            },
        };
        Ok(Self {
            address: running.address(),
            running: Mutex::new(Some(running)),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients take it, `http://127.0.0.1:2379`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the open streams and stops; the port and the data folder are free when this returns,
    /// after half a second or a little more at worst. Once stopped, it does nothing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it stops all the same, without waiting.
    pub async fn stop(&self) {
        self.end(GRACE).await;
    }

    /// Stops like a crash would: connections break off without a word. For tests.
    ///
    /// # Cancel safety
    ///
    /// As for [`Embedded::stop`].
    #[cfg(feature = "testing")]
    pub async fn kill(&self) {
        self.end(Duration::ZERO).await;
    }

    /// What goes wrong on request; `None` once it is stopped. A start has none of the faults of
    /// the one before.
    ///
    /// # Cancel safety
    ///
    /// Looks only.
    #[cfg(feature = "testing")]
    pub async fn faults(&self) -> Option<Faults> {
        self.running.lock().await.as_ref().map(Running::faults)
    }

    async fn end(&self, grace: Duration) {
        let mut running = self.running.lock().await;
        if let Some(running) = running.take() {
            running.stop(grace).await;
        }
    }
}
