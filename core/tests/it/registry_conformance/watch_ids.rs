//! Many watchers on one stream: their ids, their ends, and what they hear while nothing happens.

use etcd_client::{
    Client, CompactionOptions, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};

use super::{Conformance, conformance, next};

conformance!(
    chosen_ids_and_free_ones_go_together,
    an_id_is_free_again_after_a_cancel,
    an_id_below_zero_can_be_chosen,
    cancelling_what_is_not_there_is_passed_over,
    a_compacted_watcher_names_no_revision_but_the_compacted_one,
    hundreds_of_watchers_hear_one_write,
    watchers_that_start_apart_end_together,
    an_idle_watcher_hears_how_far_it_is,
    progress_is_asked_for_many_times,
    both_filters_leave_nothing,
    what_stood_there_may_be_compacted,
    a_stream_outlives_all_its_watchers,
);

async fn put(client: &mut Client, key: &str) -> i64 {
    let put = client.put(key, "v", None).await.unwrap();
    put.header().unwrap().revision()
}

/// Adds a watcher of `key` and returns the answer to that.
async fn add(stream: &mut WatchStream, key: &str, options: WatchOptions) -> WatchResponse {
    stream.watch(key, Some(options)).await.unwrap();
    let created = next(stream).await;
    assert!(created.created());
    created
}

async fn first(client: &mut Client, key: &str, options: WatchOptions) -> WatchStream {
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    assert!(next(&mut stream).await.created());
    stream
}

/// Asks for the progress and expects nothing before the answer.
async fn nothing_more(stream: &mut WatchStream) {
    stream.request_progress().await.unwrap();
    let progress = next(stream).await;
    assert_eq!((progress.watch_id(), progress.events().len()), (-1, 0));
    assert!(!progress.created() && !progress.canceled());
}

async fn chosen_ids_and_free_ones_go_together(Conformance { mut client, .. }: Conformance) {
    let with_id = |id| WatchOptions::new().with_watch_id(id);
    let mut stream = first(&mut client, "a", with_id(1)).await;
    // Ids that were not chosen count up and leave out those that were.
    for (wanted, expected) in [
        (0, 0),
        (0, 2),
        (5, 5),
        (0, 3),
        (4, 4),
        (0, 6),
        (i64::MAX, i64::MAX),
    ] {
        let created = add(&mut stream, "a", with_id(wanted)).await;
        assert_eq!((created.watch_id(), created.canceled()), (expected, false));
    }
    put(&mut client, "a").await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(next(&mut stream).await.watch_id());
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, i64::MAX]);
}

async fn an_id_is_free_again_after_a_cancel(Conformance { mut client, .. }: Conformance) {
    let with_id = || WatchOptions::new().with_watch_id(7);
    let mut stream = first(&mut client, "a", with_id()).await;
    stream.cancel(7).await.unwrap();
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && !cancelled.created());
    assert_eq!(cancelled.cancel_reason(), "");
    let created = add(&mut stream, "b", with_id()).await;
    assert_eq!((created.watch_id(), created.canceled()), (7, false));
    put(&mut client, "a").await;
    let revision = put(&mut client, "b").await;
    let response = next(&mut stream).await;
    assert_eq!(response.events()[0].kv().unwrap().mod_revision(), revision);
}

async fn an_id_below_zero_can_be_chosen(Conformance { mut client, .. }: Conformance) {
    let options = WatchOptions::new().with_watch_id(-7);
    let mut stream = first(&mut client, "a", options).await;
    put(&mut client, "a").await;
    assert_eq!(next(&mut stream).await.watch_id(), -7);
}

async fn cancelling_what_is_not_there_is_passed_over(Conformance { mut client, .. }: Conformance) {
    let mut stream = first(&mut client, "a", WatchOptions::new()).await;
    stream.cancel(4711).await.unwrap();
    nothing_more(&mut stream).await;
    for _ in 0..2 {
        stream.cancel(0).await.unwrap();
    }
    assert!(next(&mut stream).await.canceled());
    nothing_more(&mut stream).await;
}

async fn a_compacted_watcher_names_no_revision_but_the_compacted_one(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for _ in 0..3 {
        put(&mut client, "a").await;
    }
    client.compact(base + 4, None).await.unwrap();
    let mut stream = first(&mut client, "b", WatchOptions::new()).await;
    let old = WatchOptions::new()
        .with_watch_id(7)
        .with_start_revision(base + 3);
    add(&mut stream, "a", old).await;
    let lost = next(&mut stream).await;
    assert_eq!((lost.watch_id(), lost.canceled()), (7, true));
    assert_eq!(lost.compact_revision(), base + 4);
    assert_eq!(lost.header().unwrap().revision(), 0);
    assert_eq!(lost.cancel_reason(), "");
    assert!(lost.events().is_empty() && !lost.created());
    // The others go on.
    put(&mut client, "b").await;
    assert_eq!(next(&mut stream).await.watch_id(), 0);
}

