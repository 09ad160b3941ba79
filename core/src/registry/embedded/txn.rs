//! Requests on keys, applied to an open transaction of the store.
//!
//! Pure. [`check_ops`] finds out everything that could fail; after it, applying cannot.

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbRangeResponse, PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest,
    PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use super::{
    lease::Lessor,
    range::KeyRange,
    read::{self, key_value},
    refusal::Refusal,
    store::{Changes, Store, Version, Want},
};

/// Checks what the operations of the branch that will run depend on: revisions, leases, keys.
pub(super) fn check_ops(
    store: &Store,
    lessor: &Lessor,
    request: &PbTxnRequest,
) -> Result<(), Refusal> {
    for op in branch(request, holds_all(store, &request.compare)) {
        match &op.request {
            Some(PbTxnOpRequest::RequestRange(range)) => {
                store.check_revision(range.revision, store.revision())?;
            }
            Some(PbTxnOpRequest::RequestPut(put)) => {
                // Here etcd looks at the key before the lease.
                check_kept(store, put)?;
                check_put(store, lessor, put)?;
            }
            Some(PbTxnOpRequest::RequestTxn(txn)) => check_ops(store, lessor, txn)?,
            Some(PbTxnOpRequest::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Checks what one write depends on: the key that it leans on, the lease that it names.
pub(super) fn check_put(
    store: &Store,
    lessor: &Lessor,
    request: &PbPutRequest,
) -> Result<(), Refusal> {
    if request.lease != 0 && lessor.get(request.lease).is_none() {
        return Err(Refusal::LeaseNotFound);
    }
    check_kept(store, request)
}

/// Checks that there is something to keep, where a write keeps the value or the lease.
fn check_kept(store: &Store, request: &PbPutRequest) -> Result<(), Refusal> {
    if (request.ignore_value || request.ignore_lease) && store.get(&request.key).is_none() {
        return Err(Refusal::KeyNotFound);
    }
    Ok(())
}

/// Whether one of its branches writes a value, so that it could take room.
pub(super) fn may_put(request: &PbTxnRequest) -> bool {
    let ops = request.success.iter().chain(&request.failure);
    ops.filter_map(|op| op.request.as_ref()).any(|op| match op {
        PbTxnOpRequest::RequestPut(_) => true,
        PbTxnOpRequest::RequestTxn(txn) => may_put(txn),
        PbTxnOpRequest::RequestRange(_) | PbTxnOpRequest::RequestDeleteRange(_) => false,
    })
}

/// Runs a transaction that was checked.
pub(super) fn apply(changes: &mut Changes<'_>, request: PbTxnRequest) -> PbTxnResponse {
    // Every comparison looks at the state before the transaction, so the branches are chosen first.
    let plan = Plan::new(changes.store(), request);
    run(changes, plan)
}

/// Writes one key; the request was checked.
pub(super) fn apply_put(changes: &mut Changes<'_>, request: PbPutRequest) -> PbPutResponse {
    let current = changes.get(&request.key);
    let value = match current {
        Some(current) if request.ignore_value => current.value.clone(),
        _ => Bytes::from(request.value),
    };
    let lease = match current {
        Some(current) if request.ignore_lease => current.lease,
        _ => request.lease,
    };
    let before = changes.put(Bytes::from(request.key), value, lease);
    PbPutResponse {
        header: header(changes.revision()),
        prev_kv: before
            .filter(|_| request.prev_kv)
            .map(|version| key_value(&version)),
    }
}

/// Deletes a range.
pub(super) fn apply_delete(
    changes: &mut Changes<'_>,
    request: &PbDeleteRequest,
) -> PbDeleteResponse {
    let range = KeyRange::new(&request.key, &request.range_end);
    let gone = changes.delete(&range);
    PbDeleteResponse {
        header: header(changes.revision()),
        deleted: i64::try_from(gone.len()).unwrap_or(i64::MAX),
        prev_kvs: if request.prev_kv {
            gone.iter().map(|version| key_value(version)).collect()
        } else {
            Vec::new()
        },
    }
}

/// A transaction whose branch is chosen.
struct Plan {
    succeeded: bool,
    steps: Vec<Step>,
}

enum Step {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(Plan),
}

impl Plan {
    fn new(store: &Store, request: PbTxnRequest) -> Self {
        let succeeded = holds_all(store, &request.compare);
        let ops = if succeeded {
            request.success
        } else {
            request.failure
        };
        let steps = ops
            .into_iter()
            .filter_map(|op| op.request)
            .map(|op| match op {
                PbTxnOpRequest::RequestRange(range) => Step::Range(range),
                PbTxnOpRequest::RequestPut(put) => Step::Put(put),
                PbTxnOpRequest::RequestDeleteRange(delete) => Step::Delete(delete),
                PbTxnOpRequest::RequestTxn(txn) => Step::Txn(Self::new(store, txn)),
            })
            .collect();
        Self { succeeded, steps }
    }
}

fn run(changes: &mut Changes<'_>, plan: Plan) -> PbTxnResponse {
    let responses = plan
        .steps
        .into_iter()
        .map(|step| PbResponseOp {
            response: Some(match step {
                Step::Range(range) => PbTxnOpResponse::ResponseRange(apply_range(changes, &range)),
                Step::Put(put) => PbTxnOpResponse::ResponsePut(apply_put(changes, put)),
                Step::Delete(delete) => {
                    PbTxnOpResponse::ResponseDeleteRange(apply_delete(changes, &delete))
                }
                // A nested answer names no revision, as in etcd.
                Step::Txn(plan) => PbTxnOpResponse::ResponseTxn(PbTxnResponse {
                    header: header(0),
                    ..run(changes, plan)
                }),
            }),
        })
        .collect();
    PbTxnResponse {
        header: header(changes.revision()),
        succeeded: plan.succeeded,
        responses,
    }
}

fn apply_range(changes: &Changes<'_>, request: &PbRangeRequest) -> PbRangeResponse {
    let newest = changes.revision();
    let revision = if request.revision <= 0 {
        newest
    } else {
        request.revision
    };
    let found = read::lookup(request, |range, want| changes.read(range, revision, want));
    let mut response = read::respond(request, found);
    response.header = header(newest);
    response
}

fn branch(request: &PbTxnRequest, succeeded: bool) -> &[PbTxnRequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// The header of an answer inside an answer: etcd gives it a revision and nothing else.
#[expect(
    clippy::unnecessary_wraps,
    reason = "every header field of a response is optional on the wire"
)]
fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader {
        revision,
        ..PbResponseHeader::default()
    })
}

fn holds_all(store: &Store, compares: &[PbCompare]) -> bool {
    compares.iter().all(|compare| holds(store, compare))
}

fn holds(store: &Store, compare: &PbCompare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let found = store
        .read(&range, store.revision(), Want::First(0))
        .versions;
    if found.is_empty() {
        // A missing key compares as one whose numbers are all 0; a value it has not.
        return compare.target != TARGET_VALUE && holds_for(compare, None);
    }
    found
        .iter()
        .all(|version| holds_for(compare, Some(version)))
}

const TARGET_VERSION: i32 = 0;
const TARGET_CREATE: i32 = 1;
const TARGET_MOD: i32 = 2;
const TARGET_VALUE: i32 = 3;
const TARGET_LEASE: i32 = 4;

fn holds_for(compare: &PbCompare, version: Option<&Arc<Version>>) -> bool {
    use std::cmp::Ordering;

    let number = |of: fn(&Version) -> i64| version.map_or(0, |version| of(version));
    let wanted = compare.target_union.as_ref();
    // A union that does not fit the target counts as absent, which is 0 or empty on the wire.
    let ordering = match compare.target {
        TARGET_VERSION => number(|v| v.version).cmp(&match wanted {
            Some(PbTargetUnion::Version(wanted)) => *wanted,
            _ => 0,
        }),
        TARGET_CREATE => number(|v| v.create_revision).cmp(&match wanted {
            Some(PbTargetUnion::CreateRevision(wanted)) => *wanted,
            _ => 0,
        }),
        TARGET_MOD => number(|v| v.mod_revision).cmp(&match wanted {
            Some(PbTargetUnion::ModRevision(wanted)) => *wanted,
            _ => 0,
        }),
        TARGET_VALUE => version
            .map_or(&[][..], |version| version.value.as_ref())
            .cmp(match wanted {
                Some(PbTargetUnion::Value(wanted)) => wanted.as_slice(),
                _ => &[],
            }),
        TARGET_LEASE => number(|v| v.lease).cmp(&match wanted {
            Some(PbTargetUnion::Lease(wanted)) => *wanted,
            _ => 0,
        }),
        // What nobody knows compares as equal, and what nobody knows to ask holds: as in etcd.
        _ => Ordering::Equal,
    };
    match compare.result {
        0 => ordering == Ordering::Equal,
        1 => ordering == Ordering::Greater,
        2 => ordering == Ordering::Less,
        3 => ordering != Ordering::Equal,
        _ => true,
    }
}
