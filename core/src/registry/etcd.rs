//! The connection to etcd: one client per endpoint, and rotation when one fails.
//!
//! etcd-client spreads calls over all endpoints, dead ones included, so each endpoint has a client
//! of its own, and one of them is current. Invariants: every call has a deadline; an endpoint that
//! fails is left at once and its connection thrown away. This file and its siblings below
//! `registry/` are the only ones that name the etcd client.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use tokio::time::{Instant, timeout};

use super::dial::{CONNECT_TIMEOUT, Dial};
use super::error::{Cause, Error};

/// The pause before an endpoint is tried again when all have failed.
const PAUSE: Duration = Duration::from_millis(50);
/// When nobody listens at any endpoint, waiting longer does not help the one who asks; those who
/// cannot do without ask again.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// What the registry, or the way to it, says of a failed exchange, in one plain sentence.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Said {
    message: String,
    code: Option<tonic::Code>,
    refused: bool,
}

impl From<etcd_client::Error> for Said {
    fn from(error: etcd_client::Error) -> Self {
        let code = match &error {
            etcd_client::Error::GRpcStatus(status) => Some(status.code()),
            _ => None,
        };
        // etcd-client does not tell what lies below its own errors.
        let root = match &error {
            etcd_client::Error::GRpcStatus(status) => root_of(status),
            etcd_client::Error::TransportError(transport) => root_of(transport),
            other => root_of(other),
        };
        let io = root.downcast_ref::<std::io::Error>();
        let refused = io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
        let message = match &error {
            etcd_client::Error::GRpcStatus(status) if io.is_none() => status.message().to_owned(),
            _ => root.to_string(),
        };
        // The system's own words end in its number, which is for programs.
        let message = message
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned();
        Self {
            message,
            code,
            refused,
        }
    }
}

/// The error below all others: the layers above only repeat it.
fn root_of<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut root = error;
    while let Some(below) = root.source() {
        root = below;
    }
    root
}

/// All endpoints of one registry.
pub(super) struct Etcd {
    dial: Dial,
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    call_timeout: Duration,
}

struct Endpoint {
    url: String,
    /// `None` until it is first used, and again after it failed. Never held across an await.
    client: Mutex<Option<Client>>,
}

impl Etcd {
    pub(super) fn new(dial: Dial, urls: &[String], call_timeout: Duration) -> Result<Self, Error> {
        if urls.is_empty() {
            return Err(Error::NoEndpoint);
        }
        let endpoints = urls
            .iter()
            .map(|url| {
                let plain = url
                    .strip_prefix("http://")
                    .or_else(|| url.strip_prefix("https://"));
                match plain.unwrap_or(url).trim_end_matches('/') {
                    rest if rest.is_empty() || rest.contains(['/', ' ', '@']) => {
                        Err(Error::BadEndpoint {
                            endpoint: url.clone(),
                        })
                    }
                    rest if !rest.contains(':') => Err(Error::BadEndpoint {
                        endpoint: url.clone(),
                    }),
                    rest if plain.is_none() => Ok(format!("http://{rest}")),
                    _ => Ok(url.trim_end_matches('/').to_owned()),
                }
            })
            .map(|url| {
                Ok(Endpoint {
                    url: url?,
                    client: Mutex::new(None),
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            dial,
            endpoints,
            current: AtomicUsize::new(0),
            call_timeout,
        })
    }

    /// The endpoints, for messages.
    pub(super) fn names(&self) -> String {
        let urls: Vec<&str> = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.url.as_str())
            .collect();
        urls.join(", ")
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.url.clone())
            .collect()
    }

