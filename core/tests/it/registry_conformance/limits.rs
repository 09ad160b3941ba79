//! What is refused, at its very bounds, and requests that no client library sends.

use etcd_client::{
    Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp,
    proto::{PbCompare, PbTargetUnion, PbTxnRequest, PbTxnRequestOp, PbTxnResponse},
};
use tonic::Code;

use super::{Conformance, Kind, assert_refused, conformance, refusal, server::call};

conformance!(
    a_write_may_be_almost_as_large_as_the_limit,
    what_is_far_too_large_is_not_even_read,
    a_transaction_that_only_reads_may_be_large,
    nested_transactions_share_one_budget,
    operations_without_a_request_are_refused,
    unknown_comparisons,
    the_lease_is_looked_at_before_the_key,
    compacted_and_future_revisions_are_refused_everywhere,
);

const LIMIT: usize = 1536 * 1024;

async fn a_write_may_be_almost_as_large_as_the_limit(Conformance { mut client, .. }: Conformance) {
    let message = "etcdserver: request is too large";
    let fits = vec![b'x'; LIMIT - 1024];
    client.put("key", fits.clone(), None).await.unwrap();
    let txn = Txn::new().and_then([TxnOp::put("key", fits, None)]);
    client.txn(txn).await.unwrap();
    let too_large = vec![b'x'; LIMIT + 1];
    let refused = client.put("key", too_large.clone(), None).await;
    assert_refused(refused, Code::InvalidArgument, message);
    // It counts even in the branch that does not run.
    let txn = Txn::new().or_else([TxnOp::put("key", too_large.clone(), None)]);
    assert_refused(client.txn(txn).await, Code::InvalidArgument, message);
    let refused = client.delete(too_large, None).await;
    assert_refused(refused, Code::InvalidArgument, message);
}

async fn what_is_far_too_large_is_not_even_read(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    let far = client.put("key", vec![b'x'; 2 * LIMIT], None).await;
    let (code, words) = refusal(far);
    // The two libraries below say it differently; none of them reads the request.
    match kind {
        Kind::Embedded => assert_eq!(code, Code::OutOfRange, "{words}"),
        Kind::Etcd34 | Kind::Etcd35 => assert_eq!(code, Code::ResourceExhausted, "{words}"),
    }
    client.put("key", "v", None).await.unwrap();
}

async fn a_transaction_that_only_reads_may_be_large(Conformance { mut client, .. }: Conformance) {
    let ops: Vec<TxnOp> = (0..128)
        .map(|_| TxnOp::get(vec![b'x'; 13 * 1024], None))
        .collect();
    let response = client.txn(Txn::new().and_then(ops)).await.unwrap();
    assert_eq!(response.op_responses().len(), 128);
}

async fn nested_transactions_share_one_budget(Conformance { mut client, .. }: Conformance) {
    let gets = |n_gets: usize| (0..n_gets).map(|_| TxnOp::get("k", None));
    let nested = |n_outer: usize, n_inner: usize| {
        let inner = Txn::new().and_then(gets(n_inner).collect::<Vec<_>>());
        let outer = gets(n_outer - 1).chain([TxnOp::txn(inner)]);
        Txn::new().and_then(outer.collect::<Vec<_>>())
    };
    client.txn(nested(100, 28)).await.unwrap();
    let message = "etcdserver: too many operations in txn request";
    let refused = client.txn(nested(100, 29)).await;
    assert_refused(refused, Code::InvalidArgument, message);
    // Comparisons count too.
    let compares = vec![Compare::version("k", CompareOp::Equal, 0); 28];
    let inner = Txn::new().when(compares.clone());
    let outer: Vec<_> = gets(99).chain([TxnOp::txn(inner)]).collect();
    client.txn(Txn::new().and_then(outer)).await.unwrap();
    let inner = Txn::new().when(compares);
    let outer: Vec<_> = gets(100).chain([TxnOp::txn(inner)]).collect();
    let refused = client.txn(Txn::new().and_then(outer)).await;
    assert_refused(refused, Code::InvalidArgument, message);
}

async fn txn(url: &str, request: PbTxnRequest) -> Result<PbTxnResponse, tonic::Status> {
    call(url, "/etcdserverpb.KV/Txn", request).await
}

async fn operations_without_a_request_are_refused(Conformance { url, .. }: Conformance) {
    let request = PbTxnRequest {
        success: vec![PbTxnRequestOp { request: None }],
        ..PbTxnRequest::default()
    };
    let refused = txn(&url, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "etcdserver: key not found");
}

async fn unknown_comparisons(
    Conformance {
        mut client, url, ..
    }: Conformance,
) {
    client.put("key", "v", None).await.unwrap();
    let holds = async |target, result, target_union| {
        let compare = PbCompare {
            result,
            target,
            key: b"key".to_vec(),
            target_union,
            ..PbCompare::default()
        };
        let request = PbTxnRequest {
            compare: vec![compare],
            ..PbTxnRequest::default()
        };
        txn(&url, request).await.unwrap().succeeded
    };
    // (equal, greater, less, not equal) of a target that nobody knows: it counts as equal.
    let unknown = [0, 1, 2, 3].map(|result| holds(9, result, None));
    let unknown = futures_util::future::join_all(unknown).await;
    assert_eq!(unknown, [true, false, false, false]);
    // A way to compare that nobody knows holds.
    assert!(holds(0, 9, Some(PbTargetUnion::Version(7))).await);
    // What does not fit the target counts as absent: 0, or an empty value.
    assert!(!holds(0, 0, Some(PbTargetUnion::ModRevision(1))).await);
    assert!(holds(0, 1, None).await);
    assert!(holds(3, 1, None).await);
}

async fn the_lease_is_looked_at_before_the_key(Conformance { mut client, .. }: Conformance) {
    let both = || {
        let options = PutOptions::new().with_ignore_value();
        Some(options.with_lease(4711))
    };
    let refused = client.put("none", "", both()).await;
    let message = "etcdserver: requested lease not found";
    assert_refused(refused, Code::NotFound, message);
    // In a transaction it is the other way round.
    let txn = Txn::new().and_then([TxnOp::put("none", "", both())]);
    let message = "etcdserver: key not found";
    assert_refused(client.txn(txn).await, Code::InvalidArgument, message);
}

async fn compacted_and_future_revisions_are_refused_everywhere(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for value in ["1", "2", "3"] {
        client.put("key", value, None).await.unwrap();
    }
    client.compact(base + 3, None).await.unwrap();
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    for (revision, expected) in [
        (2, Some(compacted)),
        (3, None),
        (4, None),
        (5, Some(future)),
    ] {
        let at = || Some(GetOptions::new().with_revision(base + revision));
        let nested = Txn::new().and_then([TxnOp::get("key", at())]);
        let in_txn = Txn::new().and_then([TxnOp::put("other", "v", None), TxnOp::txn(nested)]);
        let Some(message) = expected else {
            client.get("key", at()).await.unwrap();
            continue;
        };
        assert_refused(client.get("key", at()).await, Code::OutOfRange, message);
        assert_refused(client.txn(in_txn).await, Code::OutOfRange, message);
        if revision > 3 {
            let refused = client.compact(base + revision, None).await;
            assert_refused(refused, Code::OutOfRange, message);
        }
    }
    for again in [base + 2, base + 3] {
        let refused = client.compact(again, None).await;
        assert_refused(refused, Code::OutOfRange, compacted);
    }
    let other = client.get("other", None).await.unwrap();
    assert_eq!(other.count(), 0, "a refused transaction wrote nothing");
}
