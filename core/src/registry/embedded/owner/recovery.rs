//! What the owner does about a disk that is full or fails, and how it finds its way back.
//!
//! Invariants: a batch counts as written only if it was this very batch that was tried, by a state
//! that was the disk's; once the disk holds something else, nothing is written until everything was
//! read again. Trouble ends by itself: the clock asks for another try as long as it stands.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{Owner, Storage, restore, write};
use crate::registry::embedded::{
    disk::{Failure, Saved, Writes},
    refusal::Refusal,
};

/// How often a failed or a full disk is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl Owner {
    /// Writes a batch to the disk, if there is one.
    pub(super) fn write(
        &mut self,
        writes: &Writes,
        revision: i64,
        compacted: i64,
    ) -> Result<(), Refusal> {
        let is_stale = self.is_stale;
        let Storage::Disk(disk) = &mut self.storage else {
            return Ok(());
        };
        if is_stale || !disk.is_open() {
            return Err(self.refusal());
        }
        let outcome = match disk.commit(writes, revision, compacted) {
            Ok(()) => {
                self.state.space.disk_works();
                Ok(())
            }
            Err(failure) => {
                let refusal = self.note(&failure);
                // One commit more than there was is this one, whatever the disk said.
                if self.reopen() { Ok(()) } else { Err(refusal) }
            }
        };
        self.measure_disk();
        outcome
    }

    /// Gives the file's free pages back.
    pub(super) fn defragment(&mut self) -> Result<(), Refusal> {
        let is_stale = self.is_stale;
        let Storage::Disk(disk) = &mut self.storage else {
            return Ok(());
        };
        if is_stale || !disk.is_open() {
            return Err(self.refusal());
        }
        let outcome = disk.defragment().map_err(|failure| {
            let refusal = self.note(&failure);
            self.is_stale |= self.reopen();
            refusal
        });
        self.measure_disk();
        outcome
    }

    /// Whether the disk is to be tried again.
    pub(super) fn is_in_trouble(&self) -> bool {
        let Storage::Disk(disk) = &self.storage else {
            return false;
        };
        let space = &self.state.space;
        self.is_stale || !disk.is_open() || space.is_disk_full() || space.has_disk_failed()
    }

    /// Tries a disk again that failed or was full, if it is time for that.
    pub(super) fn retry_storage(&mut self) {
        if self.is_in_trouble() && Instant::now() >= self.retry_at {
            self.recover();
        }
    }

    /// Tries a disk again that failed or was full.
    pub(super) fn recover(&mut self) {
        if !self.is_in_trouble() {
            return;
        }
        self.retry_at = Instant::now() + RETRY_EVERY;
        if self.is_closed() {
            // A commit that was answered as failed and is on the disk is what counts.
            self.is_stale |= self.reopen();
        }
        if self.is_stale {
            self.read_again();
        }
        if !self.is_stale && !self.is_closed() {
            self.try_disk();
        }
    }

    fn is_closed(&self) -> bool {
        matches!(&self.storage, Storage::Disk(disk) if !disk.is_open())
    }

    /// What a write is told that is not even tried.
    fn refusal(&self) -> Refusal {
        if self.state.space.is_disk_full() {
            Refusal::NoSpace
        } else {
            Refusal::DiskFailed
        }
    }

    /// Takes down what the disk said.
    fn note(&mut self, failure: &Failure) -> Refusal {
        let now = Instant::now();
        if self.retry_at <= now {
            // Failures that follow each other do not put the next try off.
            self.retry_at = now + RETRY_EVERY;
        }
        let Storage::Disk(disk) = &self.storage else {
            return Refusal::DiskFailed;
        };
        if failure.is_full() {
            disk.folder().give_reserve();
            self.state.space.disk_is_full();
            return Refusal::NoSpace;
        }
        let folder = disk.folder().path().display();
        tracing::error!(%folder, %failure, "the registry could not write");
        self.state.space.disk_failed();
        Refusal::DiskFailed
    }

    /// Opens the file again; true if it holds a commit more than was acknowledged.
    pub(super) fn reopen(&mut self) -> bool {
        let Storage::Disk(disk) = &mut self.storage else {
            return false;
        };
        disk.reopen().unwrap_or_else(|error| {
            tracing::error!(%error, "the registry's file stays closed");
            false
        })
    }

    fn read_again(&mut self) {
        let Storage::Disk(disk) = &mut self.storage else {
            return;
        };
        if !disk.is_open() {
            return;
        }
        match disk.read() {
            Ok(saved) => self.resume(saved),
            Err(error) => tracing::error!(%error, "the registry's file cannot be read"),
        }
    }

    fn resume(&mut self, saved: Saved) {
        let (store, mut lessor) = restore(saved, self.history, Instant::now());
        lessor.keep_expiries(&self.lessor);
        self.lessor = lessor;
        self.undropped.clear();
        self.is_stale = false;
        let revision = store.revision();
        *write(&self.state.store) = store;
        tracing::info!(revision, "the registry's file was read again");
        self.publish(revision);
    }

    /// Ends the trouble if the disk can be written.
    fn try_disk(&mut self) {
        let is_full = self.state.space.is_disk_full();
        let Storage::Disk(disk) = &mut self.storage else {
            return;
        };
        let held = if is_full {
            disk.folder().hold_reserve().map_err(Failure::from)
        } else {
            Ok(())
        };
        match held.and_then(|()| disk.find_room()) {
            Ok(()) => {
                self.state.space.disk_works();
                if is_full {
                    self.state.space.disk_has_room();
                }
            }
            Err(failure) => {
                tracing::debug!(%failure, "the registry's disk cannot be written still");
                if is_full || failure.is_full() {
                    disk.folder().give_reserve();
                    self.state.space.disk_is_full();
                }
                if self.is_closed() {
                    self.is_stale |= self.reopen();
                }
            }
        }
    }

    fn measure_disk(&self) {
        if let Storage::Disk(disk) = &self.storage {
            self.state.disk_bytes.store(disk.bytes(), Ordering::Relaxed);
        }
    }
}
