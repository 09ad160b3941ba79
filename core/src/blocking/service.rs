//! A service in a program without tokio.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Error, Runtime, may_block};
use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryConfig};
use crate::service::{self, Builder, Stopper};

/// A service that runs on a thread of its own; see [`service::Service`]. Its methods may be blocking
/// functions: [`Builder::blocking_method`]. Dropping it ends it without a drain.
pub struct Service {
    service: service::Service,
    runtime: Arc<Runtime>,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("blocking::Service")
            .field("info", self.service.info())
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Serves what `builder` says, and registers.
    ///
    /// # Errors
    /// [`Error::InsideAsync`], [`Error::Runtime`], [`Error::Registry`] for settings that cannot be
    /// used, [`Error::Start`] when there is no port.
    pub fn start(builder: Builder, config: &RegistryConfig) -> Result<Self, Error> {
        may_block()?;
        let runtime = Runtime::start()?;
        let registry = Registry::new(config)?;
        let service = runtime.wait(builder.start(&registry))??;
        Ok(Self { service, runtime })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// What it measures.
    pub fn metrics(&self) -> Metrics {
        self.service.metrics()
    }

    /// A handle that can stop it from another thread.
    pub fn stopper(&self) -> Stopper {
        self.service.stopper()
    }

    /// Waits until it has ended: after SIGTERM or SIGINT, `Admin.Stop` or a [`Stopper`], and a drain.
    ///
    /// # Errors
    /// [`Error::InsideAsync`]; then it runs on.
    pub fn until_stopped(&self) -> Result<(), Error> {
        self.runtime.wait(self.service.until_stopped())
    }

    /// Drains and ends.
    ///
    /// # Errors
    /// [`Error::InsideAsync`]; then it runs on.
    pub fn stop(&self) -> Result<(), Error> {
        self.runtime.wait(self.service.stop())
    }
}
