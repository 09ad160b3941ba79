//! Reading and writing keys.

use etcd_client::{
    CompactionOptions, DeleteOptions, GetOptions, GetResponse, PutOptions, SortOrder, SortTarget,
};
use tonic::Code;

use super::{Conformance, assert_refused, conformance};

conformance!(
    a_new_registry_is_empty_at_revision_one,
    every_write_is_one_revision,
    a_key_counts_its_versions_and_starts_anew_after_a_delete,
    a_put_answers_what_stood_there,
    a_put_can_keep_the_value_or_the_lease,
    a_delete_counts_and_answers_what_it_deleted,
    ranges_end_where_etcd_ends_them,
    a_limit_cuts_and_says_so,
    keys_and_counts_come_alone,
    reads_sort_by_every_target,
    reads_filter_by_revision,
    old_revisions_can_be_read,
    a_compaction_forgets_only_what_is_older,
    bad_requests_are_refused_in_etcds_words,
);

fn keys(response: &GetResponse) -> Vec<&str> {
    let kvs = response.kvs().iter();
    kvs.map(|kv| kv.key_str().unwrap()).collect()
}

async fn fill(client: &mut etcd_client::Client, keys: &[&str]) {
    for key in keys {
        client.put(*key, format!("v-{key}"), None).await.unwrap();
    }
}

async fn a_new_registry_is_empty_at_revision_one(conformance: Conformance) {
    let (_registry, mut client) = conformance.new_registry().await;
    let all = Some(GetOptions::new().with_all_keys());
    let response = client.get("", all).await.unwrap();
    assert_eq!((response.count(), response.more()), (0, false));
    let header = response.header().unwrap();
    assert_eq!(header.revision(), 1);
    assert!(header.cluster_id() != 0 && header.member_id() != 0 && header.raft_term() != 0);
    let status = client.status().await.unwrap();
    assert_eq!(status.leader(), header.member_id());
    assert!(status.version().starts_with("3."), "{}", status.version());
    assert!(status.db_size() >= 0);
}

async fn every_write_is_one_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for nth in 2..6 {
        let put = client.put("key", "same", None).await.unwrap();
        assert_eq!(put.header().unwrap().revision(), base + nth);
    }
    let nothing = client.delete("other", None).await.unwrap();
    assert_eq!(
        nothing.header().unwrap().revision(),
        base + 5,
        "nothing happened"
    );
    let gone = client.delete("key", None).await.unwrap();
    assert_eq!(gone.header().unwrap().revision(), base + 6);
    let read = client.get("key", None).await.unwrap();
    assert_eq!(read.header().unwrap().revision(), base + 6);
}

async fn a_key_counts_its_versions_and_starts_anew_after_a_delete(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    fill(&mut client, &["other", "key", "key", "key"]).await;
    let read = client.get("key", None).await.unwrap();
    let kv = &read.kvs()[0];
    assert_eq!(
        (kv.create_revision(), kv.mod_revision(), kv.version()),
        (base + 3, base + 5, 3)
    );
    assert_eq!(
        (kv.key(), kv.value(), kv.lease()),
        (&b"key"[..], &b"v-key"[..], 0)
    );
    client.delete("key", None).await.unwrap();
    fill(&mut client, &["key"]).await;
    let read = client.get("key", None).await.unwrap();
    let kv = &read.kvs()[0];
    assert_eq!(
        (kv.create_revision(), kv.mod_revision(), kv.version()),
        (base + 7, base + 7, 1)
    );
}

async fn a_put_answers_what_stood_there(Conformance { mut client, .. }: Conformance) {
    let with_prev = || Some(PutOptions::new().with_prev_key());
    let put = client.put("key", "1", with_prev()).await.unwrap();
    assert!(put.prev_key().is_none());
    let put = client.put("key", "2", with_prev()).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    let put = client.put("key", "3", None).await.unwrap();
    assert!(put.prev_key().is_none(), "only who asks is told");
}

async fn a_put_can_keep_the_value_or_the_lease(Conformance { mut client, .. }: Conformance) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let leased = Some(PutOptions::new().with_lease(lease));
    client.put("key", "1", leased).await.unwrap();
    let keep_lease = || Some(PutOptions::new().with_ignore_lease());
    client.put("key", "2", keep_lease()).await.unwrap();
    let read = client.get("key", None).await.unwrap();
    assert_eq!(
        (read.kvs()[0].value(), read.kvs()[0].lease()),
        (&b"2"[..], lease)
    );
    let keep_value = || Some(PutOptions::new().with_ignore_value());
    client.put("key", "", keep_value()).await.unwrap();
    let read = client.get("key", None).await.unwrap();
    assert_eq!(
        (read.kvs()[0].value(), read.kvs()[0].lease()),
        (&b"2"[..], 0)
    );

    let missing = client.put("none", "2", keep_lease()).await;
    assert_refused(missing, Code::InvalidArgument, "etcdserver: key not found");
    let missing = client.put("none", "", keep_value()).await;
    assert_refused(missing, Code::InvalidArgument, "etcdserver: key not found");
    let both = client.put("key", "3", keep_value()).await;
    assert_refused(both, Code::InvalidArgument, "etcdserver: value is provided");
    let both = client
        .put("key", "3", keep_lease().map(|put| put.with_lease(lease)))
        .await;
    assert_refused(both, Code::InvalidArgument, "etcdserver: lease is provided");
}

