//! What the four services share: the committed state to read, and the queue to its owner.
//!
//! Invariant: reads see committed revisions only.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, atomic::AtomicU64},
    time::Duration,
};

use etcd_client::proto::PbResponseHeader;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    disk::Identity,
    engine::Engine,
    owner::{Answer, Job},
    refusal::Refusal,
    space::Space,
    store::Store,
};

/// Requests that may wait for the owner; more are refused with "too many requests".
pub(super) const QUEUE: usize = 4096;

/// The state that the owner writes and the services read.
#[derive(Debug)]
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) store: RwLock<Store>,
    /// The newest revision that is safe.
    pub(super) committed: watch::Sender<i64>,
    /// The file's length.
    pub(super) disk_bytes: AtomicU64,
    /// Whether there is room.
    pub(super) space: Space,
}

/// A service's way to the state; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) state: Arc<State>,
    pub(super) jobs: mpsc::Sender<Job>,
    /// Ends every open stream.
    pub(super) stop: CancellationToken,
    /// What goes wrong on request.
    #[cfg(feature = "testing")]
    pub(super) faults: super::faults::Switches,
    /// How often an idle watcher hears how far it is.
    pub(super) progress_every: Duration,
}

impl Node {
    /// The newest revision that is safe.
    pub(super) fn committed(&self) -> i64 {
        *self.state.committed.borrow()
    }

    /// The store, to read at or below the committed revision.
    pub(super) fn store(&self) -> RwLockReadGuard<'_, Store> {
        self.state
            .store
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The header of an answer at `revision`.
    pub(super) fn header(&self, revision: i64) -> PbResponseHeader {
        let identity = self.state.identity;
        let cluster_id = identity.cluster_id;
        #[cfg(feature = "testing")]
        let cluster_id = self.faults.cluster_id(cluster_id);
        PbResponseHeader {
            cluster_id,
            member_id: identity.member_id,
            revision,
            raft_term: identity.term,
        }
    }

    /// Runs `work` in the queue's order and returns its result once it is safe on the disk.
    ///
    /// Dropping the future does not take the request back.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Status> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |engine| -> Answer {
            let result = work(engine);
            Box::new(move |committed| {
                // Nobody waits any more if the caller went away.
                let _ = sender.send(committed.and(result));
            })
        });
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Refusal::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Refusal::Stopped,
        })?;
        let result = receiver.await.unwrap_or(Err(Refusal::Stopped));
        Ok(result?)
    }
}
