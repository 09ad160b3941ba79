//! Claiming an entry and its address: written if they are free, ours already, or left by the dead.
//!
//! Invariant: what a living process of another holds is never overwritten.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::super::entry::Holder;
use super::super::error::Error;
use super::worker::Worker;
use crate::instance::ProcessId;

/// What stands under our keys, when they are not free.
struct Standing {
    entry: Option<(Vec<u8>, i64)>,
    claim: Option<(Vec<u8>, i64)>,
}

impl Worker {
    /// Writes the entry and its claim if they are free, ours already, or left by the dead.
    pub(super) async fn claim(&mut self, lease: i64) -> Result<(), Error> {
        self.take_wanted();
        let mut seen = Standing {
            entry: None,
            claim: None,
        };
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

    /// Puts both keys if they are as `seen`; else tells how they are.
    async fn write_if_unchanged(
        &self,
        lease: i64,
        seen: &Standing,
    ) -> Result<Result<i64, Standing>, Error> {
        let key = self.key();
        let bad = |source| Error::BadValue {
            key: key.clone(),
            source,
        };
        let mut keys = vec![(
            key.clone(),
            self.own.encode(lease).map_err(bad)?,
            &seen.entry,
        )];
        if let Some((claim_key, claim)) = self.own.claim() {
            let value = serde_json::to_vec(&claim).map_err(bad)?;
            keys.push((claim_key.path(&self.prefix), value, &seen.claim));
        }
        let compares: Vec<Compare> = keys
            .iter()
            .map(|(key, _, seen)| {
                let revision = seen.as_ref().map_or(0, |(_, revision)| *revision);
                Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)
            })
            .collect();
        let puts: Vec<TxnOp> = keys
            .iter()
            .map(|(key, value, _)| {
                let options = PutOptions::new().with_lease(lease);
                TxnOp::put(key.as_str(), value.as_slice(), Some(options))
            })
            .collect();
        let gets: Vec<TxnOp> = keys
            .iter()
            .map(|(key, _, _)| TxnOp::get(key.as_str(), None))
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
        let mut found = response
            .op_responses()
            .into_iter()
            .map(|response| match response {
                TxnOpResponse::Get(get) => get
                    .kvs()
                    .first()
                    .map(|kv| (kv.value().to_vec(), kv.mod_revision())),
                _ => None,
            });
        Ok(Err(Standing {
            entry: found.next().flatten(),
            claim: found.next().flatten(),
        }))
    }

    /// Whether what stands may be replaced; on the way, the wish that stands in it is taken over.
    fn judge(&mut self, standing: Standing) -> Result<Standing, Error> {
        if let Some((value, _)) = &standing.entry {
            let holder = self.own.holder(value, is_alive);
            Self::refuse_others(&holder, &self.key())?;
            if matches!(holder, Holder::Ourselves) {
                self.adopt(value)?;
            }
        }
        if let (Some((value, _)), Some((key, _))) = (&standing.claim, self.own.claim()) {
            let holder = self.own.claim_holder(value, is_alive);
            Self::refuse_others(&holder, &key.path(&self.prefix))?;
        }
        Ok(standing)
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
