//! What a disk may do to the file, and what is left then.

use std::{collections::BTreeMap, path::PathBuf};

use fastrand::Rng;
use tempfile::TempDir;

use super::{faulty::Faulty, repair::Repaired, *};
use crate::registry::embedded::disk::contents::Saved;

/// Keys that stand, with their values and revisions.
type Keys = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// A registry's state as far as a file knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    revision: i64,
    compacted: i64,
    versions: BTreeMap<(i64, i64), Version>,
    leases: BTreeMap<i64, i64>,
}

impl Model {
    fn new() -> Self {
        Self {
            revision: 1,
            compacted: -1,
            versions: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }

    fn of(saved: &Saved) -> Self {
        let versions = saved.versions.iter();
        Self {
            revision: saved.stamp.revision,
            compacted: saved.stamp.compacted,
            versions: versions
                .map(|found| ((found.mod_revision, found.sub), found.clone()))
                .collect(),
            leases: saved.leases.iter().copied().collect(),
        }
    }

    fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        for version in self.versions.values() {
            if version.is_tombstone() {
                keys.remove(version.key.as_ref());
            } else {
                let value = (version.value.to_vec(), version.mod_revision);
                keys.insert(version.key.to_vec(), value);
            }
        }
        keys
    }

    /// Some revisions with puts and deletes, a lease that comes or goes, old rows that go.
    fn change(&mut self, rng: &mut Rng) -> Writes {
        let mut writes = Writes::default();
        for _ in 0..rng.usize(1..6) {
            self.revision += 1;
            for sub in 0..rng.i64(1..4) {
                let version = Version {
                    key: format!("key/{}/{sub}", rng.u8(..40)).into(),
                    value: vec![rng.u8(..); rng.usize(..600)].into(),
                    create_revision: 2,
                    mod_revision: self.revision,
                    sub,
                    version: rng.i64(0..4),
                    lease: 0,
                };
                self.versions.insert((self.revision, sub), version.clone());
                writes.versions.push(Arc::new(version));
            }
        }
        if rng.bool() {
            let id = rng.i64(1..20);
            let ttl = rng.bool().then(|| rng.i64(1..100));
            match ttl {
                Some(ttl) => self.leases.insert(id, ttl),
                None => self.leases.remove(&id),
            };
            writes.leases.push((id, ttl));
        }
        if rng.u8(..4) == 0 {
            self.compacted = (self.revision - 30).max(self.compacted);
            let mut newest = BTreeMap::new();
            let kept = (self.compacted, i64::MAX);
            for (place, version) in self.versions.range(..kept) {
                if let Some(older) = newest.insert(version.key.clone(), *place) {
                    writes.dropped.push(older);
                }
            }
            for place in &writes.dropped {
                self.versions.remove(place);
            }
            writes.compacted = true;
        }
        writes
    }
}

fn commit(disk: &mut Disk, writes: &Writes, model: &Model) -> Result<(), Failure> {
    disk.commit(writes, model.revision, model.compacted)
}

/// Runs some rounds with random numbers that a failure names.
fn rounds(n: u64, mut round: impl FnMut(&mut Rng, &TempDir)) {
    for _ in 0..n {
        let seed = fastrand::u64(..);
        let folder = TempDir::new().unwrap();
        let run = std::panic::AssertUnwindSafe(|| round(&mut Rng::with_seed(seed), &folder));
        if let Err(panic) = std::panic::catch_unwind(run) {
            tracing::error!(seed, "the seed of the round that failed");
            std::panic::resume_unwind(Box::new(format!("seed {seed}: {panic:?}")));
        }
    }
}

#[test]
fn what_was_committed_survives_a_power_loss_that_tears_the_next_commit() {
    rounds(30, |rng, folder| {
        let faulty = Faulty::default();
        let (mut disk, saved) = faulty.open(folder.path()).unwrap();
        let mut model = Model::of(&saved);
        assert_eq!(model, Model::new());
        for _ in 0..rng.usize(1..12) {
            let writes = model.change(rng);
            commit(&mut disk, &writes, &model).unwrap();
        }
        let safe = model.clone();
        let writes = model.change(rng);
        faulty.fail_after(Some(rng.usize(..40)));
        let outcome = commit(&mut disk, &writes, &model);
        drop(disk);
        for _ in 0..4 {
            let (_, saved) = faulty.lose_power(rng).open(folder.path()).unwrap();
            let found = Model::of(&saved);
            assert!(found == model || (found == safe && outcome.is_err()));
        }
    });
}

