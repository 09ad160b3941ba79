//! Who is measured: a server of each, and callers of it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::client::{Client, ServiceClient};
use skynet::registry::{Registry, RegistryConfig};
use skynet::rpc::{ConnectOptions, Connection, Request, RequestInfo, typed};
use skynet::service::{Context, Service, ServiceError};
use skynet::testing::TestRegistry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::load::Call;
use crate::tonic_peer;

/// What speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Bytes there and back, nothing else.
    Tcp,
    /// gRPC.
    Tonic,
    /// bincode with a length before it; a package of its own.
    Tarpc,
    /// Ours: a connection to an address, as the other two have.
    Skynet,
    /// Ours with all that a client does on top: an instance is chosen from the registry's for every
    /// call, its health is kept, retries are budgeted.
    Client,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [
        Self::Tcp,
        Self::Tonic,
        Self::Tarpc,
        Self::Skynet,
        Self::Client,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tonic => "tonic",
            Self::Tarpc => "tarpc",
            Self::Skynet => "skynet",
            Self::Client => "client",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }
}

/// The parameter and the result.
#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

/// What must live as long as a server does.
type Kept = Box<dyn std::any::Any>;

fn echo() -> skynet::service::Builder {
    Service::builder("Echo")
        .ports(0..=0)
        .method("Echo", |_: Context, input: Text| async move {
            Ok::<_, ServiceError>(input)
        })
}

/// Starts a server: where callers find it, and what keeps it.
pub(crate) async fn serve(peer: Peer) -> anyhow::Result<(String, Kept)> {
    Ok(match peer {
        Peer::Tcp | Peer::Tonic => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            match peer {
                Peer::Tonic => drop(tokio::spawn(tonic_peer::serve(listener))),
                _ => drop(tokio::spawn(return_bytes(listener))),
            }
            (address.to_string(), Box::new(()))
        }
        Peer::Tarpc => anyhow::bail!("it has a program of its own"),
        Peer::Skynet => {
            let service = echo().serve().await?;
            (service.address().to_string(), Box::new(service))
        }
        Peer::Client => {
            let embedded = TestRegistry::embedded().await?;
            let registry = Registry::new(&RegistryConfig::at(&embedded.url()))?;
            let service = echo().start(&registry).await?;
            (embedded.url(), Box::new((service, registry, embedded)))
        }
    })
}

/// Bare TCP's server.
async fn return_bytes(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(count) = stream.read(&mut bytes).await
                && count > 0
                && stream.write_all(&bytes[..count]).await.is_ok()
            {}
        });
    }
}

/// One caller; those of one connection share it.
pub(crate) enum Caller {
    Tcp(TcpStream, Vec<u8>),
    Tonic(tonic_peer::Caller),
    Skynet(Connection),
    Client(ServiceClient),
}

impl Call for Caller {
    async fn call(&mut self, data: &str) -> anyhow::Result<()> {
        let length = match self {
            Self::Tcp(stream, buffer) => {
                buffer.resize(data.len(), 0);
                stream.write_all(data.as_bytes()).await?;
                stream.read_exact(buffer).await?
            }
            Self::Tonic(caller) => caller.call(data.to_owned()).await?.len(),
            Self::Skynet(connection) => {
                let input = Text {
                    data: data.to_owned(),
                };
                call(connection, &input).await?.data.len()
            }
            Self::Client(client) => {
                let input = Text {
                    data: data.to_owned(),
                };
                client.call::<_, Text>("Echo", &input).await?.data.len()
            }
        };
        anyhow::ensure!(length == data.len(), "the answer has another length");
        Ok(())
    }
}

/// As the client does it: an id and a deadline for every call.
async fn call(connection: &Connection, input: &Text) -> anyhow::Result<Text> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let input = typed::encode(input)?;
    let request = Request {
        service: "Echo",
        method: "Echo",
        info: RequestInfo {
            request_id: &request_id,
            deadline: Some(Instant::now() + Duration::from_secs(10)),
            ..RequestInfo::default()
        },
        input: &input,
    };
    let reply = connection.call(request).await?;
    Ok(typed::decode(&reply.output)?)
}

/// So many callers on so many connections. Bare TCP has no requests, so each caller has a
/// connection; our client decides by itself how many it opens.
pub(crate) async fn callers(
    peer: Peer,
    place: &str,
    (connections, in_flight): (usize, usize),
) -> anyhow::Result<Vec<Caller>> {
    let mut callers = Vec::new();
    anyhow::ensure!(peer != Peer::Tarpc, "it has a program of its own");
    if peer == Peer::Client {
        let registry = Registry::new(&RegistryConfig::at(place))?;
        let client = Client::connect(&registry).service("service=Echo registered".parse()?);
        callers.extend((0..connections * in_flight).map(|_| Caller::Client(client.clone())));
        return Ok(callers);
    }
    let address: SocketAddr = place.parse()?;
    for _ in 0..connections {
        match peer {
            Peer::Tcp => {
                for _ in 0..in_flight {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    callers.push(Caller::Tcp(stream, Vec::new()));
                }
            }
            Peer::Tonic => {
                let caller = tonic_peer::Caller::connect(address).await?;
                callers.extend((0..in_flight).map(|_| Caller::Tonic(caller.clone())));
            }
            Peer::Skynet | Peer::Client | Peer::Tarpc => {
                let connection = Connection::open(address, &ConnectOptions::default()).await?;
                callers.extend((0..in_flight).map(|_| Caller::Skynet(connection.clone())));
            }
        }
    }
    Ok(callers)
}
