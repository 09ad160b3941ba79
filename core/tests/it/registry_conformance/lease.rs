//! Leases: granting, keeping, ending, and the keys that go with them.

use std::time::Duration;

use etcd_client::{
    Client, Error, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions,
};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::{Conformance, assert_refused, conformance, next};

conformance!(
    a_lease_is_granted_with_the_ttl_that_was_asked_for,
    an_id_can_be_chosen_once,
    a_revoked_lease_takes_its_keys_in_one_revision,
    a_lease_expires_with_its_keys,
    a_renewal_gives_the_whole_ttl,
    one_stream_renews_many_leases_and_says_which_are_gone,
    the_time_to_live_names_the_keys,
    a_key_hangs_on_the_lease_of_its_last_write,
    all_leases_are_listed,
    odd_ttls_and_ids_are_granted,
    the_soonest_to_expire_is_listed_first,
    unknown_leases_are_named,
    a_lease_ends_while_its_keys_are_rewritten,
);

const NOT_FOUND: &str = "etcdserver: requested lease not found";

async fn put_leased(client: &mut Client, key: &str, lease: i64) {
    let options = PutOptions::new().with_lease(lease);
    client.put(key, "v", Some(options)).await.unwrap();
}

async fn keys_of(client: &mut Client, lease: i64) -> Vec<String> {
    let with_keys = Some(LeaseTimeToLiveOptions::new().with_keys());
    let response = client.lease_time_to_live(lease, with_keys).await.unwrap();
    let keys = response.keys().iter();
    let mut keys: Vec<_> = keys
        .map(|key| String::from_utf8(key.clone()).unwrap())
        .collect();
    keys.sort();
    keys
}

async fn a_lease_is_granted_with_the_ttl_that_was_asked_for(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    client.put("key", "v", None).await.unwrap();
    let lease = client.lease_grant(60, None).await.unwrap();
    assert!(lease.id() > 0);
    assert_eq!((lease.ttl(), lease.error()), (60, ""));
    assert_eq!(
        lease.header().unwrap().revision(),
        base + 2,
        "no revision of its own"
    );
    let large = client.lease_grant(9_000_000_001, None).await;
    assert_refused(large, Code::OutOfRange, "etcdserver: too large lease TTL");
}

async fn an_id_can_be_chosen_once(Conformance { mut client, .. }: Conformance) {
    let with_id = || Some(LeaseGrantOptions::new().with_id(0x5ca1_ab1e));
    let lease = client.lease_grant(60, with_id()).await.unwrap();
    assert_eq!(lease.id(), 0x5ca1_ab1e);
    let again = client.lease_grant(60, with_id()).await;
    assert_refused(
        again,
        Code::FailedPrecondition,
        "etcdserver: lease already exists",
    );
    client.lease_revoke(lease.id()).await.unwrap();
    client.lease_grant(60, with_id()).await.unwrap();
}

async fn a_revoked_lease_takes_its_keys_in_one_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    client.put("stays", "v", None).await.unwrap();
    for key in ["b", "a", "c"] {
        put_leased(&mut client, key, lease).await;
    }
    let all = || GetOptions::new().with_all_keys();
    let from_start = WatchOptions::new()
        .with_from_key()
        .with_start_revision(base + 6);
    let mut watch = client.watch("a", Some(from_start)).await.unwrap();
    assert!(next(&mut watch).await.created());
    let revoked = client.lease_revoke(lease).await.unwrap();
    assert_eq!(revoked.header().unwrap().revision(), base + 6);
    let events = next(&mut watch).await;
    let gone: Vec<_> = events
        .events()
        .iter()
        .map(|event| event.kv().unwrap())
        .map(|kv| (kv.key_str().unwrap(), kv.mod_revision()))
        .collect();
    assert_eq!(gone, ["a", "b", "c"].map(|key| (key, base + 6)));
    let left = client.get("", Some(all())).await.unwrap();
    assert_eq!(left.kvs()[0].key(), b"stays");
    assert_eq!(left.count(), 1);
    assert_refused(client.lease_revoke(lease).await, Code::NotFound, NOT_FOUND);
    let empty = client.lease_grant(60, None).await.unwrap().id();
    let revoked = client.lease_revoke(empty).await.unwrap();
    assert_eq!(
        revoked.header().unwrap().revision(),
        base + 6,
        "nothing was deleted"
    );
}