#[test]
fn a_commit_that_failed_took_place_or_not_and_is_told_rightly() {
    rounds(12, |rng, folder| {
        let faulty = Faulty::default();
        let (mut disk, _) = faulty.open(folder.path()).unwrap();
        let mut model = Model::new();
        let mut n_failed = 0;
        for _ in 0..30 {
            let before = model.clone();
            let writes = model.change(rng);
            let is_full = rng.bool();
            match rng.u8(..3) {
                0 => {}
                _ if is_full => faulty.limit(Some(faulty.image().len() - rng.usize(..20_000))),
                _ => faulty.fail_after(Some(rng.usize(..30))),
            }
            let outcome = commit(&mut disk, &writes, &model);
            faulty.limit(None);
            faulty.fail_after(None);
            if let Err(failure) = outcome {
                n_failed += 1;
                assert_eq!(failure.is_full(), is_full, "{failure:?}");
                assert!(!disk.is_open());
                let took_place = disk.reopen().unwrap();
                if !took_place {
                    model = before;
                }
            }
            let found = Model::of(&disk.read().unwrap());
            assert_eq!(found, model);
        }
        assert!(n_failed > 0);
        drop(disk);
        let (_, saved) = faulty.open(folder.path()).unwrap();
        assert_eq!(Model::of(&saved), model);
    });
}

#[test]
fn a_full_disk_keeps_nobody_from_starting() {
    let folder = TempDir::new().unwrap();
    let faulty = Faulty::default();
    let (mut disk, _) = faulty.open(folder.path()).unwrap();
    let mut model = Model::new();
    let writes = model.change(&mut Rng::with_seed(1));
    commit(&mut disk, &writes, &model).unwrap();
    drop(disk);
    let image = faulty.image();
    let full = Faulty::holding(image);
    full.limit(Some(0));
    full.fail_after(None);
    let (mut disk, saved) = full.open(folder.path()).unwrap();
    assert_eq!(Model::of(&saved), model);
    if saved.is_full {
        assert!(disk.find_room().unwrap_err().is_full());
        disk.reopen().unwrap();
    }
    full.limit(None);
    disk.find_room().unwrap();
    let writes = model.change(&mut Rng::with_seed(2));
    commit(&mut disk, &writes, &model).unwrap();
}

/// A file with some history, as it is left by a kill or by a stop.
fn history(rng: &mut Rng, is_closed: bool) -> (TempDir, PathBuf, Vec<u8>, Model) {
    let folder = TempDir::new().unwrap();
    let (mut disk, saved) = Disk::open(folder.path()).unwrap();
    let mut model = Model::of(&saved);
    for _ in 0..40 {
        let writes = model.change(rng);
        commit(&mut disk, &writes, &model).unwrap();
    }
    let file = disk.folder().file();
    let mut image = fs::read(&file).unwrap();
    drop(disk);
    if is_closed {
        image = fs::read(&file).unwrap();
    }
    (folder, file, image, model)
}

/// One kind of damage.
fn damage(rng: &mut Rng, image: &mut Vec<u8>) -> String {
    let at = match rng.u8(..3) {
        // Where the database says what is where.
        0 => rng.usize(..512),
        _ => rng.usize(..image.len()),
    };
    match rng.u8(..5) {
        0 => {
            image.truncate(at.max(1));
            format!("cut off at {at}")
        }
        1 => {
            let page = at / 4096 * 4096;
            let end = (page + 4096 * rng.usize(1..4)).min(image.len());
            image[page..end].fill(0);
            format!("zeroes from {page} to {end}")
        }
        2 => {
            let end = (at + rng.usize(1..2000)).min(image.len());
            image[at..end].fill_with(|| rng.u8(..));
            format!("garbage from {at} to {end}")
        }
        _ => {
            let bit = rng.u8(..8);
            image[at] ^= 1 << bit;
            format!("bit {bit} of {at} flipped")
        }
    }
}

#[test]
fn damage_is_reported_or_harmless_and_a_repair_saves_what_is_there() {
    damage_files(5);
}

#[test]
#[ignore = "minutes; cargo test -p skynet --lib a_lot_of_damage -- --ignored"]
fn a_lot_of_damage_is_reported_or_harmless() {
    damage_files(200);
}

