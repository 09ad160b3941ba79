//! Conversations with the daemons: one connection to each, opened when it is first needed.
//!
//! Invariants: a connection that ended is opened anew; every call has a deadline.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::daemon_api::DAEMON_SERVICE;
use crate::rpc::admin::{AdminConnection, AdminError};
use crate::rpc::typed::{self, TypedError};
use crate::rpc::{
    CallFailure, ConnectError, ConnectOptions, Connection, Expected, Request, RequestInfo,
};

/// Why a daemon or an instance did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The request brought no answer.
    #[error(transparent)]
    Call(#[from] CallFailure),
    /// The request or the answer does not fit.
    #[error(transparent)]
    Typed(#[from] TypedError),
    /// An admin port did not answer.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// It answered, and refused.
    #[error("{0}")]
    Refused(String),
}

/// Connections to daemons, by address.
#[derive(Default)]
pub(super) struct Daemons {
    connections: Mutex<HashMap<SocketAddr, Connection>>,
}

impl Daemons {
    /// Calls a method of the daemon at `address`.
    pub(super) async fn ask<I, O>(
        &self,
        address: SocketAddr,
        method: &str,
        input: &I,
        within: Duration,
    ) -> Result<O, AskError>
    where
        I: Serialize,
        O: DeserializeOwned,
    {
        let deadline = Instant::now() + within;
        let connection = self.connection(address, within).await?;
        let input = typed::encode(input)?;
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = Request {
            service: DAEMON_SERVICE,
            method,
            info: RequestInfo {
                request_id: &request_id,
                origin: "",
                retry_count: 0,
                deadline: Some(deadline),
                traceparent: None,
            },
            input: &input,
        };
        let reply = connection.call(request).await?;
        match reply.service_error {
            Some(message) => Err(AskError::Refused(message)),
            None => Ok(typed::decode(&reply.output)?),
        }
    }

    async fn connection(
        &self,
        address: SocketAddr,
        within: Duration,
    ) -> Result<Connection, ConnectError> {
        let known = self
            .lock()
            .get(&address)
            .filter(|known| !known.is_closed())
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let options = ConnectOptions {
            expect: Some(Expected {
                service: Some(Arc::from(DAEMON_SERVICE)),
                id: None,
            }),
            timeout: within,
            ..ConnectOptions::default()
        };
        let connection = Connection::open(address, &options).await?;
        let mut connections = self.lock();
        // Daemons that went would otherwise be remembered for ever.
        connections.retain(|_, known| !known.is_closed());
        connections.insert(address, connection.clone());
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `method` on an instance's admin port.
pub(super) async fn ask_admin<I, O>(
    address: SocketAddr,
    method: &str,
    input: &I,
    within: Duration,
) -> Result<O, AskError>
where
    I: Serialize,
    O: DeserializeOwned,
{
    let asked = async {
        let mut connection = AdminConnection::open(address).await?;
        Ok(connection.call(method, input).await?)
    };
    match tokio::time::timeout(within, asked).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ConnectError::TimedOut {
            address,
            limit: within,
        }
        .into()),
    }
}
