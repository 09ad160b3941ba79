//! The one watcher of this process: list, watch from there, and begin again after every fault.
//!
//! Invariants: a watch starts at the revision behind its listing; a compaction means listing again,
//! and the difference is applied; a stream that says nothing for 12 s though it is asked is given up
//! for another endpoint, and nobody is given up on its word before that is heard; behind each opening
//! the registry is asked who it is. etcd-client does not resume watches by itself.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, WatchOptions, WatchResponse};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ViewConfig;
use crate::backoff::Backoff;
use crate::registry::cache::Cache;
use crate::registry::cluster;
use crate::registry::error::Error;
use crate::registry::etcd::Etcd;
use crate::registry::key::Key;
use crate::registry::link::{Doubt, Link};
use crate::registry::list::{Known, Listing, Position, list, position_of, range_end};
use crate::registry::names::Names;
use crate::registry::origin::{Origin, Reading};
use crate::registry::read;
use crate::registry::snapshot::Snapshot;
use crate::registry::stream::Stream;
use crate::registry::unreadable::{Unread, Unreadable};
use crate::registry::view::ViewBuilder;
use cold::Cold;

mod cold;
mod history;

/// A sign of life so long after the one before is told to those who watch the link.
const TELL_EVERY: Duration = Duration::from_secs(4);
/// How often everything is listed again as a backstop.
const RESYNC: Duration = Duration::from_mins(5);
/// After so long a silence, suspects and what is kept get their whole time again: nobody could
/// register meanwhile.
const LONG_SILENCE: Duration = Duration::from_secs(15);

pub(super) struct Follower {
    etcd: Arc<Etcd>,
    config: ViewConfig,
    builder: ViewBuilder,
    /// Where what is told is remembered.
    cache: Option<Cache>,
    cold: Cold,
    names: Names,
    origin: Origin,
    /// Up to where the view follows the registry's history, when only a compaction broke that.
    since: Option<Position>,
    /// Why the next listing is not believed when it says that something is gone.
    doubt: Option<Doubt>,
    unreadable: Unreadable,
    /// When the registry last said anything.
    heard: Option<Instant>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    link: watch::Sender<Link>,
    resync: Arc<tokio::sync::Notify>,
}

/// Why following ended.
enum End {
    /// List again at once: a compaction, a resync, another registry.
    ListAgain,
    /// The stream failed; what was seen is still whole, so resume behind it.
    Resume,
}

impl Follower {
    pub(super) fn new(
        etcd: Arc<Etcd>,
        mut config: ViewConfig,
        snapshot: watch::Sender<Arc<Snapshot>>,
        link: watch::Sender<Link>,
        resync: &Arc<tokio::sync::Notify>,
    ) -> Self {
        let prefix = Arc::clone(&config.prefix);
        Self {
            etcd,
            cache: config.cache.take().map(|path| Cache::new(path, prefix)),
            cold: Cold::default(),
            config,
            builder: ViewBuilder::default(),
            names: Names::default(),
            origin: Origin::default(),
            since: None,
            doubt: None,
            unreadable: Unreadable::default(),
            heard: None,
            snapshot,
            link,
            resync: Arc::clone(resync),
        }
    }

