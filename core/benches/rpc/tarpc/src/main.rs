//! tarpc as a peer of the RPC bench, which builds this package and tells it what to do line by line.
//!
//! As tarpc's documentation shows it: length-delimited bincode on TCP, a task for every request, its
//! default settings, which include a deadline of 10 s.

use std::net::SocketAddr;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use tarpc::client::Config;
use tarpc::context::Context;
use tarpc::serde_transport::Transport;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;
use tokio::net::{TcpListener, TcpStream};

#[path = "../../child.rs"]
mod child;
#[path = "../../cost.rs"]
mod cost;
#[path = "../../load.rs"]
mod load;

use load::Call;

#[global_allocator]
static ALLOCATOR: cost::Counting = cost::Counting;

#[tarpc::service]
trait Echo {
    async fn echo(data: String) -> String;
}

#[derive(Clone)]
struct Server;

impl Echo for Server {
    async fn echo(self, _context: Context, data: String) -> String {
        data
    }
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let transport = Transport::from((stream, Bincode::default()));
        let answers = BaseChannel::with_defaults(transport).execute(Server.serve());
        tokio::spawn(answers.for_each(|answer| async {
            tokio::spawn(answer);
        }));
    }
}

/// A client; clones share its connection.
#[derive(Clone)]
struct Caller {
    client: EchoClient,
}

impl Caller {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let transport = Transport::from((stream, Bincode::default()));
        Ok(Self {
            client: EchoClient::new(Config::default(), transport).spawn(),
        })
    }
}

impl Call for Caller {
    async fn call(&mut self, data: &str) -> anyhow::Result<()> {
        let context = tarpc::context::current();
        let answer = self.client.echo(context, data.to_owned()).await?;
        anyhow::ensure!(answer.len() == data.len(), "the answer has another length");
        Ok(())
    }
}

async fn callers(
    place: String,
    (connections, in_flight): (usize, usize),
) -> anyhow::Result<Vec<Caller>> {
    let address = place.parse()?;
    let mut callers = Vec::new();
    for _ in 0..connections {
        let caller = Caller::connect(address).await?;
        callers.extend(std::iter::repeat_n(caller, in_flight));
    }
    Ok(callers)
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match arguments.as_slice() {
            [serving, _] if serving == "serve" => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?.to_string();
                tokio::spawn(serve(listener));
                child::serve(&address).await
            }
            [calling, _, place] if calling == "call" => {
                child::call(|shape| callers(place.clone(), shape)).await
            }
            _ => Err(anyhow::anyhow!("not started by the bench")).context("no such part"),
        }
    })
}
