//! The servers that the cases run on, and calls that the client library does not make.

use std::fmt;

use etcd_client::{Client, DeleteOptions};
use skynet::testing::TestRegistry;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::Conformance;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Embedded,
    Etcd34,
    Etcd35,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Etcd34 => "etcd 3.4",
            Self::Etcd35 => "etcd 3.5",
        })
    }
}

impl Kind {
    /// Starts one, if it is installed.
    pub(super) async fn start(self) -> Option<TestRegistry> {
        match self {
            Self::Embedded => Some(TestRegistry::embedded().await.unwrap()),
            Self::Etcd34 => TestRegistry::etcd().await.unwrap(),
            Self::Etcd35 => TestRegistry::etcd_3_5().await.unwrap(),
        }
    }
}

/// One server, which gets one case after the other.
pub(super) struct Server {
    kind: Kind,
    version: String,
    client: Client,
    /// Ends with the last case.
    registry: TestRegistry,
}

impl Server {
    pub(super) async fn start(kind: Kind) -> Option<Self> {
        let registry = kind.start().await?;
        let mut client = Client::connect([registry.url()], None).await.unwrap();
        let version = client.status().await.unwrap().version().to_owned();
        let expected = match kind {
            Kind::Embedded => "3.5.0+skynet.",
            Kind::Etcd34 => "3.4.",
            Kind::Etcd35 => "3.5.",
        };
        assert!(version.starts_with(expected), "{kind} is {version}");
        Some(Self {
            kind,
            version,
            client,
            registry,
        })
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Takes away what the last case left, and hands the server to the next one.
    pub(super) async fn empty(&mut self) -> Conformance {
        for lease in self.client.leases().await.unwrap().leases() {
            // It may expire meanwhile.
            let _ = self.client.lease_revoke(lease.id()).await;
        }
        let all = DeleteOptions::new().with_all_keys();
        let gone = self.client.delete("", Some(all)).await.unwrap();
        Conformance {
            client: Client::connect([self.registry.url()], None).await.unwrap(),
            base: gone.header().unwrap().revision() - 1,
            kind: self.kind,
            url: self.registry.url(),
        }
    }
}

/// Calls a method by its path, with a message that the client library would not send.
pub(super) async fn call<Q, A>(url: &str, path: &'static str, message: Q) -> Result<A, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let channel = Endpoint::from_shared(url.to_owned()).unwrap();
    let mut grpc = Grpc::new(channel.connect().await.unwrap());
    grpc.ready().await.unwrap();
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    let path = PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(message), path, codec).await?;
    Ok(answer.into_inner())
}
