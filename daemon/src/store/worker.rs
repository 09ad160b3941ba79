//! Writes the notes from a thread that may wait for the disk, the newest only.
//!
//! Invariants: at most one write at a time and one waiting; a refused write is reported, kept in
//! memory and tried again with the next change or after a while, never a reason to end.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Noted, save};

/// How long after a refused write the next one is tried.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Numbers the states of the notes in the order in which they were handed over.
pub type Generation = u64;

/// The owner of the file.
#[derive(Debug)]
pub struct StoreWorker {
    wanted: watch::Sender<(Generation, Noted)>,
    tried: watch::Receiver<Generation>,
    task: JoinHandle<()>,
}

impl StoreWorker {
    /// Starts to write to `path`; `noted` is what stands there.
    pub fn start(path: PathBuf, noted: Noted) -> Self {
        let (wanted, changes) = watch::channel((0, noted));
        let (done, tried) = watch::channel(0);
        let task = tokio::spawn(write_changes(path, changes, done));
        Self {
            wanted,
            tried,
            task,
        }
    }

    /// Hands over what is to stand in the file.
    pub fn put(&self, noted: Noted) -> Generation {
        let mut generation = 0;
        self.wanted.send_modify(|wanted| {
            generation = wanted.0 + 1;
            *wanted = (generation, noted);
        });
        generation
    }

    /// A handle that waits for writes.
    pub fn written(&self) -> Written {
        Written(self.tried.clone())
    }

    /// Writes what is left and ends.
    pub async fn finish(self) {
        drop(self.wanted);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the notes of the children were not written to the end");
        }
    }
}

/// Waits for writes of the notes.
#[derive(Debug, Clone)]
pub struct Written(watch::Receiver<Generation>);

impl Written {
    /// Waits until the notes of `generation` are on the disk, or the disk has refused them: a full
    /// disk must not keep children from being started.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn wait(&mut self, generation: Generation) {
        // The sender is gone only when the daemon ends, and then nobody waits for the disk.
        let _ = self.0.wait_for(|tried| *tried >= generation).await;
    }
}

async fn write_changes(
    path: PathBuf,
    mut changes: watch::Receiver<(Generation, Noted)>,
    done: watch::Sender<Generation>,
) {
    let mut is_refused = false;
    loop {
        let changed = tokio::select! {
            changed = changes.changed() => changed,
            () = tokio::time::sleep(TRY_AGAIN), if is_refused => Ok(()),
        };
        // A last write is due when the owner is gone with a change that nobody has seen.
        let is_last = changed.is_err();
        if is_last && !is_refused {
            return;
        }
        let (generation, noted) = changes.borrow_and_update().clone();
        let target = path.clone();
        let saved = tokio::task::spawn_blocking(move || save(&target, &noted)).await;
        is_refused = match saved {
            Ok(Ok(())) => false,
            Ok(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the notes of the children are not on the disk"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, "writing the notes of the children failed");
                true
            }
        };
        done.send_replace(generation);
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    #[tokio::test]
    async fn the_last_state_is_on_the_disk_after_finish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("children.json");
        let worker = StoreWorker::start(path.clone(), Noted::default());
        let noted = Noted::default();
        for _ in 0..50 {
            worker.put(Noted::default());
        }
        let generation = worker.put(noted.clone());
        assert_eq!(generation, 51);
        worker.written().wait(generation).await;
        assert_eq!(load(&path).unwrap().noted, noted);
        let last = Noted::default();
        worker.put(last.clone());
        worker.finish().await;
        assert_eq!(load(&path).unwrap().noted, last);
    }

    #[tokio::test]
    async fn a_refused_write_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/children.json");
        let worker = StoreWorker::start(path, Noted::default());
        let generation = worker.put(Noted::default());
        worker.written().wait(generation).await;
        worker.finish().await;
    }
}
