//! The registry's file: one redb database in the data folder.
//!
//! Invariants: a commit is one transaction that is on the disk when [`Disk::commit`] returns; the
//! rows are exactly the versions that the store keeps, under their revision and place in it, so
//! reading them in order rebuilds the store. It knows no request and no lease clock: of a lease it
//! keeps the TTL, which counts again in full after a restart, as after an election in etcd.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use etcd_client::proto::PbKeyValue;
use prost::Message;
use redb::{Builder, Database, DatabaseError, ReadableTable, StorageError, TableDefinition};

use super::{error::EmbeddedError, read::key_value, store::Version};

const FILE_NAME: &str = "registry.redb";
const FORMAT: u64 = 1;
/// The rows are read once, at the start, so a large cache would hold nothing useful.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// (revision, place in it) → the key and its state.
const VERSIONS: TableDefinition<'_, (i64, i64), &[u8]> = TableDefinition::new("versions");
/// Lease id → TTL in seconds.
const LEASES: TableDefinition<'_, i64, i64> = TableDefinition::new("leases");
/// Names → numbers: see the constants below.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_CLUSTER: &str = "cluster_id";
const META_MEMBER: &str = "member_id";
const META_TERM: &str = "term";
const META_REVISION: &str = "revision";
const META_COMPACTED: &str = "compacted";

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

/// What the writes of one batch change on the disk.
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
}

impl Writes {
    /// How much there is to write; 0 needs no commit.
    pub(super) fn len(&self) -> usize {
        self.versions.len() + self.dropped.len() + self.leases.len() + usize::from(self.compacted)
    }
}

/// What was found on the disk.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) identity: Identity,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) versions: Vec<Version>,
    pub(super) leases: Vec<(i64, i64)>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    folder: PathBuf,
}

impl Disk {
    /// Opens the file in `folder`, makes both if they are missing, and reads everything.
    pub(super) fn open(folder: &Path) -> Result<(Self, Saved), EmbeddedError> {
        let not_writable = |source| EmbeddedError::Folder {
            folder: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(not_writable)?;
        let file = folder.join(FILE_NAME);
        // A plain open may panic on a damaged file; a checked one answers with an error.
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create(&file)
            .map_err(|error| open_error(folder, &file, error))?;
        let disk = Self {
            database,
            folder: folder.to_owned(),
        };
        let saved = disk.load().map_err(|failure| match failure {
            LoadFailure::Format(found) => EmbeddedError::Format {
                file: file.clone(),
                found,
                known: FORMAT,
            },
            LoadFailure::Redb(redb::Error::Io(source)) => not_writable(source),
            LoadFailure::Redb(source) => EmbeddedError::Damaged {
                file: file.clone(),
                source: source.into(),
            },
            LoadFailure::Row(source) => EmbeddedError::Damaged {
                file: file.clone(),
                source: source.into(),
            },
        })?;
        Ok((disk, saved))
    }

    /// The data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file's length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(self.folder.join(FILE_NAME)).map_or(0, |found| found.len())
    }

    /// Writes a batch; it survives a crash once this returns. After an error the file must be
    /// opened again.
    pub(super) fn commit(
        &self,
        writes: &Writes,
        revision: i64,
        compacted: i64,
    ) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(VERSIONS)?;
            let mut row = Vec::new();
            for version in &writes.versions {
                row.clear();
                // A vector grows as it must, so encoding into it cannot fail.
                key_value(version).encode_raw(&mut row);
                table.insert((version.mod_revision, version.sub), row.as_slice())?;
            }
            for place in &writes.dropped {
                table.remove(*place)?;
            }
            let mut table = transaction.open_table(LEASES)?;
            for (id, ttl) in &writes.leases {
                match ttl {
                    Some(ttl) => table.insert(id, ttl)?,
                    None => table.remove(id)?,
                };
            }
            let mut table = transaction.open_table(META)?;
            table.insert(META_REVISION, revision.unsigned_abs())?;
            if let Ok(compacted) = u64::try_from(compacted) {
                table.insert(META_COMPACTED, compacted)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Reads everything and counts the start, in one transaction: a folder that cannot be written
    /// is noticed here and not at the first request.
    fn load(&self) -> Result<Saved, LoadFailure> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        let saved = read_all(&transaction)?;
        transaction.commit().map_err(redb::Error::from)?;
        Ok(saved)
    }
}

enum LoadFailure {
    Format(u64),
    Redb(redb::Error),
    Row(prost::DecodeError),
}

impl<E: Into<redb::Error>> From<E> for LoadFailure {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn read_all(transaction: &redb::WriteTransaction) -> Result<Saved, LoadFailure> {
    let mut meta = transaction.open_table(META)?;
    let number = |meta: &redb::Table<'_, &str, u64>, name| -> Result<Option<u64>, StorageError> {
        Ok(meta.get(name)?.map(|found| found.value()))
    };
    match number(&meta, META_FORMAT)? {
        Some(FORMAT) => {}
        Some(found) => return Err(LoadFailure::Format(found)),
        None => {
            meta.insert(META_FORMAT, FORMAT)?;
        }
    }
    let new = Identity::random();
    let identity = Identity {
        cluster_id: number(&meta, META_CLUSTER)?.unwrap_or(new.cluster_id),
        member_id: number(&meta, META_MEMBER)?.unwrap_or(new.member_id),
        term: number(&meta, META_TERM)?.unwrap_or(0) + 1,
    };
    meta.insert(META_CLUSTER, identity.cluster_id)?;
    meta.insert(META_MEMBER, identity.member_id)?;
    meta.insert(META_TERM, identity.term)?;
    let signed = |number: Option<u64>, missing: i64| {
        number
            .and_then(|number| i64::try_from(number).ok())
            .unwrap_or(missing)
    };
    let revision = signed(number(&meta, META_REVISION)?, 0);
    let compacted = signed(number(&meta, META_COMPACTED)?, -1);

    let mut versions = Vec::new();
    for row in transaction.open_table(VERSIONS)?.iter()? {
        let (place, row) = row?;
        let stored = PbKeyValue::decode(row.value()).map_err(LoadFailure::Row)?;
        versions.push(version(stored, place.value()));
    }
    let mut leases = Vec::new();
    for row in transaction.open_table(LEASES)?.iter()? {
        let (id, ttl) = row?;
        leases.push((id.value(), ttl.value()));
    }
    Ok(Saved {
        identity,
        revision,
        compacted,
        versions,
        leases,
    })
}

fn version(stored: PbKeyValue, place: (i64, i64)) -> Version {
    Version {
        key: Bytes::from(stored.key),
        value: Bytes::from(stored.value),
        create_revision: stored.create_revision,
        mod_revision: place.0,
        sub: place.1,
        version: stored.version,
        lease: stored.lease,
    }
}

fn open_error(folder: &Path, file: &Path, error: DatabaseError) -> EmbeddedError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            EmbeddedError::Locked {
                folder: folder.to_owned(),
            }
        }
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != io::ErrorKind::UnexpectedEof
                && source.kind() != io::ErrorKind::InvalidData =>
        {
            EmbeddedError::Folder {
                folder: folder.to_owned(),
                source,
            }
        }
        other => EmbeddedError::Damaged {
            file: file.to_owned(),
            source: other.into(),
        },
    }
}

/// Whether a commit failed because there is no space left.
pub(super) fn is_full(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Io(source) if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    )
}
