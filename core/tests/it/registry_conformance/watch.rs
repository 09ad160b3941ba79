//! Watching: what comes, in which order, and when a watcher ends.

use etcd_client::{
    Client, DeleteOptions, Event, EventType, KeyValue, PutOptions, Txn, TxnOp, WatchFilterType,
    WatchOptions, WatchStream,
};

use super::{Conformance, conformance, next};

conformance!(
    a_watcher_sees_what_comes_after_it,
    a_revision_is_never_torn_apart,
    a_deletion_shows_the_key_and_its_revision,
    prev_kv_shows_what_stood_there,
    a_start_revision_brings_the_past_back,
    a_future_start_revision_waits,
    filters_leave_events_out,
    only_the_range_is_seen,
    many_watchers_share_a_stream,
    a_given_id_can_be_used_once,
    a_cancelled_watcher_ends_alone,
    a_progress_request_is_answered_after_the_events,
    a_compacted_start_is_cancelled_with_the_revision,
    a_compaction_does_not_disturb_who_is_up_to_date,
    an_empty_range_is_refused,
    a_watcher_that_does_not_read_loses_nothing,
    a_large_revision_comes_in_fragments_to_who_wants_them,
);

/// Watches and waits until the watcher stands.
async fn watch(client: &mut Client, key: &str, options: WatchOptions) -> WatchStream {
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    let created = next(&mut stream).await;
    assert!(created.created() && !created.canceled());
    stream
}

async fn put(client: &mut Client, key: &str, value: &str) -> i64 {
    let put = client.put(key, value, None).await.unwrap();
    put.header().unwrap().revision()
}

fn shown(event: &Event) -> (EventType, &str, i64) {
    let kv = event.kv().unwrap();
    (event.event_type(), kv.key_str().unwrap(), kv.mod_revision())
}

/// Reads until `n_events` came; they may come in any number of answers.
async fn events(stream: &mut WatchStream, n_events: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < n_events {
        events.extend_from_slice(next(stream).await.events());
    }
    assert_eq!(events.len(), n_events);
    events
}

async fn a_watcher_sees_what_comes_after_it(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    put(&mut client, "key", "before").await;
    let mut stream = client.watch("key", None).await.unwrap();
    let created = next(&mut stream).await;
    assert_eq!((created.created(), created.watch_id()), (true, 0));
    assert_eq!(created.header().unwrap().revision(), base + 2);
    assert!(created.events().is_empty());
    for value in ["1", "2"] {
        let revision = put(&mut client, "key", value).await;
        let response = next(&mut stream).await;
        assert_eq!((response.watch_id(), response.created()), (0, false));
        assert_eq!(response.header().unwrap().revision(), revision);
        let [event] = response.events() else {
            panic!("expected one event, got {response:?}");
        };
        let kv = event.kv().unwrap();
        assert_eq!(event.event_type(), EventType::Put);
        assert_eq!(
            (kv.value(), kv.create_revision()),
            (value.as_bytes(), base + 2)
        );
        assert_eq!(
            (kv.mod_revision(), kv.version()),
            (revision, revision - base - 1)
        );
        assert!(event.prev_kv().is_none(), "only who asks is shown it");
    }
}

async fn a_revision_is_never_torn_apart(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let mut live = watch(&mut client, "k", WatchOptions::new().with_prefix()).await;
    for round in 0..5 {
        let ops = (0..20).map(|idx| TxnOp::put(format!("k{idx:02}"), format!("{round}"), None));
        client
            .txn(Txn::new().and_then(ops.collect::<Vec<_>>()))
            .await
            .unwrap();
    }
    let from_start = WatchOptions::new()
        .with_prefix()
        .with_start_revision(base + 2);
    let mut late = watch(&mut client, "k", from_start).await;
    for stream in [&mut live, &mut late] {
        let mut n_seen = 0;
        while n_seen < 100 {
            let response = next(stream).await;
            n_seen += response.events().len();
            assert_eq!(response.events().len() % 20, 0);
            for (idx, event) in response.events().iter().enumerate() {
                let first = shown(&response.events()[idx - idx % 20]).2;
                let (_, key, revision) = shown(event);
                assert_eq!(
                    (key, revision),
                    (format!("k{:02}", idx % 20).as_str(), first)
                );
            }
        }
        assert_eq!(n_seen, 100);
    }
}

async fn a_deletion_shows_the_key_and_its_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    put(&mut client, "k1", "v").await;
    put(&mut client, "k2", "v").await;
    let mut stream = watch(&mut client, "k", WatchOptions::new().with_prefix()).await;
    let prefix = Some(DeleteOptions::new().with_prefix());
    client.delete("k", prefix).await.unwrap();
    let response = next(&mut stream).await;
    let all: Vec<_> = response.events().iter().map(shown).collect();
    assert_eq!(
        all,
        [
            (EventType::Delete, "k1", base + 4),
            (EventType::Delete, "k2", base + 4)
        ]
    );
    let kv = response.events()[0].kv().unwrap();
    assert_eq!(
        (kv.value(), kv.version(), kv.create_revision(), kv.lease()),
        (&b""[..], 0, 0, 0)
    );
}

