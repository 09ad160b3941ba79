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
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    disk::{self, Disk, Saved, Writes},
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
    /// The file failed; it is tried again from time to time.
    Failed {
        folder: PathBuf,
        refusal: Refusal,
        retry_at: Instant,
    },
}

/// The state's owner.
pub(super) struct Owner {
    pub(super) state: Arc<State>,
    pub(super) lessor: Lessor,
    pub(super) storage: Storage,
    pub(super) history: usize,
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
        }
        let outcome = self.commit(&writes, revision, compacted);
        if outcome.is_err() {
            let committed = *self.state.committed.borrow();
            let mut store = write(&self.state.store);
            engine::take_back(&mut store, &mut self.lessor, undo, committed);
            drop(store);
            self.retry_storage();
        }
        for (wrote, answer) in answers {
            answer(if wrote { outcome } else { Ok(()) });
        }
    }

    fn commit(&mut self, writes: &Writes, revision: i64, compacted: i64) -> Result<(), Refusal> {
        if writes.len() == 0 {
            return Ok(());
        }
        match &self.storage {
            Storage::Memory => {}
            Storage::Disk(disk) => {
                if let Err(error) = disk.commit(writes, revision, compacted) {
                    return Err(self.fail(&error));
                }
                self.state.disk_bytes.store(disk.bytes(), Ordering::Relaxed);
            }
            Storage::Failed { refusal, .. } => return Err(*refusal),
        }
        self.publish(revision);
        Ok(())
    }

    fn publish(&self, revision: i64) {
        self.state.committed.send_if_modified(|committed| {
            let is_new = *committed != revision;
            *committed = revision;
            is_new
        });
    }

    fn fail(&mut self, error: &redb::Error) -> Refusal {
        let refusal = if disk::is_full(error) {
            Refusal::NoSpace
        } else {
            Refusal::DiskFailed
        };
        if let Storage::Disk(disk) = &self.storage {
            let folder = disk.folder().to_owned();
            tracing::error!(folder = %folder.display(), %error, "the registry could not write");
            // Replacing it closes the file, which redb asks for after an error.
            self.storage = Storage::Failed {
                folder,
                refusal,
                retry_at: Instant::now(),
            };
        }
        refusal
    }

    /// Reads the state back from a disk that failed, if it is time to try that.
    fn retry_storage(&mut self) {
        let Storage::Failed {
            folder, retry_at, ..
        } = &mut self.storage
        else {
            return;
        };
        if Instant::now() < *retry_at {
            return;
        }
        *retry_at = Instant::now() + RETRY_EVERY;
        match Disk::open(folder) {
            Ok((disk, saved)) => self.resume(disk, saved),
            Err(error) => tracing::error!(%error, "the registry's file stays closed"),
        }
    }

    fn resume(&mut self, disk: Disk, saved: Saved) {
        let (store, mut lessor) = restore(saved, self.history, Instant::now());
        lessor.keep_expiries(&self.lessor);
        self.lessor = lessor;
        let revision = store.revision();
        *write(&self.state.store) = store;
        tracing::info!(folder = %disk.folder().display(), revision, "the registry writes again");
        self.storage = Storage::Disk(disk);
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
    let store = Store::restore(history, saved.revision, saved.compacted, saved.versions);
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
    Ok((Storage::Disk(disk), Some(saved)))
}

/// A panic under the lock is a bug that ends the owner; readers may still read.
fn write(store: &RwLock<Store>) -> std::sync::RwLockWriteGuard<'_, Store> {
    store.write().unwrap_or_else(PoisonError::into_inner)
}
