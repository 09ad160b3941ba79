//! What daemons and consoles write about others: guarded, so that nobody's news is lost.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};

use super::error::Error;
use super::key::Key;
use super::lease;
use super::value::{ChildValue, InstanceValue};
use super::{Registry, list};
use crate::instance::{Identity, InstanceId, State};

impl Registry {
    /// Marks an instance dead, so that clients hear at once and not after its time to live, then
    /// revokes its lease. For the daemon that saw its process die.
    ///
    /// An entry that is gone already is as good.
    ///
    /// # Errors
    /// [`Error::Changed`] when somebody else keeps writing it, [`Error::Unreachable`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave the mark without the revocation; the entry then ends with its
    /// lease.
    pub async fn mark_dead(
        &self,
        identity: &Identity,
        pid: u32,
        reason: &str,
    ) -> Result<(), Error> {
        let reason: Arc<str> = Arc::from(reason);
        let marked = self
            .rewrite(identity, |value| {
                // The next process of this child may be registered already.
                if value.process.pid != pid {
                    return false;
                }
                value.state = State::Dead;
                value.reason = Some(Arc::clone(&reason));
                true
            })
            .await;
        match marked {
            Ok(Some(lease)) if lease != 0 => lease::revoke(&self.shared.etcd, lease).await,
            Ok(_) | Err(Error::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the operator's wish whether clients may choose an instance; it follows its own key.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Changed`], [`Error::Unreachable`].
    ///
    /// # Cancel safety
    /// The wish is written or not.
    pub async fn set_registered(&self, identity: &Identity, wish: bool) -> Result<(), Error> {
        self.rewrite(identity, |value| {
            let changes = value.registered != wish;
            value.registered = wish;
            changes
        })
        .await
        .map(|_lease| ())
    }

    /// Writes a daemon's word on a child that is not registered.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`].
    ///
    /// # Cancel safety
    /// The word is written or not.
    pub async fn put_child(
        &self,
        host: &Arc<str>,
        id: InstanceId,
        value: &ChildValue,
    ) -> Result<(), Error> {
        let key = Key::Child {
            host: Arc::clone(host),
            id,
        }
        .path(self.prefix());
        let value = serde_json::to_vec(value).map_err(|source| Error::BadValue {
            key: key.clone(),
            source,
        })?;
        self.shared
            .etcd
            .call("write a child's state", async |mut client| {
                client
                    .put(key.as_str(), value.as_slice(), None)
                    .await
                    .map(|_| ())
            })
            .await
    }

    /// Takes a daemon's word on a child away.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`].
    ///
    /// # Cancel safety
    /// The word is there or gone.
    pub async fn remove_child(&self, host: &Arc<str>, id: InstanceId) -> Result<(), Error> {
        let key = Key::Child {
            host: Arc::clone(host),
            id,
        }
        .path(self.prefix());
        self.shared
            .etcd
            .call("remove a child's state", |mut client| {
                let key = key.as_str();
                async move { client.delete(key, None).await.map(|_| ()) }
            })
            .await
    }

    /// Which children of a host have a word of its daemon.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn children_of(&self, host: &Arc<str>) -> Result<Vec<InstanceId>, Error> {
        let path = Key::Child {
            host: Arc::clone(host),
            id: InstanceId::nil(),
        }
        .path(self.prefix());
        let first = path.trim_end_matches(|letter| letter != '/').as_bytes();
        let options = GetOptions::new()
            .with_range(list::range_end(first))
            .with_keys_only();
        let response = self
            .shared
            .etcd
            .call("list a host's children", |mut client| {
                let options = options.clone();
                async move { client.get(first, Some(options)).await }
            })
            .await?;
        Ok(response
            .kvs()
            .iter()
            .filter_map(|kv| match Key::parse(self.prefix(), kv.key()) {
                Some(Key::Child { id, .. }) => Some(id),
                _ => None,
            })
            .collect())
    }

    /// Deletes everything below the prefix: for a cluster that was only shown.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`].
    ///
    /// # Cancel safety
    /// All is deleted or nothing.
    pub async fn delete_prefix(&self) -> Result<(), Error> {
        let first = format!("{}/", self.prefix()).into_bytes();
        let options = DeleteOptions::new().with_range(list::range_end(&first));
        self.shared
            .etcd
            .call("delete the prefix", async |mut client| {
                client
                    .delete(first.as_slice(), Some(options.clone()))
                    .await
                    .map(|_| ())
            })
            .await
    }

    /// Rewrites an instance's entry over the revision that was read, keeping its lease. `None` when
    /// `change` says that there is nothing to write, else the lease.
    async fn rewrite(
        &self,
        identity: &Identity,
        change: impl Fn(&mut InstanceValue) -> bool,
    ) -> Result<Option<i64>, Error> {
        let key = Key::Instance(identity.clone()).path(self.prefix());
        let etcd = &self.shared.etcd;
        for _attempt in 0..5 {
            let response = etcd
                .call("read an instance", |mut client| {
                    let key = key.as_str();
                    async move { client.get(key, None).await }
                })
                .await?;
            let Some(standing) = response.kvs().first() else {
                return Err(Error::Missing { key });
            };
            let mut value: InstanceValue =
                serde_json::from_slice(standing.value()).map_err(|source| Error::BadValue {
                    key: key.clone(),
                    source,
                })?;
            if !change(&mut value) {
                return Ok(None);
            }
            let value = serde_json::to_vec(&value).map_err(|source| Error::BadValue {
                key: key.clone(),
                source,
            })?;
            let options = PutOptions::new().with_ignore_lease();
            let txn = Txn::new()
                .when([Compare::mod_revision(
                    key.as_str(),
                    CompareOp::Equal,
                    standing.mod_revision(),
                )])
                .and_then([TxnOp::put(key.as_str(), value, Some(options))]);
            let written = etcd
                .call("write an instance", async |mut client| {
                    client.txn(txn.clone()).await
                })
                .await?;
            if written.succeeded() {
                return Ok(Some(standing.lease()));
            }
        }
        Err(Error::Changed { key })
    }
}
