//! Transactions: comparisons, branches, and what is refused.

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use tonic::Code;

use super::{Conformance, assert_refused, conformance};

conformance!(
    every_target_compares_in_every_way,
    a_missing_key_compares_as_zero_and_has_no_value,
    a_comparison_of_a_range_must_hold_for_all,
    one_branch_runs_as_one_revision,
    a_transaction_reads_its_own_writes,
    comparisons_see_the_state_before_the_transaction,
    a_read_only_transaction_is_no_revision,
    nested_transactions_run,
    no_key_is_written_twice,
    sibling_branches_may_write_the_same_key,
    too_many_operations_are_refused,
    a_refused_transaction_changes_nothing,
    a_guarded_write_keeps_the_lease,
    answers_within_an_answer_name_their_revisions,
    operations_take_their_options_along,
    transactions_nest_deeply,
    comparisons_reach_to_the_last_key,
);

fn put(key: &str, value: &str) -> TxnOp {
    TxnOp::put(key, value, None)
}

fn get(key: &str) -> TxnOp {
    TxnOp::get(key, None)
}

async fn holds(client: &mut Client, compare: Compare) -> bool {
    let txn = Txn::new().when([compare]);
    client.txn(txn).await.unwrap().succeeded()
}

fn revision(response: &TxnResponse) -> i64 {
    response.header().unwrap().revision()
}

async fn every_target_compares_in_every_way(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let lease = client.lease_grant(60, Some(etcd_client::LeaseGrantOptions::new().with_id(500)));
    let lease = lease.await.unwrap().id();
    client.put("key", "m", None).await.unwrap();
    let leased = PutOptions::new().with_lease(lease);
    client.put("key", "m", Some(leased)).await.unwrap();
    // Created at 2, modified at 3, version 2, value m, lease 500.
    for (op, below, same, above) in [
        (CompareOp::Equal, false, true, false),
        (CompareOp::NotEqual, true, false, true),
        (CompareOp::Greater, true, false, false),
        (CompareOp::Less, false, false, true),
    ] {
        for (offset, value, expected) in [(-1, "l", below), (0, "m", same), (1, "n", above)] {
            for compare in [
                Compare::version("key", op, 2 + offset),
                Compare::create_revision("key", op, base + 2 + offset),
                Compare::mod_revision("key", op, base + 3 + offset),
                Compare::lease("key", op, 500 + offset),
                Compare::value("key", op, value),
            ] {
                let shown = format!("{compare:?}");
                assert_eq!(holds(&mut client, compare).await, expected, "{shown}");
            }
        }
    }
}

async fn a_missing_key_compares_as_zero_and_has_no_value(
    Conformance { mut client, .. }: Conformance,
) {
    for (compare, expected) in [
        (Compare::version("key", CompareOp::Equal, 0), true),
        (Compare::create_revision("key", CompareOp::Equal, 0), true),
        (Compare::mod_revision("key", CompareOp::Greater, 0), false),
        (Compare::lease("key", CompareOp::Equal, 0), true),
        (Compare::value("key", CompareOp::Equal, ""), false),
        (Compare::value("key", CompareOp::NotEqual, "x"), false),
    ] {
        let shown = format!("{compare:?}");
        assert_eq!(holds(&mut client, compare).await, expected, "{shown}");
    }
}

async fn a_comparison_of_a_range_must_hold_for_all(Conformance { mut client, .. }: Conformance) {
    for key in ["k1", "k2", "k2"] {
        client.put(key, "v", None).await.unwrap();
    }
    for (compare, expected) in [
        (
            Compare::version("k", CompareOp::Greater, 0).with_prefix(),
            true,
        ),
        (
            Compare::version("k", CompareOp::Equal, 1).with_prefix(),
            false,
        ),
        (
            Compare::version("k1", CompareOp::Equal, 1).with_range("k2"),
            true,
        ),
        (
            Compare::value("k", CompareOp::Equal, "v").with_prefix(),
            true,
        ),
        (
            Compare::create_revision("n", CompareOp::Equal, 0).with_prefix(),
            true,
        ),
        (
            Compare::value("n", CompareOp::Equal, "v").with_prefix(),
            false,
        ),
    ] {
        let shown = format!("{compare:?}");
        assert_eq!(holds(&mut client, compare).await, expected, "{shown}");
    }
}

