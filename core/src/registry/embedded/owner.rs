//! The one thread that changes the registry: it drains the queue, applies what it finds, commits
//! the batch to the disk, and only then answers.
//!
//! Invariants: nothing that is not on the disk is ever visible (not to readers, who read at the
//! committed revision, not to watchers, not in an answer); the lock on the store is never held
//! while the disk works. A batch whose commit failed is taken back, and the state is read again
//! from the disk once that works: only the disk knows whether the commit took place after all.

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    disk::{Disk, Failure, Saved, Writes},
    engine::{self, Engine, Undo},
    lease::Lessor,
    node::State,
    refusal::Refusal,
    store::Store,
};

/// Requests per commit.
const MAX_BATCH: usize = 1024;

/// How often a failed disk is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

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
    pub(super) state: Arc<State>,
    pub(super) lessor: Lessor,
    pub(super) storage: Storage,
    pub(super) history: usize,
    /// When a failed or a full disk is tried again.
    pub(super) retry_at: Instant,
    pub(super) jobs: mpsc::Receiver<Job>,
    /// When the next lease expires, for the clock.
    pub(super) next_expiry: watch::Sender<Option<Instant>>,
}

impl Owner {
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
        let next = self.lessor.next_expiry();
        self.next_expiry.send_if_modified(|known| {
            let is_new = *known != next;
            *known = next;
            is_new
        });
    }

    fn batch(&mut self, first: Job) {
        let mut writes = Writes::default();
        let mut undo = Undo::new();
        // Whether the request wrote, and where its answer goes.
        let mut answers: Vec<(bool, Answer)> = Vec::new();
        let revision;
        let compacted;
        let is_full = self.state.space.is_exceeded();
        {
            let mut store = write(&self.state.store);
            let mut next = Some(first);
            while let Some(job) = next {
                let before = writes.len();
                let answer = job(&mut Engine {
                    store: &mut store,
                    lessor: &mut self.lessor,
                    writes: &mut writes,
                    undo: &mut undo,
                    now: Instant::now(),
                    visible: *self.state.committed.borrow(),
                    is_full,
                });
                answers.push((writes.len() != before, answer));
                next = if answers.len() < MAX_BATCH {
                    self.jobs.try_recv().ok()
                } else {
                    None
                };
            }
            revision = store.revision();
            compacted = store.compacted();
            self.state.space.measure(store.bytes());
        }
        let outcome = self.commit(&writes, revision, compacted);
        if outcome.is_err() {
            let committed = *self.state.committed.borrow();
            let mut store = write(&self.state.store);
            engine::take_back(&mut store, &mut self.lessor, undo, committed);
            drop(store);
        }
        for (wrote, answer) in answers {
            answer(if wrote { outcome } else { Ok(()) });
        }
    }

    fn commit(&mut self, writes: &Writes, revision: i64, compacted: i64) -> Result<(), Refusal> {
        if writes.rows() > 0 {
            if let Storage::Disk(disk) = &mut self.storage {
                if let Err(failure) = disk.commit(writes, revision, compacted) {
                    self.settle(&failure)?;
                }
                self.measure_disk();
            }
            self.publish(revision);
        }
        if writes.disarm {
            self.look_for_room();
        }
        if writes.defragment {
            self.defragment()?;
        }
        Ok(())
    }

    /// Finds out what a failed commit came to.
    fn settle(&mut self, failure: &Failure) -> Result<(), Refusal> {
        let Storage::Disk(disk) = &mut self.storage else {
            return Ok(());
        };
        let refusal = if failure.is_full() {
            disk.folder().give_reserve();
            self.state.space.disk_is_full();
            Refusal::NoSpace
        } else {
            let folder = disk.folder().path().display();
            tracing::error!(%folder, %failure, "the registry could not write");
            Refusal::DiskFailed
        };
        self.retry_at = Instant::now() + RETRY_EVERY;
        match disk.reopen() {
            // It is on the disk, whatever the disk said.
            Ok(true) => Ok(()),
            Ok(false) => Err(refusal),
            Err(error) => {
                tracing::error!(%error, "the registry's file stays closed");
                Err(refusal)
            }
        }
    }

    fn publish(&self, revision: i64) {
        self.state.committed.send_if_modified(|committed| {
            let is_new = *committed != revision;
            *committed = revision;
            is_new
        });
    }

    fn measure_disk(&self) {
        if let Storage::Disk(disk) = &self.storage {
            self.state.disk_bytes.store(disk.bytes(), Ordering::Relaxed);
        }
    }

    fn defragment(&mut self) -> Result<(), Refusal> {
        if let Storage::Disk(disk) = &mut self.storage {
            if let Err(failure) = disk.defragment() {
                self.settle(&failure)?;
            }
            self.measure_disk();
        }
        Ok(())
    }

    /// Tries a disk again that failed or was full, if it is time for that.
    fn retry_storage(&mut self) {
        let Storage::Disk(disk) = &mut self.storage else {
            return;
        };
        if (disk.is_open() && !self.state.space.is_disk_full()) || Instant::now() < self.retry_at {
            return;
        }
        self.retry_at = Instant::now() + RETRY_EVERY;
        if !disk.is_open() {
            match disk.reopen() {
                Ok(false) => {}
                // A commit that was answered as failed is on the disk: that is what counts.
                Ok(true) => match disk.read() {
                    Ok(saved) => self.resume(saved),
                    Err(error) => tracing::error!(%error, "the registry's file cannot be read"),
                },
                Err(error) => {
                    tracing::error!(%error, "the registry's file stays closed");
                    return;
                }
            }
        }
        self.look_for_room();
    }

    /// Ends the alarm if the disk has room.
    fn look_for_room(&mut self) {
        if !self.state.space.is_disk_full() {
            return;
        }
        let Storage::Disk(disk) = &mut self.storage else {
            return;
        };
        let found = disk
            .folder()
            .hold_reserve()
            .map_err(Failure::from)
            .and_then(|()| disk.find_room());
        match found {
            Ok(()) => self.state.space.disk_has_room(),
            Err(failure) => {
                disk.folder().give_reserve();
                tracing::debug!(%failure, "the registry's disk is still full");
                if !disk.is_open()
                    && let Err(error) = disk.reopen()
                {
                    tracing::error!(%error, "the registry's file stays closed");
                }
            }
        }
    }

    fn resume(&mut self, saved: Saved) {
        let (store, mut lessor) = restore(saved, self.history, Instant::now());
        lessor.keep_expiries(&self.lessor);
        self.lessor = lessor;
        let revision = store.revision();
        *write(&self.state.store) = store;
        tracing::info!(revision, "the registry's file was read again");
        self.publish(revision);
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