async fn a_delete_counts_and_answers_what_it_deleted(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    fill(&mut client, &["a/1", "a/2", "a/3", "b/1"]).await;
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let gone = client.delete("a/", Some(options)).await.unwrap();
    assert_eq!(gone.deleted(), 3);
    assert_eq!(
        gone.header().unwrap().revision(),
        base + 6,
        "one revision for all"
    );
    let shown: Vec<_> = gone
        .prev_kvs()
        .iter()
        .map(|kv| kv.key_str().unwrap())
        .collect();
    assert_eq!(shown, ["a/1", "a/2", "a/3"]);
    let again = client
        .delete("a/", Some(DeleteOptions::new().with_prefix()))
        .await
        .unwrap();
    assert_eq!((again.deleted(), again.prev_kvs().len()), (0, 0));
}

async fn ranges_end_where_etcd_ends_them(Conformance { mut client, .. }: Conformance) {
    fill(&mut client, &["a", "aa", "ab", "b", "c"]).await;
    let cases: [(&str, GetOptions, &[&str]); 7] = [
        ("a", GetOptions::new(), &["a"]),
        ("a", GetOptions::new().with_range("b"), &["a", "aa", "ab"]),
        ("a", GetOptions::new().with_prefix(), &["a", "aa", "ab"]),
        ("b", GetOptions::new().with_from_key(), &["b", "c"]),
        (
            "",
            GetOptions::new().with_all_keys(),
            &["a", "aa", "ab", "b", "c"],
        ),
        ("c", GetOptions::new().with_range("a"), &[]),
        ("a", GetOptions::new().with_range("a"), &[]),
    ];
    for (key, options, expected) in cases {
        let response = client.get(key, Some(options.clone())).await.unwrap();
        assert_eq!(keys(&response), expected, "{key} {options:?}");
        assert_eq!(usize::try_from(response.count()).unwrap(), expected.len());
    }
}

async fn a_limit_cuts_and_says_so(Conformance { mut client, .. }: Conformance) {
    fill(&mut client, &["k1", "k2", "k3", "k4"]).await;
    let page = |limit| Some(GetOptions::new().with_prefix().with_limit(limit));
    for (limit, expected, more) in [
        (0, &["k1", "k2", "k3", "k4"][..], false),
        (2, &["k1", "k2"], true),
        (4, &["k1", "k2", "k3", "k4"], false),
        (9, &["k1", "k2", "k3", "k4"], false),
    ] {
        let response = client.get("k", page(limit)).await.unwrap();
        assert_eq!(keys(&response), expected);
        assert_eq!(
            (response.count(), response.more()),
            (4, more),
            "limit {limit}"
        );
    }
    let sorted = page(1).map(|get| get.with_sort(SortTarget::Key, SortOrder::Descend));
    let response = client.get("k", sorted).await.unwrap();
    assert_eq!((keys(&response), response.more()), (vec!["k4"], true));
}

async fn keys_and_counts_come_alone(Conformance { mut client, .. }: Conformance) {
    fill(&mut client, &["k1", "k2"]).await;
    let options = GetOptions::new().with_prefix().with_keys_only();
    let response = client.get("k", Some(options)).await.unwrap();
    assert_eq!(keys(&response), ["k1", "k2"]);
    assert!(response.kvs().iter().all(|kv| kv.value().is_empty()));
    assert!(response.kvs().iter().all(|kv| kv.version() == 1));
    let options = GetOptions::new().with_prefix().with_count_only();
    let response = client.get("k", Some(options)).await.unwrap();
    assert_eq!((response.kvs().len(), response.count()), (0, 2));
}

