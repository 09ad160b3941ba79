//! Those who write while the registry is killed, and the ledger of what they were promised.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use etcd_client::{Client, Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp};
use fastrand::Rng;
use tokio::{sync::Notify, time::timeout};

use crate::registry_process::PATIENCE;

const KEYS: usize = 8;

/// What one revision does to keys: a value with its lease, or nothing where it deletes.
pub(super) type Events = BTreeMap<String, Option<(String, i64)>>;

/// What the registry owes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The acknowledged revisions, with what they did.
    pub(super) owed: BTreeMap<i64, Events>,
    /// Requests without an answer: each may have happened once.
    pub(super) open: Vec<Events>,
    /// Leases whose grant was acknowledged, and whose end nobody asked for.
    pub(super) leases: BTreeSet<i64>,
    /// Leases that were asked for, or whose end was asked for, without an answer.
    pub(super) open_leases: BTreeSet<i64>,
    /// Leases whose end was acknowledged.
    pub(super) ended: BTreeSet<i64>,
    compacted: i64,
    pub(super) n_acknowledged: usize,
}

/// The ledger, and how a round ends.
#[derive(Debug, Default)]
pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    next_value: AtomicU64,
    next_lease: AtomicU64,
    pub(super) acknowledged: Notify,
}

impl Shared {
    pub(super) fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self) -> String {
        format!("v{}", self.next_value.fetch_add(1, Ordering::Relaxed))
    }

    /// Files an answer: the revision that it was given, or that it may have happened.
    fn file(&self, events: Events, revision: Option<i64>) {
        let mut ledger = self.ledger();
        match revision {
            Some(revision) => {
                let twice = ledger.owed.insert(revision, events);
                assert!(twice.is_none(), "revision {revision} was given away twice");
                ledger.n_acknowledged += 1;
                drop(ledger);
                self.acknowledged.notify_one();
            }
            None => ledger.open.push(events),
        }
    }
}

/// One writer; it alone writes the keys `{name}/…`, so it knows what stands there.
pub(super) struct Writer {
    pub(super) name: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) rng: Rng,
    /// What stands where: the value's revision and its lease.
    pub(super) keys: HashMap<String, (i64, i64)>,
    pub(super) leases: Vec<i64>,
}

impl Writer {
    fn key(&mut self) -> String {
        format!("{}/{}", self.name, self.rng.usize(..KEYS))
    }

    /// Works until the registry goes away.
    pub(super) async fn work(mut self) {
        while timeout(PATIENCE, self.step()).await.unwrap().is_some() {}
    }

    /// One request; `None` if there was no answer.
    async fn step(&mut self) -> Option<()> {
        match self.rng.u8(..20) {
            0 => self.grant().await,
            1 => self.revoke().await,
            2 => self.compact().await,
            3..6 => self.delete().await,
            6 => self.delete_all().await,
            7..12 => self.txn().await,
            _ => self.put().await,
        }
    }

    async fn put(&mut self) -> Option<()> {
        let key = self.key();
        let value = self.shared.value();
        let lease = self.rng.choice(&self.leases).copied().unwrap_or(0);
        let lease = if self.rng.bool() { lease } else { 0 };
        let events = Events::from([(key.clone(), Some((value.clone(), lease)))]);
        let options = PutOptions::new().with_lease(lease);
        let answer = self.client.put(key.as_str(), value, Some(options)).await;
        let revision = answer
            .ok()
            .map(|answer| answer.header().unwrap().revision());
        self.done(events, revision)
    }

    async fn delete(&mut self) -> Option<()> {
        let key = self.key();
        let answer = self.client.delete(key.as_str(), None).await;
        let revision = answer
            .ok()
            .map(|answer| answer.header().unwrap().revision());
        self.gone(vec![key], revision)
    }

    async fn delete_all(&mut self) -> Option<()> {
        let prefix = Some(DeleteOptions::new().with_prefix());
        let answer = self.client.delete(format!("{}/", self.name), prefix).await;
        let revision = answer
            .ok()
            .map(|answer| answer.header().unwrap().revision());
        let keys = self.keys.keys().cloned().collect();
        self.gone(keys, revision)
    }

