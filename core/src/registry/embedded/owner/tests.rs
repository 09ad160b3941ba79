//! What the owner does when its disk fails.

use std::{sync::atomic::AtomicU64, time::Duration};

use etcd_client::proto::PbPutRequest;
use tokio::sync::oneshot;

use super::*;
use crate::registry::embedded::{
    disk::{Identity, faulty::Faulty},
    range::KeyRange,
    space::Space,
    store::Want,
};

fn owner(storage: Storage) -> Owner {
    owner_with_history(storage, 100).0
}

fn owner_with_history(storage: Storage, history: usize) -> (Owner, mpsc::Sender<Job>) {
    let store = Store::new(history);
    let (sender, jobs) = mpsc::channel(200);
    let state = Arc::new(State {
        identity: Identity::random(),
        committed: watch::Sender::new(store.revision()),
        store: RwLock::new(store),
        disk_bytes: AtomicU64::new(0),
        space: Space::default(),
    });
    let (owner, _) = Owner::new(state, Lessor::default(), storage, history, jobs);
    (owner, sender)
}

/// A request, and where its answer comes.
fn job<T: Send + 'static>(
    work: impl FnOnce(&mut Engine<'_>) -> Result<T, Refusal> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, Refusal>>) {
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move |engine| {
        let result = work(engine);
        Box::new(move |committed| drop(sender.send(committed.and(result))))
    });
    (job, receiver)
}

/// Runs one request as a batch of its own.
fn ask<T: Send + 'static>(
    owner: &mut Owner,
    work: impl FnOnce(&mut Engine<'_>) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (job, mut receiver) = job(work);
    owner.batch(job);
    receiver.try_recv().unwrap()
}

fn put(key: &str, lease: i64) -> PbPutRequest {
    PbPutRequest {
        key: key.into(),
        lease,
        ..PbPutRequest::default()
    }
}