async fn reads_sort_by_every_target(Conformance { mut client, .. }: Conformance) {
    // Versions: a 1, b 3, c 2. Created: c, b, a. Modified: c, a, b. Values: b, c, a.
    for (key, value) in [
        ("c", "2"),
        ("b", "x"),
        ("c", "2"),
        ("b", "x"),
        ("a", "3"),
        ("b", "1"),
    ] {
        client.put(key, value, None).await.unwrap();
    }
    for (target, ascending) in [
        (SortTarget::Key, ["a", "b", "c"]),
        (SortTarget::Version, ["a", "c", "b"]),
        (SortTarget::Create, ["c", "b", "a"]),
        (SortTarget::Mod, ["c", "a", "b"]),
        (SortTarget::Value, ["b", "c", "a"]),
    ] {
        let mut expected = ascending.to_vec();
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            let options = GetOptions::new().with_all_keys().with_sort(target, order);
            let response = client.get("", Some(options)).await.unwrap();
            assert_eq!(keys(&response), expected, "{target:?} {order:?}");
            expected.reverse();
        }
    }
}

async fn reads_filter_by_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    // Created at 2, 3, 4; modified at 5, 3, 4.
    fill(&mut client, &["a", "b", "c", "a"]).await;
    let all = || GetOptions::new().with_all_keys();
    for (options, expected) in [
        (all().with_min_mod_revision(base + 4), &["a", "c"][..]),
        (all().with_max_mod_revision(base + 4), &["b", "c"]),
        (all().with_min_create_revision(base + 3), &["b", "c"]),
        (all().with_max_create_revision(base + 3), &["a", "b"]),
        (
            all()
                .with_min_mod_revision(base + 4)
                .with_max_create_revision(base + 2),
            &["a"],
        ),
    ] {
        let response = client.get("", Some(options.clone())).await.unwrap();
        assert_eq!(keys(&response), expected, "{options:?}");
        assert_eq!(response.count(), 3, "filters do not change the count");
    }
}

async fn old_revisions_can_be_read(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    fill(&mut client, &["a", "b"]).await;
    client.delete("a", None).await.unwrap();
    fill(&mut client, &["c", "b"]).await;
    let at = |revision| {
        Some(
            GetOptions::new()
                .with_all_keys()
                .with_revision(base + revision),
        )
    };
    for (revision, expected) in [
        (1, &[][..]),
        (2, &["a"]),
        (3, &["a", "b"]),
        (4, &["b"]),
        (5, &["b", "c"]),
        (6, &["b", "c"]),
    ] {
        let response = client.get("", at(revision)).await.unwrap();
        assert_eq!(keys(&response), expected, "revision {revision}");
        assert_eq!(
            response.header().unwrap().revision(),
            base + 6,
            "the header's is the newest"
        );
    }
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(client.get("a", at(7)).await, Code::OutOfRange, future);
    assert_refused(
        client.compact(base + 7, None).await,
        Code::OutOfRange,
        future,
    );
}

async fn a_compaction_forgets_only_what_is_older(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    fill(&mut client, &["a", "b"]).await;
    client.delete("a", None).await.unwrap();
    fill(&mut client, &["c", "b"]).await;
    let at = |revision| {
        Some(
            GetOptions::new()
                .with_all_keys()
                .with_revision(base + revision),
        )
    };
    let physical = || Some(CompactionOptions::new().with_physical());
    let response = client.compact(base + 4, physical()).await.unwrap();
    assert_eq!(response.header().unwrap().revision(), base + 6);
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_refused(client.get("a", at(3)).await, Code::OutOfRange, compacted);
    assert_refused(
        client.compact(base + 4, physical()).await,
        Code::OutOfRange,
        compacted,
    );
    assert_refused(
        client.compact(base + 2, None).await,
        Code::OutOfRange,
        compacted,
    );
    assert_eq!(keys(&client.get("", at(4)).await.unwrap()), ["b"]);
    assert_eq!(keys(&client.get("", at(5)).await.unwrap()), ["b", "c"]);
    let newest = client.get("b", None).await.unwrap();
    assert_eq!(
        newest.kvs()[0].create_revision(),
        base + 3,
        "compaction changes no key"
    );
}

async fn bad_requests_are_refused_in_etcds_words(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let no_key = "etcdserver: key is not provided";
    assert_refused(client.get("", None).await, Code::InvalidArgument, no_key);
    assert_refused(
        client.put("", "1", None).await,
        Code::InvalidArgument,
        no_key,
    );
    assert_refused(client.delete("", None).await, Code::InvalidArgument, no_key);
    let unleased = client
        .put("key", "1", Some(PutOptions::new().with_lease(4711)))
        .await;
    assert_refused(
        unleased,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let large = client.put("key", vec![b'x'; 1536 * 1024 + 1], None).await;
    assert_refused(
        large,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let nothing = client.get("key", None).await.unwrap();
    assert_eq!(
        nothing.header().unwrap().revision(),
        base + 1,
        "a refusal changes nothing"
    );
}