async fn a_lease_expires_with_its_keys(Conformance { mut client, .. }: Conformance) {
    let mut watch = client.watch("key", None).await.unwrap();
    assert!(next(&mut watch).await.created());
    let asked_at = Instant::now();
    let lease = client.lease_grant(1, None).await.unwrap();
    let ttl = Duration::from_secs(lease.ttl().unsigned_abs());
    put_leased(&mut client, "key", lease.id()).await;
    assert_eq!(next(&mut watch).await.events().len(), 1);
    let gone = next(&mut watch).await;
    assert_eq!(
        gone.events()[0].event_type(),
        etcd_client::EventType::Delete
    );
    assert!(asked_at.elapsed() >= ttl, "not before its time");
    let kept = client.lease_keep_alive(lease.id()).await;
    assert!(
        matches!(kept, Err(Error::LeaseKeepAliveError(_))),
        "{kept:?}"
    );
    let left = client.lease_time_to_live(lease.id(), None).await.unwrap();
    assert_eq!(left.ttl(), -1);
}

async fn a_renewal_gives_the_whole_ttl(Conformance { mut client, .. }: Conformance) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    loop {
        let left = client.lease_time_to_live(lease, None).await.unwrap();
        assert_eq!(left.granted_ttl(), 60);
        if left.ttl() <= 56 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let asked_at = Instant::now();
    keeper.keep_alive().await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.id(), answer.ttl()), (lease, 60));
    let left = client.lease_time_to_live(lease, None).await.unwrap();
    // Whole seconds, rounded down, and whatever a busy machine took.
    let passed = i64::try_from(asked_at.elapsed().as_secs()).unwrap();
    assert!(left.ttl() >= 58 - passed, "{left:?}");
}

async fn one_stream_renews_many_leases_and_says_which_are_gone(
    Conformance { mut client, .. }: Conformance,
) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id(), answer.ttl()), (lease, 60));
    }
    client.lease_revoke(lease).await.unwrap();
    for _ in 0..2 {
        keeper.keep_alive().await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(
            (answer.id(), answer.ttl()),
            (lease, 0),
            "the stream goes on"
        );
    }
}

async fn the_time_to_live_names_the_keys(Conformance { mut client, .. }: Conformance) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    for key in ["b", "a"] {
        put_leased(&mut client, key, lease).await;
    }
    let without = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(without.keys().len(), 0);
    assert_eq!((without.id(), without.granted_ttl()), (lease, 60));
    assert!((1..=60).contains(&without.ttl()), "{without:?}");
    assert_eq!(keys_of(&mut client, lease).await, ["a", "b"]);
    let unknown = client.lease_time_to_live(4711, None).await.unwrap();
    assert_eq!(
        (unknown.id(), unknown.ttl(), unknown.granted_ttl()),
        (4711, -1, 0)
    );
}

async fn a_key_hangs_on_the_lease_of_its_last_write(Conformance { mut client, .. }: Conformance) {
    let first = client.lease_grant(60, None).await.unwrap().id();
    let second = client.lease_grant(60, None).await.unwrap().id();
    for key in ["moves", "frees", "dies", "stays"] {
        put_leased(&mut client, key, first).await;
    }
    put_leased(&mut client, "moves", second).await;
    client.put("frees", "v", None).await.unwrap();
    client.delete("dies", None).await.unwrap();
    client.put("dies", "v", None).await.unwrap();
    put_leased(&mut client, "stays", first).await;
    assert_eq!(keys_of(&mut client, first).await, ["stays"]);
    assert_eq!(keys_of(&mut client, second).await, ["moves"]);
    client.lease_revoke(first).await.unwrap();
    let all = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .unwrap();
    let keys: Vec<_> = all.kvs().iter().map(|kv| kv.key_str().unwrap()).collect();
    assert_eq!(keys, ["dies", "frees", "moves"]);
}

