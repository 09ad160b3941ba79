//! The client of an admin port: no handshake, one request after the other, bodies that are the
//! parameters and results themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::Ended;
use super::frame::{FrameBuffer, MAX_FRAME};
use super::message::{RequestHeader, ResponseHeader};
use super::server::poll_read;
use super::socket;
use super::typed::{self, TypedError};
use crate::hint::Hint;

/// Serves calls from clients that choose it.
pub const REGISTER: &str = "Admin.Register";

/// Serves no new clients; connections that stand are served as before.
pub const UNREGISTER: &str = "Admin.Unregister";

/// Drains and ends; answered when that is done.
pub const STOP: &str = "Admin.Stop";

/// Tells its figures.
pub const STATS: &str = "Admin.Stats";

/// Tells all that it and the clients beside it measure: [`Metrics`](crate::metrics::Metrics).
pub const METRICS: &str = "Admin.Metrics";

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The parameter of `Admin.Stop`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StopRequest {
    /// The original never looks at it: calls in flight are waited for in any case.
    pub waitforclients: bool,
}

/// Why an admin port brought no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nothing was reached.
    #[error("cannot connect to the admin port {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The connection ended before the answer came.
    #[error("the admin port {address} did not answer `{method}`")]
    Ended {
        /// Where.
        address: SocketAddr,
        /// What was asked.
        method: String,
        /// Why.
        #[source]
        source: Ended,
    },
    /// The instance refused.
    #[error("the admin port {address} refused `{method}`: {message}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// What was asked.
        method: String,
        /// Its words.
        message: String,
    },
    /// A parameter or a result does not become what it should.
    #[error("`{method}` of the admin port {address} cannot be understood")]
    Typed {
        /// Where.
        address: SocketAddr,
        /// What was asked.
        method: String,
        /// What does not fit.
        #[source]
        source: TypedError,
    },
}

impl Hint for AdminError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => "is the instance running?".to_owned(),
            Self::Ended { .. } => "is it an admin port, and not a service's port?".to_owned(),
            Self::Refused { .. } => "instances of older versions know fewer requests".to_owned(),
            Self::Typed { source, .. } => return source.hint(),
        })
    }
}

/// A connection to an admin port.
#[derive(Debug)]
pub struct AdminConnection {
    address: SocketAddr,
    stream: TcpStream,
    frames: FrameBuffer,
    seq: i64,
}

impl AdminConnection {
    /// Connects; takes five seconds at most.
    ///
    /// # Errors
    /// When nobody is reached.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(address: SocketAddr) -> Result<Self, AdminError> {
        let unreachable = |source| AdminError::Unreachable { address, source };
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_elapsed| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        socket::prepare(&stream);
        Ok(Self {
            address,
            stream,
            frames: FrameBuffer::new(MAX_FRAME),
            seq: 0,
        })
    }

    /// Asks `method`, such as [`STATS`], and waits for the answer without a limit.
    ///
    /// # Errors
    /// When there is no answer, or one that refuses.
    ///
    /// # Cancel safety
    /// Not cancel safe: after dropping the future, drop the connection too.
    pub async fn call<I, O>(&mut self, method: &str, body: &I) -> Result<O, AdminError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let address = self.address;
        let typed = |source| AdminError::Typed {
            address,
            method: method.to_owned(),
            source,
        };
        let mut request = Vec::new();
        RequestHeader {
            service_method: method.as_bytes(),
            seq: self.seq,
        }
        .write(&mut request);
        self.seq += 1;
        request.extend_from_slice(&typed::encode(body).map_err(typed)?);
        let (refusal, answer) =
            self.exchange(&request)
                .await
                .map_err(|source| AdminError::Ended {
                    address,
                    method: method.to_owned(),
                    source,
                })?;
        if !refusal.is_empty() {
            return Err(AdminError::Refused {
                address,
                method: method.to_owned(),
                message: refusal,
            });
        }
        typed::decode(&answer).map_err(typed)
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<(String, bytes::Bytes), Ended> {
        let broken = |error| Ended::Broken(Arc::new(error));
        self.stream.write_all(request).await.map_err(broken)?;
        let header = self.document().await?;
        let header = ResponseHeader::read(&header)?;
        let refusal = String::from_utf8_lossy(header.error).into_owned();
        Ok((refusal, self.document().await?))
    }

    async fn document(&mut self) -> Result<bytes::Bytes, Ended> {
        loop {
            if let Some(document) = self.frames.take()? {
                return Ok(document);
            }
            let (stream, frames) = (&mut self.stream, &mut self.frames);
            let read = std::future::poll_fn(|task| poll_read(stream, frames, task)).await;
            if read.map_err(|error| Ended::Broken(Arc::new(error)))? == 0 {
                return Err(Ended::ByPeer);
            }
        }
    }
}
