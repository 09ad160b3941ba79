//! Entries that heal themselves and views that resume, on the embedded registry and on etcd.

use std::sync::Arc;
use std::time::Duration;

use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registration, Registry, RegistryConfig, View};
use skynet::testing::TestRegistry;

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on the embedded registry, and on etcd where there is one.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(skynet::testing::TestRegistry::embedded().await.unwrap()).await;
            })*
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = skynet::testing::TestRegistry::etcd().await.unwrap() {
                    super::$name(server).await;
                }
            })*
        }
    };
}

on_both!(
    an_instance_comes_changes_and_leaves,
    a_deleted_entry_is_written_again,
    a_revoked_lease_is_replaced,
    the_dead_are_marked_and_gone_at_once,
    a_wish_is_followed_and_survives_healing,
    a_living_holder_is_not_overwritten_and_a_dead_one_is,
    a_restart_of_the_registry_loses_nothing,
    unreadable_entries_are_passed_over,
    a_compaction_costs_no_wish,
    an_entry_that_others_spoil_is_put_right,
);

fn registry(server: &TestRegistry) -> Registry {
    let config = RegistryConfig::at(&server.url()).with_prefix("/test");
    Registry::new(&config).unwrap()
}

pub(crate) fn identity(id: u128) -> Identity {
    Identity {
        service: "Echo".into(),
        version: "1".into(),
        region: "east".into(),
        host: "host/1".into(),
        id: InstanceId::from_u128(id),
    }
}

pub(crate) fn value(port: u16) -> InstanceValue {
    InstanceValue {
        address: ([127, 0, 0, 1], port).into(),
        admin_address: None,
        process: ProcessId::own().unwrap(),
        started: jiff::Timestamp::now(),
        registered: true,
        state: State::Ready,
        reason: None,
        deployment: None,
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: Vec::new(),
        other: serde_json::Map::new(),
    }
}

async fn until(view: &View, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut changes = view.changes();
    let seen = tokio::time::timeout(PATIENCE, changes.wait_for(|snapshot| holds(snapshot))).await;
    let seen = seen.unwrap_or_else(|_| panic!("never seen: {what}"));
    Arc::clone(&seen.unwrap())
}

async fn registered(registration: &Registration) {
    tokio::time::timeout(PATIENCE, registration.registered())
        .await
        .expect("never registered");
}

fn state_of(snapshot: &Snapshot, id: u128) -> Option<State> {
    snapshot
        .instance(InstanceId::from_u128(id))
        .map(|instance| instance.state)
}

async fn an_instance_comes_changes_and_leaves(server: TestRegistry) {
    let registry = registry(&server);
    let watching = self::registry(&server);
    let view = watching.view();
    view.ready().await;
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let seen = until(&view, "the instance", |now| {
        state_of(now, 1) == Some(State::Ready)
    })
    .await;
    let instance = seen.instance(InstanceId::from_u128(1)).unwrap();
    assert_eq!(&**instance.host(), "host/1");
    assert!(instance.lease != 0);
    registration.set_state(State::Draining);
    until(&view, "draining", |now| {
        state_of(now, 1) == Some(State::Draining)
    })
    .await;
    registration.leave().await;
    until(&view, "nothing", Snapshot::is_empty).await;
    assert!(registry.snapshot().await.unwrap().is_empty());
}

async fn a_deleted_entry_is_written_again(server: TestRegistry) {
    let registry = registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let before = registry.snapshot().await.unwrap();
    let lease = before.instance(InstanceId::from_u128(1)).unwrap().lease;
    registry.delete_prefix().await.unwrap();
    let view = registry.view();
    until(&view, "it is back under another lease", |now| {
        now.instance(InstanceId::from_u128(1))
            .is_some_and(|one| one.state == State::Ready && one.lease != lease)
    })
    .await;
}

async fn a_revoked_lease_is_replaced(server: TestRegistry) {
    let registry = registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let before = registry.snapshot().await.unwrap();
    let lease = before.instance(InstanceId::from_u128(1)).unwrap().lease;
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    let view = registry.view();
    view.ready().await;
    etcd.lease_revoke(lease).await.unwrap();
    until(&view, "it is back under another lease", |now| {
        now.instance(InstanceId::from_u128(1))
            .is_some_and(|one| one.state == State::Ready && one.lease != lease)
    })
    .await;
}

async fn the_dead_are_marked_and_gone_at_once(server: TestRegistry) {
    let registry = registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let watching = self::registry(&server);
    let view = watching.view();
    until(&view, "the instance", |now| {
        state_of(now, 1) == Some(State::Ready)
    })
    .await;
    // A daemon that knows another process of this child marks nothing.
    let own = std::process::id();
    watching
        .mark_dead(&identity(1), own + 1, "killed")
        .await
        .unwrap();
    assert_eq!(
        state_of(&watching.snapshot().await.unwrap(), 1),
        Some(State::Ready)
    );
    drop(registration);
    watching
        .mark_dead(&identity(1), own, "killed")
        .await
        .unwrap();
    // Marked, it is gone and not suspect.
    until(&view, "nothing", Snapshot::is_empty).await;
    watching
        .mark_dead(&identity(1), own, "killed")
        .await
        .unwrap();
}

