//! etcd's Maintenance and Cluster services, as far as one node has something to say.
//!
//! The hash of the keys is etcd's own, to the bit. The hash of the whole file covers keys and leases
//! only: etcd's runs over everything in a file that looks different here, so it tells two embedded
//! registries apart and never equals etcd's.

use std::{net::SocketAddr, pin::Pin, sync::atomic::Ordering};

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbClusterService, PbDefragmentRequest,
    PbDefragmentResponse, PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest,
    PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService, PbMember,
    PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse,
    PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse,
    PbMemberUpdateRequest, PbMemberUpdateResponse, PbMoveLeaderRequest, PbMoveLeaderResponse,
    PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{checksum::Checksum, node::Node, refusal::Refusal};

/// The version of etcd whose API this is, with ours behind it.
const VERSION: &str = concat!("3.5.0+skynet.", env!("CARGO_PKG_VERSION"));

/// What a status says while the disk cannot be written though it has room.
const DISK_FAILED: &str = "the registry cannot write to its disk: nothing is changed until it can; \
    look at the system's log, and make a backup";

const ALARM_GET: i32 = 0;
const ALARM_DEACTIVATE: i32 = 2;
const ALARM_NOSPACE: i32 = 1;

/// The Maintenance service.
pub(super) struct MaintenanceService {
    pub(super) node: Node,
}

/// The Cluster service.
pub(super) struct ClusterService {
    pub(super) node: Node,
    pub(super) address: SocketAddr,
}

fn one_node<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!(
        "the embedded registry is a single node: it cannot {what}"
    )))
}

impl MaintenanceService {
    /// What is wrong, as etcd says it.
    fn alarms(&self) -> Vec<PbAlarmMember> {
        let alarm = PbAlarmMember {
            member_id: self.node.state.identity.member_id,
            alarm: ALARM_NOSPACE,
        };
        let is_exceeded = self.node.state.space.is_exceeded();
        is_exceeded.then_some(alarm).into_iter().collect()
    }

    fn errors(&self) -> Vec<String> {
        let mut errors: Vec<_> = self.alarms().iter().map(alarm_text).collect();
        if self.node.state.space.has_disk_failed() {
            errors.push(DISK_FAILED.to_owned());
        }
        errors
    }
}

/// Runs what looks at every row, so that nobody waits for it who wants something small.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    // It ends early only with the runtime.
    done.map_err(|_ended| Refusal::Stopped.into())
}

/// The hash of the keys at a revision; 0 and less is the newest.
fn hash_kv(node: &Node, wanted: i64) -> Result<PbHashKvResponse, Refusal> {
    let (newest, revision, compact_revision, rows) = {
        let store = node.store();
        let newest = node.committed();
        let revision = store.check_revision(wanted, newest)?;
        // The rows of the compacted revision itself are not whole any more.
        if wanted > 0 && revision <= store.compacted() {
            return Err(Refusal::Compacted);
        }
        let rows = store.hashed_rows(revision);
        (newest, revision, store.compacted(), rows)
    };
    let mut checksum = Checksum::new();
    checksum.add_versions(rows);
    Ok(PbHashKvResponse {
        header: Some(node.header(newest)),
        hash: checksum.finish(),
        compact_revision,
        hash_revision: revision,
    })
}

/// An alarm in the words of etcd's status.
fn alarm_text(alarm: &PbAlarmMember) -> String {
    format!("memberID:{} alarm:NOSPACE ", alarm.member_id)
}

#[tonic::async_trait]
impl PbMaintenanceService for MaintenanceService {
    async fn alarm(
        &self,
        request: Request<PbAlarmRequest>,
    ) -> Result<Response<PbAlarmResponse>, Status> {
        let action = request.into_inner().action;
        // In the queue it comes behind whatever the disk has to say.
        let turn = self.node.call(|engine| {
            engine.look_at_nothing();
            Ok(())
        });
        turn.await?;
        let mut alarms = self.alarms();
        match action {
            ALARM_GET => {}
            ALARM_DEACTIVATE => {
                let disarm = self.node.call(|engine| {
                    engine.disarm();
                    Ok(())
                });
                disarm.await?;
                if self.node.state.space.is_exceeded() {
                    // There is no room still; nothing was disarmed.
                    alarms.clear();
                }
            }
            _ => {
                return Err(Status::unimplemented(
                    "the embedded registry raises its alarms itself",
                ));
            }
        }
        Ok(Response::new(PbAlarmResponse {
            header: Some(self.node.header(self.node.committed())),
            alarms,
        }))
    }