async fn one_branch_runs_as_one_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let claim = || {
        Txn::new()
            .when([Compare::create_revision("lock", CompareOp::Equal, 0)])
            .and_then([put("lock", "mine"), put("also", "mine")])
            .or_else([get("lock")])
    };
    let first = client.txn(claim()).await.unwrap();
    assert!(first.succeeded());
    assert_eq!(
        (revision(&first), first.op_responses().len()),
        (base + 2, 2)
    );
    let both = client.get("", Some(GetOptions::new().with_all_keys()));
    let both = both.await.unwrap();
    assert!(both.kvs().iter().all(|kv| kv.mod_revision() == base + 2));

    let second = client.txn(claim()).await.unwrap();
    assert!(!second.succeeded());
    assert_eq!(revision(&second), base + 2);
    let responses = second.op_responses();
    let [TxnOpResponse::Get(holder)] = responses.as_slice() else {
        panic!("expected the holder, got {responses:?}");
    };
    assert_eq!(holder.kvs()[0].value(), b"mine");
}

async fn a_transaction_reads_its_own_writes(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    client.put("old", "1", None).await.unwrap();
    let all = || Some(GetOptions::new().with_all_keys());
    let txn = Txn::new().and_then([
        TxnOp::get("", all()),
        put("new", "2"),
        TxnOp::get("", all()),
        TxnOp::delete("old", Some(DeleteOptions::new().with_prev_key())),
        TxnOp::get("", all()),
    ]);
    let response = client.txn(txn).await.unwrap();
    assert_eq!(revision(&response), base + 3);
    let mut seen = Vec::new();
    for response in response.op_responses() {
        match response {
            TxnOpResponse::Get(read) => {
                let keys = read.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned());
                seen.push((
                    keys.collect::<Vec<_>>().join(" "),
                    read.header().unwrap().revision(),
                ));
            }
            TxnOpResponse::Delete(gone) => {
                assert_eq!((gone.deleted(), gone.prev_kvs()[0].value()), (1, &b"1"[..]));
            }
            _ => {}
        }
    }
    let expected = [("old", base + 2), ("new old", base + 3), ("new", base + 3)];
    assert_eq!(seen, expected.map(|(keys, at)| (keys.to_owned(), at)));
}

async fn comparisons_see_the_state_before_the_transaction(
    Conformance { mut client, .. }: Conformance,
) {
    let nested = Txn::new()
        .when([Compare::version("key", CompareOp::Equal, 0)])
        .and_then([put("seen", "before")])
        .or_else([put("seen", "after")]);
    let txn = Txn::new().and_then([put("key", "1"), TxnOp::txn(nested)]);
    client.txn(txn).await.unwrap();
    let seen = client.get("seen", None).await.unwrap();
    assert_eq!(seen.kvs()[0].value(), b"before");
}

async fn a_read_only_transaction_is_no_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    client.put("key", "1", None).await.unwrap();
    let txn = Txn::new().and_then([get("key"), TxnOp::delete("none", None)]);
    let response = client.txn(txn).await.unwrap();
    assert_eq!(revision(&response), base + 2);
    let empty = client.txn(Txn::new()).await.unwrap();
    assert_eq!((empty.succeeded(), revision(&empty)), (true, base + 2));
}

async fn nested_transactions_run(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let leaf = |name: &str| {
        Txn::new()
            .when([Compare::version("key", CompareOp::Greater, 0)])
            .and_then([put(name, "then")])
            .or_else([put(name, "else"), get(name)])
    };
    let txn = Txn::new().and_then([TxnOp::txn(leaf("a")), put("b", "1"), TxnOp::txn(leaf("c"))]);
    let response = client.txn(txn).await.unwrap();
    assert_eq!(revision(&response), base + 2);
    let shapes: Vec<_> = response
        .op_responses()
        .iter()
        .map(|response| match response {
            TxnOpResponse::Txn(nested) => (nested.succeeded(), nested.op_responses().len()),
            _ => (true, 0),
        })
        .collect();
    assert_eq!(shapes, [(false, 2), (true, 0), (false, 2)]);
    let all = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .unwrap();
    assert_eq!(all.count(), 3);
    assert!(all.kvs().iter().all(|kv| kv.mod_revision() == base + 2));
}

async fn no_key_is_written_twice(Conformance { mut client, .. }: Conformance) {
    let range = || Some(DeleteOptions::new().with_range("m"));
    let inner = |op: TxnOp| TxnOp::txn(Txn::new().and_then([op]));
    for ops in [
        vec![put("k", "1"), put("k", "2")],
        vec![put("k", "1"), TxnOp::delete("k", None)],
        vec![TxnOp::delete("a", range()), put("k", "1")],
        vec![inner(put("k", "1")), put("k", "2")],
        vec![inner(put("k", "1")), inner(put("k", "2"))],
        vec![inner(TxnOp::delete("a", range())), put("k", "1")],
    ] {
        let refused = client.txn(Txn::new().and_then(ops.clone())).await;
        let message = "etcdserver: duplicate key given in txn request";
        assert_refused(refused, Code::InvalidArgument, message);
        // The branch that does not run is checked too.
        let refused = client.txn(Txn::new().or_else(ops)).await;
        assert_refused(refused, Code::InvalidArgument, message);
    }
    let twice_deleted = [TxnOp::delete("k", None), TxnOp::delete("a", range())];
    client
        .txn(Txn::new().and_then(twice_deleted))
        .await
        .unwrap();
    let beside = [TxnOp::delete("a", range()), put("m", "1")];
    client.txn(Txn::new().and_then(beside)).await.unwrap();
}

