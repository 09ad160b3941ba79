//! Making the best of a damaged file.
//!
//! Invariants: the damaged file is only read, and stays beside the new one; what can be read along
//! its index is taken from there; of what cannot, every record counts that is whole and lies within
//! the kept history, since there it is a fact whatever page holds it; older ones count only if the
//! index is gone, and then the report says that keys which were deleted long ago may be back.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, Key, ReadOnlyTable, ReadableDatabase, TableDefinition, Value};

use super::{
    Failure, Folder, LEASES, Saved, VERSIONS, backup, builder,
    contents::{self, rows},
    failure::contained,
    record::{self, Record, Stamp},
};
use crate::registry::embedded::{error::EmbeddedError, store::Version};

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repaired {
    /// Nothing is wrong with the file, and nothing was done.
    Whole {
        /// Its revision.
        revision: i64,
    },
    /// Everything that was written could be read, and was written anew: it is the same registry.
    Rewritten {
        /// Where the damaged file is.
        aside: PathBuf,
        /// How many keys there are.
        n_keys: usize,
        /// The revision.
        revision: i64,
    },
    /// What could be read was written anew, as a new registry.
    Saved {
        /// Where the damaged file is.
        aside: PathBuf,
        /// How many keys there are.
        n_keys: usize,
        /// How many leases there are.
        n_leases: usize,
        /// The last revision of which something was found.
        reached: i64,
        /// How many revisions of the kept history are missing up to there.
        n_missing: i64,
        /// Whether keys may be back that were deleted before the kept history.
        is_unsure: bool,
        /// The revision of the new registry.
        revision: i64,
    },
}

/// What was found in a file.
#[derive(Debug, Default)]
struct Found {
    stamp: Option<Stamp>,
    /// By revision and place in it, each with the commit that wrote it.
    versions: BTreeMap<(i64, i64), (u64, Version)>,
    leases: BTreeMap<i64, i64>,
}

impl Found {
    fn stamp(&mut self, stamp: Stamp) {
        if self.stamp.is_none_or(|known| known.commit < stamp.commit) {
            self.stamp = Some(stamp);
        }
    }

    fn version(&mut self, commit: u64, version: Version) {
        let place = (version.mod_revision, version.sub);
        let known = self.versions.get(&place);
        if known.is_none_or(|known| known.0 < commit) {
            self.versions.insert(place, (commit, version));
        }
    }

    fn has(&self, n_versions: u64, n_leases: u64) -> bool {
        u64::try_from(self.versions.len()) == Ok(n_versions)
            && u64::try_from(self.leases.len()) == Ok(n_leases)
    }

    fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.values().map(|(_, version)| version)
    }

    fn n_keys(&self) -> usize {
        let mut newest = BTreeMap::new();
        for version in self.versions() {
            newest.insert(&version.key, !version.is_tombstone());
        }
        newest.values().filter(|stands| **stands).count()
    }
}

/// Writes what can be read of a damaged file to a new one, which takes its place; the old one stays
/// beside it under a dated name. It blocks while it reads and writes.
///
/// # Errors
///
/// [`EmbeddedError::NothingToRepair`] if there is no file or nothing of a registry in it,
/// [`EmbeddedError::Locked`] if a registry runs on the folder, [`EmbeddedError::Format`] if a newer
/// version wrote the file, and [`EmbeddedError::Folder`] if the folder cannot be written or has no
/// space for a second file.
pub fn repair(folder: &Path) -> Result<Repaired, EmbeddedError> {
    let folder = Folder::take(folder)?;
    let file = folder.file();
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EmbeddedError::NothingToRepair { file });
        }
        Err(error) => return Err(folder.error(error.into())),
    };
    let by_index = read_copy(&folder, &bytes).map_err(|failure| folder.error(failure))?;
    let mut found = match by_index {
        Read::Whole(saved) => {
            return Ok(Repaired::Whole {
                revision: saved.stamp.revision,
            });
        }
        Read::Partly(found) => found,
    };
    let aside = aside(&file);
    let failed = |failure| folder.error(failure);
    if let Some(stamp) = found.stamp
        && found.has(stamp.n_versions, stamp.n_leases)
    {
        let n_keys = found.n_keys();
        let saved = Saved {
            stamp,
            versions: found
                .versions
                .into_values()
                .map(|(_, found)| found)
                .collect(),
            leases: found.leases.into_iter().collect(),
            is_full: false,
        };
        contents::create(&folder, &saved, Some(&aside)).map_err(failed)?;
        return Ok(Repaired::Rewritten {
            aside,
            n_keys,
            revision: stamp.revision,
        });
    }
    let (is_unsure, has_leases) = add_pages(&mut found, &bytes);
    let Some(stamp) = found.stamp else {
        return Err(EmbeddedError::NothingToRepair { file });
    };
    let (reached, n_missing) = missing(&found, &stamp);
    let versions = found
        .versions
        .into_values()
        .map(|(_, found)| Arc::new(found));
    let saved = backup::succeed(stamp, versions, found.leases, has_leases);
    contents::create(&folder, &saved, Some(&aside)).map_err(failed)?;
    Ok(Repaired::Saved {
        aside,
        n_keys: saved.versions.len(),
        n_leases: saved.leases.len(),
        reached,
        n_missing,
        is_unsure,
        revision: saved.stamp.revision,
    })
}

