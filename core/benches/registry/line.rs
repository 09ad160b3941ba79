//! A line between clients and a registry, which counts bytes, stands still and breaks on request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the line is.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    frozen: bool,
    /// Connections of an earlier one are broken.
    epoch: u64,
}

/// The line; it ends with this.
pub(crate) struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
    bytes: Arc<AtomicU64>,
}

impl Line {
    /// A line to the registry at `to`.
    pub(crate) async fn to(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State::default());
        let bytes = Arc::new(AtomicU64::new(0));
        tokio::spawn(accept(listener, to, states, Arc::clone(&bytes)));
        Ok(Self {
            address,
            state,
            bytes,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went through so far, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Holds everything back.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.frozen = true);
    }

    /// Breaks every connection; new ones work.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| {
            state.frozen = false;
            state.epoch += 1;
        });
    }
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    mut states: watch::Receiver<State>,
    bytes: Arc<AtomicU64>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            closed = states.wait_for(|_| false) => {
                drop(closed);
                return;
            }
        };
        let Ok((near, _)) = accepted else { continue };
        let (states, bytes) = (states.clone(), Arc::clone(&bytes));
        tokio::spawn(async move {
            // A registry that is away breaks the connection, as it would without the line.
            let Ok(far) = TcpStream::connect(to).await else {
                return;
            };
            // Without it small answers wait; a failure costs only that.
            let _slower = near.set_nodelay(true).and(far.set_nodelay(true));
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            // The first that ends takes the other with it.
            tokio::select! {
                () = pump(near_in, far_out, states.clone(), &bytes) => {}
                () = pump(far_in, near_out, states, &bytes) => {}
            }
        });
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut states: watch::Receiver<State>,
    bytes: &AtomicU64,
) {
    let epoch = states.borrow().epoch;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            over = states.wait_for(|state| state.epoch != epoch) => {
                drop(over);
                return;
            }
        };
        let Ok(n_read @ 1..) = read else { return };
        bytes.fetch_add(u64::try_from(n_read).unwrap_or(0), Ordering::Relaxed);
        let passed = states
            .wait_for(|state| !state.frozen || state.epoch != epoch)
            .await
            .is_ok_and(|state| state.epoch == epoch);
        let Some(read) = buffer.get(..n_read) else {
            return;
        };
        if !passed || to.write_all(read).await.is_err() {
            return;
        }
    }
}
