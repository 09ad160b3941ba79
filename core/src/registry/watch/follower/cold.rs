//! Starting from the disk while the registry is away.
//!
//! Invariants: what is on the disk is shown only when the registry does not answer at once, and only
//! before the first listing, which is the truth: what is missing in it becomes suspect as after any
//! listing, so that calls on standing connections go on, but raises no alarm, because the disk may
//! be old.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Follower;
use crate::registry::cache::Cached;
use crate::registry::link::Link;
use crate::registry::list::who;

/// A registry that answers within so long needs no cache.
const AT_ONCE: Duration = Duration::from_millis(200);

/// What the disk told.
#[derive(Debug, Default)]
pub(super) enum Cold {
    /// Nothing, or what it told has been replaced.
    #[default]
    Over,
    /// It is at hand, for when the registry does not answer.
    Ready(Box<Cached>),
    /// It is what the view shows.
    Shown,
}

impl Follower {
    /// Reads what the disk remembers, and shows it unless the registry answers at once.
    pub(super) async fn begin(&mut self) {
        let Some(cache) = &self.cache else {
            return;
        };
        let (cached, ours) = cache.read().await;
        if !ours {
            self.cache = None;
        }
        let Some(cached) = cached else {
            return;
        };
        self.cold = Cold::Ready(Box::new(cached));
        let asked = timeout(AT_ONCE, who(&self.etcd, &self.config.prefix)).await;
        if !matches!(asked, Ok(Ok(_))) {
            self.show_cached();
        }
    }

    /// Shows what the disk remembers, if it does and nothing else was shown yet.
    pub(super) fn show_cached(&mut self) {
        let cached = match std::mem::take(&mut self.cold) {
            Cold::Ready(cached) => *cached,
            other => {
                self.cold = other;
                return;
            }
        };
        self.cold = Cold::Shown;
        let (written, cluster) = (cached.written, cached.cluster);
        let instances = cached.snapshot.len();
        tracing::warn!(%written, ?cluster, instances, "the registry does not answer: starting from the disk");
        self.names = cached.names;
        self.builder.begin_from(cached.snapshot);
        // Before the link: who waits for it looks at the view next.
        let snapshot = Arc::new(self.builder.snapshot());
        self.snapshot.send_replace(snapshot);
        self.link.send_modify(|link| {
            if let Link::Connecting { since } = *link {
                *link = Link::Cached { since, written };
            }
        });
    }
}