    async fn status(
        &self,
        _request: Request<PbStatusRequest>,
    ) -> Result<Response<PbStatusResponse>, Status> {
        let revision = self.node.committed();
        let in_memory = self.node.store().bytes();
        let on_disk = self.node.state.disk_bytes.load(Ordering::Relaxed);
        let in_use = i64::try_from(in_memory).unwrap_or(i64::MAX);
        let size = i64::try_from(on_disk).unwrap_or(i64::MAX).max(in_use);
        let identity = self.node.state.identity;
        Ok(Response::new(PbStatusResponse {
            header: Some(self.node.header(revision)),
            version: VERSION.to_owned(),
            db_size: size,
            leader: identity.member_id,
            raft_index: revision.unsigned_abs(),
            raft_term: identity.term,
            raft_applied_index: revision.unsigned_abs(),
            db_size_in_use: in_use,
            db_size_quota: i64::try_from(self.node.state.space.quota()).unwrap_or(i64::MAX),
            errors: self.errors(),
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(
        &self,
        _request: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        let defragment = self.node.call(|engine| {
            engine.defragment();
            Ok(())
        });
        defragment.await?;
        Ok(Response::new(PbDefragmentResponse {
            header: Some(self.node.header(self.node.committed())),
        }))
    }

    async fn hash(
        &self,
        _request: Request<PbHashRequest>,
    ) -> Result<Response<PbHashResponse>, Status> {
        let (rows, leases) = self
            .node
            .call(|engine| Ok((engine.store.rows(), engine.ttls())))
            .await?;
        let hash = aside(move || {
            let mut checksum = Checksum::new();
            checksum.add_versions(rows);
            checksum.add_leases(leases);
            checksum.finish()
        });
        Ok(Response::new(PbHashResponse {
            hash: hash.await?,
            header: Some(self.node.header(self.node.committed())),
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<PbHashKvRequest>,
    ) -> Result<Response<PbHashKvResponse>, Status> {
        let wanted = request.into_inner().revision;
        let node = self.node.clone();
        let response = aside(move || hash_kv(&node, wanted));
        Ok(Response::new(response.await??))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<PbSnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _request: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let identity = self.node.state.identity;
        let backup = self
            .node
            .call(move |engine| Ok(engine.backup(identity)))
            .await?;
        let revision = backup.stamp.revision;
        if self.node.committed() < revision {
            // It saw writes that failed in the end.
            return Err(Refusal::DiskFailed.into());
        }
        let header = self.node.header(revision);
        // The length of the whole is said first, for which all of it is looked at.
        let pieces = aside(|| backup.pieces()).await?;
        let pieces = pieces.map(move |(blob, left)| {
            Ok(PbSnapshotResponse {
                header: Some(header),
                remaining_bytes: u64::try_from(left).unwrap_or(u64::MAX),
                blob,
                version: VERSION.to_owned(),
            })
        });
        // A piece is made when the one before it is on its way.
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn move_leader(
        &self,
        _request: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        one_node("move its leader")
    }

    async fn downgrade(
        &self,
        _request: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        one_node("be downgraded")
    }
}

#[tonic::async_trait]
impl PbClusterService for ClusterService {
    async fn member_add(
        &self,
        _request: Request<PbMemberAddRequest>,
    ) -> Result<Response<PbMemberAddResponse>, Status> {
        one_node("take in members")
    }

    async fn member_remove(
        &self,
        _request: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        one_node("remove members")
    }

    async fn member_update(
        &self,
        _request: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        one_node("update members")
    }

    async fn member_list(
        &self,
        _request: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        let url = format!("http://{}", self.address);
        Ok(Response::new(PbMemberListResponse {
            header: Some(self.node.header(self.node.committed())),
            members: vec![PbMember {
                id: self.node.state.identity.member_id,
                name: "skynet".to_owned(),
                client_ur_ls: vec![url],
                ..PbMember::default()
            }],
        }))
    }

    async fn member_promote(
        &self,
        _request: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        one_node("promote members")
    }
}
