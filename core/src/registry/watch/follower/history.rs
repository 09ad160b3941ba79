//! Whether the registry is still the one that is known, and its history still has what was seen.
//!
//! Invariants: only the registry's own word raises a doubt; what it cannot tell (that far back the
//! history was compacted) raises none.

use etcd_client::GetOptions;

use super::Follower;
use crate::registry::error::Error;
use crate::registry::link::Doubt;
use crate::registry::list::who;
use crate::registry::origin::{Reading, Witness};
use crate::registry::refusal::Refusal;

impl Follower {
    /// Asks whether it is still the registry that is known; if not, a listing has to follow.
    pub(super) async fn ask_who(&mut self) -> Result<(), Error> {
        let (cluster, at) = who(&self.etcd, &self.config.prefix).await?;
        let reading = Reading {
            etcd: at.cluster_id,
            cluster: cluster.map(|cluster| cluster.id),
            revision: at.revision,
        };
        self.doubt = self.origin.doubt(reading);
        if self.doubt.is_none() {
            self.ask_history().await?;
        }
        Ok(())
    }

    /// Doubts the registry if its history lacks the newest write that was seen.
    pub(super) async fn ask_history(&mut self) -> Result<(), Error> {
        let stands = match self.origin.witness() {
            Some(witness) => self.stands(witness).await?,
            None => true,
        };
        if !stands {
            self.doubt = Some(Doubt::WentBack);
        }
        Ok(())
    }

    /// Whether the registry's history still has a write that was seen.
    async fn stands(&self, witness: &Witness) -> Result<bool, Error> {
        let options = GetOptions::new()
            .with_revision(witness.revision)
            .with_keys_only();
        let at = self
            .etcd
            .call(
                "look whether the history is the same",
                async |mut client| {
                    let key = witness.key.as_slice();
                    client.get(key, Some(options.clone())).await
                },
            )
            .await;
        match at {
            Ok(response) => Ok(response
                .kvs()
                .first()
                .is_some_and(|kv| kv.mod_revision() == witness.revision)),
            // That far back the history was compacted, and nothing can be said.
            Err(error) if error.refusal() == Some(Refusal::Compacted) => Ok(true),
            // It is not as far as it was when that was written.
            Err(error) if error.refusal() == Some(Refusal::Future) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
