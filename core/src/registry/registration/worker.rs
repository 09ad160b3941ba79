//! The owner of one entry: claims it, follows its key, writes what is wanted, heals what is lost.
//!
//! Invariants: it alone writes the entry; nothing that it waits for keeps it from noticing a lost
//! lease; when it ends, however it does, the entry is taken away or hangs on a lease that ends.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, EventType, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::entry::{Entry, EntryKind, Holder};
use super::super::error::Error;
use super::super::etcd::Etcd;
use super::super::lease::LeaseKeeper;
use super::check::Check;
use super::claim::is_alive;
use super::own_watch::{Heard, OwnWatch};
use super::rival::Rivals;
use crate::backoff::Backoff;
use crate::instance::State;

/// How often the own key is compared with what should stand there, though no event came.
const SELF_CHECK: Duration = Duration::from_mins(1);
/// How long after a watch was opened again the own key is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    pub(super) etcd: Arc<Etcd>,
    pub(super) keeper: Arc<LeaseKeeper>,
    pub(super) prefix: Arc<str>,
    pub(super) entries: watch::Receiver<Entry>,
    pub(super) own: Entry,
    /// What our program wanted when `own` was last made from it.
    pub(super) wanted: Entry,
    pub(super) stands: watch::Sender<bool>,
    pub(super) wish: watch::Sender<bool>,
    pub(super) leave: CancellationToken,
    /// Our program has decided on `registered`, and that is not written yet.
    pub(super) decided: bool,
    /// The revision of our last write, or of the last foreign one that we took over.
    pub(super) mod_revision: i64,
    /// Where the watch of the own key begins: behind what has been read, and never in history that
    /// was compacted.
    pub(super) watch_from: i64,
    /// A write of ours was refused because another stood there than we know.
    pub(super) is_overtaken: bool,
    /// Counts how often the registry turned out to be another one: then we look at once.
    pub(super) doubts: watch::Receiver<u64>,
    /// Those who hold what we want.
    pub(super) rivals: Rivals,
    pub(super) left_behind: LeftBehind,
}

/// Makes sure that what an owner leaves in the registry ends: the lease of the process goes on while
/// the process does, so the others move to another one.
pub(super) struct LeftBehind {
    pub(super) keeper: Arc<LeaseKeeper>,
    /// All was taken away.
    pub(super) is_nothing: bool,
}

impl LeftBehind {
    /// Lets what hangs on the lease now end with it.
    fn leave_lease(&self) {
        let lease = *self.keeper.current().borrow();
        if let Some(lease) = lease {
            self.keeper.replace(lease);
        }
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        if !self.is_nothing {
            self.leave_lease();
        }
    }
}

impl Worker {
    /// Runs until we leave.
    pub(super) async fn run(mut self) {
        let leave = self.leave.clone();
        tokio::select! {
            () = leave.cancelled() => {}
            () = self.hold() => {}
        }
        match self.take_away().await {
            Ok(()) => self.left_behind.is_nothing = true,
            Err(error) => {
                tracing::warn!(%error, "the entry could not be taken away, it ends with its lease");
            }
        }
    }

    /// Never returns.
    async fn hold(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut leases = self.keeper.current();
        loop {
            // The keeper lives as long as we do.
            let lease = leases.wait_for(Option::is_some).await.map(|lease| *lease);
            let Ok(lease) = lease else { return };
            let Some(lease) = lease else { continue };
            let held = async {
                self.claim(lease).await?;
                self.stands.send_replace(true);
                self.rivals.forget();
                backoff.reset();
                self.follow(lease, &mut leases).await
            };
            if let Err(error) = held.await {
                if self.gives_way(&error).await {
                    continue;
                }
                sleep(backoff.next_wait()).await;
            }
        }
    }

    /// Says what keeps the entry from standing. `true` when it gave its id up to another: then it
    /// can be claimed at once.
    async fn gives_way(&mut self, error: &Error) -> bool {
        let Error::Taken { key, .. } = error else {
            tracing::debug!(%error, "the entry does not stand yet");
            return false;
        };
        if self.rivals.is_news(key, Instant::now()) {
            tracing::warn!(%error, "the entry is held by another, waiting for it");
        }
        let Some(id) = self.rivals.new_id(&self.etcd).await else {
            return false;
        };
        tracing::warn!(
            %error, %id,
            "a living instance of another machine has our id (is this one a clone?), taking a new id"
        );
        // What still stands under the old id hangs on a lease that goes on.
        if let Err(error) = self.delete_own().await {
            tracing::debug!(%error, "the old entry ends with its lease");
            self.left_behind.leave_lease();
        }
        self.own.set_id(id);
        self.mod_revision = 0;
        true
    }

    pub(super) fn key(&self) -> String {
        self.own.key().path(&self.prefix)
    }

