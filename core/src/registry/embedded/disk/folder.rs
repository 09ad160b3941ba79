//! The data folder: who may use it, what its files are called, how one takes another's place.
//!
//! Invariants: one process at a time works on a folder, be it a registry, a repair or a restore; a
//! file gets its name when it is whole and on the disk, and nothing is overwritten that could be
//! needed.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Failure, record};
use crate::registry::embedded::error::EmbeddedError;

const FILE: &str = "registry.redb";
/// A database that is being made.
const NEW_FILE: &str = "registry.redb.new";
const LOCK_FILE: &str = "registry.lock";
/// Space that is given back when the disk is full, so that deleting remains possible.
const RESERVE_FILE: &str = "registry.reserve";
const RESERVE_BYTES: usize = 1024 * 1024;

/// A data folder that belongs to this process.
#[derive(Debug)]
pub(in crate::registry::embedded) struct Folder {
    path: PathBuf,
    /// Its lock goes with it.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and takes it.
    pub(in crate::registry::embedded) fn take(path: &Path) -> Result<Self, EmbeddedError> {
        let refused = |source| EmbeddedError::Folder {
            folder: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(refused)?;
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::Locked {
                    folder: path.to_owned(),
                });
            }
            // Some network file systems cannot lock; redb's own lock has the last word there.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub(in crate::registry::embedded) fn path(&self) -> &Path {
        &self.path
    }

    /// The registry's file.
    pub(in crate::registry::embedded) fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// Where a new file is made.
    pub(super) fn new_file(&self) -> PathBuf {
        self.path.join(NEW_FILE)
    }

    /// What is said about a failure to whoever wants to start.
    pub(super) fn error(&self, failure: Failure) -> EmbeddedError {
        let file = self.file();
        let failure = match failure.into_io() {
            Ok(source) => {
                return EmbeddedError::Folder {
                    folder: self.path.clone(),
                    source,
                };
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Redb(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
                EmbeddedError::Locked {
                    folder: self.path.clone(),
                }
            }
            Failure::Format(found) => EmbeddedError::Format {
                file,
                found,
                known: super::FORMAT,
            },
            failure => {
                let is_ours = fs::read(&file)
                    .is_ok_and(|bytes| bytes.is_empty() || record::scan(&bytes).next().is_some());
                let failure = if is_ours { failure } else { Failure::Foreign };
                EmbeddedError::Damaged {
                    file,
                    source: Box::new(failure),
                }
            }
        }
    }

    /// Gives the new file the registry's name. What had it keeps standing under `aside`, if given.
    pub(super) fn put_in_place(&self, aside: Option<&Path>) -> io::Result<()> {
        File::open(self.new_file())?.sync_all()?;
        if let Some(aside) = aside {
            // The old file has its name until the new one takes it, so there always is one.
            if fs::hard_link(self.file(), aside).is_err() {
                fs::copy(self.file(), aside)?;
            }
        }
        fs::rename(self.new_file(), self.file())?;
        self.sync()
    }

    /// Makes names last.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Takes some space while there is some, for when there is none.
    pub(in crate::registry::embedded) fn hold_reserve(&self) -> io::Result<()> {
        let path = self.path.join(RESERVE_FILE);
        let size = u64::try_from(RESERVE_BYTES).unwrap_or(u64::MAX);
        if fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            return Ok(());
        }
        let held = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; RESERVE_BYTES])?;
            file.sync_all()
        });
        if held.is_err() {
            self.give_reserve();
        }
        held
    }

    /// Gives the space back.
    pub(in crate::registry::embedded) fn give_reserve(&self) {
        // If it is gone already, there is nothing to give.
        let _ = fs::remove_file(self.path.join(RESERVE_FILE));
    }
}
