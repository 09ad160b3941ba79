//! Backups: a registry as one stream of records, and a data folder made of such a stream.
//!
//! Invariants: a backup says one revision, whatever is written meanwhile; it ends as etcd's do, with
//! the SHA-256 of all before it, at 32 bytes behind a multiple of 512, which is what `etcdctl
//! snapshot save` checks. A restored registry is another one: it has a new cluster id, its revision
//! is far beyond any that the lost one can have reached, and its history begins there, so nobody who
//! knew the lost one reads or waits on as if nothing had happened.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    Folder, Identity, Saved, contents,
    record::{self, Record, Stamp},
};
use crate::registry::embedded::{error::EmbeddedError, store::Version};

/// What a backup begins with.
const TITLE: &[u8] = b"skynet registry backup 1\n";
const BLOCK: usize = 512;
const SUM_LEN: usize = 32;

/// The least that one message carries, as long as there is as much.
const CHUNK: usize = 64 * 1024;

/// How far a restored registry's revision is beyond the backup's: more than a registry writes
/// between a backup and its end (11 days at 1,000 revisions a second).
const LEAP: i64 = 1_000_000_000;

/// The TTL of leases that keys name and nobody knows, in seconds: the living renew them by then.
const FOUND_LEASE_TTL: i64 = 60;

/// A registry at one revision.
#[derive(Debug)]
pub(in crate::registry::embedded) struct Backup {
    /// Where it stood; the numbers of rows are not needed.
    pub(in crate::registry::embedded) stamp: Stamp,
    /// Ids with their TTLs in seconds.
    pub(in crate::registry::embedded) leases: Vec<(i64, i64)>,
    /// In the order of their revisions.
    pub(in crate::registry::embedded) versions: Vec<Arc<Version>>,
}

impl Backup {
    /// The whole as pieces, in their order, each with the number of bytes behind it.
    pub(in crate::registry::embedded) fn pieces(self) -> Pieces {
        let mut length = TITLE.len();
        let mut record = Vec::new();
        self.each(|write| {
            record.clear();
            write(&mut record);
            length += record.len();
        });
        let padding = length.next_multiple_of(BLOCK) - length;
        Pieces {
            left: length + padding + SUM_LEN,
            padding,
            sum: Some(Sha256::new()),
            next: 0,
            backup: self,
        }
    }

    /// Every record, in its order.
    fn each(&self, mut take: impl FnMut(&dyn Fn(&mut Vec<u8>))) {
        for idx in 0.. {
            let Some(write) = self.record(idx) else {
                return;
            };
            take(&write);
        }
    }

    fn record(&self, idx: usize) -> Option<impl Fn(&mut Vec<u8>)> {
        enum Entry<'backup> {
            Stamp(&'backup Stamp),
            Lease(i64, i64),
            Version(&'backup Version),
        }
        let entry = match idx.checked_sub(1) {
            None => Entry::Stamp(&self.stamp),
            Some(idx) => match idx.checked_sub(self.leases.len()) {
                None => self
                    .leases
                    .get(idx)
                    .map(|(id, ttl)| Entry::Lease(*id, *ttl))?,
                Some(idx) => self.versions.get(idx).map(|found| Entry::Version(found))?,
            },
        };
        Some(move |out: &mut Vec<u8>| match &entry {
            Entry::Stamp(stamp) => record::write_stamp(out, stamp),
            Entry::Lease(id, ttl) => record::write_lease(out, *id, *ttl),
            Entry::Version(version) => record::write_version(out, 0, version),
        })
    }
}

/// A backup, piece by piece.
#[derive(Debug)]
pub(in crate::registry::embedded) struct Pieces {
    backup: Backup,
    next: usize,
    left: usize,
    padding: usize,
    /// Taken when all is written but itself.
    sum: Option<Sha256>,
}

impl Iterator for Pieces {
    /// A piece and how many bytes follow it.
    type Item = (Vec<u8>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = Vec::new();
        let sum = self.sum.as_mut()?;
        if self.next == 0 {
            piece.extend_from_slice(TITLE);
        }
        while piece.len() < CHUNK
            && let Some(write) = self.backup.record(self.next)
        {
            write(&mut piece);
            self.next += 1;
        }
        let is_last = self.backup.record(self.next).is_none();
        if is_last {
            piece.resize(piece.len() + self.padding, 0);
        }
        sum.update(&piece);
        if is_last && let Some(sum) = self.sum.take() {
            piece.extend_from_slice(&sum.finalize());
        }
        self.left = self.left.saturating_sub(piece.len());
        Some((piece, self.left))
    }
}

/// What became of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// How many keys stand there.
    pub n_keys: usize,
    /// How many leases there are.
    pub n_leases: usize,
    /// The revision of the backup.
    pub backup_revision: i64,
    /// The revision of the restored registry.
    pub revision: i64,
}