/// Where the damaged file goes.
fn aside(file: &Path) -> PathBuf {
    let now = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let name = |n: usize| {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".damaged-{now}"));
        if n > 1 {
            name.push(format!("-{n}"));
        }
        PathBuf::from(name)
    };
    // A second repair within one second is rare, and a third one rarer.
    (1..1000)
        .map(name)
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or_else(|| name(0))
}

enum Read {
    Whole(Saved),
    Partly(Found),
}

/// Reads a copy along its index, as far as that goes.
fn read_copy(folder: &Folder, bytes: &[u8]) -> Result<Read, Failure> {
    let path = folder.new_file();
    let read = || -> Result<Read, Failure> {
        fs::write(&path, bytes)?;
        let whole = contained(|| {
            let mut builder = builder();
            builder.set_check_integrity_on_open(true);
            let database = builder.open(&path).map_err(redb::Error::from)?;
            contents::read_all(&database)
        });
        match whole {
            Ok(saved) => return Ok(Read::Whole(saved)),
            Err(Failure::Format(found)) => return Err(Failure::Format(found)),
            Err(_) => {}
        }
        // The check may have written.
        fs::write(&path, bytes)?;
        let mut found = Found::default();
        // Whatever it stops at, what was found until then is found.
        let _ = contained(|| {
            let database = builder().open(&path).map_err(redb::Error::from)?;
            read_index(&database, &mut found);
            Ok(())
        });
        Ok(Read::Partly(found))
    };
    let read = read();
    // It is a copy.
    let _ = fs::remove_file(&path);
    read
}

fn read_index(database: &Database, found: &mut Found) {
    let stamp = contained(|| contents::stamp(database));
    if let Ok(stamp) = stamp {
        found.stamp(stamp);
    }
    let versions = contained(|| open(database, VERSIONS));
    if let Ok(table) = versions {
        let most = found.stamp.map_or(i64::MAX, |stamp| stamp.revision);
        bisect(0, most, &mut |from, to| {
            contained(|| {
                let range = table.range((from, 0)..=(to, i64::MAX));
                for row in range.map_err(redb::Error::from)? {
                    let (place, row) = row.map_err(redb::Error::from)?;
                    let row = rows::version(place.value(), row.value());
                    let (commit, version) = row.ok_or(Failure::Row { table: "versions" })?;
                    found.version(commit, version);
                }
                Ok(())
            })
            .is_ok()
        });
    }
    let leases = contained(|| open(database, LEASES));
    if let Ok(table) = leases {
        bisect(i64::MIN, i64::MAX, &mut |from, to| {
            contained(|| {
                for row in table.range(from..=to).map_err(redb::Error::from)? {
                    let (id, row) = row.map_err(redb::Error::from)?;
                    let row = rows::lease(id.value(), row.value());
                    let (id, ttl) = row.ok_or(Failure::Row { table: "leases" })?;
                    found.leases.insert(id, ttl);
                }
                Ok(())
            })
            .is_ok()
        });
    }
}

fn open<K: Key + 'static, V: Value + 'static>(
    database: &Database,
    table: TableDefinition<'_, K, V>,
) -> Result<ReadOnlyTable<K, V>, Failure> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    Ok(transaction.open_table(table).map_err(redb::Error::from)?)
}

/// How many halves are tried: enough for each row of a few damaged pages.
const MAX_TRIES: usize = 100_000;

/// Reads a range; what cannot be read at once is read in two halves, down to single places.
fn bisect(from: i64, to: i64, read: &mut impl FnMut(i64, i64) -> bool) {
    let mut left = vec![(from, to)];
    for _ in 0..MAX_TRIES {
        let Some((from, to)) = left.pop() else {
            return;
        };
        if !read(from, to) && from < to {
            let middle = from.midpoint(to);
            left.push((middle + 1, to));
            left.push((from, middle));
        }
    }
}

/// Adds what whole records say, wherever they are. Answers whether old ones had to be believed, and
/// whether all leases are known.
fn add_pages(found: &mut Found, bytes: &[u8]) -> (bool, bool) {
    let by_index = found.stamp;
    let records: Vec<Record> = record::scan(bytes).collect();
    for record in &records {
        if let Record::State(stamp) = record {
            found.stamp(*stamp);
        }
    }
    let has_index = by_index.is_some() && !found.versions.is_empty();
    let history = by_index.map_or(0, |stamp| stamp.compacted);
    let has_leases =
        by_index.is_some_and(|stamp| u64::try_from(found.leases.len()) == Ok(stamp.n_leases));
    let mut is_unsure = false;
    for record in records {
        match record {
            Record::State(_) => {}
            Record::Lease { id, ttl } => {
                if !has_leases {
                    found.leases.entry(id).or_insert(ttl);
                }
            }
            Record::Version { commit, version } => {
                let is_old = version.mod_revision < history || !has_index;
                if !is_old || !has_index {
                    is_unsure |= is_old;
                    found.version(commit, version);
                }
            }
        }
    }
    (is_unsure, has_leases)
}

/// The last revision of which something was found, and how many are missing below it.
fn missing(found: &Found, stamp: &Stamp) -> (i64, i64) {
    let last = found.versions.keys().next_back().map_or(0, |place| place.0);
    let reached = last.max(stamp.revision);
    // Of the compacted revision and of all later ones every row is kept.
    let first = stamp.compacted.max(2);
    let mut revisions: Vec<i64> = found
        .versions
        .range((first, 0)..)
        .map(|(at, _)| at.0)
        .collect();
    revisions.dedup();
    let n_found = i64::try_from(revisions.len()).unwrap_or(i64::MAX);
    (reached, (reached - first + 1 - n_found).max(0))
}
