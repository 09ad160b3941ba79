//! A service's admin port: no handshake, bodies that are the parameters themselves, one request
//! after the other on each connection.
//!
//! Invariants: the admin port answers also while the service drains, and the answer to `Admin.Stop`
//! is flushed before its connection closes; what cannot be read costs its own connection only; silent
//! clients, and those that never read, keep nobody out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod room;

use self::room::{Place, Room};
use super::lifecycle::Core;
use crate::backoff::Backoff;
use crate::daemon_api::Empty;
use crate::rpc::admin::{METRICS, REGISTER, STATS, STOP, StopRequest, UNREGISTER};
use crate::rpc::error::{Code, Ended};
use crate::rpc::frame::FrameBuffer;
use crate::rpc::handler::Refusal;
use crate::rpc::message::{EMPTY_DOCUMENT, RequestHeader, ResponseHeader};
use crate::rpc::server::poll_read;
use crate::rpc::typed;

/// The name that the original gives to the service behind the port.
const SERVICE: &str = "Admin";

/// Connections at once; for a further one the one that has been silent longest ends.
const CONNECTIONS: usize = 256;

/// No administration needs larger documents.
const MAX_FRAME: usize = 64 * 1024;

/// How long a new connection may take until its first request is there.
const FIRST_SILENCE: Duration = Duration::from_secs(5);

/// How long it may be silent after that, or half a document may wait for its rest.
const SILENCE: Duration = Duration::from_mins(1);

/// How long a client may take to read an answer.
const WRITE: Duration = Duration::from_secs(5);

/// Accepts until `over`; its connections are among `tasks`.
pub(super) async fn accept(
    listener: TcpListener,
    core: Arc<Core>,
    tasks: TaskTracker,
    over: CancellationToken,
) {
    let room = Room::new(CONNECTIONS);
    let mut waits = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    while !over.is_cancelled() {
        match listener.accept().await {
            Ok((stream, client)) => {
                waits.reset();
                let Some(place) = room.enter() else {
                    tracing::debug!(%client, "every admin connection is being answered, a further one is closed");
                    continue;
                };
                let (core, over) = (Arc::clone(&core), over.clone());
                tasks.spawn(async move {
                    // An answer that is being prepared when the service ends is still sent.
                    if let Err(ended) = serve(stream, &core, &over, &place).await {
                        tracing::debug!(%client, why = %ended, "an admin connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept an admin connection"
                );
                tokio::time::sleep(waits.next_wait()).await;
            }
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    core: &Core,
    over: &CancellationToken,
    place: &Place,
) -> Result<(), Ended> {
    let broken = |error| Ended::Broken(Arc::new(error));
    stream.set_nodelay(true).map_err(broken)?;
    let mut frames = FrameBuffer::new(MAX_FRAME);
    let mut patience = FIRST_SILENCE;
    loop {
        let request = request(&mut stream, &mut frames);
        let request = tokio::time::timeout(patience, request);
        let request = over.run_until_cancelled(place.evicted().run_until_cancelled(request));
        let Some(Some(Ok(request))) = request.await else {
            return Ok(());
        };
        let Some((header, body)) = request? else {
            return Ok(());
        };
        let header = RequestHeader::read(&header)?;
        place.asked();
        patience = SILENCE;
        let result = answer(core, header.service_method, &body).await;
        let mut bytes = Vec::new();
        let (error, code, body) = match result {
            Ok(body) => (Vec::new(), "", body),
            Err(Refusal { code, text }) => (text, code.as_str(), EMPTY_DOCUMENT.to_vec()),
        };
        ResponseHeader {
            service_method: header.service_method,
            seq: header.seq,
            error: &error,
            code: code.as_bytes(),
        }
        .write(&mut bytes);
        bytes.extend_from_slice(&body);
        place.answered();
        let write = tokio::time::timeout(WRITE, stream.write_all(&bytes));
        match place.evicted().run_until_cancelled(write).await {
            None => return Ok(()),
            Some(written) => written
                .map_err(|late| broken(late.into()))?
                .map_err(broken)?,
        }
    }
}

/// The next request's two documents; `None` when there is none.
async fn request(
    stream: &mut TcpStream,
    frames: &mut FrameBuffer,
) -> Result<Option<(bytes::Bytes, bytes::Bytes)>, Ended> {
    let mut header = None;
    loop {
        while let Some(document) = frames.take()? {
            match header.take() {
                None => header = Some(document),
                Some(header) => return Ok(Some((header, document))),
            }
        }
        let read = std::future::poll_fn(|task| poll_read(stream, frames, task)).await;
        if read.map_err(|error| Ended::Broken(Arc::new(error)))? == 0 {
            return Ok(None);
        }
    }
}

async fn answer(core: &Core, service_method: &[u8], body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let bad = |error: typed::TypedError| Refusal::new(Code::BadRequest, error.to_string());
    match std::str::from_utf8(service_method) {
        Ok(REGISTER) => core.wish(true),
        Ok(UNREGISTER) => core.wish(false),
        Ok(STOP) => {
            let _ignored: StopRequest = typed::decode(body).map_err(bad)?;
            core.drained().await;
        }
        Ok(STATS) => return encode(&core.stats()),
        Ok(METRICS) => return encode(&core.metrics()),
        _ => return Err(unknown(service_method)),
    }
    encode(&Empty {})
}

fn encode(answer: &impl serde::Serialize) -> Result<Vec<u8>, Refusal> {
    typed::encode(answer).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
}

/// The original's texts for what is not here.
fn unknown(service_method: &[u8]) -> Refusal {
    let dot = service_method.iter().rposition(|byte| *byte == b'.');
    let (code, text) = match dot.and_then(|dot| service_method.get(..dot)) {
        None => (Code::BadRequest, "rpc: service/method request ill-formed: "),
        Some(name) if name == SERVICE.as_bytes() => (Code::NoMethod, "rpc: can't find method "),
        Some(_) => (Code::NoMethod, "rpc: can't find service "),
    };
    Refusal::new(code, [text.as_bytes(), service_method].concat())
}

/// Where the admin port is.
pub(super) fn address(listener: Option<&TcpListener>) -> std::io::Result<Option<SocketAddr>> {
    listener.map(TcpListener::local_addr).transpose()
}