    pub(super) fn take_wanted(&mut self) {
        let wanted = self.entries.borrow_and_update().clone();
        self.decided |= wanted.decisions != self.wanted.decisions;
        self.own.set_wanted(&self.wanted, &wanted);
        self.wanted = wanted;
        self.tell_wish();
    }

    /// Tells the wish as it now is, unless our program has decided anew: that is told already.
    fn tell_wish(&self) {
        let registered = self.own.registered();
        self.wish.send_if_modified(|wish| {
            self.entries.borrow().decisions == self.wanted.decisions
                && std::mem::replace(wish, registered) != registered
        });
    }

    /// Takes over what others may decide; `true` when what stands is what we want. What cannot be
    /// read stands over our own entry, so it is put right.
    pub(super) fn adopt(&mut self, standing: &[u8]) -> bool {
        let same = match self.own.adopt(standing, self.decided) {
            Ok(same) => same,
            Err(error) => {
                tracing::warn!(key = self.key(), %error, "the own entry was spoiled");
                false
            }
        };
        if same {
            // Our decision stands there, even if the answer to its write was lost.
            self.decided = false;
        }
        self.tell_wish();
        same
    }

    /// Follows the own key until it must be claimed again.
    async fn follow(
        &mut self,
        lease: i64,
        leases: &mut watch::Receiver<Option<i64>>,
    ) -> Result<(), Error> {
        let mut watch = OwnWatch::of(Arc::clone(&self.etcd), self.key(), self.watch_from);
        let mut check_at = next_check();
        // Right behind our own write there is nothing to see that the watch does not tell.
        let mut claimed = Some(Instant::now());
        loop {
            tokio::select! {
                heard = watch.next(self.watch_from) => match heard {
                    Heard::Opened => check_at = check_at.min(look_once(claimed.take())),
                    Heard::Message(response) => {
                        if self.take_events(&response, lease).await?.is_break() {
                            return Ok(());
                        }
                        check_at = self.sooner_if_overtaken(check_at);
                    }
                    Heard::Broken => watch.open_again(self.watch_from),
                    // After a compaction the entry itself says where to go on.
                    Heard::Cancelled => {
                        if self.check(lease).await? == Check::Lost {
                            return Ok(());
                        }
                        watch.open_again(self.watch_from);
                    }
                },
                () = lease_lost(leases, lease) => {
                    self.stands.send_replace(false);
                    return Ok(());
                }
                changed = self.entries.changed() => {
                    // The handle closes the channel only when it ends this worker.
                    if changed.is_ok() {
                        self.take_wanted();
                        self.write_own(lease).await?;
                        check_at = self.sooner_if_overtaken(check_at);
                    }
                }
                Ok(()) = self.doubts.changed() => check_at = Instant::now(),
                () = sleep_until(check_at) => {
                    check_at = next_check();
                    match self.check(lease).await? {
                        Check::Stands => {}
                        // The stream waits for revisions that come again only in a long time.
                        Check::WatchAgain => watch.open_again(self.watch_from),
                        Check::Lost => return Ok(()),
                    }
                    check_at = self.sooner_if_overtaken(check_at);
                }
            }
        }
    }

