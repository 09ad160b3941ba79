//! Maintenance: status, hashes, alarms, compaction of everything, and what one node cannot do.

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, DeleteOptions,
    LeaseGrantOptions, PutOptions, Txn, TxnOp,
};
use tonic::Code;

use super::{Conformance, Kind, assert_refused, conformance, refusal};

conformance!(
    the_status_names_who_and_how_much,
    the_hash_of_the_keys_is_etcds_own,
    the_hash_of_the_keys_refuses_what_it_cannot_see,
    the_hash_of_everything_changes_with_every_write,
    no_alarm_is_raised,
    an_alarm_that_a_client_raises,
    defragmenting_changes_no_key,
    the_leader_cannot_be_moved,
    compactions_begin_at_zero,
);

async fn the_status_names_who_and_how_much(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let before = client.status().await.unwrap();
    client.put("key", vec![b'x'; 10_000], None).await.unwrap();
    let status = client.status().await.unwrap();
    let header = status.header().unwrap();
    assert_eq!(header.revision(), base + 2);
    assert_eq!(status.leader(), header.member_id());
    assert!(header.cluster_id() != 0);
    assert!(status.db_size() >= 10_000, "{status:?}");
    assert!((1..=status.db_size()).contains(&status.raft_used_db_size()));
    assert!(status.raft_index() > before.raft_index());
    assert!(status.raft_term() > 0);
    assert!(!status.is_learner());
    assert!(status.errors().is_empty());
}

/// A history with everything that a row can look like.
async fn write_history(client: &mut Client) {
    let lease = LeaseGrantOptions::new().with_id(0x5ca1_ab1e);
    let lease = client.lease_grant(600, Some(lease)).await.unwrap().id();
    let leased = || Some(PutOptions::new().with_lease(lease));
    for (key, value) in [("a", "1"), ("b", ""), ("a", "2"), ("c", "3")] {
        client.put(key, value, None).await.unwrap();
    }
    client.put("leased", "v", leased()).await.unwrap();
    client.put("leased/2", "v", leased()).await.unwrap();
    let txn = Txn::new().and_then([
        TxnOp::put("d", "4", None),
        TxnOp::delete("a", Some(DeleteOptions::new().with_range("c"))),
        TxnOp::put("e", "5", None),
    ]);
    client.txn(txn).await.unwrap();
    client.put("a", "again", None).await.unwrap();
    client.lease_revoke(lease).await.unwrap();
    client.delete("c", None).await.unwrap();
    client.put("d", "6", None).await.unwrap();
}

/// The compacted revision and the hash, as etcd answers them for that history.
const HASHES: [(i64, u32); 25] = [
    (-1, 0x40a4_756d),
    (-1, 0x04d9_d132),
    (-1, 0x9a39_6dd7),
    (-1, 0xd09a_84aa),
    (-1, 0xe2f5_2a53),
    (-1, 0x6715_a540),
    (-1, 0x4b8d_920a),
    (-1, 0x04d9_d132),
    (4, 0x0afb_64d2),
    (4, 0x7930_6dce),
    (4, 0xf5af_541c),
    (4, 0x0831_c74f),
    (4, 0x9a49_75ca),
    (4, 0x43d7_363b),
    (4, 0x5a06_cb7a),
    (4, 0x711f_5f34),
    (4, 0x711f_5f34),
    (8, 0x4afa_c7d4),
    (8, 0x2e9f_09ed),
    (8, 0x3061_407b),
    (8, 0x97da_cd9c),
    (8, 0x97da_cd9c),
    (11, 0x6e4d_1057),
    (11, 0x6e4d_1057),
    (11, 0x4851_223d),
];

async fn the_hash_of_the_keys_is_etcds_own(conformance: Conformance) {
    let (_registry, mut client) = conformance.new_registry().await;
    let mut seen = Vec::new();
    let hash = async |client: &mut Client, revision| {
        let hash = client.hash_kv(revision).await.unwrap();
        (hash.compact_version(), hash.hash())
    };
    seen.push(hash(&mut client, 0).await);
    write_history(&mut client).await;
    for revision in [0, 2, 5, 8, 9, 10, 12] {
        seen.push(hash(&mut client, revision).await);
    }
    for compacted in [4, 8, 11] {
        let physical = CompactionOptions::new().with_physical();
        client.compact(compacted, Some(physical)).await.unwrap();
        for revision in compacted + 1..=12 {
            seen.push(hash(&mut client, revision).await);
        }
        seen.push(hash(&mut client, 0).await);
    }
    let all = DeleteOptions::new().with_all_keys();
    client.delete("", Some(all)).await.unwrap();
    seen.push(hash(&mut client, 0).await);
    assert_eq!(seen, HASHES);
}

