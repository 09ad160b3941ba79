//! Listings of the cluster: of one revision whatever others write meanwhile, of rows of any size,
//! and applied as the difference only.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Txn, TxnOp};
use skynet::instance::Identity;
use skynet::registry::key::Key;
use skynet::registry::snapshot::Snapshot;
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registration, Registry, RegistryConfig};
use skynet::testing::{SimulatedRegistry, TestRegistry};

use super::registry_faults::{identity, value};

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PREFIX: &str = "/listing";

/// Instances of this service, so that they are listed in the order of their names.
fn named(service: &str, id: u128) -> Identity {
    Identity {
        service: service.into(),
        ..identity(id)
    }
}

fn put(identity: Identity, value: &InstanceValue) -> TxnOp {
    let key = Key::Instance(identity).path(PREFIX);
    TxnOp::put(key, serde_json::to_vec(value).unwrap(), None)
}

async fn fill(client: &mut Client, n: u128) {
    for first in (1..=n).step_by(100) {
        let puts: Vec<TxnOp> = (first..first + 100)
            .map(|id| put(named("b-many", id), &value(id)))
            .collect();
        client.txn(Txn::new().and_then(puts)).await.unwrap();
    }
}

fn weights(snapshot: &Snapshot) -> [Option<u32>; 2] {
    ["a-first", "c-last"].map(|service| snapshot.of_service(service).next().map(|one| one.weight))
}

/// Two instances at the two ends of a listing of several pages always change together.
async fn pages_are_of_one_revision(server: TestRegistry) {
    let mut client = Client::connect([server.url()], None).await.unwrap();
    fill(&mut client, 3_000).await;
    let writer = tokio::spawn(async move {
        for weight in 0_u32.. {
            let [first, last] = [("a-first", 100_001), ("c-last", 100_002)].map(|(service, id)| {
                let value = InstanceValue {
                    weight,
                    ..value(id)
                };
                put(named(service, id), &value)
            });
            client
                .txn(Txn::new().and_then([first, last]))
                .await
                .unwrap();
        }
    });
    let registry = Registry::new(&RegistryConfig::at(&server.url()).with_prefix(PREFIX)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..20 {
        let snapshot = registry.snapshot().await.unwrap();
        let [first, last] = weights(&snapshot);
        assert_eq!(first, last);
        seen.push(first);
    }
    writer.abort();
    seen.dedup();
    assert!(seen.len() > 1, "nobody wrote meanwhile: {seen:?}");
}

/// Rows that make a page too large for the client are asked for in smaller pages.
async fn large_rows_are_listed_in_small_pages(server: TestRegistry) {
    let mut client = Client::connect([server.url()], None).await.unwrap();
    fill(&mut client, 1_500).await;
    let long = "x".repeat(700_000);
    for id in 1..=8 {
        let value = InstanceValue {
            reason: Some(long.as_str().into()),
            ..value(id)
        };
        let row = put(named("c-large", 200_000 + id), &value);
        client.txn(Txn::new().and_then([row])).await.unwrap();
    }
    let registry = Registry::new(&RegistryConfig::at(&server.url()).with_prefix(PREFIX)).unwrap();
    let listed = tokio::time::timeout(PATIENCE, registry.snapshot()).await;
    let snapshot = listed.expect("no end").unwrap();
    assert_eq!(snapshot.len(), 1_508);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_revision_on_the_embedded_registry() {
    pages_are_of_one_revision(TestRegistry::embedded().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_revision_on_etcd() {
    if let Some(server) = TestRegistry::etcd().await.unwrap() {
        pages_are_of_one_revision(server).await;
    }
}

#[tokio::test]
async fn large_rows_are_listed_in_small_pages_on_the_embedded_registry() {
    large_rows_are_listed_in_small_pages(TestRegistry::embedded().await.unwrap()).await;
}

#[tokio::test]
async fn large_rows_are_listed_in_small_pages_on_etcd() {
    if let Some(server) = TestRegistry::etcd().await.unwrap() {
        large_rows_are_listed_in_small_pages(server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_17_a_view_is_whole_at_every_moment_and_keeps_the_rows_that_did_not_change() {
    let server = SimulatedRegistry::new();
    let (faults, owner) = (server.faults(), server.client("/t"));
    let registrations: Vec<Registration> = (1..=100)
        .map(|id| owner.register(identity(id), value(id)))
        .collect();
    for registration in &registrations {
        registration.registered().await;
    }
    let reader = server.client("/t");
    let view = reader.view();
    view.ready().await;
    let mut changes = view.changes();
    let before = Arc::clone(&changes.borrow_and_update());
    assert_eq!(before.len(), 100);

    // While the watch hears nothing, three change, and that is forgotten.
    faults.silence(true);
    for (registration, weight) in registrations.iter().zip([7, 8, 9]) {
        registration.update(|value| value.weight = weight);
    }
    let written = async || {
        let standing = owner.snapshot().await.unwrap();
        standing.instances().filter(|one| one.weight < 10).count() == 3
    };
    while !written().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    faults.compact().await.unwrap();
    faults.cut();
    faults.silence(false);

    tokio::time::timeout(PATIENCE, changes.changed())
        .await
        .expect("the view did not come back")
        .unwrap();
    let after = Arc::clone(&changes.borrow_and_update());
    let n_new = after
        .instances()
        .filter(|one| !Arc::ptr_eq(one, before.instance(one.id()).unwrap()))
        .inspect(|one| assert!(one.weight < 10, "{one:?}"))
        .count();
    assert_eq!((after.len(), n_new), (100, 3));

    // The backstop reads everything and changes nothing.
    view.resync();
    changes.changed().await.unwrap();
    let again = Arc::clone(&changes.borrow_and_update());
    assert!(
        again
            .instances()
            .zip(after.instances())
            .all(|(one, other)| Arc::ptr_eq(one, other))
    );
}
