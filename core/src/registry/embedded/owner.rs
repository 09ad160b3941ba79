//! The one thread that changes the registry: it drains the queue, applies what it finds, commits
//! the batch to the disk, and only then answers.
//!
//! Invariants: nothing that is not on the disk is ever visible (not to readers, who read at the
//! committed revision, not to watchers, not in an answer); the lock on the store is never held
//! while the disk works. A batch whose commit failed is taken back, and the state is read again
//! from the disk once that works: only the disk knows whether the commit took place after all.

mod recovery;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    disk::{Disk, Saved, Writes},
    engine::{self, Basis, Engine, Undo},
    lease::Lessor,
    node::State,
    refusal::Refusal,
    store::Store,
};

/// Requests per commit.
const MAX_BATCH: usize = 1024;

/// A commit ends with the request that reaches this, so that few large ones make no long wait.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Tells the caller how it went, once that is sure.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// One request.
pub(super) type Job = Box<dyn FnOnce(&mut Engine<'_>) -> Answer + Send>;

/// Where acknowledged writes go.
#[derive(Debug)]
pub(super) enum Storage {
    /// Nowhere: they end with the process.
    Memory,
    /// To the file.
    Disk(Disk),
}

/// The state's owner.
pub(super) struct Owner {
    state: Arc<State>,
    lessor: Lessor,
    storage: Storage,
    history: usize,
    /// When a failed or a full disk is tried again.
    retry_at: Instant,
    /// The disk holds a commit that was answered as failed, so what is in memory is not what is
    /// there: nothing is written until everything was read again.
    is_stale: bool,
    /// Rows that the store forgot and a commit that failed was to drop; the next one does.
    undropped: Vec<(i64, i64)>,
    jobs: mpsc::Receiver<Job>,
    /// When the clock is to send a job: when the next lease expires or the disk is to be tried.
    next_wake: watch::Sender<Option<Instant>>,
}

/// What some requests did, to be written in one commit.
#[derive(Default)]
struct Batch {
    writes: Writes,
    undo: Undo,
    /// What each answer depends on, and where it goes.
    answers: Vec<(Basis, Answer)>,
    revision: i64,
    compacted: i64,
}

impl Owner {
    /// An owner, and what tells the clock when to send a job.
    pub(super) fn new(
        state: Arc<State>,
        lessor: Lessor,
        storage: Storage,
        history: usize,
        jobs: mpsc::Receiver<Job>,
    ) -> (Self, watch::Receiver<Option<Instant>>) {
        let bytes = write(&state.store).bytes();
        state.space.measure(bytes);
        let (next_wake, wakes) = watch::channel(None);
        let owner = Self {
            state,
            lessor,
            storage,
            history,
            retry_at: Instant::now(),
            is_stale: false,
            undropped: Vec::new(),
            jobs,
            next_wake,
        };
        owner.tell_clock();
        (owner, wakes)
    }

    /// Works until nobody is left who could ask.
    pub(super) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            self.turn(first);
        }
    }

    /// The same as a task, for tests that pause time.
    #[cfg(feature = "testing")]
    pub(super) async fn run_as_task(mut self) {
        while let Some(first) = self.jobs.recv().await {
            self.turn(first);
        }
    }

    fn turn(&mut self, first: Job) {
        self.retry_storage();
        self.batch(first);
        self.tell_clock();
    }

    fn tell_clock(&self) {
        let retry_at = self.is_in_trouble().then_some(self.retry_at);
        let expiry = self.lessor.next_expiry();
        let next = expiry.into_iter().chain(retry_at).min();
        self.next_wake.send_if_modified(|known| {
            let is_new = *known != next;
            *known = next;
            is_new
        });
    }

    fn batch(&mut self, first: Job) {
        let mut batch = self.apply(first);
        let outcome = self.commit(&mut batch);
        let defragmented = match outcome {
            Ok(()) if batch.writes.defragment => self.defragment(),
            outcome => outcome,
        };
        if batch.writes.disarm {
            self.recover();
        }
        for (basis, answer) in batch.answers {
            answer(match basis {
                Basis::State => outcome,
                Basis::Defragmented => defragmented,
                Basis::Nothing => Ok(()),
            });
        }
    }

    /// Applies what waits to the state in memory, as much as goes into one commit.
    fn apply(&mut self, first: Job) -> Batch {
        let mut batch = Batch::default();
        let mut store = write(&self.state.store);
        let mut n_bytes = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            let n_rows = batch.writes.rows();
            let n_versions = batch.writes.versions.len();
            // Every request meets what those before it left of the quota.
            self.state.space.measure(store.bytes());
            let mut engine = Engine {
                store: &mut store,
                lessor: &mut self.lessor,
                writes: &mut batch.writes,
                undo: &mut batch.undo,
                now: Instant::now(),
                visible: *self.state.committed.borrow(),
                is_full: self.state.space.is_exceeded(),
                basis: Basis::State,
            };
            let answer = job(&mut engine);
            let basis = engine.basis;
            let basis = match batch.writes.rows() {
                // It saw what is on the disk.
                0 if basis == Basis::State => Basis::Nothing,
                n_now if n_now != n_rows => Basis::State,
                _ => basis,
            };
            batch.answers.push((basis, answer));
            let written = batch.writes.versions.iter().skip(n_versions);
            n_bytes += written.map(|version| version.size()).sum::<usize>();
            next = if batch.answers.len() < MAX_BATCH && n_bytes < MAX_BATCH_BYTES {
                self.jobs.try_recv().ok()
            } else {
                None
            };
        }
        batch.revision = store.revision();
        batch.compacted = store.compacted();
        self.state.space.measure(store.bytes());
        batch
    }

    /// Writes and publishes a batch, or takes it back.
    fn commit(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        if batch.writes.rows() == 0 {
            return Ok(());
        }
        let dropped = &mut batch.writes.dropped;
        dropped.splice(0..0, std::mem::take(&mut self.undropped));
        let outcome = self.write(&batch.writes, batch.revision, batch.compacted);
        if outcome.is_ok() {
            self.publish(batch.revision);
        } else {
            // The store forgot them for good; the disk has them still.
            self.undropped = std::mem::take(&mut batch.writes.dropped);
            let committed = *self.state.committed.borrow();
            let undo = std::mem::take(&mut batch.undo);
            let mut store = write(&self.state.store);
            engine::take_back(&mut store, &mut self.lessor, undo, committed);
            self.state.space.measure(store.bytes());
        }
        outcome
    }

    fn publish(&self, revision: i64) {
        self.state.committed.send_if_modified(|committed| {
            let is_new = *committed != revision;
            *committed = revision;
            is_new
        });
    }
}

