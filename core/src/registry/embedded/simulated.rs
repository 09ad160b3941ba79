//! The embedded registry as tasks of the runtime of a test, for paused time: no thread, no socket,
//! no disk.
//!
//! Invariants: it is the same code as the real one from the HTTP/2 connection on; nothing in it
//! waits for anything but its clients and its clock, so paused time passes whenever all wait.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, RwLock, atomic::AtomicU64},
};

use futures_util::StreamExt;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    HISTORY,
    disk::Identity,
    faults::{Faults, Switches},
    lease::Lessor,
    node::{self, Node, State},
    owner::{Owner, Storage},
    server,
    space::Space,
    store::Store,
};

/// Connections that wait to be taken, per endpoint.
const BACKLOG: usize = 1024;

/// A registry at work; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Simulated {
    faults: Faults,
    /// Per endpoint: where its connections go.
    doors: Vec<mpsc::Sender<DuplexStream>>,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Simulated {
    /// Starts one state behind `n_endpoints` endpoints. Call it on a tokio runtime.
    pub(crate) fn start(n_endpoints: usize) -> Self {
        let store = Store::new(HISTORY);
        let state = Arc::new(State {
            identity: Identity::random(),
            committed: watch::Sender::new(store.revision()),
            store: RwLock::new(store),
            disk_bytes: AtomicU64::new(0),
            space: Space::default(),
        });
        let lessor = Lessor::default();
        let (jobs, queue) = mpsc::channel(node::QUEUE);
        let (owner, wakes) =
            Owner::new(Arc::clone(&state), lessor, Storage::Memory, HISTORY, queue);
        let stop = CancellationToken::new();
        let first = Switches::default();
        let mut switches = vec![first.clone()];
        switches.extend((1..n_endpoints).map(|_| first.sibling()));
        let node = |faults: &Switches| Node {
            state: Arc::clone(&state),
            jobs: jobs.clone(),
            stop: stop.clone(),
            progress_every: super::PROGRESS_EVERY,
            faults: faults.clone(),
        };
        let clock = node(&first);
        let faults = Faults::new(&clock, switches.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(owner.run_as_task());
        tasks.spawn(server::keep_time(clock, wakes));
        let mut doors = Vec::new();
        for switches in &switches {
            let (door, connections) = mpsc::channel(BACKLOG);
            doors.push(door);
            tasks.spawn(serve(node(switches), connections));
        }
        Self {
            faults,
            doors,
            stop,
            _tasks: tasks,
        }
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Where the connections of an endpoint go.
    pub(crate) fn door(&self, endpoint: usize) -> Option<&mpsc::Sender<DuplexStream>> {
        self.doors.get(endpoint)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.stop.cancel();
        self.faults.cut();
    }
}

async fn serve(node: Node, connections: mpsc::Receiver<DuplexStream>) {
    let faults = node.faults.clone();
    let connections = ReceiverStream::new(connections)
        .map(move |connection| Ok::<_, Infallible>(faults.wire(connection)));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2379));
    let stop = node.stop.clone();
    let served = server::services(&node, address)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the simulated registry stopped serving");
    }
}
