//! What the owner does when its disk fails.

use std::sync::atomic::AtomicU64;

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
    let store = Store::new(100);
    let (_, jobs) = mpsc::channel(1);
    Owner {
        state: Arc::new(State {
            identity: Identity::random(),
            committed: watch::Sender::new(store.revision()),
            store: RwLock::new(store),
            disk_bytes: AtomicU64::new(0),
            space: Space::default(),
        }),
        lessor: Lessor::default(),
        storage,
        history: 100,
        retry_at: Instant::now(),
        jobs,
        next_expiry: watch::Sender::new(None),
    }
}

/// Runs one request as a batch of its own.
fn ask<T: Send + 'static>(
    owner: &mut Owner,
    work: impl FnOnce(&mut Engine<'_>) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let (sender, mut receiver) = oneshot::channel();
    owner.batch(Box::new(move |engine| {
        let result = work(engine);
        Box::new(move |committed| drop(sender.send(committed.and(result))))
    }));
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
