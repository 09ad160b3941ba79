//! Asks a child over its admin port.
//!
//! Invariants: one idle connection is kept per child; a connection whose answer nobody waited for is
//! dropped, never used again. Knows nothing of the child's state.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skynet::daemon_api::Empty;
use skynet::rpc::admin::{AdminConnection, AdminError, STATS, STOP, StopRequest};
use skynet::stats::InstanceStats;
use tokio::time::timeout;

/// How long a request to stop may take until it is connected.
const CONNECT: Duration = Duration::from_secs(1);

/// A way to ask one child; a cheap clone.
#[derive(Debug, Clone)]
pub struct AdminLink {
    address: SocketAddr,
    idle: Arc<Mutex<Option<AdminConnection>>>,
}

/// A child did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The time was over.
    #[error("the admin port {address} did not answer within {limit:?}")]
    Late {
        /// Where.
        address: SocketAddr,
        /// How long it had.
        limit: Duration,
    },
    /// The exchange failed.
    #[error(transparent)]
    Failed(#[from] AdminError),
}

impl AdminLink {
    /// A way to ask the child at `address`; it connects when it is first used.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Arc::default(),
        }
    }

    /// Where the child is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The child's own figures.
    ///
    /// # Errors
    /// [`AskError`] when there is no answer within `limit`.
    ///
    /// # Cancel safety
    /// Reads only; the connection is given up.
    pub async fn stats(&self, limit: Duration) -> Result<InstanceStats, AskError> {
        let late = AskError::Late {
            address: self.address,
            limit,
        };
        let asked = timeout(limit, self.ask(STATS, &Empty {})).await;
        Ok(asked.map_err(|_elapsed| late)??)
    }

    /// Asks the child to finish what it has and to end; whether it took that. A child answers when
    /// it is done, so `limit` is the time that it has.
    ///
    /// # Cancel safety
    /// It is asked or not.
    pub async fn stop(&self, limit: Duration) -> bool {
        let opened = timeout(CONNECT, AdminConnection::open(self.address)).await;
        let Ok(Ok(mut connection)) = opened else {
            return false;
        };
        let request = StopRequest {
            waitforclients: true,
        };
        let asked = timeout(limit, connection.call::<_, Empty>(STOP, &request)).await;
        // A connection that ends without an answer is what a process that ends leaves behind.
        !matches!(asked, Ok(Err(AdminError::Refused { .. })))
    }

    async fn ask<I: Serialize, O: DeserializeOwned>(
        &self,
        method: &str,
        body: &I,
    ) -> Result<O, AdminError> {
        let idle = self.idle().take();
        if let Some(connection) = idle {
            match self.ask_on(connection, method, body).await {
                // It may have been closed while it was idle: a new one tells.
                Err(AdminError::Ended { .. }) => {}
                answered => return answered,
            }
        }
        let connection = AdminConnection::open(self.address).await?;
        self.ask_on(connection, method, body).await
    }

    async fn ask_on<I: Serialize, O: DeserializeOwned>(
        &self,
        mut connection: AdminConnection,
        method: &str,
        body: &I,
    ) -> Result<O, AdminError> {
        let answer = connection.call(method, body).await?;
        *self.idle() = Some(connection);
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<AdminConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
