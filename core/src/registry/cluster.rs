//! The `cluster` key: which registry this is, and in which format its keys are.
//!
//! Written once by the first who registers anything, and never again: a registry that was wiped,
//! restored or exchanged tells by it, also where etcd's own cluster id is the same. Readers never
//! write it.

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Error;
use super::etcd::Etcd;
use super::key::Key;
use super::list;
use super::value::OtherFields;

/// The format of keys and values that this program reads and writes.
pub const FORMAT: u32 = 1;

/// `cluster`: the identity of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ClusterValue {
    /// Random, and another one in every registry that began empty.
    pub(super) id: Uuid,
    /// The format of everything below the prefix.
    pub(super) format: u32,
    /// Fields of a newer program.
    #[serde(flatten)]
    pub(super) other: OtherFields,
}

/// Reads what stands under the `cluster` key. A value that cannot be read counts as none, so that
/// whoever spoils it stops nobody.
///
/// # Errors
/// [`Error::Format`] when the rest cannot be understood.
pub(super) fn read(prefix: &str, value: &[u8]) -> Result<Option<ClusterValue>, Error> {
    // Only the format is certain to read the same in every format.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    match serde_json::from_slice::<Format>(value) {
        Ok(Format { format }) if format != FORMAT => Err(Error::Format {
            prefix: prefix.to_owned(),
            found: format,
        }),
        Ok(_) | Err(_) => Ok(serde_json::from_slice(value)
            .inspect_err(|error| tracing::warn!(%error, "the `cluster` key cannot be read"))
            .ok()),
    }
}

/// Writes the `cluster` key unless it stands there. It looks first, because thousands of processes
/// do this at once, and a transaction that might write is a write to etcd.
///
/// # Errors
/// [`Error::Format`], and what an exchange with the registry can end in.
///
/// # Cancel safety
/// The key is there or not.
pub(super) async fn ensure(etcd: &Etcd, prefix: &str) -> Result<(), Error> {
    if list::who(etcd, prefix).await?.0.is_some() {
        return Ok(());
    }
    let key = Key::Cluster.path(prefix);
    let value = serde_json::to_vec(&ClusterValue {
        id: Uuid::new_v4(),
        format: FORMAT,
        other: OtherFields::new(),
    })
    .map_err(|source| Error::BadValue {
        key: key.clone(),
        source,
    })?;
    let txn = Txn::new()
        .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key.as_str(), value, None)])
        .or_else([TxnOp::get(key.as_str(), None)]);
    let response = etcd
        .call("look who the registry is", async |mut client| {
            client.txn(txn.clone()).await
        })
        .await?;
    for standing in response.op_responses() {
        if let TxnOpResponse::Get(standing) = standing
            && let Some(kv) = standing.kvs().first()
        {
            read(prefix, kv.value())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_format_is_refused_and_nonsense_counts_as_nothing() {
        let id = Uuid::new_v4();
        let ours = format!(r#"{{"id":"{id}","format":1,"colour":"red"}}"#);
        let read = |text: &str| read("/p", text.as_bytes());
        let value = read(&ours).unwrap().unwrap();
        assert_eq!((value.id, value.format), (id, FORMAT));
        assert_eq!(value.other["colour"], "red");
        assert_eq!(read("nonsense").unwrap(), None);
        assert_eq!(read(r#"{"format":1,"id":7}"#).unwrap(), None);
        // Of a later format, nothing but the format need be readable.
        let error = read(r#"{"format":2,"id":{"parts":[1]}}"#).unwrap_err();
        assert!(matches!(error, Error::Format { found: 2, .. }), "{error}");
    }
}
