//! etcd's Lease service.

use std::pin::Pin;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures_util::stream;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{node::Node, refusal::Refusal};

/// The service.
pub(super) struct LeaseService {
    pub(super) node: Node,
}

#[tonic::async_trait]
impl PbLeaseService for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let (id, ttl) = self
            .node
            .call(move |engine| engine.grant(request.id, request.ttl))
            .await?;
        Ok(Response::new(PbLeaseGrantResponse {
            header: Some(self.node.header(self.node.committed())),
            id,
            ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let revision = self.node.call(move |engine| engine.revoke(id)).await?;
        Ok(Response::new(PbLeaseRevokeResponse {
            header: Some(self.node.header(revision)),
        }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<PbLeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let state = Some((self.node.clone(), request.into_inner()));
        // One request at a time, and the next is read when the answer was taken: no queue at all.
        let responses = stream::unfold(state, async |state| {
            let (node, mut requests) = state?;
            let request = tokio::select! {
                request = requests.message() => request,
                () = node.stop.cancelled() => Err(Refusal::Stopped.into()),
            };
            match request {
                Ok(Some(request)) => {
                    let response = renew(&node, request.id).await;
                    let go_on = response.is_ok().then_some((node, requests));
                    Some((response, go_on))
                }
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let lease = self
            .node
            .call(move |engine| Ok(engine.time_to_live(request.id, request.keys)))
            .await?;
        let header = Some(self.node.header(self.node.committed()));
        Ok(Response::new(match lease {
            Some(lease) => PbLeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl: lease.remaining,
                granted_ttl: lease.granted,
                keys: lease.keys,
            },
            None => PbLeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl: -1,
                ..PbLeaseTimeToLiveResponse::default()
            },
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let ids = self.node.call(|engine| Ok(engine.leases())).await?;
        Ok(Response::new(PbLeaseLeasesResponse {
            header: Some(self.node.header(self.node.committed())),
            leases: ids.into_iter().map(|id| PbLeaseStatus { id }).collect(),
        }))
    }
}

/// Renews one lease. The header's revision is from before the renewal, as in etcd: whatever the
/// lease's keys suffered before it was renewed has at most that revision.
async fn renew(node: &Node, id: i64) -> Result<PbLeaseKeepAliveResponse, Status> {
    let header = Some(node.header(node.committed()));
    #[cfg(feature = "testing")]
    if let Some(ttl) = node.faults.ghost(id) {
        return Ok(PbLeaseKeepAliveResponse { header, id, ttl });
    }
    let ttl = node.call(move |engine| Ok(engine.renew(id))).await?;
    Ok(PbLeaseKeepAliveResponse { header, id, ttl })
}
