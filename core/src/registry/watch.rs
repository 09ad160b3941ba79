//! A live view of the cluster, shared by all who look at it.
//!
//! Invariants: one watcher per handle, which ends with the last view; what readers hold never
//! changes under them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::etcd::Etcd;
use super::link::Link;
use super::snapshot::Snapshot;
use follower::Follower;

mod follower;

/// What a watcher is told when it starts.
pub(super) struct ViewConfig {
    pub(super) prefix: Arc<str>,
    /// How long what an unknown registry does not tell of is kept.
    pub(super) grace: Duration,
    /// Counts how often the registry turned out to be another one: told to all who stand in it.
    pub(super) doubts: watch::Sender<u64>,
    /// The file that remembers the cluster.
    pub(super) cache: Option<PathBuf>,
}

/// A live view of the cluster. Clones share one watcher, which ends with the last of them.
#[derive(Clone)]
pub struct View {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    link: watch::Receiver<Link>,
    resync: Arc<tokio::sync::Notify>,
    _worker: Arc<Worker>,
}

struct Worker(JoinHandle<()>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl View {
    pub(super) fn start(etcd: Arc<Etcd>, config: ViewConfig) -> Self {
        let (snapshot_sender, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let (link_sender, link) = watch::channel(Link::Connecting {
            since: Instant::now(),
        });
        let resync = Arc::new(tokio::sync::Notify::new());
        let follower = Follower::new(etcd, config, snapshot_sender, link_sender, &resync);
        let worker = Arc::new(Worker(tokio::spawn(follower.run())));
        Self {
            snapshot,
            link,
            resync,
            _worker: worker,
        }
    }

    /// The cluster as it is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Tells of every new snapshot; bursts are told once.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// How the link to the registry stands.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Waits until there is something to see: until the registry has been listed and is followed,
    /// or does not answer and the view is what the disk remembers
    /// ([`RegistryConfig::cache`](super::RegistryConfig::cache)). [`View::link`] tells which.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) {
        let mut link = self.link.clone();
        // The worker lives as long as we do.
        let _closed = link
            .wait_for(|link| link.is_connected() || matches!(link, Link::Cached { .. }))
            .await;
    }

    /// Lists everything again, at once, for somebody who looks: instances of which most vanished at
    /// once are from now on held no longer than others.
    pub fn resync(&self) {
        self.resync.notify_one();
    }
}
