//! The self-check: what stands in the registry is held against what should.
//!
//! Invariants: it looks at the own key, at the claims on address and id and at the lease, whatever the
//! watch says or does not say; what differs is put right; a registry that was put back to an older
//! state is followed from where it is now.

use etcd_client::{KeyValue, Txn, TxnOp, TxnOpResponse};

use super::super::cluster;
use super::super::error::Error;
use super::super::etcd::is_lease_gone;
use super::super::key::Key;
use super::super::value::Claim;
use super::worker::Worker;

/// What a look at the registry found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// All stands as it should, or was put right.
    Stands,
    /// The registry went back: what is watched lies in a future that may never come.
    WatchAgain,
    /// The entry or the lease is gone, or another's stands there: it must be claimed again.
    Lost,
}

impl Worker {
    /// Compares what stands with what should.
    pub(super) async fn check(&mut self, lease: i64) -> Result<Check, Error> {
        let (entry, claims, revision) = self.look().await?;
        let went_back = revision + 1 < self.watch_from;
        if went_back {
            tracing::warn!(
                revision,
                "the registry went back, following the own entry from there"
            );
        }
        self.watch_from = revision + 1;
        let Some(entry) = entry else {
            return Ok(self.lost(lease));
        };
        if !self.is_ours(entry.value(), entry.lease(), lease) {
            return Ok(Check::Lost);
        }
        // As it was read, also if that is lower than what we wrote: then the registry went back.
        self.mod_revision = entry.mod_revision();
        if !self.adopt(entry.value()) || entry.lease() != lease {
            self.write_own(lease).await?;
        }
        if let Err(error) = cluster::ensure(&self.etcd, &self.prefix).await {
            tracing::debug!(%error, "whose registry it is cannot be told");
        }
        if !self.lease_stands(lease).await? {
            tracing::warn!(lease, "the lease is gone, though its renewals succeed");
            return Ok(self.lost(lease));
        }
        if !self.are_own(&claims, lease) {
            match self.claim(lease).await {
                Ok(()) => {
                    tracing::warn!("a claim on the address or the id was gone, it is made again");
                }
                // Two owners of one id hide each other; an address without a claim still serves.
                Err(Error::Taken { key, .. }) if self.is_id_claim(&key) => {
                    self.stands.send_replace(false);
                    return Ok(Check::Lost);
                }
                Err(error @ Error::Taken { .. }) => {
                    tracing::warn!(%error, "another claims the address that we serve at");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(if went_back {
            Check::WatchAgain
        } else {
            Check::Stands
        })
    }

    fn is_id_claim(&self, path: &str) -> bool {
        let claims = self.own.claims();
        let mut ids = claims.iter().filter(|(key, _)| matches!(key, Key::Id(_)));
        ids.any(|(key, _)| key.path(&self.prefix) == path)
    }

    fn lost(&self, lease: i64) -> Check {
        self.stands.send_replace(false);
        self.keeper.replace(lease);
        Check::Lost
    }

    /// The entry and the claims as they stand, and the registry's revision.
    async fn look(&self) -> Result<(Option<KeyValue>, Vec<Option<KeyValue>>, i64), Error> {
        let claims = self.own.claims();
        let gets: Vec<TxnOp> = std::iter::once(&self.own.key())
            .chain(claims.iter().map(|(key, _)| key))
            .map(|key| key.path(&self.prefix))
            .map(|key| TxnOp::get(key, None))
            .collect();
        let txn = Txn::new().and_then(gets);
        let response = self
            .etcd
            .call("check the own entry", |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        let revision = response
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        let mut found = response
            .op_responses()
            .into_iter()
            .map(|response| match response {
                TxnOpResponse::Get(get) => get.kvs().first().cloned(),
                _ => None,
            });
        let entry = found.next().flatten();
        Ok((entry, found.collect(), revision))
    }

    async fn lease_stands(&self, lease: i64) -> Result<bool, Error> {
        let left = self
            .etcd
            .call("look at the lease", |mut client| async move {
                client.lease_time_to_live(lease, None).await
            })
            .await;
        match left {
            Ok(left) => Ok(left.ttl() > 0),
            Err(error) if is_lease_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn are_own(&self, standing: &[Option<KeyValue>], lease: i64) -> bool {
        let claims = self.own.claims();
        claims.len() == standing.len()
            && claims.iter().zip(standing).all(|((_, claim), standing)| {
                standing.as_ref().is_some_and(|kv| {
                    kv.lease() == lease
                        && serde_json::from_slice::<Claim>(kv.value()).is_ok_and(|it| it == *claim)
                })
            })
    }
}
