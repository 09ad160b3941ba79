//! One connection from its first byte to its last: greeting, serving, and an end that loses nothing.
//!
//! Invariants: a client that stays silent has a deadline, and makes room when it is asked to; what
//! was sent last is not lost to a reset.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::crowd::Seat;
use super::serving::{Serving, poll_read};
use super::{QUIET, Shared};
use crate::rpc::error::Ended;
use crate::rpc::frame::FrameBuffer;
use crate::rpc::handler::Client;
use crate::rpc::message::{ClientHandshake, ServiceHandshake};

/// How long a closed connection is read on, so that its last answers are not lost to a reset.
const LINGER: Duration = Duration::from_millis(250);

/// Serves one connection to its end.
pub(super) async fn serve<S>(stream: S, address: SocketAddr, shared: Arc<Shared>, seat: Seat)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = Arc::new(Client::new(address));
    // Whatever ends this task, also being cut, tells the methods that nobody waits any more.
    let _gone = client.gone().clone().drop_guard();
    let limit = shared.limits.handshake;
    let presence = Arc::clone(seat.presence());
    // On the heap: its memory is given back before the connection is served.
    let greeting = timeout(limit, Box::pin(greet(stream, &client, &shared, seat)));
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        // Silent clients do not hold up the end of a service.
        () = quiet_after(&shared.accepting) => return,
        // Nor do they keep out others.
        () = std::future::poll_fn(|task| presence.poll_asked(task)) => return,
    };
    drop(presence);
    let mut serving = match greeted {
        Ok(Ok(Some(serving))) => serving,
        Ok(Ok(None)) => return,
        Ok(Err(ended)) => {
            tracing::debug!(
                client = %address,
                error = &ended as &dyn std::error::Error,
                "a connection ended in its handshake"
            );
            return;
        }
        Err(_elapsed) => {
            tracing::debug!(client = %address, ?limit, "no handshake came, closing");
            return;
        }
    };
    let ended = std::future::poll_fn(|task| serving.poll(task)).await;
    match &ended {
        Ended::Frame(_) | Ended::Document(_) => tracing::warn!(
            client = %address,
            error = &ended as &dyn std::error::Error,
            "closing a connection that cannot be read on"
        ),
        _ => tracing::debug!(client = %address, why = %ended, "a connection ended"),
    }
    if !matches!(ended, Ended::Broken(_)) {
        // What only some connections need, and only at their end, has no place in all of them.
        Box::pin(linger(serving.into_stream())).await;
    }
}

/// Waits until no more is accepted, and then for what may be on its way.
async fn quiet_after(accepting: &CancellationToken) {
    accepting.cancelled().await;
    tokio::time::sleep(QUIET).await;
}

/// Both handshakes; `None` when the service is not registered and the client was told so.
async fn greet<S>(
    mut stream: S,
    client: &Arc<Client>,
    shared: &Arc<Shared>,
    seat: Seat,
) -> Result<Option<Serving<S>>, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error| Ended::Broken(Arc::new(error));
    let registered = shared.registered.load(Ordering::Acquire);
    let mut bytes = Vec::new();
    ServiceHandshake {
        registered,
        client_id: client.id().to_owned(),
        name: shared.service.to_string(),
        version: shared.version.to_string(),
        uuid: shared.id().to_string(),
        max_calls: i64::try_from(shared.limits.per_connection).unwrap_or(i64::MAX),
        idempotent: shared.dispatch.idempotent(),
        cancels: true,
    }
    .write(&mut bytes);
    stream.write_all(&bytes).await.map_err(broken)?;
    if !registered {
        Box::pin(linger(stream)).await;
        return Ok(None);
    }
    let mut frames = FrameBuffer::new(shared.limits.frame);
    let document = loop {
        if let Some(document) = frames.take()? {
            break document;
        }
        let read = std::future::poll_fn(|task| poll_read(&mut stream, &mut frames, task));
        if read.await.map_err(broken)? == 0 {
            return Err(Ended::ByPeer);
        }
    };
    let handshake = ClientHandshake::read(&document)?;
    let (shared, client) = (Arc::clone(shared), Arc::clone(client));
    let (stream, notices) = ((stream, frames), handshake.notices);
    Ok(Some(Serving::new(shared, stream, client, seat, notices)))
}

/// Closes the sending side and reads what still comes for a moment: closing with unread bytes
/// resets the connection, and the peer may lose what was sent last.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let rest = async {
        stream.shutdown().await?;
        let mut waste = [0; 4096];
        while stream.read(&mut waste).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _over = timeout(LINGER, rest).await;
}
