//! A disk for tests that loses what it was not told to keep, tears writes, and runs full.
//!
//! It keeps what was synced and what was only written apart, so a power loss can take any part of
//! the latter.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fastrand::Rng;
use redb::{Builder, StorageBackend};

use super::{Disk, Failure, Folder, Identity, Saved, builder, contents::rows};

/// What a disk writes at once or not at all, in bytes.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(at, bytes) => image[*at..at + bytes.len()].copy_from_slice(bytes),
        Op::SetLen(len) => image.resize(*len, 0),
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// What a power loss leaves.
    synced: Vec<u8>,
    /// What the process reads.
    written: Vec<u8>,
    since_sync: Vec<Op>,
    /// Bytes that fit.
    room: Option<usize>,
    /// Operations until all fail.
    fuel: Option<usize>,
    /// Whether reading fails, too.
    is_unreadable: bool,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(in crate::registry::embedded) struct Faulty(Arc<Mutex<Inner>>);

impl Faulty {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk that holds this and nothing unsynced.
    pub(in crate::registry::embedded) fn holding(image: Vec<u8>) -> Self {
        let faulty = Self::default();
        faulty.inner().synced.clone_from(&image);
        faulty.inner().written = image;
        faulty
    }

    /// How many bytes may stand on it, if there is a limit.
    pub(in crate::registry::embedded) fn limit(&self, room: Option<usize>) {
        self.inner().room = room;
    }

    /// How many operations succeed before all fail, if any do.
    pub(in crate::registry::embedded) fn fail_after(&self, n_ops: Option<usize>) {
        self.inner().fuel = n_ops;
    }

    /// Whether reading fails.
    pub(in crate::registry::embedded) fn fail_reads(&self, is_unreadable: bool) {
        self.inner().is_unreadable = is_unreadable;
    }

    /// What stands on it now.
    pub(in crate::registry::embedded) fn image(&self) -> Vec<u8> {
        self.inner().written.clone()
    }

    /// What may stand there after a power loss: of what was not synced any part, in any order of
    /// arrival, by the sector.
    pub(in crate::registry::embedded) fn lose_power(&self, rng: &mut Rng) -> Self {
        let inner = self.inner();
        let mut image = inner.synced.clone();
        // A file's length may be kept or lost like everything else; nothing is written behind it.
        let longest = inner.since_sync.iter().filter_map(|op| match op {
            Op::SetLen(len) => Some(*len),
            Op::Write(..) => None,
        });
        if let Some(longest) = longest.max()
            && longest > image.len()
        {
            image.resize(longest, 0);
        }
        for op in &inner.since_sync {
            let Op::Write(at, bytes) = op else {
                continue;
            };
            if at + bytes.len() > image.len() {
                continue;
            }
            let fate = rng.u8(..4);
            for (idx, sector) in bytes.chunks(SECTOR).enumerate() {
                // All of it, nothing, or some sectors.
                if fate > 1 || (fate == 1 && rng.bool()) {
                    apply(&mut image, &Op::Write(at + idx * SECTOR, sector.to_vec()));
                }
            }
        }
        Self::holding(image)
    }

    /// Opens a registry's file on it, and makes it if there is nothing.
    pub(in crate::registry::embedded) fn open(
        &self,
        folder: &Path,
    ) -> Result<(Disk, Saved), Failure> {
        let folder = Arc::new(Folder::take(folder).expect("the folder is free"));
        let disk = self.clone();
        let open = move |builder: &Builder| builder.create_with_backend(disk.clone());
        if self.inner().written.is_empty() {
            let mut database = open(&builder()).map_err(redb::Error::from)?;
            let mut stamp = Saved::new(Identity::random()).stamp;
            rows::write(&mut database, &super::Writes::default(), &mut stamp)?;
        }
        Disk::open_by(folder, Box::new(open))
    }

    fn change(&self, op: Op) -> io::Result<()> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        burn(&mut inner.fuel)?;
        let end = match &op {
            Op::Write(at, bytes) => at + bytes.len(),
            Op::SetLen(len) => *len,
        };
        if inner
            .room
            .is_some_and(|room| end > room && end > inner.synced.len())
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        apply(&mut inner.written, &op);
        inner.since_sync.push(op);
        Ok(())
    }
}

fn burn(fuel: &mut Option<usize>) -> io::Result<()> {
    match fuel {
        Some(0) => Err(io::Error::other("the disk is gone")),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.inner().written.len()).unwrap_or(u64::MAX))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let inner = self.inner();
        if inner.is_unreadable {
            return Err(io::Error::other("the disk is gone"));
        }
        let found = inner.written.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::SetLen(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        burn(&mut inner.fuel)?;
        inner.synced.clone_from(&inner.written);
        inner.since_sync.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Op::Write(at, data.to_vec()))
    }
}
