//! Queries over 100,000 instances: parsing, selecting by terms from cheap to dear, grouping,
//! completing. A hand-written closure stands beside as the floor.
//!
//! Wanted: `service=x region=y registered` in a few milliseconds; a completion in 5 ms.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use skynet::query::{Grammar, Known, Listing, Query, StatsTable, complete, parse_query};
use skynet::registry::snapshot::Snapshot;
use skynet::stats::InstanceStats;

#[path = "support/cluster.rs"]
mod cluster;

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, source) in [
        ("short", "service=payments"),
        (
            "usual",
            "service=payments region=us-east-1 registered avg>50ms pay",
        ),
        ("regex", "service~^pay"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| parse_query(black_box(source)));
        });
    }
    group.finish();
}

fn stats_of(snapshot: &Snapshot) -> StatsTable {
    let stats = |number: i64| InstanceStats {
        clients: number % 50,
        requests: number,
        avg_us: number * 37 % 300_000,
        last: "2026-08-01T11:00:00Z".to_owned(),
        ..InstanceStats::default()
    };
    snapshot
        .instances()
        .zip(1..)
        .map(|(instance, number)| (instance.id(), stats(number)))
        .collect()
}

fn selecting(criterion: &mut Criterion) {
    let snapshot = cluster::snapshot();
    let stats = StatsTable::new();
    let known = Known::new(&snapshot, &stats, cluster::now());
    let mut group = criterion.benchmark_group("select 100,000");
    group.sample_size(20);
    group.bench_function("floor: closure", |bencher| {
        bencher.iter(|| {
            let wanted = |instance: &&std::sync::Arc<skynet::instance::Instance>| {
                instance.registered
                    && &**instance.region() == "region-3"
                    && &**instance.service() != "service-017"
            };
            snapshot.instances().filter(wanted).count()
        });
    });
    for (name, source) in [
        (
            "the same as the floor",
            "registered region=region-3 service!=service-017",
        ),
        (
            "cheap, by service",
            "service=service-017 region=region-3 registered",
        ),
        ("substring", "service:vice-01"),
        ("glob", "host:host-0*7"),
        ("regex", "host~0[13]7$"),
        ("regex on the service", "service~\"01|17\""),
        ("fuzzy", "srv017"),
        ("fuzzy, maybe a uuid", "017"),
        ("address", "address:10.0.3.7"),
        ("version order", "version>=1.3"),
    ] {
        let query: Query = source.parse().expect("a query");
        group.bench_function(name, |bencher| {
            bencher.iter(|| known.count(black_box(&query)));
        });
    }
    let stats = stats_of(&snapshot);
    let known = Known::new(&snapshot, &stats, cluster::now());
    for (name, source) in [("measured", "avg>50ms"), ("measured age", "last>5m")] {
        let query: Query = source.parse().expect("a query");
        group.bench_function(name, |bencher| {
            bencher.iter(|| known.count(black_box(&query)));
        });
    }
    for listing in [Listing::Services, Listing::Hosts] {
        group.bench_function(format!("group by {listing}, measured"), |bencher| {
            bencher.iter(|| known.group(black_box(listing), &Query::all()));
        });
    }
    group.finish();
}

fn completing(criterion: &mut Criterion) {
    let snapshot = cluster::snapshot();
    let mut group = criterion.benchmark_group("complete at 100,000");
    group.sample_size(20);
    for (name, source) in [
        ("field", "ser"),
        ("service", "service:01"),
        ("narrowed", "region=region-3 service:01"),
        ("version of a service", "service:service-017:"),
        ("host", "host=017"),
        ("uuid", "uuid=7"),
        ("address", "address:10.0.3"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| complete(black_box(source), source.len(), &snapshot, Grammar::Query));
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, selecting, completing);
criterion_main!(benches);
