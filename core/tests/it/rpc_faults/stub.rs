//! An instance that does what a test says: it answers, refuses, hangs up or says nothing, and counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registration, Registry};
use skynet::rpc::message::{RequestHeader, ResponseBody, ResponseHeader, ServiceHandshake};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::rpc_support::Raw;

/// What the stubs are called.
pub(crate) const SERVICE: &str = "Stub";

/// What it does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Answer,
    /// Answers with an error of the header, and this word beside it.
    Refuse(&'static str),
    HangUp,
    /// Accepts connections, and does not even say who it is.
    Silent,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU32,
    accepted: AtomicU32,
}

/// A registered instance without a service behind it.
pub(crate) struct Stub {
    mode: watch::Sender<Mode>,
    counts: Arc<Counts>,
    serving: AbortHandle,
    _registration: Registration,
}

impl Stub {
    pub(crate) async fn start(registry: &Registry, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let id = InstanceId::new_v4();
        let (mode, counts) = (watch::Sender::new(mode), Arc::<Counts>::default());
        let serving = tokio::spawn(accept(listener, id, mode.subscribe(), Arc::clone(&counts)));
        let (identity, value) = entry(SERVICE, id, address);
        let registration = registry.register(identity, value);
        registration.registered().await;
        Self {
            mode,
            counts,
            serving: serving.abort_handle(),
            _registration: registration,
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Ends like a process that is killed: nobody listens any more, and connections are closed.
    pub(crate) fn die(&self) {
        self.serving.abort();
    }

    /// Requests that came.
    pub(crate) fn asked(&self) -> u32 {
        self.counts.asked.load(Ordering::Relaxed)
    }

    /// Connections that came.
    pub(crate) fn accepted(&self) -> u32 {
        self.counts.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What an instance at `address` writes into the registry.
pub(crate) fn entry(
    service: &str,
    id: InstanceId,
    address: SocketAddr,
) -> (Identity, InstanceValue) {
    let identity = Identity {
        service: service.into(),
        version: "1".into(),
        region: "local".into(),
        host: "host".into(),
        id,
    };
    let value = InstanceValue {
        address,
        admin_address: None,
        process: ProcessId::own().unwrap(),
        started: jiff::Timestamp::now(),
        registered: true,
        state: State::Ready,
        reason: None,
        deployment: None,
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: Vec::new(),
        other: serde_json::Map::new(),
    };
    (identity, value)
}

#[expect(clippy::infinite_loop, reason = "its task is aborted")]
async fn accept(
    listener: TcpListener,
    id: InstanceId,
    mode: watch::Receiver<Mode>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        let (mode, counts) = (mode.clone(), Arc::clone(&counts));
        connections.spawn(serve(Raw::over(stream), id, mode, counts));
    }
}

/// Serves one connection until somebody closes it.
async fn serve(
    mut raw: Raw,
    id: InstanceId,
    mut mode: watch::Receiver<Mode>,
    counts: Arc<Counts>,
) -> Option<()> {
    mode.wait_for(|mode| *mode != Mode::Silent).await.ok()?;
    let mut bytes = Vec::new();
    ServiceHandshake {
        registered: true,
        client_id: "stub".to_owned(),
        name: SERVICE.to_owned(),
        version: "1".to_owned(),
        uuid: id.to_string(),
        ..ServiceHandshake::default()
    }
    .write(&mut bytes);
    raw.try_send(&bytes).await;
    raw.next_document().await?;
    loop {
        let header = raw.next_document().await?;
        let _body = raw.next_document().await?;
        let header = RequestHeader::read(&header).unwrap();
        let is_ping = header.service_method == b"Skynet.Ping";
        if !is_ping {
            counts.asked.fetch_add(1, Ordering::Relaxed);
        }
        let code = match *mode.borrow() {
            Mode::Answer => "",
            Mode::Refuse(code) => code,
            Mode::HangUp => return None,
            Mode::Silent => continue,
        };
        let error: &[u8] = if code.is_empty() { b"" } else { b"refused" };
        let mut answer = Vec::new();
        ResponseHeader {
            service_method: header.service_method,
            seq: header.seq,
            error,
            code: code.as_bytes(),
        }
        .write(&mut answer);
        ResponseBody {
            out: Some(&[5, 0, 0, 0, 0]),
            error: b"",
        }
        .write(&mut answer);
        raw.try_send(&answer).await;
    }
}