async fn prev_kv_shows_what_stood_there(Conformance { mut client, .. }: Conformance) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let mut stream = watch(&mut client, "key", WatchOptions::new().with_prev_key()).await;
    let leased = Some(PutOptions::new().with_lease(lease));
    client.put("key", "1", leased).await.unwrap();
    put(&mut client, "key", "2").await;
    client.delete("key", None).await.unwrap();
    put(&mut client, "key", "3").await;
    let events = events(&mut stream, 4).await;
    let before: Vec<_> = events
        .iter()
        .map(|event| {
            event
                .prev_kv()
                .map(|kv| (kv.value(), kv.version(), kv.lease()))
        })
        .collect();
    assert_eq!(
        before,
        [None, Some((&b"1"[..], 1, lease)), Some((b"2", 2, 0)), None]
    );
}

async fn a_start_revision_brings_the_past_back(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for value in ["1", "2", "3"] {
        put(&mut client, "key", value).await;
    }
    client.delete("key", None).await.unwrap();
    let options = WatchOptions::new()
        .with_start_revision(base + 3)
        .with_prev_key();
    let mut stream = watch(&mut client, "key", options).await;
    put(&mut client, "key", "4").await;
    let events = events(&mut stream, 4).await;
    let all: Vec<_> = events
        .iter()
        .map(shown)
        .map(|(kind, _, at)| (kind, at))
        .collect();
    let expected = [
        (EventType::Put, base + 3),
        (EventType::Put, base + 4),
        (EventType::Delete, base + 5),
        (EventType::Put, base + 6),
    ];
    assert_eq!(all, expected);
    let before: Vec<_> = events
        .iter()
        .map(|event| event.prev_kv().map(KeyValue::value))
        .collect();
    assert_eq!(before, [Some(&b"1"[..]), Some(b"2"), Some(b"3"), None]);
}

async fn a_future_start_revision_waits(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let options = WatchOptions::new().with_start_revision(base + 4);
    let mut stream = watch(&mut client, "key", options).await;
    for value in ["1", "2", "3"] {
        put(&mut client, "key", value).await;
    }
    let first = events(&mut stream, 1).await;
    assert_eq!(shown(&first[0]), (EventType::Put, "key", base + 4));
}

async fn filters_leave_events_out(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let filtered = |filter| WatchOptions::new().with_filters([filter]);
    let mut puts = watch(&mut client, "key", filtered(WatchFilterType::NoDelete)).await;
    let mut deletes = watch(&mut client, "key", filtered(WatchFilterType::NoPut)).await;
    for _ in 0..2 {
        put(&mut client, "key", "v").await;
        client.delete("key", None).await.unwrap();
    }
    let puts = events(&mut puts, 2).await;
    assert_eq!(
        puts.iter()
            .map(shown)
            .map(|shown| shown.2)
            .collect::<Vec<_>>(),
        [base + 2, base + 4]
    );
    let deletes = events(&mut deletes, 2).await;
    assert_eq!(
        deletes
            .iter()
            .map(shown)
            .map(|shown| shown.2)
            .collect::<Vec<_>>(),
        [base + 3, base + 5]
    );
}

async fn only_the_range_is_seen(Conformance { mut client, .. }: Conformance) {
    let mut one = watch(&mut client, "b", WatchOptions::new()).await;
    let mut prefix = watch(&mut client, "b", WatchOptions::new().with_prefix()).await;
    let mut range = watch(&mut client, "b", WatchOptions::new().with_range("c")).await;
    let mut from = watch(&mut client, "b", WatchOptions::new().with_from_key()).await;
    let mut all = watch(&mut client, "", WatchOptions::new().with_all_keys()).await;
    for key in ["a", "bb", "c", "b"] {
        put(&mut client, key, "v").await;
    }
    for (stream, expected) in [
        (&mut one, &["b"][..]),
        (&mut prefix, &["bb", "b"]),
        (&mut range, &["bb", "b"]),
        (&mut from, &["bb", "c", "b"]),
        (&mut all, &["a", "bb", "c", "b"]),
    ] {
        let events = events(stream, expected.len()).await;
        let keys: Vec<_> = events.iter().map(|event| shown(event).1).collect();
        assert_eq!(keys, expected);
    }
}

async fn many_watchers_share_a_stream(Conformance { mut client, .. }: Conformance) {
    let mut stream = watch(&mut client, "a", WatchOptions::new()).await;
    for expected in 1..4 {
        let options = WatchOptions::new().with_prefix();
        stream.watch("a", Some(options)).await.unwrap();
        let created = next(&mut stream).await;
        assert_eq!((created.created(), created.watch_id()), (true, expected));
    }
    put(&mut client, "a", "v").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let response = next(&mut stream).await;
        assert_eq!(response.events().len(), 1);
        ids.push(response.watch_id());
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3]);
}