    /// Runs one exchange; on a failure of the connection, the next endpoint gets it, until the
    /// call's time is over. `exchange` must therefore be safe to repeat: reads, guarded
    /// transactions, and writes of the same value.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the exchange; the registry may still carry it out.
    pub(super) async fn call<T, F>(
        &self,
        operation: &'static str,
        mut exchange: impl FnMut(Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let give_up = Instant::now() + self.call_timeout;
        // With several endpoints, a silent one must leave time for the others.
        let share = u32::try_from(self.endpoints.len()).unwrap_or(1).min(3);
        let attempt_time = self.call_timeout / share;
        let began = Instant::now();
        let mut last: Option<Cause> = None;
        let mut refusals = 0;
        loop {
            let now = Instant::now();
            let nobody = refusals >= self.endpoints.len() && now >= began + REFUSED_FOR;
            if now >= give_up || nobody {
                let within = if nobody {
                    REFUSED_FOR
                } else {
                    self.call_timeout
                };
                let endpoints = self.names();
                return Err(Error::Unreachable {
                    operation,
                    endpoints,
                    within,
                    source: last,
                });
            }
            let index = self.current.load(Ordering::Relaxed);
            let attempt = async {
                let client = self.client(index).await?;
                exchange(client).await
            };
            match timeout(attempt_time.min(give_up - now), attempt).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if is_refusal(&error) => {
                    let source = Box::new(Said::from(error));
                    return Err(Error::Refused { operation, source });
                }
                Ok(Err(error)) => {
                    let said = Said::from(error);
                    refusals = if said.refused { refusals + 1 } else { 0 };
                    last = Some(Box::new(said));
                    self.leave(index);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(elapsed) => {
                    refusals = 0;
                    last.get_or_insert_with(|| Box::new(elapsed));
                    self.leave(index);
                }
            }
        }
    }

    /// The client of the current endpoint, and a token to [`Self::leave`] it with.
    pub(super) async fn current(&self) -> Result<(Client, usize), Error> {
        let index = self.current.load(Ordering::Relaxed);
        let client = timeout(CONNECT_TIMEOUT, self.client(index)).await;
        let unreachable = |source: Cause| Error::Unreachable {
            operation: "connect",
            endpoints: self.names(),
            within: CONNECT_TIMEOUT,
            source: Some(source),
        };
        match client {
            Ok(Ok(client)) => Ok((client, index)),
            Ok(Err(error)) => {
                self.leave(index);
                Err(unreachable(Box::new(Said::from(error))))
            }
            Err(elapsed) => {
                self.leave(index);
                Err(unreachable(Box::new(elapsed)))
            }
        }
    }

    /// Leaves an endpoint that failed: its connection is thrown away, the next one becomes current.
    pub(super) fn leave(&self, index: usize) {
        let endpoint = &self.endpoints[index % self.endpoints.len()];
        *endpoint
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        let next = (index + 1) % self.endpoints.len();
        // Whoever failed first moves on; the others follow.
        let _moved =
            self.current
                .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn client(&self, index: usize) -> Result<Client, etcd_client::Error> {
        let endpoint = &self.endpoints[index % self.endpoints.len()];
        let known = endpoint
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.dial.client(&endpoint.url).await?;
        // Whoever was first keeps its connection, so that a race does not leave two.
        let mut slot = endpoint
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(slot.get_or_insert(client).clone())
    }
}

/// Whether the registry understood us and said no, so that another endpoint would say the same.
fn is_refusal(error: &etcd_client::Error) -> bool {
    use tonic::Code;
    match error {
        etcd_client::Error::GRpcStatus(status) => matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated
                | Code::ResourceExhausted
        ),
        etcd_client::Error::InvalidArgs(_) | etcd_client::Error::InvalidUri(_) => true,
        _ => false,
    }
}

/// Whether the registry says that a lease is not (or no longer) there.
pub(super) fn is_lease_gone(error: &Error) -> bool {
    let Error::Refused { source, .. } = error else {
        return false;
    };
    source
        .downcast_ref::<Said>()
        .is_some_and(|said| said.code == Some(tonic::Code::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked_before_they_are_used() {
        let time = Duration::from_secs(1);
        let new = |urls: &[String]| Etcd::new(Dial::Network, urls, time);
        assert!(matches!(new(&[]), Err(Error::NoEndpoint)));
        for bad in [
            "",
            "http://",
            "http://a b:1",
            "ftp://x:1",
            "localhost",
            "http://u@h:1",
        ] {
            let result = new(&[bad.to_owned()]);
            assert!(matches!(result, Err(Error::BadEndpoint { .. })), "{bad}");
        }
        let etcd = new(&["localhost:2379".into(), "http://b:1/".into()]).unwrap();
        assert_eq!(etcd.urls(), ["http://localhost:2379", "http://b:1"]);
    }
}