async fn hundreds_of_watchers_hear_one_write(Conformance { mut client, .. }: Conformance) {
    let n_watchers = 300;
    let mut stream = first(&mut client, "a", WatchOptions::new()).await;
    for expected in 1..n_watchers {
        let created = add(&mut stream, "a", WatchOptions::new()).await;
        assert_eq!(created.watch_id(), expected);
    }
    let revision = put(&mut client, "a").await;
    let mut ids = Vec::new();
    for _ in 0..n_watchers {
        let response = next(&mut stream).await;
        assert_eq!(response.events().len(), 1);
        assert_eq!(response.header().unwrap().revision(), revision);
        ids.push(response.watch_id());
    }
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..n_watchers));
    nothing_more(&mut stream).await;
}

async fn watchers_that_start_apart_end_together(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for _ in 0..10 {
        put(&mut client, "a").await;
    }
    let from = |nth| WatchOptions::new().with_start_revision(base + nth);
    let mut stream = first(&mut client, "none", WatchOptions::new()).await;
    let mut missing = std::collections::BTreeMap::new();
    for (start, n_missing) in [(2, 11), (5, 8), (11, 2), (12, 1)] {
        stream.watch("a", Some(from(start))).await.unwrap();
        let id = i64::try_from(missing.len()).unwrap() + 1;
        missing.insert(id, n_missing);
    }
    put(&mut client, "a").await;
    let mut seen = std::collections::BTreeMap::new();
    while missing.values().any(|n_missing| *n_missing > 0) {
        let response = next(&mut stream).await;
        for event in response.events() {
            let at = event.kv().unwrap().mod_revision();
            let last = seen.insert(response.watch_id(), at);
            assert!(
                last.is_none_or(|last| at == last + 1),
                "in order, each once"
            );
            *missing.get_mut(&response.watch_id()).unwrap() -= 1;
        }
    }
    assert!(missing.values().all(|n_missing| *n_missing == 0));
    assert!(seen.values().all(|last| *last == base + 12));
}

async fn an_idle_watcher_hears_how_far_it_is(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    let options = WatchOptions::new().with_progress_notify();
    let mut stream = first(&mut client, "key", options.clone()).await;
    let revision = put(&mut client, "other").await;
    assert_eq!(revision, base + 2);
    // It may have been told before the write.
    loop {
        let progress = next(&mut stream).await;
        assert_eq!((progress.watch_id(), progress.events().len()), (0, 0));
        assert!(!progress.created() && !progress.canceled());
        if progress.header().unwrap().revision() == revision {
            break;
        }
    }
    // Who did not ask is not told: every answer is for the first watcher.
    add_quietly(&mut stream, "key").await;
    for _ in 0..2 {
        assert_eq!(next(&mut stream).await.watch_id(), 0);
    }
}

/// Adds a watcher without progress; answers to the others may come before its own.
async fn add_quietly(stream: &mut WatchStream, key: &str) {
    stream.watch(key, None).await.unwrap();
    while !next(stream).await.created() {}
}

async fn progress_is_asked_for_many_times(Conformance { mut client, .. }: Conformance) {
    let mut stream = first(&mut client, "a", WatchOptions::new()).await;
    let mut last = 0;
    for _ in 0..5 {
        let revision = put(&mut client, "a").await;
        assert_eq!(next(&mut stream).await.events().len(), 1);
        stream.request_progress().await.unwrap();
        let progress = next(&mut stream).await;
        assert_eq!(progress.header().unwrap().revision(), revision);
        assert!(revision > last);
        last = revision;
    }
}

async fn both_filters_leave_nothing(Conformance { mut client, .. }: Conformance) {
    let filters = [WatchFilterType::NoPut, WatchFilterType::NoDelete];
    let options = WatchOptions::new().with_filters(filters);
    let mut stream = first(&mut client, "a", options).await;
    put(&mut client, "a").await;
    client.delete("a", None).await.unwrap();
    nothing_more(&mut stream).await;
}

async fn what_stood_there_may_be_compacted(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    for _ in 0..4 {
        put(&mut client, "a").await;
    }
    let physical = CompactionOptions::new().with_physical();
    client.compact(base + 4, Some(physical)).await.unwrap();
    let options = WatchOptions::new()
        .with_prev_key()
        .with_start_revision(base + 4);
    let mut stream = first(&mut client, "a", options).await;
    let mut before = Vec::new();
    while before.len() < 2 {
        for event in next(&mut stream).await.events() {
            before.push(event.prev_kv().map(etcd_client::KeyValue::mod_revision));
        }
    }
    assert_eq!(before, [None, Some(base + 4)]);
}

async fn a_stream_outlives_all_its_watchers(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    let mut stream = first(&mut client, "a", WatchOptions::new()).await;
    stream.cancel(0).await.unwrap();
    assert!(next(&mut stream).await.canceled());
    nothing_more(&mut stream).await;
    let created = add(&mut stream, "a", WatchOptions::new()).await;
    assert_eq!(created.watch_id(), 1, "{kind}: ids are not given twice");
    put(&mut client, "a").await;
    assert_eq!(next(&mut stream).await.watch_id(), 1);
}