    /// Takes foreign writes over; breaks when the entry must be claimed again.
    async fn take_events(
        &mut self,
        response: &etcd_client::WatchResponse,
        lease: i64,
    ) -> Result<ControlFlow<()>, Error> {
        for event in response.events() {
            let Some(kv) = event
                .kv()
                .filter(|kv| kv.mod_revision() > self.mod_revision)
            else {
                continue;
            };
            self.mod_revision = kv.mod_revision();
            self.watch_from = self.watch_from.max(kv.mod_revision() + 1);
            match event.event_type() {
                EventType::Put => {
                    if !self.is_ours(kv.value(), kv.lease(), lease) {
                        return Ok(ControlFlow::Break(()));
                    }
                    if !self.adopt(kv.value()) || kv.lease() != lease {
                        self.write_own(lease).await?;
                    }
                    let wish = self.own.registered();
                    tracing::debug!(wish, "the own entry was written by another");
                }
                EventType::Delete => {
                    self.stands.send_replace(false);
                    self.keeper.replace(lease);
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether what stands under our key, on the lease `on`, is ours. If not, it does not stand, and
    /// has to be claimed again: by that, two who want the same do not overwrite each other.
    pub(super) fn is_ours(&self, standing: &[u8], on: i64, lease: i64) -> bool {
        let holder = self.own.holder(standing, is_alive).or_spoiled(on, lease);
        let ours = holder == Holder::Ourselves;
        if !ours {
            tracing::warn!(
                key = self.key(),
                ?holder,
                "another wrote over the own entry"
            );
            self.stands.send_replace(false);
        }
        ours
    }

    /// Looks soon when a write of ours found another than the one that we know: usually an event
    /// tells of it, but none does if the registry went back.
    fn sooner_if_overtaken(&mut self, check_at: Instant) -> Instant {
        if std::mem::take(&mut self.is_overtaken) {
            check_at.min(Instant::now() + Duration::from_secs(1))
        } else {
            check_at
        }
    }

    /// Writes the entry over the revision that we know; when another was faster, its event tells.
    pub(super) async fn write_own(&mut self, lease: i64) -> Result<(), Error> {
        let key = self.key();
        let value = self.own.encode(lease).map_err(|source| Error::BadValue {
            key: key.clone(),
            source,
        })?;
        let txn = Txn::new()
            .when([Compare::mod_revision(
                key.as_str(),
                CompareOp::Equal,
                self.mod_revision,
            )])
            .and_then([TxnOp::put(
                key.as_str(),
                value,
                Some(PutOptions::new().with_lease(lease)),
            )]);
        let response = self
            .etcd
            .call("write the own entry", async |mut client| {
                client.txn(txn.clone()).await
            })
            .await?;
        if response.succeeded() {
            self.decided = false;
            let revision = response
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision);
            self.mod_revision = self.mod_revision.max(revision);
        } else {
            self.is_overtaken = true;
        }
        Ok(())
    }

    /// Says `leaving`, then deletes what is still ours. It looks first, because a write of ours or
    /// of another may have gone through unseen.
    async fn take_away(&mut self) -> Result<(), Error> {
        let key = self.key();
        let lease = *self.keeper.current().borrow();
        for _attempt in 0..3 {
            let response = self
                .etcd
                .call("look before leaving", |mut client| {
                    let key = key.as_str();
                    async move { client.get(key, None).await }
                })
                .await?;
            let ours = response.kvs().first().filter(|standing| {
                self.own.holder(standing.value(), is_alive) == Holder::Ourselves
            });
            let Some(standing) = ours else {
                self.delete_claims().await?;
                break;
            };
            self.adopt(standing.value());
            self.mod_revision = standing.mod_revision();
            if let (Some(lease), EntryKind::Instance { value, .. }) = (lease, &mut self.own.kind) {
                value.state = State::Leaving;
                self.write_own(lease).await?;
            }
            if self.delete_own().await? {
                break;
            }
        }
        self.stands.send_replace(false);
        Ok(())
    }

    /// `false` when another has written since.
    async fn delete_own(&self) -> Result<bool, Error> {
        let key = self.key();
        let mut deletes = self.claim_deletions()?;
        deletes.push(TxnOp::delete(key.as_str(), None));
        let is_as_known = Compare::mod_revision(key, CompareOp::Equal, self.mod_revision);
        self.leave_by(Txn::new().when([is_as_known]).and_then(deletes))
            .await
    }

    async fn delete_claims(&self) -> Result<(), Error> {
        let deletes = self.claim_deletions()?;
        self.leave_by(Txn::new().and_then(deletes)).await?;
        Ok(())
    }

    /// Each claim goes only if it is still ours: another may have taken it since.
    fn claim_deletions(&self) -> Result<Vec<TxnOp>, Error> {
        self.own
            .claims()
            .into_iter()
            .map(|(key, claim)| {
                let key = key.path(&self.prefix);
                let ours = serde_json::to_vec(&claim).map_err(|source| Error::BadValue {
                    key: key.clone(),
                    source,
                })?;
                let is_ours = Compare::value(key.as_str(), CompareOp::Equal, ours);
                let deletion = TxnOp::delete(key, None);
                Ok(TxnOp::txn(Txn::new().when([is_ours]).and_then([deletion])))
            })
            .collect()
    }

    async fn leave_by(&self, txn: Txn) -> Result<bool, Error> {
        let response = self
            .etcd
            .call("leave", |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        Ok(response.succeeded())
    }
}

/// When the own key is looked at after a watch was opened. What happened while nobody watched comes
/// with the start revision, but not if it was compacted, nor if the registry went back, nor if it was
/// done to a claim. Only the first watch that stands right after we `claimed` needs no look, so that
/// thousands that come at once do not all look.
fn look_once(claimed: Option<Instant>) -> Instant {
    let now = Instant::now();
    if claimed.is_some_and(|claimed| now <= claimed + LOOK_AFTER) {
        next_check()
    } else {
        now + LOOK_AFTER
    }
}

/// When the own key is looked at next though no event came.
fn next_check() -> Instant {
    Instant::now() + SELF_CHECK.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Returns when the keeper no longer holds `lease`.
async fn lease_lost(leases: &mut watch::Receiver<Option<i64>>, lease: i64) {
    // The keeper lives as long as we do.
    let _closed = leases.wait_for(|now| *now != Some(lease)).await;
}
