//! Others who hold what we want: when it is said that we wait, and when an id is given up to them.
//!
//! Invariants: waiting is said once, and again at most once a minute; an id is given up only to a
//! holder on another machine that was seen to renew its lease, because what a machine that has just
//! died left behind ends by itself; it is given up only by those who may.

use std::time::Duration;

use tokio::time::Instant;

use super::super::error::Error;
use super::super::etcd::Etcd;
use crate::instance::InstanceId;

/// How often it is said that we still wait.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// So often a lease must be seen to be renewed: once, a registry that restarts or elects a leader
/// gives every lease its whole time again, also those of the dead.
const RENEWALS: u32 = 2;

/// Is told of the id that takes the place of one that a living instance elsewhere holds, before
/// anything is written under it.
pub(in super::super) type OnNewId = Box<dyn Fn(InstanceId) + Send + Sync>;

/// What is known of those who hold what we want.
#[derive(Default)]
pub(in super::super) struct Rivals {
    /// What was last said to be waited for.
    said: Option<(String, Instant)>,
    /// The lease of the instance elsewhere by which our id was refused lately.
    refused_by: Option<i64>,
    watched: Option<Watched>,
    /// Whoever may not be given another id has none.
    on_new_id: Option<OnNewId>,
}

/// A lease as it was first looked at.
#[derive(Debug, Clone, Copy)]
struct Watched {
    lease: i64,
    /// Whole seconds, rounded down.
    left_s: i64,
    at: Instant,
    /// How often it was seen to be renewed.
    renewals: u32,
}

impl Watched {
    /// Whether the lease was renewed since, if it now has `left_s`, asked for at `asked`.
    fn is_renewed(self, left_s: i64, asked: Instant) -> bool {
        let since_s = asked.saturating_duration_since(self.at).as_secs();
        let most = self.left_s + 1 - i64::try_from(since_s).unwrap_or(i64::MAX);
        // A lease that is gone has less than nothing.
        left_s > most.max(0)
    }
}

impl Rivals {
    pub(super) fn yielding(on_new_id: Option<OnNewId>) -> Self {
        Self {
            on_new_id,
            ..Self::default()
        }
    }

    pub(super) fn refused_by(&mut self, lease: i64) {
        self.refused_by = Some(lease);
    }

    /// All is ours: whoever comes next is news.
    pub(super) fn forget(&mut self) {
        *self = Self::yielding(self.on_new_id.take());
    }

    /// Whether it is to be said that we wait for `key`.
    pub(super) fn is_news(&mut self, key: &str, now: Instant) -> bool {
        let known = self.said.as_ref();
        if known.is_some_and(|(said, at)| said == key && now < *at + SAY_AGAIN) {
            return false;
        }
        self.said = Some((key.to_owned(), now));
        true
    }

    /// A new id, if the one that is wanted is to be given up.
    pub(super) async fn new_id(&mut self, etcd: &Etcd) -> Option<InstanceId> {
        let lease = self.refused_by.take().filter(|lease| *lease != 0);
        let (Some(lease), Some(on_new_id)) = (lease, &self.on_new_id) else {
            return None;
        };
        let asked = Instant::now();
        let left_s = left_s(etcd, lease).await.ok()?;
        let known = self.watched.filter(|watched| watched.lease == lease);
        let is_renewed = known.is_some_and(|watched| watched.is_renewed(left_s, asked));
        let renewals = known.map_or(0, |known| known.renewals) + u32::from(is_renewed);
        if renewals < RENEWALS {
            let seen_now = Watched {
                lease,
                left_s,
                at: Instant::now(),
                renewals,
            };
            self.watched = known.filter(|_| !is_renewed).or(Some(seen_now));
            return None;
        }
        let id = InstanceId::new_v4();
        on_new_id(id);
        Some(id)
    }
}

async fn left_s(etcd: &Etcd, lease: i64) -> Result<i64, Error> {
    let left = etcd
        .call("look at the lease of another", |mut client| async move {
            client.lease_time_to_live(lease, None).await
        })
        .await?;
    Ok(left.ttl())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn row_36_waiting_is_said_once_and_then_once_a_minute() {
        let mut rivals = Rivals::default();
        let start = Instant::now();
        let mut said = Vec::new();
        for second in 0..150 {
            if rivals.is_news("/p/addr/h/9000", start + Duration::from_secs(second)) {
                said.push(second);
            }
        }
        assert_eq!(said, [0, 60, 120]);
        let now = start + Duration::from_secs(150);
        assert!(rivals.is_news("/p/ids/1", now), "another key is news");
        rivals.forget();
        assert!(rivals.is_news("/p/ids/1", now), "so is the next loss");
    }

    #[tokio::test(start_paused = true)]
    async fn row_35_a_lease_that_only_runs_down_is_not_renewed() {
        let at = Instant::now();
        let watched = Watched {
            lease: 1,
            left_s: 9,
            at,
            renewals: 0,
        };
        for (after_s, left_s, renewed) in [
            (0, 9, false),
            // Looked at with 9.9 seconds left, told as 9.
            (1, 9, false),
            (3, 6, false),
            (3, 7, false),
            (3, 8, true),
            (20, 1, true),
            (20, 0, false),
            (20, -1, false),
        ] {
            let asked = at + Duration::from_secs(after_s);
            let is_renewed = watched.is_renewed(left_s, asked);
            assert_eq!(is_renewed, renewed, "{left_s} s left after {after_s} s");
        }
    }
}
