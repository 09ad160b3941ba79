//! An entry of our own in the registry, which heals itself for as long as we live.
//!
//! Invariants: a name or an address that is held by another living process is never overwritten; a
//! key that is deleted under us, or hangs on a lost lease, is written again within a second; the
//! process never ends because of the registry. The worker below owns the entry; handles only send
//! it the value that is wanted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::entry::{Entry, EntryKind};
use super::etcd::Etcd;
use super::lease::LeaseKeeper;
use super::value::{HostValue, InstanceValue};
use crate::instance::State;

mod check;
mod claim;
mod own_watch;
mod rival;
mod worker;

pub(super) use rival::OnNewId;

/// How long leaving may take before the lease is left to end by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the handles and the worker share.
pub(super) struct Handle {
    entry: watch::Sender<Entry>,
    stands: watch::Receiver<bool>,
    wish: watch::Sender<bool>,
    leave: CancellationToken,
    worker: Option<JoinHandle<()>>,
}

impl Handle {
    pub(super) fn start(
        etcd: Arc<Etcd>,
        keeper: Arc<LeaseKeeper>,
        prefix: Arc<str>,
        entry: Entry,
        doubts: watch::Receiver<u64>,
        on_new_id: Option<OnNewId>,
    ) -> Self {
        let (stands_sender, stands) = watch::channel(false);
        let wish = watch::Sender::new(entry.registered());
        let own = entry.clone();
        let (entry, entries) = watch::channel(entry);
        let leave = CancellationToken::new();
        let left_behind = worker::LeftBehind {
            keeper: Arc::clone(&keeper),
            is_nothing: false,
        };
        let worker = worker::Worker {
            etcd,
            keeper,
            prefix,
            entries,
            wanted: own.clone(),
            own,
            stands: stands_sender,
            wish: wish.clone(),
            leave: leave.clone(),
            decided: false,
            mod_revision: 0,
            watch_from: 1,
            is_overtaken: false,
            doubts,
            rivals: rival::Rivals::yielding(on_new_id),
            left_behind,
        };
        Self {
            entry,
            stands,
            wish,
            leave,
            worker: Some(tokio::spawn(async {
                if AssertUnwindSafe(worker.run()).catch_unwind().await.is_err() {
                    tracing::error!(
                        "the owner of an entry panicked, its entry ends with its lease"
                    );
                }
            })),
        }
    }

    async fn stands(&self) {
        let mut stands = self.stands.clone();
        if stands.wait_for(|stands| *stands).await.is_err() {
            // Its owner is gone, so it never will.
            std::future::pending::<()>().await;
        }
    }

    async fn leave(&mut self) {
        self.leave.cancel();
        if let Some(worker) = self.worker.take() {
            let abort = worker.abort_handle();
            if timeout(LEAVE_TIMEOUT, worker).await.is_err() {
                tracing::warn!(
                    "the registry did not take the leave, the entry ends with its lease"
                );
                abort.abort();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.abort();
        }
    }
}

/// An instance's own entry. Dropping it without [`Registration::leave`] leaves the entry on a lease
/// that is renewed no more, so it ends within the time to live.
pub struct Registration {
    handle: Handle,
}

impl Registration {
    pub(super) fn of(handle: Handle) -> Self {
        Self { handle }
    }

    /// Changes the entry; it is written soon, and again after every loss. What it says of
    /// `registered` counts only if it changes that; use [`Registration::set_registered`]. `change`
    /// must be quick, and must not use this registration: its owner waits meanwhile.
    pub fn update(&self, change: impl FnOnce(&mut InstanceValue)) {
        self.decide(|value| {
            let before = value.registered;
            change(value);
            value.registered != before
        });
    }

    /// Decides whether clients may choose this instance, whatever was written before.
    pub fn set_registered(&self, registered: bool) {
        self.decide(|value| {
            value.registered = registered;
            true
        });
    }

    /// Changes the entry by `change`, which tells whether that decides on `registered`. A decision
    /// and the wish are one step: the worker, which may still be at an older one, sees both or none.
    fn decide(&self, change: impl FnOnce(&mut InstanceValue) -> bool) {
        self.handle.wish.send_if_modified(|wish| {
            let before = *wish;
            self.handle.entry.send_modify(|entry| {
                if let EntryKind::Instance { value, .. } = &mut entry.kind
                    && change(value)
                {
                    entry.decisions += 1;
                    *wish = value.registered;
                }
            });
            *wish != before
        });
    }

    /// Changes only the state.
    pub fn set_state(&self, state: State) {
        self.update(|value| value.state = state);
    }

    /// The operator's wish: whether clients may choose this instance. The instance follows it.
    pub fn wish(&self) -> watch::Receiver<bool> {
        self.handle.wish.subscribe()
    }

    /// Waits until the entry stands in the registry.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn registered(&self) {
        self.handle.stands().await;
    }

    /// Whether the entry stands in the registry, as far as is known.
    pub fn stands(&self) -> watch::Receiver<bool> {
        self.handle.stands.clone()
    }

    /// Says `leaving` and takes the entry away; takes two seconds at most.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the entry to end with its lease.
    pub async fn leave(mut self) {
        self.handle.leave().await;
    }
}

/// A daemon's entry for its host.
pub struct HostRegistration {
    handle: Handle,
}

impl HostRegistration {
    pub(super) fn of(handle: Handle) -> Self {
        Self { handle }
    }

    /// Changes the entry; it is written soon, and again after every loss.
    pub fn update(&self, change: impl FnOnce(&mut HostValue)) {
        self.handle.entry.send_modify(|entry| {
            if let EntryKind::Host { value, .. } = &mut entry.kind {
                change(value);
            }
        });
    }

    /// Waits until the entry stands in the registry.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn registered(&self) {
        self.handle.stands().await;
    }

    /// Takes the entry away; takes two seconds at most.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the entry to end with its lease.
    pub async fn leave(mut self) {
        self.handle.leave().await;
    }
}