async fn sibling_branches_may_write_the_same_key(Conformance { mut client, .. }: Conformance) {
    let either = Txn::new()
        .when([Compare::version("k", CompareOp::Equal, 0)])
        .and_then([put("k", "new")])
        .or_else([put("k", "again")]);
    let txn = Txn::new().and_then([TxnOp::txn(either.clone())]);
    client.txn(txn.clone()).await.unwrap();
    client.txn(txn).await.unwrap();
    let read = client.get("k", None).await.unwrap();
    assert_eq!(read.kvs()[0].value(), b"again");
    let clash = Txn::new().and_then([TxnOp::txn(either), put("k", "2")]);
    let message = "etcdserver: duplicate key given in txn request";
    assert_refused(client.txn(clash).await, Code::InvalidArgument, message);
}

async fn too_many_operations_are_refused(Conformance { mut client, .. }: Conformance) {
    let puts = |n_puts: usize| -> Vec<TxnOp> {
        (0..n_puts)
            .map(|idx| put(&format!("k{idx}"), "v"))
            .collect()
    };
    client.txn(Txn::new().and_then(puts(128))).await.unwrap();
    let message = "etcdserver: too many operations in txn request";
    for txn in [
        Txn::new().and_then(puts(129)),
        Txn::new().or_else(puts(129)),
        Txn::new().when(vec![Compare::version("k", CompareOp::Equal, 0); 129]),
    ] {
        assert_refused(client.txn(txn).await, Code::InvalidArgument, message);
    }
    let no_key = Txn::new().and_then([put("", "v")]);
    let message = "etcdserver: key is not provided";
    assert_refused(client.txn(no_key).await, Code::InvalidArgument, message);
    let no_key = Txn::new().when([Compare::version("", CompareOp::Equal, 0)]);
    assert_refused(client.txn(no_key).await, Code::InvalidArgument, message);
}

async fn a_refused_transaction_changes_nothing(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    client.put("key", "1", None).await.unwrap();
    let leased = Some(PutOptions::new().with_lease(4711));
    let txn = Txn::new().and_then([put("key", "2"), TxnOp::put("other", "2", leased)]);
    let message = "etcdserver: requested lease not found";
    assert_refused(client.txn(txn).await, Code::NotFound, message);
    let keep = Some(PutOptions::new().with_ignore_lease());
    let txn = Txn::new().and_then([put("key", "2"), TxnOp::put("other", "2", keep)]);
    let message = "etcdserver: key not found";
    assert_refused(client.txn(txn).await, Code::InvalidArgument, message);
    let future = Some(GetOptions::new().with_revision(base + 99));
    let txn = Txn::new().and_then([put("key", "2"), TxnOp::get("key", future)]);
    let message = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(client.txn(txn).await, Code::OutOfRange, message);
    let read = client.get("key", None).await.unwrap();
    assert_eq!(read.header().unwrap().revision(), base + 2);
    assert_eq!(read.kvs()[0].value(), b"1");
}

async fn a_guarded_write_keeps_the_lease(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let leased = Some(PutOptions::new().with_lease(lease));
    client.put("instance", "ready", leased).await.unwrap();
    let mark = |at| {
        let keep = Some(PutOptions::new().with_ignore_lease());
        Txn::new()
            .when([Compare::mod_revision("instance", CompareOp::Equal, at)])
            .and_then([TxnOp::put("instance", "dead", keep)])
    };
    assert!(!client.txn(mark(base + 1)).await.unwrap().succeeded());
    assert!(client.txn(mark(base + 2)).await.unwrap().succeeded());
    let read = client.get("instance", None).await.unwrap();
    let kv = &read.kvs()[0];
    assert_eq!((kv.value(), kv.lease()), (&b"dead"[..], lease));
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("instance", None).await.unwrap().count(), 0);
}

fn revisions(response: &TxnResponse) -> Vec<i64> {
    let responses = response.op_responses();
    let headers = responses.iter().map(|response| match response {
        TxnOpResponse::Put(put) => put.header(),
        TxnOpResponse::Get(get) => get.header(),
        TxnOpResponse::Delete(delete) => delete.header(),
        TxnOpResponse::Txn(txn) => txn.header(),
    });
    headers.map(|header| header.unwrap().revision()).collect()
}

