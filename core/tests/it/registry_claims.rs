//! Who may have an id and an address, on the embedded registry and on etcd; and what happens at an
//! address that belongs to another by now.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::client::{CallOptions, Client, Place};
use skynet::instance::{Identity, Instance, InstanceId, State};
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registration, Registry, RegistryConfig};
use skynet::rpc::message::ServiceHandshake;
use skynet::service::{Context, Service, ServiceConfig, ServiceError};
use skynet::testing::TestRegistry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::registry_client::{identity, value};

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

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
    row_35_a_clone_takes_a_new_id_and_the_first_stays,
    row_35_what_a_dead_machine_left_is_waited_for,
    row_35_a_child_waits_for_its_id_and_takes_it,
    row_35_a_service_tells_its_new_id_everywhere,
    row_36_a_second_on_an_address_waits_and_takes_over,
);

fn registry(server: &TestRegistry) -> Registry {
    let mut config = RegistryConfig::at(&server.url()).with_prefix("/test");
    config.ttl = Duration::from_secs(5);
    Registry::new(&config).unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("never {what}"))
}

/// An instance of another machine.
fn elsewhere(id: u128, host: &str) -> (Identity, InstanceValue) {
    let mut value = value(9_001);
    value.process.boot_id = format!("boot of {host}").into();
    let host = host.into();
    (
        Identity {
            host,
            ..identity(id)
        },
        value,
    )
}

async fn held_elsewhere(registry: &Registry, id: u128) -> Registration {
    let (identity, value) = elsewhere(id, "holder");
    let registration = registry.register(identity, value);
    within("held", registration.registered()).await;
    registration
}

/// The hosts of the instances that stand in the registry, with their ids.
async fn hosts(registry: &Registry) -> Vec<(String, InstanceId)> {
    let snapshot = registry.snapshot().await.unwrap();
    let row = |one: &Arc<Instance>| (one.host().to_string(), one.id());
    snapshot.instances().map(row).collect()
}