    /// Three keys in one revision, if the first one stands as it is known to stand.
    async fn txn(&mut self) -> Option<()> {
        let mut keys: Vec<String> = (0..KEYS).map(|n| format!("{}/{n}", self.name)).collect();
        self.rng.shuffle(&mut keys);
        let known = self.keys.get(&keys[0]).map_or(0, |known| known.0);
        let mut events = Events::new();
        let mut ops = Vec::new();
        for key in keys.drain(..2) {
            let value = self.shared.value();
            ops.push(TxnOp::put(key.as_str(), value.as_str(), None));
            events.insert(key, Some((value, 0)));
        }
        ops.push(TxnOp::delete(keys[0].as_str(), None));
        if self.keys.contains_key(&keys[0]) {
            events.insert(keys[0].clone(), None);
        }
        let first = events.keys().next().unwrap().clone();
        let known = if self.rng.bool() {
            self.keys.get(&first).map_or(0, |known| known.0)
        } else {
            // It does not hold, so it writes nothing.
            events.clear();
            known + 1_000_000_000
        };
        let when = Compare::mod_revision(first, CompareOp::Equal, known);
        let txn = Txn::new().when([when]).and_then(ops);
        match self.client.txn(txn).await {
            Ok(answer) => {
                assert_eq!(answer.succeeded(), !events.is_empty());
                if events.is_empty() {
                    return Some(());
                }
                self.done(events, Some(answer.header().unwrap().revision()))
            }
            Err(_) => self.done(events, None),
        }
    }

    async fn grant(&mut self) -> Option<()> {
        let id = self.shared.next_lease.fetch_add(1, Ordering::Relaxed) + 1;
        let id = i64::try_from(id).unwrap();
        let options = Some(etcd_client::LeaseGrantOptions::new().with_id(id));
        let answer = self.client.lease_grant(600, options).await;
        let mut ledger = self.shared.ledger();
        if answer.is_err() {
            ledger.open_leases.insert(id);
            return None;
        }
        ledger.leases.insert(id);
        self.leases.push(id);
        Some(())
    }

    async fn revoke(&mut self) -> Option<()> {
        let Some(id) = self.leases.pop() else {
            return Some(());
        };
        let keys = self.keys.iter().filter(|(_, known)| known.1 == id);
        let keys: Vec<String> = keys.map(|(key, _)| key.clone()).collect();
        self.shared.ledger().leases.remove(&id);
        let answer = self.client.lease_revoke(id).await;
        let revision = answer
            .ok()
            .map(|answer| answer.header().unwrap().revision());
        let mut ledger = self.shared.ledger();
        match revision {
            Some(_) => ledger.ended.insert(id),
            None => ledger.open_leases.insert(id),
        };
        drop(ledger);
        self.gone(keys, revision)
    }

    async fn compact(&mut self) -> Option<()> {
        let newest = self.shared.ledger().owed.keys().next_back().copied()?;
        let at = newest - 200;
        if at <= self.shared.ledger().compacted {
            return Some(());
        }
        match self.client.compact(at, None).await {
            Ok(_) => {
                let mut ledger = self.shared.ledger();
                ledger.compacted = ledger.compacted.max(at);
                Some(())
            }
            // Another writer was faster, or it is gone.
            Err(etcd_client::Error::GRpcStatus(status))
                if status.code() == tonic::Code::OutOfRange =>
            {
                Some(())
            }
            Err(_) => None,
        }
    }

    /// Files that keys were deleted; without any, nothing happened.
    fn gone(&mut self, keys: Vec<String>, revision: Option<i64>) -> Option<()> {
        let mut events = Events::new();
        for key in keys {
            if self.keys.contains_key(&key) {
                events.insert(key, None);
            }
        }
        if events.is_empty() {
            return revision.map(drop);
        }
        self.done(events, revision)
    }

    fn done(&mut self, events: Events, revision: Option<i64>) -> Option<()> {
        if let Some(revision) = revision {
            for (key, event) in &events {
                match event {
                    Some((_, lease)) => self.keys.insert(key.clone(), (revision, *lease)),
                    None => self.keys.remove(key),
                };
            }
        }
        if !events.is_empty() {
            self.shared.file(events, revision);
        }
        revision.map(drop)
    }
}