async fn a_given_id_can_be_used_once(Conformance { mut client, .. }: Conformance) {
    let with_id = || WatchOptions::new().with_watch_id(7);
    let mut stream = client.watch("a", Some(with_id())).await.unwrap();
    assert_eq!(next(&mut stream).await.watch_id(), 7);
    stream.watch("b", Some(with_id())).await.unwrap();
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled());
    assert_eq!(refused.watch_id(), -1);
    assert!(
        refused.cancel_reason().contains("duplicate watch ID"),
        "{refused:?}"
    );
    put(&mut client, "a", "v").await;
    assert_eq!(next(&mut stream).await.watch_id(), 7, "the first goes on");
}

async fn a_cancelled_watcher_ends_alone(Conformance { mut client, .. }: Conformance) {
    let mut stream = watch(&mut client, "key", WatchOptions::new()).await;
    stream.watch("key", None).await.unwrap();
    assert_eq!(next(&mut stream).await.watch_id(), 1);
    stream.cancel(0).await.unwrap();
    let cancelled = next(&mut stream).await;
    assert_eq!((cancelled.canceled(), cancelled.watch_id()), (true, 0));
    assert_eq!(cancelled.compact_revision(), 0);
    put(&mut client, "key", "v").await;
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events().len()), (1, 1));
}

async fn a_progress_request_is_answered_after_the_events(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let mut stream = watch(&mut client, "key", WatchOptions::new()).await;
    put(&mut client, "key", "v").await;
    assert_eq!(next(&mut stream).await.events().len(), 1);
    put(&mut client, "other", "v").await;
    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert_eq!((progress.watch_id(), progress.events().len()), (-1, 0));
    assert!(!progress.created() && !progress.canceled());
    assert_eq!(progress.header().unwrap().revision(), base + 3);
}

async fn a_compacted_start_is_cancelled_with_the_revision(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for value in ["1", "2", "3", "4"] {
        put(&mut client, "key", value).await;
    }
    client.compact(base + 4, None).await.unwrap();
    let old = Some(WatchOptions::new().with_start_revision(base + 2));
    let mut stream = client.watch("key", old).await.unwrap();
    assert!(next(&mut stream).await.created());
    let cancelled = next(&mut stream).await;
    assert_eq!(
        (cancelled.canceled(), cancelled.compact_revision()),
        (true, base + 4)
    );
    assert_eq!(cancelled.watch_id(), 0);
    let oldest = WatchOptions::new().with_start_revision(base + 4);
    stream.watch("key", Some(oldest)).await.unwrap();
    assert!(next(&mut stream).await.created(), "the stream goes on");
    let events = events(&mut stream, 2).await;
    assert_eq!(
        events
            .iter()
            .map(shown)
            .map(|shown| shown.2)
            .collect::<Vec<_>>(),
        [base + 4, base + 5]
    );
}

async fn a_compaction_does_not_disturb_who_is_up_to_date(
    Conformance { mut client, .. }: Conformance,
) {
    let mut stream = watch(&mut client, "key", WatchOptions::new()).await;
    let mut revision = 0;
    for idx in 0..20 {
        revision = put(&mut client, "key", &idx.to_string()).await;
        // The watcher may not have looked yet.
        client.compact(revision, None).await.unwrap();
    }
    let events = events(&mut stream, 20).await;
    assert_eq!(shown(&events[19]).2, revision);
}

async fn an_empty_range_is_refused(Conformance { mut client, .. }: Conformance) {
    let options = Some(WatchOptions::new().with_range("a"));
    let mut stream = client.watch("b", options).await.unwrap();
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled());
    assert!(
        refused.cancel_reason().contains("range is empty"),
        "{refused:?}"
    );
}

async fn a_watcher_that_does_not_read_loses_nothing(Conformance { mut client, .. }: Conformance) {
    let mut stream = watch(&mut client, "key", WatchOptions::new()).await;
    let large = "x".repeat(10_000);
    for idx in 0..500 {
        put(&mut client, "key", &format!("{idx} {large}")).await;
    }
    let events = events(&mut stream, 500).await;
    for (idx, event) in events.iter().enumerate() {
        let value = event.kv().unwrap().value_str().unwrap();
        assert!(value.starts_with(&format!("{idx} ")));
    }
}

async fn a_large_revision_comes_in_fragments_to_who_wants_them(
    Conformance { mut client, .. }: Conformance,
) {
    let large = "x".repeat(100_000);
    for idx in 0..30 {
        put(&mut client, &format!("k{idx:02}"), &large).await;
    }
    let options = WatchOptions::new()
        .with_prefix()
        .with_prev_key()
        .with_fragment();
    let mut stream = watch(&mut client, "k", options).await;
    let prefix = Some(DeleteOptions::new().with_prefix());
    client.delete("k", prefix).await.unwrap();
    let mut keys = Vec::new();
    let mut n_responses = 0;
    loop {
        let response = next(&mut stream).await;
        n_responses += 1;
        let events = response.events().iter();
        keys.extend(events.map(|event| shown(event).1.to_owned()));
        if !response.0.fragment {
            break;
        }
    }
    assert!(n_responses > 1);
    let expected: Vec<_> = (0..30).map(|idx| format!("k{idx:02}")).collect();
    assert_eq!(keys, expected);
}
