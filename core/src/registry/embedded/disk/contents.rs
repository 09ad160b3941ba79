//! Reading all that a file holds, and making a file of it.
//!
//! Invariant: what is read is complete and unchanged, or an error.

use std::{fs, io, path::Path, sync::Arc};

use redb::{Database, ReadableDatabase, ReadableTable, TableError};

use super::{
    FORMAT, Failure, Folder, Identity, LEASES, META, META_FORMAT, STATE, VERSIONS, Writes, builder,
    failure::contained,
    record::{self, Record, Stamp},
};
use crate::registry::embedded::store::{FIRST_REVISION, Version};

/// What was found on the disk.
#[derive(Debug)]
pub(in crate::registry::embedded) struct Saved {
    pub(in crate::registry::embedded) stamp: Stamp,
    /// In the order of their revisions.
    pub(in crate::registry::embedded) versions: Vec<Version>,
    /// Ids with their TTLs in seconds.
    pub(in crate::registry::embedded) leases: Vec<(i64, i64)>,
    /// Whether nothing could be written any more.
    pub(in crate::registry::embedded) is_full: bool,
}

impl Saved {
    /// A registry that nothing was ever written to.
    pub(super) fn new(identity: Identity) -> Self {
        let identity = Identity {
            // Every start counts, the first one too.
            term: 0,
            ..identity
        };
        Self {
            stamp: Stamp {
                identity,
                revision: FIRST_REVISION,
                compacted: -1,
                commit: 0,
                n_versions: 0,
                n_leases: 0,
            },
            versions: Vec::new(),
            leases: Vec::new(),
            is_full: false,
        }
    }
}

/// Makes the registry's file; what had its name goes `aside`, if that is given.
pub(super) fn create(folder: &Folder, saved: &Saved, aside: Option<&Path>) -> Result<(), Failure> {
    let path = folder.new_file();
    // One that a crash left half made.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let made = contained(|| {
        let mut database = builder().create(&path).map_err(redb::Error::from)?;
        let mut stamp = saved.stamp;
        stamp.n_versions = 0;
        stamp.n_leases = 0;
        stamp.commit += 1;
        let versions = saved.versions.iter().cloned().map(Arc::new).collect();
        let leases = saved.leases.iter().map(|(id, ttl)| (*id, Some(*ttl)));
        let writes = Writes {
            versions,
            leases: leases.collect(),
            ..Writes::default()
        };
        rows::write(&mut database, &writes, &mut stamp)?;
        database.close().map_err(redb::Error::from)?;
        Ok(())
    });
    let done = made.and_then(|()| Ok(folder.put_in_place(aside)?));
    if done.is_err() {
        // A half of a file takes space and helps nobody.
        let _ = fs::remove_file(&path);
    }
    done
}

/// Where the registry stands.
pub(super) fn stamp(database: &Database) -> Result<Stamp, Failure> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let meta = transaction.open_table(META).map_err(missing("meta"))?;
    let format = meta.get(META_FORMAT).map_err(redb::Error::from)?;
    match format.map(|found| found.value()) {
        Some(FORMAT) => {}
        Some(found) => return Err(Failure::Format(found)),
        None => return Err(Failure::Row { table: "meta" }),
    }
    let state = transaction.open_table(STATE).map_err(missing("state"))?;
    let row = state.get(()).map_err(redb::Error::from)?;
    match row.and_then(|row| record::read(row.value())) {
        Some((Record::State(stamp), _)) => Ok(stamp),
        _ => Err(Failure::Row { table: "state" }),
    }
}

/// Everything, as of the last commit.
pub(super) fn read_all(database: &Database) -> Result<Saved, Failure> {
    let stamp = stamp(database)?;
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let table = "versions";
    let mut versions = Vec::new();
    let rows = transaction.open_table(VERSIONS).map_err(missing(table))?;
    for row in rows.iter().map_err(redb::Error::from)? {
        let (place, row) = row.map_err(redb::Error::from)?;
        versions.push(
            rows::version(place.value(), row.value())
                .ok_or(Failure::Row { table })?
                .1,
        );
    }
    same_number(table, versions.len(), stamp.n_versions)?;
    let table = "leases";
    let mut leases = Vec::new();
    let rows = transaction.open_table(LEASES).map_err(missing(table))?;
    for row in rows.iter().map_err(redb::Error::from)? {
        let (id, row) = row.map_err(redb::Error::from)?;
        leases.push(rows::lease(id.value(), row.value()).ok_or(Failure::Row { table })?);
    }
    same_number(table, leases.len(), stamp.n_leases)?;
    Ok(Saved {
        stamp,
        versions,
        leases,
        is_full: false,
    })
}

