//! A listing for people, who would rather see what was last known than nothing.
//!
//! Invariants: the truth is asked for first, and preferred whenever it comes; what one node of a
//! registry without a quorum knew last is never passed off as the truth; nothing is acted on that was
//! read so. How old it is nobody can tell: the node does not know what it has missed.

use std::time::Duration;

use tokio::time::timeout;

use super::error::Error;
use super::etcd::Etcd;
use super::list;
use super::snapshot::Snapshot;

/// How long a quorum is waited for, before one node is asked what it knows.
pub const QUORUM_WITHIN: Duration = Duration::from_secs(2);

/// A listing, and whether it may be old.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What was found.
    pub snapshot: Snapshot,
    /// No quorum of the registry answered in time: this is what one node of it knew last.
    pub is_stale: bool,
}

/// Lists the cluster; without a quorum, what one node knows.
///
/// # Cancel safety
/// Reads only.
pub(super) async fn listing(etcd: &Etcd, prefix: &str) -> Result<Listed, Error> {
    let fresh = async {
        let snapshot = list::snapshot(etcd, prefix).await?;
        Ok(Listed {
            snapshot,
            is_stale: false,
        })
    };
    tokio::pin!(fresh);
    if let Ok(answered) = timeout(QUORUM_WITHIN, &mut fresh).await {
        return answered;
    }
    let stale = async {
        let snapshot = list::snapshot(&etcd.without_quorum()?, prefix).await?;
        Ok::<_, Error>(Listed {
            snapshot,
            is_stale: true,
        })
    };
    // Boxed, because it is rare and large.
    let mut stale = Box::pin(stale);
    tokio::select! {
        biased;
        answered = &mut fresh => match answered {
            Ok(listed) => Ok(listed),
            // Who asked wants to know why there is no quorum.
            Err(why) => stale.await.map_err(|_no_node| why),
        },
        answered = &mut stale => match answered {
            Ok(listed) => Ok(listed),
            Err(_no_node) => fresh.await,
        },
    }
}