    /// Never returns; it ends with the last view, which aborts it.
    #[expect(clippy::infinite_loop, reason = "the last view aborts its worker")]
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut position: Option<Position> = None;
        self.begin().await;
        loop {
            let attempt = match position {
                None => self.list_and_follow(&mut position, &mut backoff).await,
                Some(known) => self.follow(known, &mut backoff).await,
            };
            match attempt {
                Ok(End::ListAgain) => position = None,
                Ok(End::Resume) => {
                    if let Some(position) = &mut position {
                        position.revision = position.revision.max(self.builder.revision());
                    }
                    self.wait(backoff.next_wait(), None).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "the registry is not followed");
                    if matches!(error, Error::Refused { .. } | Error::Format { .. }) {
                        position = None;
                    }
                    self.show_cached();
                    self.wait(backoff.next_wait(), Some(&error)).await;
                }
            }
        }
    }

    /// Waits before the next attempt, and says so on the link; a resync cuts the wait short.
    async fn wait(&self, wait: Duration, why: Option<&Error>) {
        let retry_at = Instant::now() + wait;
        self.link.send_modify(|link| {
            *link = match (*link, why) {
                (Link::Unknown { since, .. }, Some(&Error::Format { found: format, .. })) => {
                    Link::Unknown {
                        since,
                        retry_at,
                        format,
                    }
                }
                (_, Some(&Error::Format { found: format, .. })) => Link::Unknown {
                    since: Instant::now(),
                    retry_at,
                    format,
                },
                (
                    Link::Live { heard: since }
                    | Link::Protected { heard: since, .. }
                    | Link::Lost { since, .. }
                    | Link::Unknown { since, .. },
                    _,
                ) => Link::Lost { since, retry_at },
                (waiting @ (Link::Connecting { .. } | Link::Cached { .. }), _) => waiting,
            };
        });
        tokio::select! {
            () = sleep_until(retry_at) => {}
            () = self.resync.notified() => {}
        }
    }

    /// Notes a sign of life.
    fn heard(&mut self) {
        let now = Instant::now();
        let long_ago = self
            .heard
            .is_some_and(|heard| now.saturating_duration_since(heard) > LONG_SILENCE);
        if long_ago {
            self.builder.prolong(now);
        }
        self.heard = Some(now);
        self.tell(now);
    }

    /// Says on the link that the registry is followed, and was last heard at `heard`.
    fn tell(&self, heard: Instant) {
        let now = match self.builder.protection() {
            None => Link::Live { heard },
            Some(protection) => Link::Protected {
                since: protection.since,
                until: protection.until,
                heard,
                why: protection.why,
            },
        };
        self.link.send_if_modified(|link| {
            let same = match (*link, now) {
                (Link::Live { .. }, Link::Live { .. }) => true,
                (
                    Link::Protected { since, until, .. },
                    Link::Protected {
                        since: now,
                        until: end,
                        ..
                    },
                ) => (since, until) == (now, end),
                _ => false,
            };
            // Readers tell an old link from a quiet one by this, so they must hear now and then.
            let news = !same || link.age(heard) >= TELL_EVERY;
            *link = now;
            news
        });
    }

    fn publish(&mut self) {
        self.builder.set_unreadable(self.unreadable.len());
        let snapshot = Arc::new(self.builder.snapshot());
        // What is kept against what the registry says is not worth remembering.
        if let (Some(cache), None) = (&self.cache, self.builder.protection()) {
            let cluster = self.origin.known().and_then(|known| known.cluster);
            cache.note(&snapshot, cluster);
        }
        self.snapshot.send_replace(snapshot);
    }

    /// The registry is not the one that was known; a listing has to follow.
    fn protect(&mut self, why: Doubt, now: Instant) {
        let grace = self.config.grace;
        tracing::warn!(%why, ?grace, "what is known is kept, so that all may register again");
        self.builder.protect(why, grace, now);
        self.config.doubts.send_modify(|doubts| *doubts += 1);
    }

    async fn list_and_follow(
        &mut self,
        position: &mut Option<Position>,
        backoff: &mut Backoff,
    ) -> Result<End, Error> {
        let listing = {
            // Let go again before the view is followed: it may be large.
            let before = self.builder.snapshot();
            let known = Known {
                snapshot: &before,
                since: self.since,
            };
            list(&self.etcd, &self.config.prefix, &mut self.names, known).await?
        };
        let listed = listing.position;
        // Behind the listing, which may have come from another registry than what was seen before.
        if self.doubt.is_none() {
            self.ask_history().await?;
        }
        self.since = None;
        self.take_listing(listing);
        *position = Some(listed);
        self.follow(listed, backoff).await
    }

    fn take_listing(&mut self, listing: Listing) {
        let now = Instant::now();
        let reading = Reading {
            etcd: listing.position.cluster_id,
            cluster: listing.cluster.map(|cluster| cluster.id),
            revision: listing.position.revision,
        };
        let doubt = self.doubt.take().or_else(|| self.origin.doubt(reading));
        if let Some(why) = doubt {
            self.protect(why, now);
        }
        self.origin.take(reading, listing.witness);
        self.unreadable.replace(listing.unreadable);
        self.builder.forget_moved(&listing.moved);
        self.builder
            .replace(listing.changed, listing.gone, reading.revision, now);
        self.builder.forget_moved(&listing.moved);
        if matches!(std::mem::take(&mut self.cold), Cold::Shown) {
            self.builder.excuse();
        }
        self.builder.weigh(now);
        self.publish();
        self.heard();
    }

    async fn follow(&mut self, position: Position, backoff: &mut Backoff) -> Result<End, Error> {
        let from = position.revision.max(self.builder.revision());
        let mut stream = self.open(from).await?;
        let connection = stream.connection;
        // Behind the opening, which may have ended at another registry; if this one goes away now,
        // so does the stream.
        self.ask_who().await?;
        if self.doubt.is_some() {
            return Ok(End::ListAgain);
        }
        let resync_at = Instant::now() + RESYNC.mul_f64(0.8 + 0.4 * fastrand::f64());
        loop {
            // `None` waits for ever: without suspects nothing expires.
            let due = self.builder.next_expiry();
            let look_at = due.and_then(|due| stream.liveness.look_at(due));
            tokio::select! {
                // Whoever was stopped finds all of it due at once, and must read first what waited.
                biased;
                () = sleep_until(resync_at) => return Ok(End::ListAgain),
                () = self.resync.notified() => {
                    self.builder.dismiss(Instant::now());
                    return Ok(End::ListAgain);
                }
                message = stream.next() => {
                    let Some(response) = message else {
                        self.etcd.leave(connection);
                        return Ok(End::Resume);
                    };
                    if let Some(end) = self.take(&response, position, from) {
                        if response.canceled() {
                            self.etcd.cancelled(connection, response.cancel_reason());
                        }
                        return Ok(end);
                    }
                    if !response.created() {
                        backoff.reset();
                    }
                }
                () = sleep_until(look_at.unwrap_or(resync_at)), if look_at.is_some() => {
                    let now = Instant::now();
                    if !due.is_some_and(|due| stream.liveness.is_sure(due, now)) {
                        // It may have told of them meanwhile.
                        if !stream.ask().await {
                            self.etcd.leave(connection);
                            return Ok(End::Resume);
                        }
                    } else if self.builder.expire(now) {
                        self.publish();
                        self.tell(stream.liveness.last_heard());
                    }
                }
            }
        }
    }

    async fn open(&self, from: i64) -> Result<Stream, Error> {
        let first = format!("{}/", self.config.prefix).into_bytes();
        let options = WatchOptions::new()
            .with_range(range_end(&first))
            .with_start_revision(from + 1);
        self.etcd
            .open("watch the cluster", |mut client| {
                let (first, options) = (first.clone(), options.clone());
                async move { client.watch(first, Some(options)).await }
            })
            .await
            .map(Stream::new)
    }

    /// Applies one response; tells when the watch cannot go on.
    fn take(&mut self, response: &WatchResponse, position: Position, from: i64) -> Option<End> {
        if response.canceled() {
            tracing::debug!(
                compacted = response.compact_revision(),
                reason = response.cancel_reason(),
                "the watch was cancelled, listing again"
            );
            // Cancelled for another reason, it may be again: then not without a wait.
            let compacted = response.compact_revision() > 0;
            return Some(if compacted {
                self.since = Some(Position {
                    revision: self.builder.revision(),
                    ..position
                });
                End::ListAgain
            } else {
                End::Resume
            });
        }
        let at = position_of(response.header());
        // What a stream says of its own revision goes back only with the registry.
        if at.cluster_id != position.cluster_id || at.revision < from {
            tracing::warn!("the registry is another one, or was put back: listing again");
            return Some(End::ListAgain);
        }
        self.heard();
        let now = Instant::now();
        // After a reconnect etcd may repeat what was told, also behind newer events: what is not
        // behind the position has been applied, or was overtaken.
        let known = from.max(self.builder.revision());
        let cluster = Key::Cluster.path(&self.config.prefix).into_bytes();
        let news_of_it = response
            .events()
            .iter()
            .filter(|event| {
                event
                    .kv()
                    .is_some_and(|kv| kv.key() == cluster && kv.mod_revision() > known)
            })
            .find_map(|event| self.take_cluster(event, now));
        if news_of_it.is_some() {
            return news_of_it;
        }
        let mut reached = 0;
        for event in response.events() {
            let Some(kv) = event.kv().filter(|kv| kv.mod_revision() > known) else {
                continue;
            };
            reached = reached.max(kv.mod_revision());
            if event.event_type() == EventType::Delete {
                self.unreadable.forget(kv.key());
                if let Some(key) = Key::parse(&self.config.prefix, kv.key()) {
                    self.builder.remove(key, kv.mod_revision(), now);
                }
                continue;
            }
            self.origin.saw(kv.key(), kv.mod_revision());
            match read::put(&mut self.names, &self.config.prefix, kv) {
                Ok(change) => {
                    self.unreadable.forget(kv.key());
                    if let Some(change) = change {
                        self.builder.apply(change);
                    }
                }
                Err(error) => drop(self.unreadable.add(Unread::of(kv, &error))),
            }
        }
        if reached > 0 {
            self.builder.reached(reached);
            self.builder.weigh(now);
            self.publish();
        }
        None
    }

    /// News of the `cluster` key: tells when the registry is another one by it.
    fn take_cluster(&mut self, event: &Event, now: Instant) -> Option<End> {
        let known = self.origin.known().and_then(|known| known.cluster);
        let kv = event.kv()?;
        let stands = match event.event_type() {
            EventType::Delete => None,
            EventType::Put => match cluster::read(&self.config.prefix, kv.value()) {
                Ok(stands) => stands.map(|cluster| cluster.id),
                // The listing says it again, as an error.
                Err(_another_format) => return Some(End::ListAgain),
            },
        };
        self.origin.set_cluster(stands);
        let why = match (known, stands) {
            (Some(_), None) => Doubt::Wiped,
            (Some(known), Some(stands)) if known != stands => Doubt::AnotherRegistry,
            (None, _) | (Some(_), Some(_)) => return None,
        };
        self.protect(why, now);
        Some(End::ListAgain)
    }
}