fn same_number(table: &'static str, found: usize, expected: u64) -> Result<(), Failure> {
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if found == expected {
        Ok(())
    } else {
        Err(Failure::Rows {
            table,
            found,
            expected,
        })
    }
}

/// A table that every file of ours has.
fn missing(table: &'static str) -> impl Fn(TableError) -> Failure {
    move |error| match error {
        TableError::TableDoesNotExist(_) => Failure::Row { table },
        other => Failure::Redb(other.into()),
    }
}

/// The tables' rows.
pub(super) mod rows {
    use redb::{Database, ReadableTable};

    use super::super::{
        FORMAT, Failure, LEASES, META, META_FORMAT, ROOM, STATE, VERSIONS, Writes,
        record::{self, Record, Stamp},
    };
    use crate::registry::embedded::store::Version;

    /// What a row of versions says, if it says it of its place.
    pub(in super::super) fn version(place: (i64, i64), row: &[u8]) -> Option<(u64, Version)> {
        match record::read(row)?.0 {
            Record::Version { commit, version } if (version.mod_revision, version.sub) == place => {
                Some((commit, version))
            }
            _ => None,
        }
    }

    /// What a row of leases says, if it says it of its place.
    pub(in super::super) fn lease(place: i64, row: &[u8]) -> Option<(i64, i64)> {
        match record::read(row)?.0 {
            Record::Lease { id, ttl } if id == place => Some((id, ttl)),
            _ => None,
        }
    }

    /// Writes a batch and where the registry stands after it, whose numbers it counts.
    pub(in super::super) fn write(
        database: &mut Database,
        writes: &Writes,
        stamp: &mut Stamp,
    ) -> Result<(), Failure> {
        commit(database, |transaction| {
            let mut table = transaction.open_table(VERSIONS)?;
            let mut row = Vec::new();
            for version in &writes.versions {
                row.clear();
                record::write_version(&mut row, stamp.commit, version);
                let place = (version.mod_revision, version.sub);
                let is_new = table.insert(place, row.as_slice())?.is_none();
                stamp.n_versions += u64::from(is_new);
            }
            for place in &writes.dropped {
                let was_there = table.remove(*place)?.is_some();
                stamp.n_versions -= u64::from(was_there);
            }
            let mut table = transaction.open_table(LEASES)?;
            for (id, ttl) in &writes.leases {
                if let Some(ttl) = ttl {
                    row.clear();
                    record::write_lease(&mut row, *id, *ttl);
                    let is_new = table.insert(id, row.as_slice())?.is_none();
                    stamp.n_leases += u64::from(is_new);
                } else {
                    let was_there = table.remove(id)?.is_some();
                    stamp.n_leases -= u64::from(was_there);
                }
            }
            row.clear();
            record::write_stamp(&mut row, stamp);
            transaction.open_table(STATE)?.insert((), row.as_slice())?;
            let mut table = transaction.open_table(META)?;
            if table.get(META_FORMAT)?.is_none() {
                table.insert(META_FORMAT, FORMAT)?;
            }
            Ok(())
        })
    }

    /// Writes so many bytes and takes them away again.
    pub(in super::super) fn try_room(database: &mut Database, len: usize) -> Result<(), Failure> {
        commit(database, |transaction| {
            let mut table = transaction.open_table(ROOM)?;
            table.insert((), vec![0; len].as_slice())?;
            Ok(())
        })?;
        commit(database, |transaction| {
            transaction.open_table(ROOM)?.remove(())?;
            Ok(())
        })
    }

    fn commit(
        database: &Database,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), Failure> {
        let mut transaction = database.begin_write().map_err(redb::Error::from)?;
        // Two phases: with one, a damaged last commit counts as one that never was. And the file
        // opens at once after a crash, whatever its size.
        transaction.set_quick_repair(true);
        write(&transaction)?;
        transaction.commit().map_err(redb::Error::from)?;
        Ok(())
    }
}
