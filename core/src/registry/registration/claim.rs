//! Claiming an entry, its address and its id: written if they are free, ours already, or left by the dead.
//!
//! Invariant: what a living process of another holds is never overwritten.

use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::super::entry::Holder;
use super::super::error::Error;
use super::super::key::Key;
use super::worker::Worker;
use crate::instance::ProcessId;

/// What stands under the entry's key and those of its claims, in this order.
type Seen = Vec<Option<KeyValue>>;

impl Worker {
    /// Writes the entry and its claims if they are free, ours already, or left by the dead.
    pub(super) async fn claim(&mut self, lease: i64) -> Result<(), Error> {
        self.take_wanted();
        let mut seen = Seen::new();
        // Somebody may write between our look and our write; then we look again.
        for _attempt in 0..5 {
            match self.write_if_unchanged(lease, &seen).await? {
                Ok(revision) => {
                    self.mod_revision = revision;
                    self.watch_from = revision + 1;
                    self.decided = false;
                    return Ok(());
                }
                Err(standing) => seen = self.judge(standing, lease)?,
            }
        }
        Err(Error::Changed { key: self.key() })
    }

    /// Puts the keys if they are as `seen`; else tells how they are.
    async fn write_if_unchanged(
        &self,
        lease: i64,
        seen: &[Option<KeyValue>],
    ) -> Result<Result<i64, Seen>, Error> {
        let key = self.key();
        let bad = |source| Error::BadValue {
            key: key.clone(),
            source,
        };
        let mut keys = vec![(key.clone(), self.own.encode(lease).map_err(bad)?)];
        for (claim_key, claim) in self.own.claims() {
            let value = serde_json::to_vec(&claim).map_err(bad)?;
            keys.push((claim_key.path(&self.prefix), value));
        }
        let compares: Vec<Compare> = keys
            .iter()
            .enumerate()
            .map(|(index, (key, _))| {
                let seen = seen.get(index).and_then(Option::as_ref);
                let revision = seen.map_or(0, KeyValue::mod_revision);
                Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)
            })
            .collect();
        let puts: Vec<TxnOp> = keys
            .iter()
            .map(|(key, value)| {
                let options = PutOptions::new().with_lease(lease);
                TxnOp::put(key.as_str(), value.as_slice(), Some(options))
            })
            .collect();
        let gets: Vec<TxnOp> = keys
            .iter()
            .map(|(key, _)| TxnOp::get(key.as_str(), None))
            .collect();
        let txn = Txn::new().when(compares).and_then(puts).or_else(gets);
        let response = self
            .etcd
            .call("register", |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await
            .inspect_err(|error| {
                if super::super::etcd::is_lease_gone(error) {
                    self.keeper.replace(lease);
                }
            })?;
        if response.succeeded() {
            return Ok(Ok(response
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision)));
        }
        let found = response
            .op_responses()
            .into_iter()
            .map(|response| match response {
                TxnOpResponse::Get(get) => get.kvs().first().cloned(),
                _ => None,
            });
        Ok(Err(found.collect()))
    }

    /// Whether what stands may be replaced; on the way, the wish that stands in it is taken over.
    fn judge(&mut self, seen: Seen, lease: i64) -> Result<Seen, Error> {
        let mut standing = seen.iter();
        if let Some(kv) = standing.next().and_then(Option::as_ref) {
            let holder = self.own.holder(kv.value(), is_alive);
            let holder = holder.or_spoiled(kv.lease(), lease);
            self.note_rival(&holder, kv.lease());
            Self::refuse_others(&holder, &self.key())?;
            if matches!(holder, Holder::Ourselves) {
                self.adopt(kv.value());
            }
        }
        for ((key, _), kv) in self.own.claims().iter().zip(standing) {
            let Some(kv) = kv else { continue };
            let holder = self.own.claim_holder(kv.value(), is_alive);
            let holder = holder.or_spoiled(kv.lease(), lease);
            if matches!(key, Key::Id(_)) {
                self.note_rival(&holder, kv.lease());
            }
            Self::refuse_others(&holder, &key.path(&self.prefix))?;
        }
        Ok(seen)
    }

    /// Notes who has our id, where waiting for its end might be for ever: on this boot of this host
    /// it is the process before us, and ends.
    fn note_rival(&mut self, holder: &Holder, lease: i64) {
        if let Holder::Other(process) = holder
            && process.boot_id != self.own.process().boot_id
        {
            self.rivals.refused_by(lease);
        }
    }

    fn refuse_others(holder: &Holder, key: &str) -> Result<(), Error> {
        match holder {
            Holder::Ourselves | Holder::Gone => Ok(()),
            Holder::Other(process) => Err(Error::Taken {
                key: key.to_owned(),
                pid: process.pid,
            }),
            // Pid 0 is nobody's: the value tells of no process.
            Holder::Unreadable => Err(Error::Taken {
                key: key.to_owned(),
                pid: 0,
            }),
        }
    }
}

/// Whether a process of this boot runs; what cannot be read counts as running.
pub(super) fn is_alive(process: &ProcessId) -> bool {
    process.is_alive().unwrap_or(true)
}