async fn answers_within_an_answer_name_their_revisions(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let nested = Txn::new().and_then([get("a"), put("b", "1")]);
    let txn = Txn::new().and_then([
        get("a"),
        TxnOp::delete("none", None),
        put("a", "1"),
        TxnOp::delete("none", None),
        TxnOp::txn(nested),
        get("a"),
    ]);
    let response = client.txn(txn).await.unwrap();
    let [before, after] = [base + 1, base + 2];
    // A nested answer names none.
    let expected = [before, before, after, after, 0, after];
    assert_eq!(revisions(&response), expected);
    assert_eq!(revision(&response), after);
    let TxnOpResponse::Txn(nested) = &response.op_responses()[4] else {
        panic!("{response:?}");
    };
    assert_eq!(revisions(nested), [after, after]);
}

async fn operations_take_their_options_along(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for value in ["1", "2"] {
        client.put("k1", value, None).await.unwrap();
    }
    client.put("k2", "3", None).await.unwrap();
    let all = || GetOptions::new().with_prefix();
    let descending = all()
        .with_sort(
            etcd_client::SortTarget::Key,
            etcd_client::SortOrder::Descend,
        )
        .with_limit(1);
    let keep = PutOptions::new().with_ignore_value().with_prev_key();
    let txn = Txn::new().and_then([
        TxnOp::get("k", Some(descending)),
        TxnOp::get("k", Some(all().with_count_only())),
        TxnOp::get("k", Some(all().with_keys_only().with_revision(base + 2))),
        TxnOp::put("k1", "", Some(keep)),
        TxnOp::delete("k2", Some(DeleteOptions::new().with_prev_key())),
    ]);
    let response = client.txn(txn).await.unwrap();
    let responses = response.op_responses();
    let [
        TxnOpResponse::Get(last),
        TxnOpResponse::Get(counted),
        TxnOpResponse::Get(old),
        TxnOpResponse::Put(kept),
        TxnOpResponse::Delete(deleted),
    ] = responses.as_slice()
    else {
        panic!("{responses:?}");
    };
    assert_eq!(
        (last.kvs()[0].key(), last.more(), last.count()),
        (&b"k2"[..], true, 2)
    );
    assert_eq!((counted.count(), counted.kvs().len()), (2, 0));
    assert_eq!((old.count(), old.kvs()[0].value()), (1, &b""[..]));
    assert_eq!(kept.prev_key().unwrap().value(), b"2");
    assert_eq!(deleted.prev_kvs()[0].value(), b"3");
    let read = client.get("k1", None).await.unwrap();
    assert_eq!(
        (read.kvs()[0].value(), read.kvs()[0].version()),
        (&b"2"[..], 3)
    );
}

async fn transactions_nest_deeply(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let depth = 20;
    let mut txn = Txn::new().and_then([put("deepest", "v")]);
    for level in 0..depth {
        txn = Txn::new()
            .when([Compare::version("deepest", CompareOp::Equal, 0)])
            .and_then([put(&format!("level{level}"), "v"), TxnOp::txn(txn)])
            .or_else([get("deepest")]);
    }
    let response = client.txn(txn.clone()).await.unwrap();
    assert_eq!(
        (response.succeeded(), revision(&response)),
        (true, base + 2)
    );
    let all = client.get("", Some(GetOptions::new().with_all_keys()));
    let all = all.await.unwrap();
    assert_eq!(all.count(), depth + 1);
    assert!(all.kvs().iter().all(|kv| kv.mod_revision() == base + 2));
    let again = client.txn(txn).await.unwrap();
    assert_eq!((again.succeeded(), revision(&again)), (false, base + 2));
}

async fn comparisons_reach_to_the_last_key(Conformance { mut client, .. }: Conformance) {
    for (key, value) in [("a", "1"), ("b", "1"), ("z", "2")] {
        client.put(key, value, None).await.unwrap();
    }
    for (compare, expected) in [
        (
            Compare::value("a", CompareOp::Equal, "1").with_range(vec![0]),
            false,
        ),
        (
            Compare::value("a", CompareOp::Less, "3").with_range(vec![0]),
            true,
        ),
        (
            Compare::value("b", CompareOp::NotEqual, "1").with_range(vec![0]),
            false,
        ),
        (
            Compare::value("c", CompareOp::NotEqual, "1").with_range(vec![0]),
            true,
        ),
        (
            Compare::lease("a", CompareOp::Equal, 0).with_range(vec![0]),
            true,
        ),
        // An end before the key is an empty range, which compares like a missing key.
        (
            Compare::version("b", CompareOp::Equal, 0).with_range("a"),
            true,
        ),
        (
            Compare::value("b", CompareOp::Equal, "1").with_range("a"),
            false,
        ),
    ] {
        let shown = format!("{compare:?}");
        assert_eq!(holds(&mut client, compare).await, expected, "{shown}");
    }
}