async fn the_hash_of_the_keys_refuses_what_it_cannot_see(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for value in ["1", "2", "3"] {
        client.put("key", value, None).await.unwrap();
    }
    let physical = CompactionOptions::new().with_physical();
    client.compact(base + 3, Some(physical)).await.unwrap();
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    for revision in [base + 2, base + 3] {
        let refused = client.hash_kv(revision).await;
        assert_refused(refused, Code::OutOfRange, compacted);
    }
    assert_refused(client.hash_kv(base + 5).await, Code::OutOfRange, future);
    let hash = client.hash_kv(base + 4).await.unwrap();
    assert_eq!(hash.compact_version(), base + 3);
    assert_eq!(hash.header().unwrap().revision(), base + 4);
}

async fn the_hash_of_everything_changes_with_every_write(
    Conformance { mut client, .. }: Conformance,
) {
    let mut hashes = std::collections::BTreeSet::new();
    for value in ["1", "2", "3"] {
        client.put("key", value, None).await.unwrap();
        hashes.insert(client.hash().await.unwrap().hash());
    }
    client.lease_grant(60, None).await.unwrap();
    let hash = client.hash().await.unwrap();
    assert!(hash.header().is_some());
    hashes.insert(hash.hash());
    assert_eq!(hashes.len(), 4);
}

async fn no_alarm_is_raised(Conformance { mut client, .. }: Conformance) {
    let listed = client.alarm(AlarmAction::Get, AlarmType::None, None);
    assert!(listed.await.unwrap().alarms().is_empty());
    let cleared = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None);
    assert!(cleared.await.unwrap().alarms().is_empty());
}

async fn an_alarm_that_a_client_raises(conformance: Conformance) {
    let (_registry, mut client) = conformance.new_registry().await;
    let member = client.status().await.unwrap().leader();
    let options = || {
        let mut options = AlarmOptions::new();
        options.with_member(member);
        Some(options)
    };
    let raised = client
        .alarm(AlarmAction::Activate, AlarmType::Nospace, options())
        .await;
    if conformance.kind == Kind::Embedded {
        let (code, words) = refusal(raised);
        assert_eq!(code, Code::Unimplemented);
        assert!(words.contains("raises its alarms itself"), "{words}");
        client.put("key", "v", None).await.unwrap();
        return;
    }
    assert_eq!(raised.unwrap().alarms().len(), 1);
    let message = "etcdserver: mvcc: database space exceeded";
    let refused = client.put("key", "v", None).await;
    assert_refused(refused, Code::ResourceExhausted, message);
    let errors = client.status().await.unwrap().errors().to_vec();
    let expected = format!("memberID:{member} alarm:NOSPACE ");
    assert_eq!(errors, [expected]);
    client
        .alarm(AlarmAction::Deactivate, AlarmType::Nospace, options())
        .await
        .unwrap();
    client.put("key", "v", None).await.unwrap();
}

async fn defragmenting_changes_no_key(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for idx in 0..20 {
        let key = format!("k{}", idx % 5);
        client.put(key, vec![b'x'; 10_000], None).await.unwrap();
    }
    client.compact(base + 21, None).await.unwrap();
    let before = client.hash_kv(0).await.unwrap().hash();
    client.defragment().await.unwrap();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), before);
    let put = client.put("key", "v", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), base + 22);
}

async fn the_leader_cannot_be_moved(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    let (code, words) = refusal(client.move_leader(4711).await);
    match kind {
        Kind::Embedded => {
            assert_eq!(code, Code::Unimplemented);
            assert!(words.contains("single node"), "{words}");
        }
        Kind::Etcd34 | Kind::Etcd35 => {
            assert_eq!(code, Code::FailedPrecondition);
            assert_eq!(words, "etcdserver: bad leader transferee");
        }
    }
}

async fn compactions_begin_at_zero(conformance: Conformance) {
    let (_registry, mut client) = conformance.new_registry().await;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let refused = client.compact(-1, None).await;
    assert_refused(refused, Code::OutOfRange, compacted);
    client.compact(0, None).await.unwrap();
    assert_refused(client.compact(0, None).await, Code::OutOfRange, compacted);
    client.compact(1, None).await.unwrap();
    client.put("key", "v", None).await.unwrap();
    assert_eq!(client.hash_kv(0).await.unwrap().compact_version(), 1);
}