/// Makes a data folder of the backup in `file`. It blocks while it reads and writes.
///
/// The restored registry has a new cluster id and a revision that is 1,000,000,000 higher than the
/// backup's, before which nothing can be read.
///
/// # Errors
///
/// [`EmbeddedError::Occupied`] if the folder holds a registry's data already,
/// [`EmbeddedError::Backup`] if the backup cannot be read or is not what was written, and as for a
/// start what is in the way of the folder.
pub fn restore(folder: &Path, file: &Path) -> Result<Restored, EmbeddedError> {
    let folder = Folder::take(folder)?;
    if folder.file().symlink_metadata().is_ok() {
        return Err(EmbeddedError::Occupied {
            folder: folder.path().to_owned(),
        });
    }
    let backup = fs::read(file)
        .and_then(|bytes| parse(&bytes))
        .map_err(|source| EmbeddedError::Backup {
            file: file.to_owned(),
            source,
        })?;
    let backup_revision = backup.stamp.revision;
    let saved = succeed(backup.stamp, backup.versions, backup.leases, true);
    contents::create(&folder, &saved, None).map_err(|failure| folder.error(failure))?;
    Ok(Restored {
        n_keys: saved.versions.len(),
        n_leases: saved.leases.len(),
        backup_revision,
        revision: saved.stamp.revision,
    })
}

fn parse(bytes: &[u8]) -> io::Result<Backup> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if !bytes.starts_with(TITLE) {
        return Err(wrong("it is no backup of an embedded registry"));
    }
    let cut = || wrong("it is cut off: it does not end with a checksum");
    if bytes.len() % BLOCK != SUM_LEN {
        return Err(cut());
    }
    let (content, sum) = bytes
        .split_at_checked(bytes.len() - SUM_LEN)
        .ok_or_else(cut)?;
    if Sha256::digest(content).as_slice() != sum {
        return Err(wrong("it is not what was written: its checksum differs"));
    }
    let mut rest = content.get(TITLE.len()..).unwrap_or_default();
    let mut stamp = None;
    let mut leases = Vec::new();
    let mut versions = Vec::new();
    while let Some((record, len)) = record::read(rest) {
        match record {
            Record::State(found) => stamp = Some(found),
            Record::Lease { id, ttl } => leases.push((id, ttl)),
            Record::Version { version, .. } => versions.push(Arc::new(version)),
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    if rest.iter().any(|byte| *byte != 0) {
        return Err(wrong(
            "a newer version wrote it: there are records that are not known here",
        ));
    }
    Ok(Backup {
        stamp: stamp.ok_or_else(|| wrong("it does not say its revision"))?,
        leases,
        versions,
    })
}

/// A registry that takes the place of another one whose last revisions are lost: what stood there
/// stands here, and whoever knew the other one is told that all of its past is gone. Leases that
/// only keys know get a short TTL, unless all are known.
pub(super) fn succeed(
    stamp: Stamp,
    versions: impl IntoIterator<Item = Arc<Version>>,
    leases: impl IntoIterator<Item = (i64, i64)>,
    are_all_leases: bool,
) -> Saved {
    let mut newest: HashMap<Bytes, Arc<Version>> = HashMap::new();
    let mut reached = stamp.revision;
    for version in versions {
        reached = reached.max(version.mod_revision);
        let is_newer = newest
            .get(&version.key)
            .is_none_or(|known| known.mod_revision < version.mod_revision);
        if is_newer {
            newest.insert(version.key.clone(), version);
        }
    }
    let mut leases: BTreeMap<i64, i64> = leases.into_iter().collect();
    let mut versions: Vec<Version> = newest
        .into_values()
        .filter(|version| !version.is_tombstone())
        // Where all leases are known, whoever hangs on another one is gone with it.
        .filter(|version| {
            !are_all_leases || version.lease == 0 || leases.contains_key(&version.lease)
        })
        .map(|version| Version::clone(&version))
        .collect();
    versions.sort_unstable_by_key(|version| (version.mod_revision, version.sub));
    for version in &versions {
        if version.lease != 0 {
            leases.entry(version.lease).or_insert(FOUND_LEASE_TTL);
        }
    }
    let revision = reached.saturating_add(LEAP);
    Saved {
        stamp: Stamp {
            identity: Identity {
                term: stamp.identity.term,
                ..Identity::random()
            },
            revision,
            compacted: revision,
            ..stamp
        },
        versions,
        leases: leases.into_iter().collect(),
        is_full: false,
    }
}
