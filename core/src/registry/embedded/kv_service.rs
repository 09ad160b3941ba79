//! etcd's KV service: range, put, delete, transactions, compaction.
//!
//! Reads look at the committed state themselves; writes go through the owner's queue.

use std::pin::Pin;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse,
    PbResponseHeader, PbTxnRequest, PbTxnResponse,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{check, node::Node, read, refusal::Refusal};

/// The service.
pub(super) struct KvService {
    pub(super) node: Node,
}

impl KvService {
    /// Completes the header of an answer, which so far has a revision only.
    fn complete(&self, header: &mut Option<PbResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.node.header(revision));
    }

    fn read(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Refusal> {
        let (newest, found) = {
            let store = self.node.store();
            let newest = self.node.committed();
            let revision = store.check_revision(request.revision, newest)?;
            let found = read::lookup(request, |range, want| store.read(range, revision, want));
            (newest, found)
        };
        let mut response = read::respond(request, found);
        response.header = Some(self.node.header(newest));
        Ok(response)
    }
}

#[tonic::async_trait]
impl PbKvService for KvService {
    async fn range(
        &self,
        request: Request<PbRangeRequest>,
    ) -> Result<Response<PbRangeResponse>, Status> {
        let request = request.into_inner();
        check::range(&request)?;
        Ok(Response::new(self.read(&request)?))
    }

    type RangeStreamStream =
        Pin<Box<dyn Stream<Item = Result<PbRangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        _request: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented(
            "the embedded registry does not stream ranges: read them in pages with a limit",
        ))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let request = request.into_inner();
        check::put(&request)?;
        let mut response = self.node.call(move |engine| engine.put(request)).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        check::delete(&request)?;
        let mut response = self
            .node
            .call(move |engine| Ok(engine.delete(&request)))
            .await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let request = request.into_inner();
        check::txn(&request)?;
        let mut response = self.node.call(move |engine| engine.txn(request)).await?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        let revision = request.into_inner().revision;
        let revision = self
            .node
            .call(move |engine| engine.compact(revision))
            .await?;
        Ok(Response::new(PbCompactionResponse {
            header: Some(self.node.header(revision)),
        }))
    }
}
