//! The registry's file: one redb database in the data folder.
//!
//! Invariants: a commit is one transaction that is on the disk when [`Disk::commit`] returns, and is
//! found there by every later start or called missing, never quietly replaced by the one before it
//! (two phases); the rows are exactly the versions that the store keeps, under their revision and
//! place in it, so reading them in order rebuilds the store; every row vouches for itself, and their
//! number is known; the file appears under its name only when it is whole. It knows no request and
//! no lease clock: of a lease it keeps the TTL, which counts again in full after a restart, as after
//! an election in etcd.

pub(super) mod backup;
mod contents;
mod failure;
#[cfg(test)]
pub(super) mod faulty;
mod folder;
pub(super) mod record;
pub(super) mod repair;
#[cfg(test)]
mod tests;

use std::{fs, path::Path, sync::Arc};

use redb::{Builder, Database, DatabaseError, TableDefinition};

pub(super) use self::{contents::Saved, failure::Failure, folder::Folder};
use self::{contents::rows, record::Stamp};
use super::{error::EmbeddedError, store::Version};

/// Format 1 had rows without checksums and was never released.
const FORMAT: u64 = 2;
/// The rows are read once, at the start, so a large cache would hold nothing useful.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// What must fit into the file before it counts as having room again.
const ROOM_BYTES: usize = 256 * 1024;

/// (revision, place in it) → a version's record.
const VERSIONS: TableDefinition<'_, (i64, i64), &[u8]> = TableDefinition::new("versions");
/// Lease id → its record.
const LEASES: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("leases");
/// One row: the record that says where the registry stands.
const STATE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("state");
/// `format` → the number of the format. Every version can read it.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
/// Written and removed to find out whether there is room.
const ROOM: TableDefinition<'_, (), &[u8]> = TableDefinition::new("room");

/// Who this registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// Random per data folder.
    pub(super) cluster_id: u64,
    /// Random per data folder.
    pub(super) member_id: u64,
    /// One more with every start.
    pub(super) term: u64,
}

impl Identity {
    /// A new one.
    pub(super) fn random() -> Self {
        Self {
            cluster_id: fastrand::u64(1..),
            member_id: fastrand::u64(1..),
            term: 1,
        }
    }
}

/// What the requests of one batch change on the disk.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// New rows.
    pub(super) versions: Vec<Arc<Version>>,
    /// Rows that nobody can read any more.
    pub(super) dropped: Vec<(i64, i64)>,
    /// Leases with their TTL, or without if they are gone; in the order in which it happened.
    pub(super) leases: Vec<(i64, Option<i64>)>,
    /// Whether the compacted revision moved.
    pub(super) compacted: bool,
    /// Whether the file is to give back what it does not need.
    pub(super) defragment: bool,
    /// Whether somebody says that there is room again.
    pub(super) disarm: bool,
}

impl Writes {
    /// How much there is to write; 0 needs no disk.
    pub(super) fn rows(&self) -> usize {
        self.versions.len() + self.dropped.len() + self.leases.len() + usize::from(self.compacted)
    }
}

/// How the database is opened; tests put one of their own here.
type Open = Box<dyn Fn(&Builder) -> Result<Database, DatabaseError> + Send>;

