//! Reading ranges: every option, alone and together, held against a plain model.

use etcd_client::{
    GetOptions, SortOrder, SortTarget,
    proto::{PbRangeRequest, PbRangeResponse},
};
use tonic::Code;

use super::{Conformance, Kind, conformance, server::call};

conformance!(
    every_combination_of_options_matches_a_plain_model,
    a_sort_target_alone_sorts_upwards,
    a_limit_below_zero_is_none,
    a_count_is_of_the_whole_range,
    serializable_reads_see_what_was_acknowledged,
    unknown_sort_options_do_no_harm,
);

/// One key as the model knows it, without the revision to count from.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: &'static str,
    value: &'static str,
    created: i64,
    modified: i64,
    version: i64,
}

/// Written so that no two rows are equal in any target: etcd's order of equals is undefined.
const WRITES: [(&str, &str); 10] = [
    ("d", "x"),
    ("b", "x"),
    ("a", "5"),
    ("c", "x"),
    ("d", "x"),
    ("b", "9"),
    ("c", "x"),
    ("c", "7"),
    ("d", "x"),
    ("d", "1"),
];

const ROWS: [Row; 4] = [
    row("a", "5", 4, 4, 1),
    row("b", "9", 3, 7, 2),
    row("c", "7", 5, 9, 3),
    row("d", "1", 2, 11, 4),
];

const fn row(
    key: &'static str,
    value: &'static str,
    created: i64,
    modified: i64,
    version: i64,
) -> Row {
    Row {
        key,
        value,
        created,
        modified,
        version,
    }
}

async fn write(client: &mut etcd_client::Client) {
    for (key, value) in WRITES {
        client.put(key, value, None).await.unwrap();
    }
}

fn keys(response: &etcd_client::GetResponse) -> Vec<&str> {
    let kvs = response.kvs().iter();
    kvs.map(|kv| kv.key_str().unwrap()).collect()
}

/// Which bounds of which revision a read sets.
#[derive(Debug, Clone, Copy)]
enum Filter {
    None,
    Modified(i64, i64),
    Created(i64, i64),
}

fn expected(
    target: Option<(SortTarget, SortOrder)>,
    filter: Filter,
    limit: usize,
) -> (Vec<Row>, bool) {
    let mut rows: Vec<Row> = ROWS
        .into_iter()
        .filter(|row| match filter {
            Filter::None => true,
            Filter::Modified(min, max) => (min..=max).contains(&row.modified),
            Filter::Created(min, max) => (min..=max).contains(&row.created),
        })
        .collect();
    if let Some((target, order)) = target {
        rows.sort_by_key(|row| match target {
            SortTarget::Key => (0, row.key),
            SortTarget::Version => (row.version, ""),
            SortTarget::Create => (row.created, ""),
            SortTarget::Mod => (row.modified, ""),
            SortTarget::Value => (0, row.value),
        });
        if order == SortOrder::Descend {
            rows.reverse();
        }
    }
    let more = limit > 0 && rows.len() > limit;
    if more {
        rows.truncate(limit);
    }
    (rows, more)
}

async fn every_combination_of_options_matches_a_plain_model(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    write(&mut client).await;
    let mut sorts = vec![None];
    for target in [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ] {
        sorts.extend([SortOrder::Ascend, SortOrder::Descend].map(|order| Some((target, order))));
    }
    let mut reads = Vec::new();
    for sort in sorts {
        for filter in [
            Filter::None,
            Filter::Modified(5, 9),
            Filter::Created(3, 4),
            Filter::Modified(100, 200),
        ] {
            for limit in [0, 1, 2, 4, 9] {
                reads.extend([false, true].map(|keys_only| (sort, filter, limit, keys_only)));
            }
        }
    }
    for (sort, filter, limit, keys_only) in reads {
        let case = format!("{sort:?} {filter:?} limit {limit} {keys_only}");
        let options = options(base, sort, filter, limit, keys_only);
        let found = client.get("", Some(options)).await.unwrap();
        let (rows, more) = expected(sort, filter, limit);
        let wanted: Vec<&str> = rows.iter().map(|row| row.key).collect();
        assert_eq!(keys(&found), wanted, "{case}");
        assert_eq!((found.more(), found.count()), (more, 4), "{case}");
        for (kv, row) in found.kvs().iter().zip(rows) {
            let value = if keys_only { "" } else { row.value };
            assert_eq!(kv.value_str().unwrap(), value, "{case}");
            assert_eq!(
                (kv.create_revision(), kv.mod_revision(), kv.version()),
                (base + row.created, base + row.modified, row.version),
                "{case}"
            );
        }
    }
}

