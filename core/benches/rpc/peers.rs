//! The peers of the bench: a server of each, and a load on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use skynet::rpc::{ConnectOptions, Connection, Request, RequestInfo, typed};
use skynet::service::{Context, Service, ServiceError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::tonic_peer;

/// What speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Bytes there and back, nothing else.
    Tcp,
    /// gRPC.
    Tonic,
    /// Ours.
    Skynet,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Tonic, Self::Skynet];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tonic => "tonic",
            Self::Skynet => "skynet",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }
}

/// How much is asked at once, of what size, for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) bytes: usize,
    pub(crate) round: Duration,
}

/// What one round brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// The parameter and the result.
#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

/// Serves until the process's input ends.
pub(crate) async fn serve(peer: Peer) -> anyhow::Result<()> {
    match peer {
        Peer::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            tokio::spawn(echo(listener));
        }
        Peer::Tonic => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            tokio::spawn(tonic_peer::serve(listener));
        }
        Peer::Skynet => {
            let service = Service::builder("Echo")
                .ports(0..=0)
                .method("Echo", |_: Context, input: Text| async move {
                    Ok::<_, ServiceError>(input)
                })
                .serve()
                .await?;
            println!("{}", service.address());
            tokio::spawn(async move { service.until_stopped().await });
        }
    }
    let mut nothing = [0];
    tokio::io::stdin().read_exact(&mut nothing).await.ok();
    Ok(())
}

async fn echo(listener: TcpListener) -> std::io::Result<()> {
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

/// One caller of one connection.
enum Caller {
    Tcp(TcpStream),
    Tonic(tonic_peer::Caller),
    Skynet(Connection),
}

impl Caller {
    async fn call(&mut self, data: &Arc<str>, buffer: &mut [u8]) -> anyhow::Result<()> {
        let length = match self {
            Self::Tcp(stream) => {
                stream.write_all(data.as_bytes()).await?;
                stream.read_exact(buffer).await?
            }
            Self::Tonic(caller) => caller.call(data.to_string()).await?.len(),
            Self::Skynet(connection) => {
                // As the client does it: an id and a deadline for every call.
                let request_id = uuid::Uuid::new_v4().to_string();
                let input = typed::encode(&Text {
                    data: data.to_string(),
                })?;
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
                typed::decode::<Text>(&reply.output)?.data.len()
            }
        };
        anyhow::ensure!(length == data.len(), "the answer has another length");
        Ok(())
    }
}

/// As many callers as the load asks for. Bare TCP has no requests, so each has its own connection.
async fn callers(peer: Peer, address: SocketAddr, load: Load) -> anyhow::Result<Vec<Caller>> {
    let mut callers = Vec::new();
    for _ in 0..load.connections {
        match peer {
            Peer::Tcp => {
                for _ in 0..load.in_flight {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    callers.push(Caller::Tcp(stream));
                }
            }
            Peer::Tonic => {
                let caller = tonic_peer::Caller::connect(address).await?;
                callers.extend((0..load.in_flight).map(|_| Caller::Tonic(caller.clone())));
            }
            Peer::Skynet => {
                let connection = Connection::open(address, &ConnectOptions::default()).await?;
                callers.extend((0..load.in_flight).map(|_| Caller::Skynet(connection.clone())));
            }
        }
    }
    Ok(callers)
}

/// One round.
pub(crate) async fn run(peer: Peer, address: SocketAddr, load: Load) -> anyhow::Result<Measured> {
    let data: Arc<str> = "a".repeat(load.bytes).into();
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for mut caller in callers(peer, address, load).await? {
        let data = Arc::clone(&data);
        tasks.spawn(async move {
            let mut buffer = vec![0; data.len()];
            let mut took: Vec<u32> = Vec::new();
            let until = Instant::now() + load.round;
            let mut now = Instant::now();
            while now < until {
                caller.call(&data, &mut buffer).await?;
                let then = Instant::now();
                took.push(u32::try_from((then - now).as_nanos()).unwrap_or(u32::MAX));
                now = then;
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.append(&mut done??);
    }
    let elapsed = began.elapsed();
    took.sort_unstable();
    let at = |percent: usize| {
        took.get(took.len() * percent / 100)
            .map(|nanos| f64::from(*nanos) / 1000.0)
            .context("not one call was made")
    };
    let calls = u32::try_from(took.len()).unwrap_or(u32::MAX);
    Ok(Measured {
        per_second: f64::from(calls) / elapsed.as_secs_f64(),
        p50_us: at(50)?,
        p99_us: at(99)?,
    })
}
