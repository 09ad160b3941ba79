//! The one watcher of this process: list, watch from there, and begin again after every fault.
//!
//! Invariants: a watch starts at the revision behind its listing; a compaction means listing again,
//! and the difference is applied; a stream that says nothing for 12 s though it is asked every 5 s
//! is given up for another endpoint. etcd-client does not resume watches by itself.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::error::Error;
use super::etcd::Etcd;
use super::link::Link;
use super::list::{Known, Position, list, position_of, range_end};
use super::names::Names;
use super::read;
use super::snapshot::Snapshot;
use super::view::ViewBuilder;
use crate::backoff::Backoff;

/// How often the stream is asked for a sign of life.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A stream that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(12);
/// A sign of life so long after the one before is told to those who watch the link.
const TELL_EVERY: Duration = Duration::from_secs(4);
/// How often everything is listed again as a backstop.
const RESYNC: Duration = Duration::from_mins(5);

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
    pub(super) fn start(etcd: Arc<Etcd>, prefix: Arc<str>) -> Self {
        let (snapshot_sender, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let (link_sender, link) = watch::channel(Link::Connecting {
            since: Instant::now(),
        });
        let resync = Arc::new(tokio::sync::Notify::new());
        let follower = Follower {
            etcd,
            prefix,
            builder: ViewBuilder::default(),
            names: Names::default(),
            since: None,
            snapshot: snapshot_sender,
            link: link_sender,
            resync: Arc::clone(&resync),
        };
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

    /// Waits until the cluster has been listed once.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) {
        let mut link = self.link.clone();
        // The worker lives as long as we do.
        let _closed = link.wait_for(Link::is_live).await;
    }

    /// Lists everything again, at once.
    pub fn resync(&self) {
        self.resync.notify_one();
    }
}

struct Follower {
    etcd: Arc<Etcd>,
    prefix: Arc<str>,
    builder: ViewBuilder,
    names: Names,
    /// Up to where the view follows the registry's history, when only a compaction broke that.
    since: Option<Position>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    link: watch::Sender<Link>,
    resync: Arc<tokio::sync::Notify>,
}

/// Why following ended.
enum End {
    /// List again at once: a compaction, a resync, another cluster.
    ListAgain,
    /// The stream failed; what was seen is still whole, so resume behind it.
    Resume,
}

impl Follower {
    /// Never returns; it ends with the last view, which aborts it.
    #[expect(clippy::infinite_loop, reason = "the last view aborts its worker")]
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut position: Option<Position> = None;
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
                    self.wait(backoff.next_wait()).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "the registry is not followed");
                    if matches!(error, Error::Refused { .. }) {
                        position = None;
                    }
                    self.wait(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Waits before the next attempt, and says so on the link; a resync cuts the wait short.
    async fn wait(&self, wait: Duration) {
        let retry_at = Instant::now() + wait;
        self.link.send_modify(|link| {
            *link = match *link {
                Link::Connecting { since } => Link::Connecting { since },
                Link::Live { heard } => Link::Lost {
                    since: heard,
                    retry_at,
                },
                Link::Lost { since, .. } => Link::Lost { since, retry_at },
            };
        });
        tokio::select! {
            () = sleep_until(retry_at) => {}
            () = self.resync.notified() => {}
        }
    }

    fn heard(&self) {
        let heard = Instant::now();
        self.link.send_if_modified(|link| {
            // Readers tell an old link from a quiet one by this, so they must hear now and then.
            let news = !link.is_live() || link.age(heard) >= TELL_EVERY;
            *link = Link::Live { heard };
            news
        });
    }

    fn publish(&self) {
        self.snapshot
            .send_replace(Arc::new(self.builder.snapshot()));
    }

    async fn list_and_follow(
        &mut self,
        position: &mut Option<Position>,
        backoff: &mut Backoff,
    ) -> Result<End, Error> {
        let before = self.builder.snapshot();
        let known = Known {
            snapshot: &before,
            since: self.since,
        };
        let listing = list(&self.etcd, &self.prefix, &mut self.names, known).await?;
        let listed = listing.position;
        self.since = None;
        self.builder.replace(listing, Instant::now());
        self.publish();
        self.heard();
        *position = Some(listed);
        self.follow(listed, backoff).await
    }

    async fn follow(&mut self, position: Position, backoff: &mut Backoff) -> Result<End, Error> {
        let from = position.revision.max(self.builder.revision());
        let (mut stream, endpoint) = self.open(from).await?;
        let resync_at = Instant::now() + RESYNC.mul_f64(0.8 + 0.4 * fastrand::f64());
        let mut heard = Instant::now();
        let mut ask_at = heard + ASK_EVERY;
        loop {
            // `None` waits for ever: without suspects nothing expires.
            let expiry = self.builder.next_expiry();
            tokio::select! {
                message = stream.message() => {
                    let Ok(Some(response)) = message else {
                        self.etcd.leave(endpoint);
                        return Ok(End::Resume);
                    };
                    heard = Instant::now();
                    if let Some(end) = self.take(&response, position, from) {
                        if response.canceled() {
                            self.etcd.cancelled(endpoint, response.cancel_reason());
                        }
                        return Ok(end);
                    }
                    if !response.created() {
                        backoff.reset();
                    }
                }
                () = sleep_until(ask_at) => {
                    ask_at += ASK_EVERY;
                    if heard.elapsed() > SILENCE || stream.request_progress().await.is_err() {
                        self.etcd.leave(endpoint);
                        return Ok(End::Resume);
                    }
                }
                () = sleep_until(resync_at) => return Ok(End::ListAgain),
                () = self.resync.notified() => return Ok(End::ListAgain),
                () = sleep_until(expiry.unwrap_or(resync_at)), if expiry.is_some() => {
                    if self.builder.expire(Instant::now()) {
                        self.publish();
                    }
                }
            }
        }
    }

    async fn open(&self, from: i64) -> Result<(WatchStream, usize), Error> {
        let first = format!("{}/", self.prefix).into_bytes();
        let options = WatchOptions::new()
            .with_range(range_end(&first))
            .with_start_revision(from + 1);
        self.etcd
            .open("watch the cluster", |mut client| {
                let (first, options) = (first.clone(), options.clone());
                async move { client.watch(first, Some(options)).await }
            })
            .await
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
        if at.cluster_id != position.cluster_id || (response.created() && at.revision < from) {
            tracing::warn!("the registry is another one, or was put back: listing again");
            return Some(End::ListAgain);
        }
        self.heard();
        let now = Instant::now();
        // After a reconnect etcd may repeat what was told, also behind newer events: what is not
        // behind the position has been applied, or was overtaken.
        let known = from.max(self.builder.revision());
        let mut reached = 0;
        for event in response.events() {
            let Some(kv) = event.kv().filter(|kv| kv.mod_revision() > known) else {
                continue;
            };
            reached = reached.max(kv.mod_revision());
            let change = match event.event_type() {
                EventType::Put => read::put(&mut self.names, &self.prefix, kv),
                EventType::Delete => read::delete(&self.prefix, kv.key()),
            };
            if let Some(change) = change {
                self.builder.apply(change, now);
            }
        }
        if reached > 0 {
            self.builder.reached(reached);
            self.publish();
        }
        None
    }
}