async fn a_wish_is_followed_and_survives_healing(server: TestRegistry) {
    let registry = registry(&server);
    let operator = self::registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    operator.set_registered(&identity(1), false).await.unwrap();
    let mut wish = registration.wish();
    let followed = tokio::time::timeout(PATIENCE, wish.wait_for(|wish| !*wish)).await;
    followed.expect("the wish never came").unwrap();
    operator.delete_prefix().await.unwrap();
    let view = operator.view();
    until(&view, "it is back and still unregistered", |now| {
        now.instance(InstanceId::from_u128(1))
            .is_some_and(|one| !one.registered)
    })
    .await;
    registration.set_registered(true);
    until(&view, "its own wish counts too", |now| {
        now.instance(InstanceId::from_u128(1))
            .is_some_and(|one| one.registered)
    })
    .await;
}

async fn a_living_holder_is_not_overwritten_and_a_dead_one_is(server: TestRegistry) {
    let first = registry(&server);
    let second = registry(&server);
    let mut child = std::process::Command::new("sleep")
        .arg("300")
        .spawn()
        .unwrap();
    let mut held = value(9001);
    held.process = ProcessId::of(child.id()).unwrap().unwrap();
    let holder = first.register(identity(1), held.clone());
    registered(&holder).await;
    // The same address under another id, and another address, which is free.
    let claimant = second.register(identity(2), value(9001));
    let beside = second.register(identity(3), value(9002));
    registered(&beside).await;
    let view = second.view();
    until(&view, "the holder", |now| state_of(now, 1).is_some()).await;
    assert!(!*claimant.stands().borrow());
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    let claim = etcd.get("/test/addr/host%2F1/9001", None).await.unwrap();
    let claim = claim.kvs()[0].value_str().unwrap().to_owned();
    assert!(
        claim.contains(&InstanceId::from_u128(1).to_string()),
        "{claim}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    drop(holder);
    // It takes over although the lease of the dead is still there.
    registered(&claimant).await;
    until(&view, "the claimant", |now| {
        state_of(now, 2) == Some(State::Ready)
    })
    .await;
}

async fn a_restart_of_the_registry_loses_nothing(mut server: TestRegistry) {
    let registry = registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let view = registry.view();
    until(&view, "the instance", |now| {
        state_of(now, 1) == Some(State::Ready)
    })
    .await;
    server.kill().await;
    let mut link = view.link();
    let lost = tokio::time::timeout(PATIENCE, link.wait_for(|link| !link.is_live())).await;
    lost.expect("the loss was never noticed").unwrap();
    assert_eq!(
        state_of(&view.snapshot(), 1),
        Some(State::Ready),
        "the view stays"
    );
    server.restart().await.unwrap();
    let back = tokio::time::timeout(PATIENCE, link.wait_for(Link::is_live)).await;
    back.expect("the registry was never found again").unwrap();
    until(&view, "the instance", |now| {
        state_of(now, 1) == Some(State::Ready)
    })
    .await;
    registration.set_state(State::Pressured);
    until(&view, "a later change", |now| {
        state_of(now, 1) == Some(State::Pressured)
    })
    .await;
}

async fn unreadable_entries_are_passed_over(server: TestRegistry) {
    let registry = registry(&server);
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    let id = InstanceId::from_u128(7);
    let bad = [
        format!("/test/instances/a/1/r/h/{id}"),
        "/test/instances/a/1/r/h/no-uuid".to_owned(),
        "/test/hosts/h".to_owned(),
        "/test/status/h/x".to_owned(),
        "/test/nonsense".to_owned(),
    ];
    for key in bad {
        etcd.put(key, "{\"not\": [\"ours\"", None).await.unwrap();
    }
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let snapshot = registry.snapshot().await.unwrap();
    assert_eq!(snapshot.len(), 1);
    assert_eq!(snapshot.hosts().count(), 0);
}

async fn a_compaction_costs_no_wish(mut server: TestRegistry) {
    let registry = registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    for _ in 0..20 {
        etcd.put("/elsewhere", "x", None).await.unwrap();
    }
    let last = etcd.get("/elsewhere", None).await.unwrap();
    etcd.compact(last.header().unwrap().revision(), None)
        .await
        .unwrap();
    // Every watch has to begin again, behind history that is gone.
    server.kill().await;
    server.restart().await.unwrap();
    let operator = self::registry(&server);
    operator.set_registered(&identity(1), false).await.unwrap();
    let mut wish = registration.wish();
    let followed = tokio::time::timeout(PATIENCE, wish.wait_for(|wish| !*wish)).await;
    followed.expect("the wish never came").unwrap();
}

async fn an_entry_that_others_spoil_is_put_right(server: TestRegistry) {
    let registry = registry(&server);
    let registration = registry.register(identity(1), value(9001));
    registered(&registration).await;
    let view = registry.view();
    until(&view, "the instance", |now| {
        state_of(now, 1) == Some(State::Ready)
    })
    .await;
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    let key = format!(
        "/test/instances/Echo/1/east/host%2F1/{}",
        InstanceId::from_u128(1)
    );
    let standing = etcd.get(key.as_str(), None).await.unwrap();
    let right = standing.kvs()[0].value().to_vec();
    for spoiled in [b"nonsense".to_vec(), right] {
        // Without a lease, it would outlive its process.
        etcd.put(key.as_str(), spoiled, None).await.unwrap();
        let healed = async {
            loop {
                let now = etcd.get(key.as_str(), None).await.unwrap();
                let now = &now.kvs()[0];
                if now.lease() != 0 && now.value().starts_with(b"{") {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, healed)
            .await
            .expect("never healed");
    }
}
