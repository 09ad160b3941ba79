//! The threads of an embedded registry: the owner of the state, and a small runtime that serves.
//!
//! Invariants: nothing outside the runtime's tasks holds a way to the owner, so when the runtime is
//! gone the owner ends, closes its file and says so; an accept that fails is tried again and never
//! ends the server.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, RwLock, atomic::AtomicU64},
    time::Duration,
};

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use futures_util::stream;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Router};

use super::{
    EmbeddedConfig,
    auth_service::{AuthService, ElectionService, LockService},
    authority::LenientStream,
    disk::{Identity, Saved},
    error::EmbeddedError,
    kv_service::KvService,
    lease::Lessor,
    lease_service::LeaseService,
    maintenance_service::{ClusterService, MaintenanceService},
    node::{self, Node, State},
    owner::{self, Owner, Storage},
    space::Space,
    store::Store,
    watch_service::WatchService,
};

/// How often the clock looks up even if no lease expires: it notices pauses of the process.
const TICK: Duration = Duration::from_millis(500);

/// A look-up this late means that the process stood still; nobody could renew a lease meanwhile.
const PAUSE: Duration = Duration::from_millis(1500);

/// How long a failed accept (usually: too many open files) waits.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A client that does not answer pings for this long is cut off.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What is not even read; smaller requests that are too large are refused in etcd's words.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Connections that may wait to be accepted; the system may have a lower bound.
const BACKLOG: i32 = 4096;

/// Calls at once on one connection.
const MAX_STREAMS: u32 = 4096;

/// A registry at work.
#[derive(Debug)]
pub(super) struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    /// Taken when it is shut down.
    runtime: Option<Runtime>,
    /// Resolves when no connection is left.
    served: oneshot::Receiver<Infallible>,
    #[cfg(feature = "testing")]
    faults: super::faults::Faults,
    /// Resolves when the file is closed.
    closed: oneshot::Receiver<Infallible>,
}

impl Running {
    /// Starts all threads. Blocks while it reads the data.
    pub(super) fn start(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let listener = listen(config)?;
        let address = listener
            .local_addr()
            .map_err(|source| EmbeddedError::Bind {
                address: config.listen,
                source,
            })?;
        let threads = |source| EmbeddedError::Threads { source };
        let (storage, saved) = owner::open(config.data.as_deref())?;
        let identity = saved
            .as_ref()
            .map_or_else(Identity::random, |saved| saved.stamp.identity);
        let space = space(config, saved.as_ref());
        let (store, lessor) = match saved {
            Some(saved) => owner::restore(saved, config.history, Instant::now()),
            None => (Store::new(config.history), Lessor::default()),
        };
        let disk_bytes = match &storage {
            Storage::Disk(disk) => disk.bytes(),
            Storage::Memory => 0,
        };
        let state = Arc::new(State {
            identity,
            committed: watch::Sender::new(store.revision()),
            store: RwLock::new(store),
            disk_bytes: AtomicU64::new(disk_bytes),
            space,
        });
        let (jobs, queue) = mpsc::channel(node::QUEUE);
        let (owner, wakes) = Owner::new(Arc::clone(&state), lessor, storage, config.history, queue);
        let (is_closed, closed) = oneshot::channel();
        std::thread::Builder::new()
            .name("registry-owner".to_owned())
            .spawn(move || {
                owner.run();
                drop(is_closed);
            })
            .map_err(threads)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(threads)?;
        let stop = CancellationToken::new();
        let node = Node {
            state,
            jobs,
            stop: stop.clone(),
            #[cfg(feature = "testing")]
            faults: super::faults::Switches::default(),
            progress_every: config.progress_every,
        };
        #[cfg(feature = "testing")]
        let faults = super::faults::Faults::new(&node, vec![node.faults.clone()]);
        let (is_served, served) = oneshot::channel();
        runtime.spawn(keep_time(node.clone(), wakes));
        runtime.spawn(async move {
            serve(node, listener, address).await;
            drop(is_served);
        });
        Ok(Self {
            address,
            stop,
            runtime: Some(runtime),
            served,
            #[cfg(feature = "testing")]
            faults,
            closed,
        })
    }

    /// The address that it listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes wrong on request.
    #[cfg(feature = "testing")]
    pub(super) fn faults(&self) -> super::faults::Faults {
        self.faults.clone()
    }

    /// Ends the streams, gives the clients `grace` to take that in, then cuts them off.
    pub(super) async fn stop(mut self, grace: Duration) {
        if !grace.is_zero() {
            self.stop.cancel();
            // Too late means that a client does not read; it is cut off below.
            let _ = tokio::time::timeout(grace, &mut self.served).await;
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // It never carries a value: its end is the message.
        let _ = (&mut self.closed).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            // The other way to end a runtime blocks, which an async caller must not.
            runtime.shutdown_background();
        }
    }
}

