//! Which requests are refused before anything is looked up: empty keys, contradictions, too many
//! operations, one key written twice.
//!
//! Pure; the rules and their order are those of etcd's v3 API.

use std::{collections::HashSet, ops::RangeInclusive};

use etcd_client::proto::{
    PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp,
};
use prost::Message;

use super::{range::KeyRange, refusal::Refusal};

/// Operations per list of a transaction, etcd's default.
const MAX_TXN_OPS: usize = 128;

/// Comparisons and operations of a whole transaction, the nested ones and both branches together.
/// etcd has no such limit; without one a single request could keep everybody waiting for minutes.
const MAX_TXN_TOTAL: usize = 1024;

/// Bytes of a request that writes, etcd's default.
const MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// The orders and the targets that a read may sort by. Early releases of etcd end over others, later
/// ones refuse them.
const SORT_ORDERS: RangeInclusive<i32> = 0..=2;
const SORT_TARGETS: RangeInclusive<i32> = 0..=4;

/// Checks a request to read.
pub(super) fn range(request: &PbRangeRequest) -> Result<(), Refusal> {
    not_empty(&request.key)?;
    if SORT_ORDERS.contains(&request.sort_order) && SORT_TARGETS.contains(&request.sort_target) {
        Ok(())
    } else {
        Err(Refusal::InvalidSort)
    }
}

/// Checks a request to write one key.
pub(super) fn put(request: &PbPutRequest) -> Result<(), Refusal> {
    not_empty(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    not_too_large(request)
}

/// Checks a request to delete.
pub(super) fn delete(request: &PbDeleteRequest) -> Result<(), Refusal> {
    not_empty(&request.key)?;
    not_too_large(request)
}

/// Checks a whole transaction, the nested ones too.
pub(super) fn txn(request: &PbTxnRequest) -> Result<(), Refusal> {
    let mut left = MAX_TXN_TOTAL;
    txn_ops(request, MAX_TXN_OPS, &mut left)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    // What only reads costs the others nothing.
    if is_read_only(request) {
        Ok(())
    } else {
        not_too_large(request)
    }
}

fn is_read_only(request: &PbTxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| match &op.request {
        Some(PbTxnOpRequest::RequestTxn(nested)) => is_read_only(nested),
        Some(PbTxnOpRequest::RequestRange(_)) | None => true,
        Some(PbTxnOpRequest::RequestPut(_) | PbTxnOpRequest::RequestDeleteRange(_)) => false,
    })
}

fn not_empty(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

fn not_too_large(request: &impl Message) -> Result<(), Refusal> {
    if request.encoded_len() > MAX_REQUEST_BYTES {
        Err(Refusal::TooLarge)
    } else {
        Ok(())
    }
}

/// Checks operations; lists may have `max` of them, and all that are left to check `left`.
fn txn_ops(request: &PbTxnRequest, max: usize, left: &mut usize) -> Result<(), Refusal> {
    let n_ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if n_ops > max {
        return Err(Refusal::TooManyOps);
    }
    let n_all = request.compare.len() + request.success.len() + request.failure.len();
    *left = left.checked_sub(n_all).ok_or(Refusal::TooManyOps)?;
    for compare in &request.compare {
        not_empty(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(PbTxnOpRequest::RequestRange(request)) => range(request)?,
            Some(PbTxnOpRequest::RequestPut(request)) => put(request)?,
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => delete(request)?,
            // What is left of the budget shrinks with every level, which bounds the depth.
            Some(PbTxnOpRequest::RequestTxn(request)) => txn_ops(request, max - n_ops, left)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write: no key may be written twice on one path.
#[derive(Default)]
struct Writes<'request> {
    puts: HashSet<&'request [u8]>,
    deletes: Vec<KeyRange>,
}

impl<'request> Writes<'request> {
    fn of(ops: &'request [PbTxnRequestOp]) -> Result<Self, Refusal> {
        let mut writes = Self::default();
        for op in ops {
            if let Some(PbTxnOpRequest::RequestDeleteRange(delete)) = &op.request {
                let range = KeyRange::new(&delete.key, &delete.range_end);
                writes.deletes.push(range);
            }
        }
        for op in ops {
            if let Some(PbTxnOpRequest::RequestTxn(txn)) = &op.request {
                writes.add_branches(Self::of(&txn.success)?, Self::of(&txn.failure)?)?;
            }
        }
        for op in ops {
            if let Some(PbTxnOpRequest::RequestPut(put)) = &op.request {
                writes.add_put(&put.key)?;
            }
        }
        Ok(writes)
    }

    /// Takes in a nested transaction, of which only one branch will run: the two may write the
    /// same key.
    fn add_branches(&mut self, success: Self, failure: Self) -> Result<(), Refusal> {
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in &failure.puts {
            if self.is_deleted(key) {
                return Err(Refusal::DuplicateKey);
            }
            if !self.puts.insert(key) && !success.puts.contains(key) {
                return Err(Refusal::DuplicateKey);
            }
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &'request [u8]) -> Result<(), Refusal> {
        if self.is_deleted(key) || !self.puts.insert(key) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }

    fn is_deleted(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of `n` transactions each, so many levels of them, and `n` deletes at the end.
    fn nested(n: usize, levels: usize) -> PbTxnRequest {
        let op = if levels == 0 {
            PbTxnOpRequest::RequestDeleteRange(PbDeleteRequest {
                key: b"key".into(),
                ..PbDeleteRequest::default()
            })
        } else {
            PbTxnOpRequest::RequestTxn(nested(n, levels - 1))
        };
        PbTxnRequest {
            success: vec![PbTxnRequestOp { request: Some(op) }; n],
            ..PbTxnRequest::default()
        }
    }

    #[test]
    fn nested_operations_are_limited_in_total_too() {
        assert_eq!(txn(&nested(MAX_TXN_OPS, 0)), Ok(()));
        assert_eq!(txn(&nested(31, 1)), Ok(()));
        assert_eq!(txn(&nested(32, 1)), Err(Refusal::TooManyOps));
        assert_eq!(txn(&nested(10, 2)), Err(Refusal::TooManyOps));
    }
}