fn damage_files(n_files: usize) {
    let mut rng = Rng::new();
    let seed = rng.u64(..);
    rng.seed(seed);
    let mut n_reported = 0;
    let mut n_saved = 0;
    for _ in 0..n_files {
        n_saved += damage_one(&mut rng, seed, 16, &mut n_reported);
    }
    assert!(n_reported > 10 && n_saved > 10, "{n_reported} {n_saved}");
}

/// Damages one file in several ways; answers how many keys were saved.
fn damage_one(rng: &mut Rng, seed: u64, n_ways: usize, n_reported: &mut usize) -> usize {
    let is_closed = rng.bool();
    let (folder, file, image, model) = history(rng, is_closed);
    let mut n_saved = 0;
    for _ in 0..n_ways {
        let mut damaged = image.clone();
        let what = damage(rng, &mut damaged);
        let what = format!("seed {seed}, closed {is_closed}: {what}");
        fs::write(&file, &damaged).unwrap();
        match Disk::open(folder.path()) {
            Ok((_, saved)) => assert_eq!(Model::of(&saved), model, "{what}: lost in silence"),
            Err(EmbeddedError::Damaged { .. } | EmbeddedError::Format { .. }) => {
                *n_reported += 1;
                // An attempt to open it must not make it worse.
                n_saved += repaired(&folder, &file, &damaged, &model, &what);
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    n_saved
}

fn repaired(folder: &TempDir, file: &Path, damaged: &[u8], model: &Model, what: &str) -> usize {
    fs::write(file, damaged).unwrap();
    let outcome = repair::repair(folder.path());
    let aside = match &outcome {
        Ok(Repaired::Rewritten { aside, .. } | Repaired::Saved { aside, .. }) => aside,
        Ok(Repaired::Whole { .. })
        | Err(EmbeddedError::NothingToRepair { .. } | EmbeddedError::Format { .. }) => return 0,
        Err(other) => panic!("{what}: {other:?}"),
    };
    assert_eq!(fs::read(aside).unwrap(), damaged, "{what}");
    let (_, saved) = Disk::open(folder.path()).unwrap();
    let found = Model::of(&saved);
    fs::remove_file(aside).unwrap();
    if let Ok(Repaired::Saved { n_keys, .. }) = outcome {
        assert!(found.revision > model.revision, "{what}");
        assert_eq!(n_keys, found.keys().len());
    } else {
        assert_eq!(&found, model, "{what}");
    }
    // Whatever stands in the damaged file as the newest of its key stands there again.
    let whole: Vec<_> = record::scan(damaged).collect();
    let kept = found.keys();
    for (key, (value, at)) in model.keys() {
        let is_whole = whole.iter().any(|record| {
            matches!(record, record::Record::Version { version, .. }
                if version.key == key && version.mod_revision == at && version.value == value)
        });
        if is_whole && at >= model.compacted {
            assert_eq!(kept.get(&key), Some(&(value, at)), "{what}");
        }
    }
    kept.len()
}

#[test]
fn an_empty_file_a_foreign_one_and_one_of_the_future_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let (disk, _) = Disk::open(folder.path()).unwrap();
    let file = disk.folder().file();
    drop(disk);
    let says = |error: EmbeddedError| crate::hint::chain(&error);

    let database = Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(META)
        .unwrap()
        .insert(META_FORMAT, 3)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Disk::open(folder.path()).unwrap_err();
    assert!(
        matches!(error, EmbeddedError::Format { found: 3, .. }),
        "{error:?}"
    );

    fs::write(&file, "").unwrap();
    let said = says(Disk::open(folder.path()).unwrap_err());
    assert!(
        said.ends_with("registry.redb` is damaged: it is empty"),
        "{said}"
    );
    fs::write(&file, "a diary").unwrap();
    let said = says(Disk::open(folder.path()).unwrap_err());
    assert!(
        said.ends_with("holds nothing that a registry wrote"),
        "{said}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"a diary");
    let error = repair::repair(folder.path()).unwrap_err();
    assert!(matches!(error, EmbeddedError::NothingToRepair { .. }));
}

#[test]
fn a_file_that_was_never_finished_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let path = Folder::take(folder.path()).unwrap().new_file();
    fs::write(&path, "half a file").unwrap();
    let (disk, saved) = Disk::open(folder.path()).unwrap();
    assert_eq!((saved.stamp.revision, saved.stamp.identity.term), (1, 1));
    assert!(!path.exists());
    drop(disk);
    let (_, saved) = Disk::open(folder.path()).unwrap();
    assert_eq!(saved.stamp.identity.term, 2);
}