/// The file, open unless it failed.
pub(super) struct Disk {
    folder: Arc<Folder>,
    open: Open,
    /// `None` after a failure, until [`Disk::reopen`].
    database: Option<Database>,
    /// What the last commit left.
    stamp: Stamp,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("folder", &self.folder)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the file in `folder`, makes both if they are missing, and reads everything.
    pub(super) fn open(folder: &Path) -> Result<(Self, Saved), EmbeddedError> {
        let folder = Arc::new(Folder::take(folder)?);
        let file = folder.file();
        match fs::metadata(&file) {
            Ok(found) if found.len() == 0 => return Err(folder.error(Failure::Empty)),
            Ok(_) => {}
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
                contents::create(&folder, &Saved::new(Identity::random()), None)
                    .map_err(|failure| folder.error(failure))?;
            }
            Err(source) => return Err(folder.error(Failure::Redb(source.into()))),
        }
        let open = Box::new(move |builder: &Builder| builder.open(&file));
        Self::open_by(Arc::clone(&folder), open).map_err(|failure| folder.error(failure))
    }

    /// Opens a database and reads everything.
    fn open_by(folder: Arc<Folder>, open: Open) -> Result<(Self, Saved), Failure> {
        let (database, mut saved) = failure::contained(|| {
            // A plain open trusts the file and may panic on a damaged one.
            let database = builder()
                .set_check_integrity_on_open(true)
                .create_by(&open)?;
            let saved = contents::read_all(&database)?;
            Ok((database, saved))
        })?;
        saved.stamp.identity.term += 1;
        let mut disk = Self {
            folder,
            open,
            database: Some(database),
            stamp: saved.stamp,
        };
        // Counts the start: a folder that cannot be written is noticed here and not at the first
        // request. But a full disk keeps nobody from reading and from renewing leases.
        let stamp = saved.stamp;
        match disk.commit(&Writes::default(), stamp.revision, stamp.compacted) {
            Ok(()) => {}
            Err(failure) if failure.is_full() => {
                disk.reopen()?;
                saved.is_full = true;
            }
            Err(failure) => return Err(failure),
        }
        Ok((disk, saved))
    }

    /// The data folder.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The file's length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(self.folder.file()).map_or(0, |found| found.len())
    }

    /// Whether it can be written; if not, [`Disk::reopen`] comes first.
    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Writes a batch; it survives a crash once this returns. After an error nobody knows whether
    /// it was written until [`Disk::reopen`] says so.
    pub(super) fn commit(
        &mut self,
        writes: &Writes,
        revision: i64,
        compacted: i64,
    ) -> Result<(), Failure> {
        let mut stamp = self.stamp;
        stamp.revision = revision;
        stamp.compacted = compacted;
        stamp.commit += 1;
        self.on_database(|database| {
            rows::write(database, writes, &mut stamp)?;
            Ok(stamp)
        })
        .map(|stamp| self.stamp = stamp)
    }

    /// Opens the file again after an error; true if the commit that failed took place all the same.
    /// Then what is in memory is not what is on the disk, and [`Disk::read`] tells.
    pub(super) fn reopen(&mut self) -> Result<bool, Failure> {
        if let Some(database) = self.database.take() {
            close(database);
        }
        let (database, stamp) = failure::contained(|| {
            // Nobody but this process wrote it since it was checked, and this must not take long.
            let database = builder().create_by(&self.open)?;
            let stamp = contents::stamp(&database)?;
            Ok((database, stamp))
        })?;
        self.database = Some(database);
        let took_place = stamp.commit != self.stamp.commit;
        // A start that could not be counted counts as soon as something is written.
        let term = stamp.identity.term.max(self.stamp.identity.term);
        self.stamp = stamp;
        self.stamp.identity.term = term;
        Ok(took_place)
    }

    /// Reads everything.
    pub(super) fn read(&mut self) -> Result<Saved, Failure> {
        self.on_database(|database| contents::read_all(database))
    }

    /// Finds out whether there is room, by using it.
    pub(super) fn find_room(&mut self) -> Result<(), Failure> {
        self.on_database(|database| rows::try_room(database, ROOM_BYTES))
    }

    /// Gives back to the file system what the file does not need.
    pub(super) fn defragment(&mut self) -> Result<(), Failure> {
        self.on_database(|database| {
            // Every round moves pages to the front, until nothing moves any more.
            while database.compact().map_err(redb::Error::from)? {}
            Ok(())
        })
    }

    fn on_database<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let database = self.database.as_mut().ok_or(Failure::Closed)?;
        let done = failure::contained(|| work(database));
        if done.is_err()
            && let Some(database) = self.database.take()
        {
            // redb asks for that after an error.
            close(database);
        }
        done
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            close(database);
        }
    }
}

/// Closes a database whatever happened to it.
fn close(database: Database) {
    let closed = failure::contained(|| Ok(database.close().map_err(redb::Error::from)?));
    if let Err(failure) = closed {
        tracing::debug!(%failure, "the registry's file was not closed in good order");
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opening through a function, at the end of a builder's chain.
trait CreateBy {
    fn create_by(&self, open: &Open) -> Result<Database, Failure>;
}

impl CreateBy for Builder {
    fn create_by(&self, open: &Open) -> Result<Database, Failure> {
        open(self).map_err(|error| Failure::Redb(error.into()))
    }
}
