//! What the owner does when its disk fails.

use std::sync::atomic::AtomicU64;

use etcd_client::proto::PbPutRequest;
use tokio::sync::oneshot;

use super::*;
use crate::registry::embedded::{disk::Identity, range::KeyRange, store::Want};

fn owner(storage: Storage) -> Owner {
    let store = Store::new(100);
    let (_, jobs) = mpsc::channel(1);
    Owner {
        state: Arc::new(State {
            identity: Identity::random(),
            committed: watch::Sender::new(store.revision()),
            store: RwLock::new(store),
            disk_bytes: AtomicU64::new(0),
        }),
        lessor: Lessor::default(),
        storage,
        history: 100,
        jobs,
        next_expiry: watch::Sender::new(None),
    }
}

fn failed() -> Storage {
    Storage::Failed {
        folder: "/nowhere".into(),
        refusal: Refusal::NoSpace,
        retry_at: Instant::now() + Duration::from_hours(1),
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

#[test]
fn a_failed_disk_takes_nothing_in_and_loses_nothing() {
    let mut owner = owner(Storage::Memory);
    let (lease, _) = ask(&mut owner, |engine| engine.grant(7, 60)).unwrap();
    ask(&mut owner, move |engine| engine.put(put("leased", lease))).unwrap();
    ask(&mut owner, |engine| engine.put(put("plain", 0))).unwrap();
    let hash = write(&owner.state.store).hash(3);
    let bytes = write(&owner.state.store).bytes();

    owner.storage = failed();
    for _ in 0..10 {
        let refused = ask(&mut owner, move |engine| engine.put(put("plain", lease)));
        assert_eq!(refused.err(), Some(Refusal::NoSpace));
        let refused = ask(&mut owner, |engine| engine.put(put("new", 0)));
        assert_eq!(refused.err(), Some(Refusal::NoSpace));
        let refused = ask(&mut owner, |engine| engine.grant(8, 60));
        assert_eq!(refused.err(), Some(Refusal::NoSpace));
        let refused = ask(&mut owner, move |engine| engine.revoke(lease));
        assert_eq!(refused.err(), Some(Refusal::NoSpace));
    }
    // What needs no disk goes on.
    assert_eq!(
        ask(&mut owner, move |engine| Ok(engine.renew(lease))),
        Ok(60)
    );
    assert_eq!(ask(&mut owner, |engine| Ok(engine.leases())), Ok(vec![7]));
    let view = ask(&mut owner, |engine| Ok(engine.time_to_live(7, true)));
    assert_eq!(view.unwrap().unwrap().keys, [b"leased"]);
    let store = write(&owner.state.store);
    assert_eq!(
        (store.revision(), store.hash(3), store.bytes()),
        (3, hash, bytes)
    );
    let all = store.read(&KeyRange::new(&[0], &[0]), 3, Want::Count);
    assert_eq!(all.count, 2);
    assert_eq!(*owner.state.committed.borrow(), 3);
}

#[test]
fn a_disk_that_works_again_is_written_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let (storage, saved) = open(Some(folder.path())).unwrap();
    assert!(saved.unwrap().versions.is_empty());
    let mut owner = owner(storage);
    ask(&mut owner, |engine| engine.grant(7, 60)).unwrap();
    ask(&mut owner, |engine| engine.put(put("leased", 7))).unwrap();

    let mut storage = failed();
    if let Storage::Failed {
        folder: failed,
        retry_at,
        ..
    } = &mut storage
    {
        *retry_at = Instant::now();
        folder.path().clone_into(failed);
    }
    owner.storage = storage;
    owner.retry_storage();
    ask(&mut owner, |engine| engine.put(put("plain", 0))).unwrap();
    assert_eq!(*owner.state.committed.borrow(), 3);
    assert_eq!(ask(&mut owner, |engine| engine.revoke(7)), Ok(4));
    drop(owner);
    let (_, saved) = open(Some(folder.path())).unwrap();
    let saved = saved.unwrap();
    assert_eq!((saved.revision, saved.leases.len()), (4, 0));
}
