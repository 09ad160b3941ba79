//! What the tests of the wire share: the original's documents, and raw sockets.

use std::net::SocketAddr;
use std::time::Duration;

use skynet::rpc::message::{RequestBody, RequestHeader, RequestInfo, ServiceHandshake};
use skynet::service::{Builder, Context, Service, ServiceError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whole conversations.
pub(crate) const CAPTURED: &str = include_str!("../vectors/captured.jsonl");

/// Single documents.
pub(crate) const DOCUMENTS: &str = include_str!("../vectors/documents.jsonl");

/// One document on the wire.
pub(crate) struct Vector {
    /// What it is.
    pub(crate) kind: String,
    /// Whether the client sent it.
    pub(crate) from_client: bool,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// One captured connection.
pub(crate) struct Conversation {
    /// Its number.
    pub(crate) name: String,
    /// What was said, in order.
    pub(crate) documents: Vec<Vector>,
}

fn vector(line: &str, kind: &str) -> (serde_json::Value, Vector) {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let digits: Vec<char> = value["hex"].as_str().unwrap().chars().collect();
    let bytes = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect();
    let document = Vector {
        kind: value[kind].as_str().unwrap().to_owned(),
        from_client: value["dir"] == "c>s",
        bytes,
    };
    (value, document)
}

/// The conversations of `lines`.
pub(crate) fn captured(lines: &str) -> Vec<Conversation> {
    let mut conversations: Vec<Conversation> = Vec::new();
    for line in lines.lines() {
        let (value, document) = vector(line, "document");
        let name = value["capture"].as_str().unwrap();
        match conversations.last_mut() {
            Some(last) if last.name == name => last.documents.push(document),
            _ => conversations.push(Conversation {
                name: name.to_owned(),
                documents: vec![document],
            }),
        }
    }
    conversations
}

/// The documents of `lines`.
pub(crate) fn documents(lines: &str) -> Vec<Vector> {
    lines.lines().map(|line| vector(line, "name").1).collect()
}

/// What the original's test service takes and gives.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Text {
    pub(crate) data: String,
}

/// What `Sleep` takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Millis {
    pub(crate) ms: i64,
}

/// A result that was filled in half way.
#[derive(serde::Serialize)]
struct Partial {
    partial: String,
}

/// The service behind the captured conversations, with methods that misbehave.
pub(crate) fn echo() -> Builder {
    Service::builder("EchoService")
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_secs(10))
        .method("Upcase", |_: Context, input: Text| async move {
            Ok::<_, ServiceError>(Text {
                data: input.data.to_uppercase(),
            })
        })
        .method("Fail", |_: Context, _: Text| async move {
            Err::<Text, _>(ServiceError::new("it failed"))
        })
        .method("FailPartial", |_: Context, _: Text| async move {
            let filled = Partial {
                partial: "yes".to_owned(),
            };
            Err::<Text, _>(ServiceError::new("it failed half way").with_output(&filled)?)
        })
        .method("Sleep", |_: Context, input: Millis| async move {
            let wait = u64::try_from(input.ms).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Ok::<_, ServiceError>(input)
        })
        .method("Panic", |_: Context, input: Text| async move {
            assert!(input.data.is_empty(), "a panic on purpose");
            Ok::<_, ServiceError>(input)
        })
        .method("Who", |context: Context, _: Text| async move {
            Ok::<_, ServiceError>(Text {
                data: format!("{} {}", context.request_id(), context.origin()),
            })
        })
}

/// A bare socket that speaks in documents.
pub(crate) struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            bytes: Vec::new(),
        }
    }

    /// A socket that is connected already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
        }
    }

    /// Sends as far as the peer still takes it.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        let _refused = self.stream.write_all(bytes).await;
    }

    /// Closes the sending side, unless the peer was first.
    pub(crate) async fn try_finish(&mut self) {
        let _refused = self.stream.shutdown().await;
    }

    /// Connects, reads the service's handshake, answers with the original's.
    pub(crate) async fn greeted(address: SocketAddr) -> (Self, ServiceHandshake) {
        let mut raw = Self::connect(address).await;
        let handshake = ServiceHandshake::read(&raw.document().await.unwrap()).unwrap();
        raw.send(&[5, 0, 0, 0, 0]).await;
        (raw, handshake)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Closes the sending side.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next document; `None` when the peer has closed.
    pub(crate) async fn document(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(PATIENCE, self.next_document())
            .await
            .expect("the peer neither answers nor closes")
    }

    /// The same, however long it takes.
    pub(crate) async fn next_document(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(document) = self.buffered() {
                return Some(document);
            }
            // A reset is an end too.
            if self.stream.read_buf(&mut self.bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Whether the peer has closed it, and nothing is left to be read.
    pub(crate) fn has_ended(&self) -> bool {
        let waits = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        let mut byte = [0];
        !self.stream.try_read(&mut byte).is_err_and(waits)
    }

    fn buffered(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_le_bytes(*self.bytes.first_chunk::<4>()?) as usize;
        (self.bytes.len() >= length).then(|| self.bytes.drain(..length).collect())
    }

    /// The next answer: header and body.
    pub(crate) async fn answer(&mut self) -> (Vec<u8>, Vec<u8>) {
        let header = self.document().await.expect("a header");
        (header, self.document().await.expect("a body"))
    }
}

/// A request as the original writes it.
pub(crate) fn request(client_id: &str, seq: i64, method: &str, input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    RequestHeader {
        service_method: b"EchoService.Forward",
        seq,
    }
    .write(&mut bytes);
    RequestBody {
        client_id: client_id.as_bytes(),
        method: method.as_bytes(),
        info: Some(RequestInfo::default()),
        input: Some(input),
    }
    .write(&mut bytes);
    bytes
}

/// How long a condition may take to come true before its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
