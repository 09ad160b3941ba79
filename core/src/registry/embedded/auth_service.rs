//! etcd's Auth, Lock and Election services, as far as they are there: one answer says that
//! authentication is off, everything else is refused with what to do instead.
//!
//! The client library has no server side of Lock and Election and hides a message of Auth, so these
//! are served by their paths. `etcdctl lock` and `elect` need neither: they work with keys and
//! leases.

use std::convert::Infallible;

use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

use etcd_client::proto::{PbAuthDisableRequest, PbAuthDisableResponse, PbResponseHeader};

use super::node::Node;

/// How etcd begins its answer to whoever needs authentication where it is off.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// What etcd counts where authentication was never touched.
const AUTH_REVISION: u64 = 1;

/// The Auth service.
#[derive(Debug, Clone)]
pub(super) struct AuthService {
    pub(super) node: Node,
}

/// The Lock service.
#[derive(Debug, Clone, Copy)]
pub(super) struct LockService;

/// The Election service.
#[derive(Debug, Clone, Copy)]
pub(super) struct ElectionService;

impl NamedService for AuthService {
    const NAME: &'static str = "etcdserverpb.Auth";
}

impl NamedService for LockService {
    const NAME: &'static str = "v3lockpb.Lock";
}

impl NamedService for ElectionService {
    const NAME: &'static str = "v3electionpb.Election";
}

type Answered = BoxFuture<http::Response<Body>, Infallible>;

impl Service<http::Request<Body>> for AuthService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answered {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        match method {
            "AuthStatus" => unary(StatusMethod(self.node.clone()), request),
            "AuthDisable" => unary(DisableMethod(self.node.clone()), request),
            "Authenticate" => refuse(Code::FailedPrecondition, NOT_ENABLED.to_owned()),
            "AuthEnable" => refuse(
                Code::Unimplemented,
                "the embedded registry has no authentication: run etcd where it is needed"
                    .to_owned(),
            ),
            _ => refuse(
                Code::Unimplemented,
                format!(
                    "{NOT_ENABLED}: the embedded registry has no users and no roles, run etcd \
                     where they are needed"
                ),
            ),
        }
    }
}

/// Answers every method of a service that is not there.
macro_rules! refused {
    ($service:ty, $words:literal) => {
        impl Service<http::Request<Body>> for $service {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Answered;

            fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _request: http::Request<Body>) -> Answered {
                refuse(Code::Unimplemented, $words.to_owned())
            }
        }
    };
}

refused!(
    LockService,
    "the embedded registry has no lock service: lock with a key and a lease, as `etcdctl lock` does"
);
refused!(
    ElectionService,
    "the embedded registry has no election service: elect with keys and leases, as `etcdctl elect` does"
);

fn refuse(code: Code, words: String) -> Answered {
    Box::pin(async move { Ok(Status::new(code, words).into_http()) })
}

fn unary<M>(method: M, request: http::Request<Body>) -> Answered
where
    M: UnaryService<M::Asked, Response = M::Told> + Method + Send + 'static,
    M::Future: Send,
{
    Box::pin(async move {
        let codec: ProstCodec<M::Told, M::Asked> = ProstCodec::default();
        Ok(Grpc::new(codec).unary(method, request).await)
    })
}

/// The messages of a method.
trait Method {
    type Asked: prost::Message + Default + Send + 'static;
    type Told: prost::Message + Send + 'static;
}

/// Whether authentication is on.
struct StatusMethod(Node);

/// `AuthStatusRequest`: nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// `AuthStatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<PbResponseHeader>,
    #[prost(bool, tag = "2")]
    enabled: bool,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

impl Method for StatusMethod {
    type Asked = StatusRequest;
    type Told = StatusResponse;
}

impl UnaryService<StatusRequest> for StatusMethod {
    type Response = StatusResponse;
    type Future = BoxFuture<Response<StatusResponse>, Status>;

    fn call(&mut self, _request: Request<StatusRequest>) -> Self::Future {
        let header = Some(self.0.header(self.0.committed()));
        Box::pin(async move {
            Ok(Response::new(StatusResponse {
                header,
                enabled: false,
                auth_revision: AUTH_REVISION,
            }))
        })
    }
}

/// Switches authentication off, which it is.
struct DisableMethod(Node);

impl Method for DisableMethod {
    type Asked = PbAuthDisableRequest;
    type Told = PbAuthDisableResponse;
}

impl UnaryService<PbAuthDisableRequest> for DisableMethod {
    type Response = PbAuthDisableResponse;
    type Future = BoxFuture<Response<PbAuthDisableResponse>, Status>;

    fn call(&mut self, _request: Request<PbAuthDisableRequest>) -> Self::Future {
        let header = Some(self.0.header(self.0.committed()));
        Box::pin(async move { Ok(Response::new(PbAuthDisableResponse { header })) })
    }
}
