//! How an endpoint of the registry is reached: over the network, or in a test through its own
//! connections.
//!
//! Invariants: dialling opens nothing by itself, the first call does; a connection that ends is
//! opened again by the next call. It does not know which endpoint is current.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, TlsOptions};

#[cfg(feature = "testing")]
pub use self::simulated::{Connection, Connector, Duplex};

/// HTTP/2 pings: etcd 3.4 cuts a watch that pings every 2 s.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may take to be opened.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to all endpoints of one registry.
#[derive(Clone, Default)]
pub(super) enum Dial {
    /// Sockets.
    #[default]
    Network,
    /// Sockets, to nodes that may know no leader: only for reads that need none.
    Leaderless,
    /// What a test connects.
    #[cfg(feature = "testing")]
    Simulated(Connector),
}

impl Dial {
    /// Whether nodes are asked that may know no leader.
    pub(super) fn is_leaderless(&self) -> bool {
        matches!(self, Self::Leaderless)
    }

    /// A client of one endpoint; `tls` is for those that begin with `https://`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub(super) async fn client(
        &self,
        url: &str,
        tls: Option<TlsOptions>,
    ) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(!self.is_leaderless());
        if let Some(tls) = tls {
            options = options.with_tls(tls.timeout(CONNECT_TIMEOUT));
        }
        match self {
            Self::Network | Self::Leaderless => Client::connect([url], Some(options)).await,
            #[cfg(feature = "testing")]
            Self::Simulated(connector) => simulated::client(connector, url, options).await,
        }
    }
}

#[cfg(feature = "testing")]
mod simulated {
    //! The same client over connections that a test makes: nothing here leaves the process.

    use std::{
        io,
        sync::Arc,
        task::{Context, Poll},
    };

    use etcd_client::{Channel, Client, ConnectOptions};
    use futures_util::future::BoxFuture;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tonic::{
        codegen::{Service, http::Uri},
        transport::Endpoint,
    };

    /// A stream of bytes in both directions.
    pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

    impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

    /// One connection.
    pub type Connection = Box<dyn Duplex>;

    /// Opens a connection to the endpoint with this URL.
    pub type Connector =
        Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Connection>> + Send + Sync>;

    pub(super) async fn client(
        connector: &Connector,
        url: &str,
        options: ConnectOptions,
    ) -> Result<Client, etcd_client::Error> {
        // etcd-client applies the options that belong to the transport only to what it dials.
        let channel = Endpoint::from_shared(url.to_owned())?
            .keep_alive_while_idle(true)
            .http2_keep_alive_interval(super::KEEP_ALIVE)
            .keep_alive_timeout(super::KEEP_ALIVE_TIMEOUT)
            .connect_timeout(super::CONNECT_TIMEOUT)
            .connect_with_connector_lazy(Dialler {
                connector: Arc::clone(connector),
                url: url.to_owned(),
            });
        Client::from_channel(Channel::Tonic(channel), Some(options)).await
    }

    struct Dialler {
        connector: Connector,
        url: String,
    }

    impl Service<Uri> for Dialler {
        type Response = TokioIo<Connection>;
        type Error = io::Error;
        type Future = BoxFuture<'static, io::Result<Self::Response>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _uri: Uri) -> Self::Future {
            let opening = (self.connector)(self.url.clone());
            Box::pin(async move { opening.await.map(TokioIo::new) })
        }
    }
}
