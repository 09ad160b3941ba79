//! Claiming an entry, its address and its id: written if they are free, ours already, or left by the dead.
//!
//! Invariant: what a living process of another holds is never overwritten.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::super::entry::Holder;
use super::super::error::Error;
use super::super::key::Key;
use super::worker::Worker;
use crate::instance::ProcessId;

/// What stands under a key of ours that is not free.
struct Standing {
    value: Vec<u8>,
    mod_revision: i64,
    lease: i64,
}

/// What stands under the entry's key and those of its claims, in this order.
type Seen = Vec<Option<Standing>>;

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
                Err(standing) => seen = self.judge(standing)?,
            }
        }
        Err(Error::Changed { key: self.key() })
    }

    /// Puts the keys if they are as `seen`; else tells how they are.
    async fn write_if_unchanged(
        &self,
        lease: i64,
        seen: &[Option<Standing>],
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
                let revision = seen.map_or(0, |seen| seen.mod_revision);
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
                TxnOpResponse::Get(get) => get.kvs().first().map(|kv| Standing {
                    value: kv.value().to_vec(),
                    mod_revision: kv.mod_revision(),
                    lease: kv.lease(),
                }),
                _ => None,
            });
        Ok(Err(found.collect()))
    }

    /// Whether what stands may be replaced; on the way, the wish that stands in it is taken over.
    fn judge(&mut self, seen: Seen) -> Result<Seen, Error> {
        let mut standing = seen.iter();
        if let Some(standing) = standing.next().and_then(Option::as_ref) {
            let holder = self.own.holder(&standing.value, is_alive);
            self.note_rival(&holder, standing.lease);
            Self::refuse_others(&holder, &self.key())?;
            if matches!(holder, Holder::Ourselves) {
                self.adopt(&standing.value)?;
            }
        }
        for ((key, _), standing) in self.own.claims().iter().zip(standing) {
            let Some(standing) = standing else { continue };
            let holder = self.own.claim_holder(&standing.value, is_alive);
            if matches!(key, Key::Id(_)) {
                self.note_rival(&holder, standing.lease);
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
