use etcd_client::proto::{PbKeyValue, PbRangeResponse, PbResponseHeader};

use super::super::super::snapshot::Snapshot;
use super::*;

const INSTANCE: &str = r#"{"address":"127.0.0.1:9000","boot_id":"b","pid":7,"process_start":70,
    "started":"2026-08-01T12:00:00Z","registered":true,"state":"ready"}"#;
const HOST: &str = r#"{"region":"r","address":"127.0.0.1:9000","boot_id":"b","pid":7,
    "process_start":70,"started":"2026-08-01T12:00:00Z"}"#;
const CHILD: &str = r#"{"service":"s","version":"1","region":"r","state":"stopped",
    "started":"2026-08-01T12:00:00Z"}"#;

struct Row(String, i64, &'static str);

fn instance(id: u128, mod_revision: i64) -> Row {
    let id = InstanceId::from_u128(id);
    Row(
        format!("instances/s/1/r/host%2F1/{id}"),
        mod_revision,
        INSTANCE,
    )
}

fn host(name: &str, mod_revision: i64) -> Row {
    Row(format!("hosts/{name}"), mod_revision, HOST)
}

fn child(id: u128, mod_revision: i64) -> Row {
    let id = InstanceId::from_u128(id);
    Row(format!("status/h/{id}"), mod_revision, CHILD)
}

fn page(revision: i64, rows: Vec<Row>) -> GetResponse {
    let kvs = rows
        .into_iter()
        .map(|Row(key, mod_revision, value)| PbKeyValue {
            key: format!("/p/{key}").into(),
            value: value.into(),
            mod_revision,
            ..PbKeyValue::default()
        });
    GetResponse(PbRangeResponse {
        header: Some(PbResponseHeader {
            cluster_id: 5,
            revision,
            ..PbResponseHeader::default()
        }),
        kvs: kvs.collect(),
        ..PbRangeResponse::default()
    })
}

async fn listing(known: Known<'_>, revision: i64, rows: Vec<Row>) -> Listing {
    let mut names = Names::default();
    let mut reader = Reader::new("/p", &mut names, known);
    reader.read(page(revision, rows)).await;
    reader.finish(at(revision))
}

async fn known_at(revision: i64, rows: Vec<Row>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let known = Known {
        snapshot: &snapshot,
        since: None,
    };
    let listing = listing(known, revision, rows).await;
    for change in listing.changed {
        snapshot.apply(change);
    }
    snapshot
}

fn at(revision: i64) -> Position {
    Position {
        revision,
        cluster_id: 5,
    }
}

#[tokio::test]
async fn only_what_changed_is_read_and_only_the_difference_comes_out() {
    let rows = || {
        vec![
            instance(1, 2),
            instance(2, 3),
            instance(3, 4),
            host("a", 5),
            host("b", 6),
            child(4, 7),
            child(5, 8),
        ]
    };
    let before = known_at(8, rows()).await;
    let known = Known {
        snapshot: &before,
        since: Some(at(8)),
    };
    let same = listing(known, 9, rows()).await;
    assert_eq!((same.n_read, same.changed, same.gone), (0, vec![], vec![]));

    let later = vec![
        instance(1, 2),
        instance(2, 9),
        instance(6, 10),
        host("b", 6),
        child(5, 11),
    ];
    let after = listing(known, 11, later).await;
    assert_eq!(after.n_read, 3, "the second, the sixth, and the child");
    assert!(
        matches!(&*after.changed, [
            Change::PutInstance(second),
            Change::PutInstance(sixth),
            Change::PutChild(fifth),
        ] if second.mod_revision == 9 && sixth.mod_revision == 10 && fifth.mod_revision == 11),
        "{:?}",
        after.changed
    );
    assert_eq!(
        after.gone,
        [
            Change::RemoveInstance(InstanceId::from_u128(3)),
            Change::RemoveChild(InstanceId::from_u128(4)),
            Change::RemoveHost("a".into()),
        ]
    );
}

#[tokio::test]
async fn where_the_history_does_not_go_on_everything_is_read_and_compared() {
    let before = known_at(8, vec![instance(1, 2), host("a", 3), child(4, 5)]).await;
    for since in [
        None,
        // The registry was put back.
        Some(at(20)),
        Some(Position {
            revision: 8,
            cluster_id: 6,
        }),
    ] {
        let known = Known {
            snapshot: &before,
            since,
        };
        let rows = vec![instance(1, 2), host("a", 3), child(4, 5)];
        let same = listing(known, 9, rows).await;
        assert_eq!((same.n_read, same.changed, same.gone), (3, vec![], vec![]));
    }
}

#[tokio::test]
async fn a_suspect_that_is_listed_is_believed_at_once() {
    let mut before = known_at(8, vec![instance(1, 2)]).await;
    let ready = Arc::clone(before.instance(InstanceId::from_u128(1)).unwrap());
    let mut suspect = (*ready).clone();
    suspect.state = State::Suspect;
    before.apply(Change::PutInstance(Arc::new(suspect)));
    let known = Known {
        snapshot: &before,
        since: Some(at(8)),
    };
    let after = listing(known, 9, vec![instance(1, 2)]).await;
    assert_eq!(after.changed, [Change::PutInstance(ready)]);
}

#[tokio::test]
async fn the_same_id_under_another_key_or_lease_is_another_row() {
    let before = known_at(8, vec![instance(1, 2)]).await;
    let known = Known {
        snapshot: &before,
        since: Some(at(8)),
    };
    let Row(key, _, value) = instance(1, 2);
    let moved = Row(key.replace("/r/", "/elsewhere/"), 2, value);
    let after = listing(known, 9, vec![moved]).await;
    assert!(
        matches!(&*after.changed, [Change::PutInstance(row)] if &**row.region() == "elsewhere")
    );
    let mut page = page(9, vec![instance(1, 2)]);
    page.0.kvs[0].lease = 77;
    let mut names = Names::default();
    let mut reader = Reader::new("/p", &mut names, known);
    reader.read(page).await;
    assert_eq!(reader.n_read, 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_as_good_as_gone() {
    let before = known_at(8, vec![instance(1, 2), host("a", 3)]).await;
    let known = Known {
        snapshot: &before,
        since: Some(at(8)),
    };
    let Row(key, ..) = instance(1, 2);
    let spoiled = vec![Row(key, 9, "{"), host("a", 3)];
    let after = listing(known, 9, spoiled).await;
    assert_eq!(after.changed, []);
    assert_eq!(
        after.gone,
        [Change::RemoveInstance(InstanceId::from_u128(1))]
    );
}

fn on(host: &str, mod_revision: i64) -> Row {
    let id = InstanceId::from_u128(1);
    Row(
        format!("instances/s/1/r/{host}/{id}"),
        mod_revision,
        INSTANCE,
    )
}

/// What a view makes of a listing.
async fn listed(known: &Snapshot, rows: Vec<Row>) -> (Vec<String>, Listing) {
    let since = Some(at(8));
    let snapshot = known;
    let listing = listing(Known { snapshot, since }, 9, rows).await;
    let mut after = known.clone();
    for moved in &listing.moved {
        after.remove_twin(moved);
    }
    for change in listing.gone.iter().chain(&listing.changed) {
        after.apply(change.clone());
    }
    for moved in &listing.moved {
        after.remove_twin(moved);
    }
    let all = after.rows_of(InstanceId::from_u128(1));
    (all.map(|one| one.host().to_string()).collect(), listing)
}

#[tokio::test]
async fn row_35_two_keys_of_one_id_are_listed_and_forgotten_one_by_one() {
    let both = known_at(8, vec![on("a", 5), on("b", 6)]).await;
    let (hosts, same) = listed(&both, vec![on("a", 5), on("b", 6)]).await;
    assert_eq!(hosts, ["b", "a"]);
    assert_eq!((same.n_read, same.changed, same.moved), (0, vec![], vec![]));
    for (rows, left) in [
        (vec![on("a", 5)], &["a"][..]),
        (vec![on("b", 6)], &["b"]),
        (vec![on("c", 7)], &["c"]),
        (vec![on("a", 9), on("c", 7)], &["a", "c"]),
        (vec![], &[]),
    ] {
        let (hosts, _) = listed(&both, rows).await;
        assert_eq!(hosts, left);
    }
    // Whoever has moved has no second row.
    let one = known_at(8, vec![on("a", 5)]).await;
    let (hosts, _) = listed(&one, vec![on("b", 9)]).await;
    assert_eq!(hosts, ["b"]);
}
