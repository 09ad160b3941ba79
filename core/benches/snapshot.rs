//! The snapshot at 100,000 instances: building it, and applying 10,000 changes in batches of 100,
//! each of which readers get as a clone.
//!
//! Wanted: 10,000 changes a second under 20 % of a core. The floor is a vector and a hash map of the
//! same instances, which share nothing when they are cloned.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use skynet::instance::{Instance, InstanceId};
use skynet::query::{Known, Listing, Query, StatsTable};
use skynet::registry::snapshot::{Change, Snapshot};

#[path = "support/cluster.rs"]
mod cluster;

const CHANGES: u32 = 10_000;
const BATCH: usize = 100;

fn building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot of 100,000");
    group.sample_size(10);
    let instances: Vec<Instance> = (0..cluster::INSTANCES).map(cluster::instance).collect();
    group.bench_function("build", |bencher| {
        let set_up = || instances.clone();
        bencher.iter_batched(set_up, |all| Snapshot::of(all, []), BatchSize::LargeInput);
    });
    group.bench_function("floor: hash map of Arc", |bencher| {
        let build = |all: Vec<Instance>| -> HashMap<InstanceId, Arc<Instance>> {
            all.into_iter()
                .map(|one| (one.id(), Arc::new(one)))
                .collect()
        };
        bencher.iter_batched(|| instances.clone(), build, BatchSize::LargeInput);
    });
    group.finish();
}

/// Every tenth instance: a third changes, a third goes, a third comes back.
fn changes() -> Vec<Change> {
    (0..CHANGES)
        .map(|number| {
            let mut instance = cluster::instance(number * 10);
            match number % 3 {
                0 => Change::RemoveInstance(instance.id()),
                1 => {
                    instance.registered = !instance.registered;
                    Change::PutInstance(Arc::new(instance))
                }
                _ => {
                    instance.identity.id = InstanceId::from_u128(u128::from(number));
                    Change::PutInstance(Arc::new(instance))
                }
            }
        })
        .collect()
}

fn applying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10,000 changes of 100,000");
    group.sample_size(20);
    let (start, changes) = (cluster::snapshot(), changes());
    group.bench_function("a clone per 100", |bencher| {
        bencher.iter(|| {
            let mut snapshot = start.clone();
            let mut published = Arc::new(snapshot.clone());
            for batch in changes.chunks(BATCH) {
                for change in batch {
                    snapshot.apply(change.clone());
                }
                published = Arc::new(snapshot.clone());
            }
            black_box(published).len()
        });
    });
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reading 100,000");
    group.sample_size(20);
    let (snapshot, stats) = (cluster::snapshot(), StatsTable::new());
    let known = Known::new(&snapshot, &stats, cluster::now());
    group.bench_function("every instance", |bencher| {
        bencher.iter(|| snapshot.instances().filter(|one| one.registered).count());
    });
    group.bench_function("group to services", |bencher| {
        bencher.iter(|| known.group(black_box(Listing::Services), &Query::all()));
    });
    group.finish();
}

criterion_group!(benches, building, applying, reading);
criterion_main!(benches);
