//! The one lease of this process, granted anew whenever it is lost.
//!
//! Invariants: at most one keeper per registry handle; a lease that the registry has forgotten is
//! replaced within a second of being noticed; the process goes on for ever without the registry.
//! Renewals may succeed on a lease that etcd has already revoked (before 3.4.38 and 3.5.23), which
//! is why whoever finds its key deleted says so with [`LeaseKeeper::replace`].

use std::sync::Arc;
use std::time::Duration;

use etcd_client::LeaseGrantOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::cluster;
use super::error::Error;
use super::etcd::Etcd;
use super::refusal::Refusal;
use crate::backoff::Backoff;

/// Keeps the process's lease; dropping it stops the renewals, and the lease ends by itself.
pub(super) struct LeaseKeeper {
    etcd: Arc<Etcd>,
    current: watch::Receiver<Option<i64>>,
    doubted: watch::Sender<i64>,
    worker: JoinHandle<()>,
}

impl LeaseKeeper {
    /// Starts to keep a lease of `ttl`; the first one is granted in the background.
    pub(super) fn start(etcd: Arc<Etcd>, prefix: Arc<str>, ttl: Duration) -> Self {
        let (announce, current) = watch::channel(None);
        let (doubted, doubts) = watch::channel(0);
        let worker = tokio::spawn(keep(Arc::clone(&etcd), prefix, ttl, announce, doubts));
        Self {
            etcd,
            current,
            doubted,
            worker,
        }
    }

    /// The lease that holds now, `None` while there is none.
    pub(super) fn current(&self) -> watch::Receiver<Option<i64>> {
        self.current.clone()
    }

    /// Says that a key on this lease was deleted under its owner: another lease is granted.
    pub(super) fn replace(&self, lease: i64) {
        self.doubted.send_replace(lease);
    }

    /// Gives the lease back, with all keys that hang on it.
    pub(super) async fn revoke(&self) -> Result<(), Error> {
        self.worker.abort();
        let Some(lease) = *self.current.borrow() else {
            return Ok(());
        };
        revoke(&self.etcd, lease).await
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// Revokes a lease; one that is gone already is as good.
pub(super) async fn revoke(etcd: &Etcd, lease: i64) -> Result<(), Error> {
    let revoked = etcd
        .call("revoke the lease", async |mut client| {
            client.lease_revoke(lease).await.map(|_| ())
        })
        .await;
    match revoked {
        Err(error) if super::etcd::is_lease_gone(&error) => Ok(()),
        other => other,
    }
}

/// Never returns; it ends with the keeper, which aborts it.
#[expect(clippy::infinite_loop, reason = "the keeper aborts its worker")]
async fn keep(
    etcd: Arc<Etcd>,
    prefix: Arc<str>,
    ttl: Duration,
    announce: watch::Sender<Option<i64>>,
    mut doubts: watch::Receiver<i64>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut said = false;
    let mut id = random_id();
    loop {
        // Before anything of ours stands in a registry that is new, it gets its name.
        let granted = async {
            cluster::ensure(&etcd, &prefix).await?;
            grant(&etcd, ttl, id).await
        };
        match granted.await {
            Ok(lease) => {
                backoff.reset();
                announce.send_replace(Some(lease));
                renew_until_lost(&etcd, lease, ttl, &mut doubts).await;
                announce.send_replace(None);
                id = random_id();
            }
            Err(error) => {
                if matches!(error, Error::Format { .. }) && !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, "nothing is registered");
                } else {
                    tracing::debug!(%error, "no lease yet");
                }
                sleep(backoff.next_wait()).await;
            }
        }
    }
}

/// Grants the lease of this id. An answer may be late or lost, and then the next attempt finds the
/// lease there: it is taken as it is, so that a registry with too much to do is not left with leases
/// that nobody holds.
async fn grant(etcd: &Etcd, ttl: Duration, id: i64) -> Result<i64, Error> {
    let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
    let granted = etcd
        .call("grant a lease", async |mut client| {
            let options = LeaseGrantOptions::new().with_id(id);
            client
                .lease_grant(seconds, Some(options))
                .await
                .map(|granted| granted.id())
        })
        .await;
    match granted {
        Err(error) if error.refusal() == Some(Refusal::LeaseThere) => {
            // A part of its time to live may be over.
            if renew(etcd, id, ttl).await? {
                Ok(id)
            } else {
                Err(error)
            }
        }
        other => other,
    }
}

/// The id of a new lease, which no other has: 63 bits by chance.
fn random_id() -> i64 {
    fastrand::i64(1..=i64::MAX)
}

/// Returns when the registry says that the lease is gone, or an owner does.
async fn renew_until_lost(
    etcd: &Etcd,
    lease: i64,
    ttl: Duration,
    doubts: &mut watch::Receiver<i64>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let mut wait = renewal_wait(ttl);
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            doubt = doubts.wait_for(|doubted| *doubted == lease) => {
                if doubt.is_ok() {
                    tracing::warn!(lease, "a key was deleted under its owner, taking another lease");
                }
                return;
            }
        }
        let renewed = tokio::select! {
            renewed = renew(etcd, lease, ttl) => renewed,
            _doubt = doubts.wait_for(|doubted| *doubted == lease) => return,
        };
        match renewed {
            Ok(true) => {
                backoff.reset();
                wait = renewal_wait(ttl);
            }
            Ok(false) => {
                tracing::warn!(lease, "the lease was lost, taking another");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, lease, "the lease could not be renewed yet");
                wait = backoff.next_wait();
            }
        }
    }
}

/// A third of the time to live, less up to a tenth of that, so that many do not renew at once.
fn renewal_wait(ttl: Duration) -> Duration {
    (ttl / 3).mul_f64(1.0 - 0.1 * fastrand::f64())
}

/// `false` when the registry no longer knows the lease.
async fn renew(etcd: &Etcd, lease: i64, ttl: Duration) -> Result<bool, Error> {
    // One that takes until the next is due has failed, so that two more fit into the time to live.
    let time = etcd.call_timeout().min(ttl / 3);
    etcd.call_within(time, "renew the lease", |mut client| async move {
        // The first exchange of the stream is the renewal; etcd-client tells a lease that is gone
        // (a time to live of 0) by this error and no other.
        match client.lease_keep_alive(lease).await {
            Ok(_stream) => Ok(true),
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
            Err(error) => Err(error),
        }
    })
    .await
    .map(|(renewed, _connection)| renewed)
    .or_else(|error| {
        if super::etcd::is_lease_gone(&error) {
            Ok(false)
        } else {
            Err(error)
        }
    })
}