async fn all_leases_are_listed(Conformance { mut client, .. }: Conformance) {
    assert_eq!(client.leases().await.unwrap().leases().len(), 0);
    let mut granted = Vec::new();
    for ttl in [60, 30, 90] {
        granted.push(client.lease_grant(ttl, None).await.unwrap().id());
    }
    let listed = client.leases().await.unwrap();
    let mut listed: Vec<_> = listed
        .leases()
        .iter()
        .map(etcd_client::LeaseStatus::id)
        .collect();
    listed.sort_unstable();
    granted.sort_unstable();
    assert_eq!(listed, granted);
}

async fn odd_ttls_and_ids_are_granted(Conformance { mut client, .. }: Conformance) {
    // The shortest is what one and a half elections take, here less than a second.
    for ttl in [0, -5] {
        assert_eq!(client.lease_grant(ttl, None).await.unwrap().ttl(), 1);
    }
    let most = 9_000_000_000;
    assert_eq!(client.lease_grant(most, None).await.unwrap().ttl(), most);
    for id in [1, -1, i64::MAX, i64::MIN] {
        let with_id = LeaseGrantOptions::new().with_id(id);
        let lease = client.lease_grant(60, Some(with_id)).await.unwrap();
        assert_eq!(lease.id(), id);
        put_leased(&mut client, "key", id).await;
        assert_eq!(keys_of(&mut client, id).await, ["key"]);
    }
    let chosen = LeaseGrantOptions::new().with_id(0);
    let chosen = client.lease_grant(60, Some(chosen)).await.unwrap();
    assert!(chosen.id() > 0, "0 lets the server choose");
}

async fn the_soonest_to_expire_is_listed_first(Conformance { mut client, .. }: Conformance) {
    for (id, ttl) in [(3, 300), (1, 100), (4, 400), (2, 200)] {
        let with_id = LeaseGrantOptions::new().with_id(id);
        client.lease_grant(ttl, Some(with_id)).await.unwrap();
    }
    let listed = client.leases().await.unwrap();
    let ids = listed.leases().iter().map(etcd_client::LeaseStatus::id);
    assert!(ids.eq(1..=4), "{listed:?}");
}

async fn unknown_leases_are_named(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for id in [0, 4711, -1] {
        assert_refused(client.lease_revoke(id).await, Code::NotFound, NOT_FOUND);
        let left = client.lease_time_to_live(id, None).await.unwrap();
        assert_eq!((left.id(), left.ttl()), (id, -1));
    }
    let read = client.get("key", None).await.unwrap();
    assert_eq!(read.header().unwrap().revision(), base + 1);
}

async fn a_lease_ends_while_its_keys_are_rewritten(Conformance { mut client, .. }: Conformance) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    put_leased(&mut client, "kept", lease).await;
    put_leased(&mut client, "gone", lease).await;
    // Deleted under its lease, the key comes back without one.
    client.delete("kept", None).await.unwrap();
    assert_eq!(keys_of(&mut client, lease).await, ["gone"]);
    let txn = etcd_client::Txn::new().and_then([etcd_client::TxnOp::put("kept", "v", None)]);
    client.txn(txn).await.unwrap();
    client.lease_revoke(lease).await.unwrap();
    let all = GetOptions::new().with_all_keys();
    let left = client.get("", Some(all)).await.unwrap();
    assert_eq!((left.count(), left.kvs()[0].key()), (1, &b"kept"[..]));
}
