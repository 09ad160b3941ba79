//! A client as they were in 2012: it listens to the registry, has one connection to each instance and
//! one call under way, and understands no notice and no code. It makes no second attempt, so that
//! whatever goes wrong is seen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use skynet::client::{InstanceChange, InstanceListener};
use skynet::instance::Instance;
use skynet::rpc::message::{
    RequestBody, RequestHeader, RequestInfo, ResponseBody, ResponseHeader, ServiceHandshake,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::instance_process::{Entry, SERVICE};
use crate::rpc_support::{PATIENCE, Raw};

/// One connection.
struct Dialed {
    raw: Raw,
    client_id: String,
    seq: i64,
}

impl Dialed {
    /// Connects, and takes part in the handshakes; `None` where nobody takes calls.
    async fn dial(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        // As Go does unasked.
        stream.set_nodelay(true).ok()?;
        let mut raw = Raw::over(stream);
        let handshake = ServiceHandshake::read(&raw.document().await?).unwrap();
        raw.try_send(&[5, 0, 0, 0, 0]).await;
        handshake.registered.then_some(Self {
            raw,
            client_id: handshake.client_id,
            seq: 0,
        })
    }

    async fn call(&mut self, method: &str, request_id: &str, input: &[u8]) -> Result<(), String> {
        let mut header = Vec::new();
        let service_method = format!("{SERVICE}.Forward");
        RequestHeader {
            service_method: service_method.as_bytes(),
            seq: self.seq,
        }
        .write(&mut header);
        let mut body = Vec::new();
        RequestBody {
            client_id: self.client_id.as_bytes(),
            method: method.as_bytes(),
            info: Some(RequestInfo {
                request_id: request_id.as_bytes(),
                ..RequestInfo::default()
            }),
            input: Some(input),
        }
        .write(&mut body);
        // Each document is a write of its own.
        for document in [header, body] {
            self.raw.try_send(&document).await;
        }
        let ended = || "the connection ended before the answer".to_owned();
        let header = self.raw.document().await.ok_or_else(ended)?;
        let body = self.raw.document().await.ok_or_else(ended)?;
        let header = ResponseHeader::read(&header).unwrap();
        if header.seq != self.seq {
            return Err(format!(
                "an answer to {} instead of {}",
                header.seq, self.seq
            ));
        }
        self.seq += 1;
        if !header.error.is_empty() {
            return Err(String::from_utf8_lossy(header.error).into_owned());
        }
        let body = ResponseBody::read(&body).unwrap();
        if body.error.is_empty() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(body.error).into_owned())
        }
    }
}

/// A client of one service.
pub(super) struct OldClient {
    listener: InstanceListener,
    instances: BTreeMap<SocketAddr, Option<Dialed>>,
    turn: usize,
}

impl OldClient {
    /// A client of the instances that `listener` tells of.
    pub(super) fn new(listener: InstanceListener) -> Self {
        Self {
            listener,
            instances: BTreeMap::new(),
            turn: 0,
        }
    }

    fn heard(&mut self, change: &InstanceChange) {
        let address = |instance: &Arc<Instance>| instance.address.unwrap();
        match change {
            InstanceChange::Added(instance) => {
                self.instances.entry(address(instance)).or_default();
            }
            InstanceChange::Removed(instance) => {
                self.instances.remove(&address(instance));
            }
            InstanceChange::Changed(_) => {}
        }
    }

    /// Hears what the registry has told so far.
    async fn listen(&mut self) {
        while let Ok(Some(change)) = timeout(std::time::Duration::ZERO, self.listener.next()).await
        {
            self.heard(&change);
        }
    }

    /// A connection to the next instance in turn, dialed anew where the old one was closed.
    async fn connection(&mut self) -> Option<&mut Dialed> {
        for _ in 0..self.instances.len() {
            self.turn += 1;
            let index = self.turn % self.instances.len();
            let (&address, standing) = self.instances.iter_mut().nth(index)?;
            if standing
                .as_ref()
                .is_none_or(|dialed| dialed.raw.has_ended())
            {
                *standing = Dialed::dial(address).await;
            }
            if self.instances.get(&address)?.is_some() {
                return self.instances.get_mut(&address)?.as_mut();
            }
        }
        None
    }

    /// Calls an instance and waits for its answer.
    pub(super) async fn call(
        &mut self,
        method: &str,
        request_id: &str,
        entry: Entry,
    ) -> Result<(), String> {
        let input = skynet::rpc::typed::encode(&entry).unwrap();
        self.listen().await;
        while self.instances.is_empty() {
            let change = timeout(PATIENCE, self.listener.next()).await;
            self.heard(&change.expect("no instance").unwrap());
        }
        let Some(connection) = self.connection().await else {
            return Err("no instance takes calls".to_owned());
        };
        connection.call(method, request_id, &input).await
    }
}