fn options(
    base: i64,
    sort: Option<(SortTarget, SortOrder)>,
    filter: Filter,
    limit: usize,
    keys_only: bool,
) -> GetOptions {
    let mut options = GetOptions::new()
        .with_all_keys()
        .with_limit(i64::try_from(limit).unwrap());
    if let Some((target, order)) = sort {
        options = options.with_sort(target, order);
    }
    if keys_only {
        options = options.with_keys_only();
    }
    match filter {
        Filter::None => options,
        Filter::Modified(min, max) => options
            .with_min_mod_revision(base + min)
            .with_max_mod_revision(base + max),
        Filter::Created(min, max) => options
            .with_min_create_revision(base + min)
            .with_max_create_revision(base + max),
    }
}

async fn range(url: &str, request: PbRangeRequest) -> Result<PbRangeResponse, tonic::Status> {
    call(url, "/etcdserverpb.KV/Range", request).await
}

fn all_keys() -> PbRangeRequest {
    PbRangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..PbRangeRequest::default()
    }
}

async fn a_sort_target_alone_sorts_upwards(
    Conformance {
        mut client, url, ..
    }: Conformance,
) {
    write(&mut client).await;
    for (sort_target, expected) in [(1, "abcd"), (2, "dbac"), (3, "abcd"), (4, "dacb")] {
        let request = PbRangeRequest {
            sort_target,
            ..all_keys()
        };
        let found = range(&url, request).await.unwrap();
        let keys: Vec<u8> = found.kvs.iter().map(|kv| kv.key[0]).collect();
        assert_eq!(keys, expected.as_bytes(), "target {sort_target}");
    }
}

async fn a_limit_below_zero_is_none(
    Conformance {
        mut client, url, ..
    }: Conformance,
) {
    write(&mut client).await;
    for sort_order in [0, 2] {
        let request = PbRangeRequest {
            limit: -1,
            sort_order,
            ..all_keys()
        };
        let found = range(&url, request).await.unwrap();
        assert_eq!((found.kvs.len(), found.more), (4, false));
    }
}

async fn a_count_is_of_the_whole_range(
    Conformance {
        mut client, base, ..
    }: Conformance,
) {
    write(&mut client).await;
    let count = || GetOptions::new().with_all_keys().with_count_only();
    for (options, expected) in [
        (count(), 4),
        (count().with_limit(2), 4),
        (count().with_revision(base + 3), 2),
        (count().with_revision(base + 1), 0),
        (count().with_min_mod_revision(base + 9), 4),
        (count().with_sort(SortTarget::Value, SortOrder::Descend), 4),
        (count().with_keys_only(), 4),
    ] {
        let found = client.get("", Some(options.clone())).await.unwrap();
        assert_eq!(
            (found.count(), found.kvs().len(), found.more()),
            (expected, 0, false),
            "{options:?}"
        );
    }
}

async fn serializable_reads_see_what_was_acknowledged(Conformance { mut client, .. }: Conformance) {
    for idx in 0..20 {
        let value = format!("{idx}");
        client.put("key", value.as_str(), None).await.unwrap();
        let options = GetOptions::new().with_serializable();
        let found = client.get("key", Some(options)).await.unwrap();
        assert_eq!(found.kvs()[0].value_str().unwrap(), value);
    }
}

async fn unknown_sort_options_do_no_harm(conformance: Conformance) {
    if conformance.kind != Kind::Embedded {
        let (registry, _) = conformance.new_registry().await;
        let unknown = PbRangeRequest {
            sort_target: 9,
            ..all_keys()
        };
        let ended = range(&registry.url(), unknown).await;
        assert!(
            ended.is_err(),
            "later releases refuse it, these end their process"
        );
        return;
    }
    let Conformance {
        mut client, url, ..
    } = conformance;
    write(&mut client).await;
    let unknown = [
        PbRangeRequest {
            sort_target: 9,
            ..all_keys()
        },
        PbRangeRequest {
            sort_order: 9,
            ..all_keys()
        },
    ];
    for request in unknown {
        let refused = range(&url, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(refused.message(), "etcdserver: invalid sort option");
    }
}