/// Rebuilds the state from what was on the disk; every lease gets its whole TTL.
pub(super) fn restore(saved: Saved, history: usize, now: Instant) -> (Store, Lessor) {
    let mut lessor = Lessor::default();
    for (id, ttl) in saved.leases {
        // The ids are a table's keys, so none comes twice.
        let _ = lessor.grant(id, ttl, now);
    }
    let store = Store::restore(
        history,
        saved.stamp.revision,
        saved.stamp.compacted,
        saved.versions,
    );
    for (key, lease) in store.leased() {
        lessor.attach(lease, key.clone());
    }
    (store, lessor)
}

/// Opens the storage that the configuration names, with what is in it.
pub(super) fn open(
    folder: Option<&Path>,
) -> Result<(Storage, Option<Saved>), super::error::EmbeddedError> {
    let Some(folder) = folder else {
        return Ok((Storage::Memory, None));
    };
    let (disk, saved) = Disk::open(folder)?;
    if let Err(error) = disk.folder().hold_reserve() {
        tracing::warn!(%error, "there is no space to hold back for a full disk");
    }
    Ok((Storage::Disk(disk), Some(saved)))
}

/// A panic under the lock is a bug that ends the owner; readers may still read.
fn write(store: &RwLock<Store>) -> std::sync::RwLockWriteGuard<'_, Store> {
    store.write().unwrap_or_else(PoisonError::into_inner)
}