fn disarm(owner: &mut Owner) {
    ask(owner, |engine| {
        engine.disarm();
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_full_disk_refuses_what_takes_room_and_loses_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let faulty = Faulty::default();
    let (disk, _) = faulty.open(folder.path()).unwrap();
    let mut owner = owner(Storage::Disk(disk));
    let (lease, _) = ask(&mut owner, |engine| engine.grant(7, 60)).unwrap();
    ask(&mut owner, move |engine| engine.put(put("leased", lease))).unwrap();
    ask(&mut owner, |engine| engine.put(put("plain", 0))).unwrap();
    let hash = write(&owner.state.store).hashed_rows(3);
    let bytes = write(&owner.state.store).bytes();

    faulty.limit(Some(0));
    faulty.fail_after(None);
    // Some writes fit into what the file has already.
    let mut n_fitted = 0;
    let large = |n: i64| PbPutRequest {
        value: vec![b'x'; 20_000],
        ..put(&format!("large/{n}"), 0)
    };
    while ask(&mut owner, move |engine| engine.put(large(n_fitted))).is_ok() {
        n_fitted += 1;
        assert!(n_fitted < 1000);
    }
    assert!(owner.state.space.is_exceeded());
    for _ in 0..10 {
        let refused = ask(&mut owner, move |engine| engine.put(put("plain", lease)));
        assert_eq!(refused.err(), Some(Refusal::NoSpace));
        let refused = ask(&mut owner, |engine| engine.grant(8, 60));
        assert_eq!(refused.err(), Some(Refusal::NoSpace));
    }
    // What needs no disk goes on.
    assert_eq!(
        ask(&mut owner, move |engine| Ok(engine.renew(lease))),
        Ok(60)
    );
    let view = ask(&mut owner, |engine| Ok(engine.time_to_live(7, true)));
    assert_eq!(view.unwrap().unwrap().keys, [b"leased"]);
    let revision = 3 + n_fitted;
    assert_eq!(*owner.state.committed.borrow(), revision);
    if n_fitted == 0 {
        let store = write(&owner.state.store);
        assert_eq!(
            (store.revision(), store.hashed_rows(3), store.bytes()),
            (3, hash, bytes)
        );
        let all = store.read(&KeyRange::new(&[0], &[0]), 3, Want::Count);
        assert_eq!(all.count, 2);
    }

    // Still full when somebody says it is not.
    disarm(&mut owner);
    assert!(owner.state.space.is_exceeded());
    faulty.limit(None);
    disarm(&mut owner);
    assert!(!owner.state.space.is_exceeded());
    ask(&mut owner, |engine| engine.put(put("plain", 0))).unwrap();
    assert_eq!(*owner.state.committed.borrow(), revision + 1);
    drop(owner);
    let (_, saved) = faulty.open(folder.path()).unwrap();
    assert_eq!(
        (saved.stamp.revision, saved.leases.len()),
        (revision + 1, 1)
    );
}

#[test]
fn a_disk_that_works_again_is_written_again_by_itself() {
    let folder = tempfile::TempDir::new().unwrap();
    let faulty = Faulty::default();
    let (disk, _) = faulty.open(folder.path()).unwrap();
    let mut owner = owner(Storage::Disk(disk));
    ask(&mut owner, |engine| engine.grant(7, 60)).unwrap();
    ask(&mut owner, |engine| engine.put(put("leased", 7))).unwrap();

    faulty.fail_after(Some(0));
    for _ in 0..3 {
        let refused = ask(&mut owner, |engine| engine.put(put("plain", 0)));
        assert_eq!(refused.err(), Some(Refusal::DiskFailed));
        let refused = ask(&mut owner, |engine| engine.revoke(7));
        assert_eq!(refused.err(), Some(Refusal::DiskFailed));
    }
    assert!(!owner.state.space.is_exceeded(), "it is not full");
    faulty.fail_after(None);
    owner.retry_at = Instant::now();
    owner.retry_storage();
    ask(&mut owner, |engine| engine.put(put("plain", 0))).unwrap();
    assert_eq!(*owner.state.committed.borrow(), 3);
    assert_eq!(ask(&mut owner, |engine| engine.revoke(7)), Ok(4));
    drop(owner);
    let (_, saved) = faulty.open(folder.path()).unwrap();
    assert_eq!((saved.stamp.revision, saved.leases.len()), (4, 0));
}

#[test]
fn a_quota_refuses_what_takes_room_until_there_is_some() {
    let mut owner = owner(Storage::Memory);
    Arc::get_mut(&mut owner.state).unwrap().space = Space::new(2000);
    while ask(&mut owner, |engine| engine.put(put("key", 0))).is_ok() {}
    assert!(owner.state.space.is_exceeded());
    let revision = *owner.state.committed.borrow();
    // Deleting is one more version first, and makes room once the old ones go.
    ask(&mut owner, |engine| {
        Ok(engine.delete(&etcd_client::proto::PbDeleteRequest {
            key: b"key".into(),
            ..Default::default()
        }))
    })
    .unwrap();
    ask(&mut owner, move |engine| engine.compact(revision + 1)).unwrap();
    assert!(!owner.state.space.is_exceeded());
    ask(&mut owner, |engine| engine.put(put("key", 0))).unwrap();
}

/// What stands in memory, or on a disk that is opened anew.
fn rows(store: &Store) -> Vec<crate::registry::embedded::store::Version> {
    let versions = store.versions();
    versions.iter().map(|version| (**version).clone()).collect()
}

/// Whatever a disk does to a commit, what was acknowledged is on it and nothing else.
#[test]
fn a_commit_is_acknowledged_only_if_it_is_the_one_on_the_disk() {
    let mut n_late = 0;
    for n_ops in 0..60 {
        let folder = tempfile::TempDir::new().unwrap();
        let faulty = Faulty::default();
        let (disk, _) = faulty.open(folder.path()).unwrap();
        let mut owner = owner(Storage::Disk(disk));
        ask(&mut owner, |engine| engine.put(put("first", 0))).unwrap();
        faulty.fail_reads(true);
        faulty.fail_after(Some(n_ops));
        let was_written = ask(&mut owner, |engine| engine.put(put("second", 0))).is_ok();
        // The disk works again before it is time to try it.
        faulty.fail_after(None);
        faulty.fail_reads(false);
        owner.retry_at += Duration::from_mins(1);
        let third = ask(&mut owner, |engine| engine.put(put("third", 0)));
        assert_eq!(third.is_ok(), was_written, "after {n_ops} operations");
        // It is opened, but cannot be read at first.
        if !was_written {
            owner.is_stale |= owner.reopen();
            n_late += usize::from(owner.is_stale);
            faulty.fail_reads(true);
            owner.recover();
            faulty.fail_reads(false);
            let is_stale = owner.is_stale;
            let fourth = ask(&mut owner, |engine| engine.put(put("fourth", 0)));
            assert!(fourth.is_err() || !is_stale);
        }
        owner.retry_at = Instant::now();
        owner.retry_storage();
        assert!(!owner.is_in_trouble());
        ask(&mut owner, |engine| engine.put(put("last", 0))).unwrap();
        let shown = rows(&write(&owner.state.store));
        drop(owner);
        let (_, saved) = faulty.open(folder.path()).unwrap();
        assert_eq!(saved.versions, shown, "after {n_ops} operations");
        if was_written {
            break;
        }
    }
    assert!(n_late > 0, "no commit reached the disk and was refused");
}

#[test]
fn rows_that_a_failed_commit_was_to_drop_are_dropped_by_the_next() {
    let folder = tempfile::TempDir::new().unwrap();
    let faulty = Faulty::default();
    let (disk, _) = faulty.open(folder.path()).unwrap();
    let (mut owner, _jobs) = owner_with_history(Storage::Disk(disk), 2);
    ask(&mut owner, |engine| engine.put(put("ghost", 0))).unwrap();
    let ghost = etcd_client::proto::PbDeleteRequest {
        key: b"ghost".into(),
        ..Default::default()
    };
    ask(&mut owner, move |engine| Ok(engine.delete(&ghost))).unwrap();
    ask(&mut owner, |engine| engine.put(put("other", 0))).unwrap();
    for _ in 0..5 {
        faulty.fail_after(Some(0));
        let refused = ask(&mut owner, |engine| engine.put(put("other", 0)));
        assert_eq!(refused.err(), Some(Refusal::DiskFailed));
        faulty.fail_after(None);
        owner.retry_at = Instant::now();
        owner.retry_storage();
    }
    for _ in 0..5 {
        ask(&mut owner, |engine| engine.put(put("other", 0))).unwrap();
    }
    let shown = rows(&write(&owner.state.store));
    drop(owner);
    let (_, saved) = faulty.open(folder.path()).unwrap();
    assert_eq!(saved.versions, shown);
    assert!(saved.versions.iter().all(|version| version.key == "other"));
}

#[test]
fn answers_that_saw_what_was_taken_back_are_refused_and_renewals_are_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let faulty = Faulty::default();
    let (disk, _) = faulty.open(folder.path()).unwrap();
    let (mut owner, jobs) = owner_with_history(Storage::Disk(disk), 100);
    ask(&mut owner, |engine| engine.grant(7, 60)).unwrap();
    let keys = |engine: &mut Engine<'_>| Ok(engine.store.rows().len());
    let (before, mut seen_before) = job(keys);
    let (writes, mut written) = job(|engine| engine.put(put("key", 7)));
    let (after, mut seen_after) = job(keys);
    let (renews, mut renewed) = job(|engine| Ok(engine.renew(7)));
    let (revokes, mut revoked) = job(|engine| engine.revoke(7));
    let (misses, mut missed) = job(|engine| Ok(engine.renew(7)));
    for job in [writes, after, renews, revokes, misses] {
        jobs.try_send(job).ok().unwrap();
    }
    faulty.fail_after(Some(0));
    owner.turn(before);
    let failed = Some(Refusal::DiskFailed);
    assert_eq!(seen_before.try_recv().unwrap(), Ok(0));
    assert_eq!(written.try_recv().unwrap().err(), failed);
    assert_eq!(seen_after.try_recv().unwrap().err(), failed);
    assert_eq!(renewed.try_recv().unwrap(), Ok(60));
    assert_eq!(revoked.try_recv().unwrap().err(), failed);
    assert_eq!(missed.try_recv().unwrap().err(), failed, "it lives");
    // The clock is to try the disk, though no request comes.
    assert_eq!(*owner.next_wake.borrow(), Some(owner.retry_at));
}

#[test]
fn a_failed_defragmentation_fails_nothing_else() {
    let mut n_failed = 0;
    for n_ops in 0..200 {
        let folder = tempfile::TempDir::new().unwrap();
        let faulty = Faulty::default();
        let (disk, _) = faulty.open(folder.path()).unwrap();
        let (mut owner, jobs) = owner_with_history(Storage::Disk(disk), 100);
        let (writes, mut written) = job(|engine| engine.put(put("key", 0)));
        let (defragments, mut defragmented) = job(|engine| {
            engine.defragment();
            Ok(())
        });
        jobs.try_send(defragments).ok().unwrap();
        faulty.fail_after(Some(n_ops));
        owner.turn(writes);
        let is_written = written.try_recv().unwrap().is_ok();
        let is_done = defragmented.try_recv().unwrap().is_ok();
        let revision = write(&owner.state.store).revision();
        assert_eq!(*owner.state.committed.borrow(), revision);
        assert_eq!(revision, 1 + i64::from(is_written));
        n_failed += usize::from(is_written && !is_done);
        if is_done {
            break;
        }
    }
    assert!(n_failed > 0);
}

#[test]
fn large_requests_share_no_commit_and_no_quota() {
    let (mut owner, jobs) = owner_with_history(Storage::Memory, 1000);
    Arc::get_mut(&mut owner.state).unwrap().space = Space::new(6_000_000);
    let large = |n: usize| {
        job(move |engine| {
            engine.put(PbPutRequest {
                value: vec![b'x'; 1_000_000],
                ..put(&format!("large/{n}"), 0)
            })
        })
    };
    let mut answers = Vec::new();
    for n in 0..20 {
        let (job, answer) = large(n);
        jobs.try_send(job).ok().unwrap();
        answers.push(answer);
    }
    let first = owner.jobs.try_recv().unwrap();
    owner.turn(first);
    assert_eq!(owner.jobs.len(), 15, "the others wait for the next commit");
    while let Ok(next) = owner.jobs.try_recv() {
        owner.turn(next);
    }
    let n_written = answers
        .iter_mut()
        .filter_map(|answer| answer.try_recv().ok())
        .flatten()
        .count();
    assert_eq!(n_written, 6);
}