fn space(config: &EmbeddedConfig, saved: Option<&Saved>) -> Space {
    let space = Space::new(config.quota_bytes);
    if saved.is_some_and(|saved| saved.is_full) {
        space.disk_is_full();
    }
    space
}

fn listen(config: &EmbeddedConfig) -> Result<StdListener, EmbeddedError> {
    let address = config.listen;
    if !address.ip().is_loopback() && !config.allow_insecure {
        return Err(EmbeddedError::NotLoopback { address });
    }
    crate::files::raise_limit();
    let bind = || -> io::Result<StdListener> {
        let listener = StdListener::bind(address)?;
        // The library's own backlog is 128, and thousands may come back at once.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => EmbeddedError::AddressInUse { address, source },
        _ => EmbeddedError::Bind { address, source },
    })
}

/// Serves until it is told to stop and the last connection is closed.
async fn serve(node: Node, listener: StdListener, address: SocketAddr) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "the registry cannot serve");
            return;
        }
    };
    let stop = node.stop.clone();
    let connections = incoming(listener);
    #[cfg(feature = "testing")]
    let connections = {
        let faults = node.faults.clone();
        futures_util::StreamExt::map(connections, move |connection| {
            connection.map(|connection| faults.wire(connection))
        })
    };
    let served = services(&node, address)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%address, %error, "the registry stopped serving");
    }
}

/// All that a registry answers to.
pub(super) fn services(node: &Node, address: SocketAddr) -> Router {
    let (kv, watch, lease) = (node.clone(), node.clone(), node.clone());
    let (cluster, maintenance) = (node.clone(), node.clone());
    let cluster = ClusterService {
        node: cluster,
        address,
    };
    let maintenance = MaintenanceService { node: maintenance };
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(gated(
            node,
            PbKvServer::new(KvService { node: kv }).max_decoding_message_size(MAX_MESSAGE_BYTES),
        ))
        .add_service(gated(
            node,
            PbWatchServer::new(WatchService { node: watch }),
        ))
        .add_service(gated(
            node,
            PbLeaseServer::new(LeaseService { node: lease }),
        ))
        .add_service(gated(node, PbClusterServer::new(cluster)))
        .add_service(gated(node, PbMaintenanceServer::new(maintenance)))
        .add_service(gated(node, AuthService { node: node.clone() }))
        .add_service(LockService)
        .add_service(ElectionService)
}

/// Lets the faults on request reach a service.
#[cfg(feature = "testing")]
fn gated<S>(node: &Node, service: S) -> super::faults::Gate<S> {
    super::faults::Gate::new(service, node.faults.clone())
}

/// Without faults on request the service is what it is.
#[cfg(not(feature = "testing"))]
fn gated<S>(_node: &Node, service: S) -> S {
    service
}

fn incoming(listener: TcpListener) -> impl Stream<Item = Result<LenientStream, Infallible>> {
    stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Without it small answers wait for acknowledgements; a failure costs only that.
                    let _ = connection.set_nodelay(true);
                    return Some((Ok(LenientStream::new(connection)), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "the registry could not accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    })
}

/// Expires leases when their time comes, lets the owner try a failed disk again when it wants to, and
/// gives all leases new time after a pause of the process.
pub(super) async fn keep_time(node: Node, mut wakes: watch::Receiver<Option<Instant>>) {
    loop {
        let next = *wakes.borrow_and_update();
        // Without leases nothing can expire, and no pause matters.
        let wake_at = next.map(|next| next.min(Instant::now() + TICK));
        tokio::select! {
            () = sleep_until(wake_at) => {}
            changed = wakes.changed() => if changed.is_err() { return },
            () = node.stop.cancelled() => return,
        }
        #[cfg(feature = "testing")]
        if node.faults.until_leases_go_on().await {
            let _ = node
                .call(|engine| {
                    engine.renew_all();
                    Ok(())
                })
                .await;
            continue;
        }
        let now = Instant::now();
        let late = wake_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let done = if late >= PAUSE {
            tracing::warn!(
                ?late,
                "the registry stood still: all leases get their whole time"
            );
            node.call(|engine| {
                engine.renew_all();
                Ok(0)
            })
            .await
        } else if next.is_some_and(|next| next <= now) {
            // Any job makes the owner try its disk; this one may find nothing to expire.
            node.call(|engine| Ok(engine.expire())).await
        } else {
            Ok(0)
        };
        match done {
            Ok(0) => {}
            Ok(n_expired) => tracing::debug!(n_expired, "leases expired"),
            // The disk failed or the queue is full; what is due stays due.
            Err(status) => {
                tracing::warn!(%status, "leases could not be expired");
                tokio::time::sleep(TICK).await;
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