async fn row_35_a_clone_takes_a_new_id_and_the_first_stays(server: TestRegistry) {
    let (first, second) = (registry(&server), registry(&server));
    let holder = held_elsewhere(&first, 1).await;
    let (told, mut news) = mpsc::channel(8);
    let (identity, value) = elsewhere(1, "clone");
    let clone = second.register_yielding(identity, value, move |id| told.try_send(id).unwrap());
    within("registered", clone.registered()).await;
    let id = news.try_recv().expect("told before it stands");
    assert_ne!(id, InstanceId::from_u128(1));
    let wanted = [
        ("clone".to_owned(), id),
        ("holder".to_owned(), InstanceId::from_u128(1)),
    ];
    assert_eq!(hosts(&first).await, wanted);
    assert!(*holder.stands().borrow());
    // It heals under its new id, and takes no third one.
    second.delete_prefix().await.unwrap();
    let both = async {
        while hosts(&first).await != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("back", both).await;
    assert!(news.try_recv().is_err());
    clone.leave().await;
    assert_eq!(hosts(&first).await, wanted[1..]);
}

async fn row_35_what_a_dead_machine_left_is_waited_for(server: TestRegistry) {
    let (first, second) = (registry(&server), registry(&server));
    let holder = held_elsewhere(&first, 1).await;
    // No more renewals: the same machine comes back under another boot.
    drop(holder);
    drop(first);
    let (told, mut news) = mpsc::channel(8);
    let (identity, mut value) = elsewhere(1, "holder");
    value.process.boot_id = "the next boot".into();
    let next = second.register_yielding(identity, value, move |id| told.try_send(id).unwrap());
    within("registered", next.registered()).await;
    assert!(
        news.try_recv().is_err(),
        "the id was given up to a dead one"
    );
    assert_eq!(
        hosts(&second).await,
        [("holder".to_owned(), InstanceId::from_u128(1))]
    );
}

async fn row_35_a_child_waits_for_its_id_and_takes_it(server: TestRegistry) {
    let (first, second) = (registry(&server), registry(&server));
    let holder = held_elsewhere(&first, 1).await;
    let config = ServiceConfig {
        supervised: Some(true),
        id: Some(InstanceId::from_u128(1)),
        ..ServiceConfig::default()
    };
    let child = Service::builder("Echo")
        .configure(config)
        .drain(Duration::ZERO, Duration::ZERO)
        .start(&second)
        .await
        .unwrap();
    // Longer than it takes to see that the holder lives.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(child.id(), InstanceId::from_u128(1));
    let one = InstanceId::from_u128(1);
    // Were the child registered too, it would be shown, because it started last.
    assert_eq!(hosts(&first).await, [("holder".to_owned(), one)]);
    holder.leave().await;
    let taken = async {
        while hosts(&first).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("taken", taken).await;
    assert_eq!(hosts(&first).await[0].1, InstanceId::from_u128(1));
    child.stop().await;
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    data: String,
}

fn text(data: &str) -> Text {
    Text {
        data: data.to_owned(),
    }
}

async fn answering(registry: &Registry, name: &str, id: u128) -> Service {
    let answer = name.to_owned();
    Service::builder(name)
        .id(InstanceId::from_u128(id))
        .host("here")
        .drain(Duration::ZERO, Duration::from_secs(5))
        .method("Who", move |_: Context, _: Text| {
            let answer = text(&answer);
            async move { Ok::<_, ServiceError>(answer) }
        })
        .start(registry)
        .await
        .unwrap()
}

async fn row_35_a_service_tells_its_new_id_everywhere(server: TestRegistry) {
    let (first, second) = (registry(&server), registry(&server));
    let _holder = held_elsewhere(&first, 1).await;
    let service = answering(&second, "WhoAmI", 1).await;
    let caller =
        Client::connect_from(&first, Place::default()).service("service=WhoAmI".parse().unwrap());
    let options = CallOptions {
        deadline: PATIENCE,
        ..CallOptions::default()
    };
    // The client holds the id of the entry against the one in the handshake.
    let answer: Text = caller.call_with("Who", &text(""), options).await.unwrap();
    assert_eq!(answer.data, "WhoAmI");
    let id = service.id();
    assert_ne!(id, InstanceId::from_u128(1));
    assert_eq!(service.info().identity.id, id);
    assert!(hosts(&first).await.contains(&("here".to_owned(), id)));
    service.stop().await;
}

async fn row_36_a_second_on_an_address_waits_and_takes_over(server: TestRegistry) {
    let (first, second) = (registry(&server), registry(&server));
    let (at, held) = elsewhere(1, "one name");
    let holder = first.register(at, held);
    within("held", holder.registered()).await;
    let (at, mut wanted) = elsewhere(2, "one name");
    wanted.process.boot_id = "another boot".into();
    let waiter = second.register_yielding(at, wanted, |id| panic!("its id {id} is free"));
    // Two other registrations and a look come and go meanwhile.
    for id in [3, 4] {
        let (at, value) = elsewhere(id, &format!("host {id}"));
        let beside = second.register(at, value);
        within("registered", beside.registered()).await;
        beside.leave().await;
    }
    assert!(!*waiter.stands().borrow());
    let one = InstanceId::from_u128(1);
    assert_eq!(hosts(&first).await, [("one name".to_owned(), one)]);
    let lease = first.snapshot().await.unwrap().instance(one).unwrap().lease;
    // The holder dies: nobody renews its lease, and it ends.
    drop(holder);
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    etcd.lease_revoke(lease).await.unwrap();
    within("taken over", waiter.registered()).await;
    let two = InstanceId::from_u128(2);
    assert_eq!(hosts(&first).await, [("one name".to_owned(), two)]);
}

/// An entry of `service` that tells of an address where somebody else is by now.
fn stale(service: &str, id: u128, address: std::net::SocketAddr) -> (Identity, InstanceValue) {
    let (at, value) = elsewhere(id, "gone");
    let at = Identity {
        service: service.into(),
        ..at
    };
    (at, InstanceValue { address, ..value })
}

#[tokio::test]
async fn row_37_another_instance_or_service_at_an_old_address_gets_no_request() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let right = answering(&registry, "Right", 1).await;
    let other = answering(&registry, "Other", 2).await;
    let mut entries = Vec::new();
    // Old entries of instances of `Right`, and of all instances of `Lost`.
    for (service, id, address) in [
        ("Right", 11, other.address()),
        ("Lost", 12, other.address()),
        ("Lost", 13, right.address()),
    ] {
        let (mut at, value) = stale(service, id, address);
        at.host = format!("gone {id}").into();
        let entry = registry.register(at, value);
        within("registered", entry.registered()).await;
        entries.push(entry);
    }
    let client = Client::connect_from(&registry, Place::default());
    let caller = client.service("service=Right".parse().unwrap());
    within("known", async {
        while caller.known() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..50 {
        let answer: Text = caller.call("Who", &text("")).await.unwrap();
        assert_eq!(answer.data, "Right");
    }
    let lost = client.service("service=Lost".parse().unwrap());
    let options = CallOptions {
        deadline: Duration::from_secs(1),
        ..CallOptions::default()
    };
    let error = lost
        .call_with::<_, Text>("Who", &text(""), options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Lost"), "{error}");
    assert_eq!(other.stats().requests, 0, "a request went astray");
    assert_eq!(right.stats().requests, 50);
    right.stop().await;
    other.stop().await;
}

/// Somebody listens there now who says who it is: after that, not a byte comes.
#[tokio::test]
async fn row_37_nothing_is_sent_to_an_address_whose_uuid_is_another() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, value) = stale("Right", 1, listener.local_addr().unwrap());
    let entry = registry.register(at, value);
    within("registered", entry.registered()).await;
    let stranger = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        ServiceHandshake {
            registered: true,
            client_id: "a".to_owned(),
            name: "Right".to_owned(),
            version: "1".to_owned(),
            uuid: InstanceId::from_u128(2).to_string(),
            ..ServiceHandshake::default()
        }
        .write(&mut bytes);
        stream.write_all(&bytes).await.unwrap();
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).await.unwrap();
        sent
    });
    let caller =
        Client::connect_from(&registry, Place::default()).service("service=Right".parse().unwrap());
    let options = CallOptions {
        deadline: Duration::from_secs(1),
        ..CallOptions::default()
    };
    let error = caller
        .call_with::<_, Text>("Who", &text(""), options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Right"), "{error}");
    assert_eq!(within("closed", stranger).await.unwrap(), b"");
    let instance = registry.snapshot().await.unwrap();
    let state = instance.instance(InstanceId::from_u128(1)).unwrap().state;
    assert_eq!(state, State::Ready, "it is not ours to take the entry away");
}
