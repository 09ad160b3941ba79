//! Processes that start while the registry is away: with a cache on the disk they call at once,
//! without one they wait.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::client::{CallError, CallOptions, Client, Place};
use skynet::instance::{InstanceId, State};
use skynet::registry::link::Link;
use skynet::registry::{Registry, RegistryConfig, View};
use skynet::service::{Context, Service, ServiceError};
use skynet::testing::{SimulatedRegistry, TestRegistry};
use tokio::time::{Instant, sleep, timeout};

use crate::registry_faults::{identity, value};

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Text {
    data: String,
}

fn hello() -> Text {
    Text {
        data: "hello".to_owned(),
    }
}

async fn echo(registry: &Registry) -> Service {
    Service::builder("Echo")
        .version("1")
        .region("east")
        .host("h")
        .drain(Duration::from_millis(200), Duration::from_secs(5))
        .method("Say", |_: Context, text: Text| async move {
            Ok::<_, ServiceError>(text)
        })
        .start(registry)
        .await
        .unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn link(view: &View, what: &str, holds: impl FnMut(&Link) -> bool) -> Link {
    let mut link = view.link();
    let seen = timeout(PATIENCE, link.wait_for(holds)).await;
    *seen.unwrap_or_else(|_| panic!("never {what}")).unwrap()
}

fn remembers(path: &Path, id: InstanceId) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(&id.to_string()))
}

fn state_of(view: &View, id: InstanceId) -> Option<State> {
    view.snapshot().instance(id).map(|instance| instance.state)
}

#[tokio::test]
async fn row_15_a_client_that_starts_without_a_registry_calls_from_its_cache() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let without = RegistryConfig::at(&server.url()).with_prefix("/t");
    let with = RegistryConfig {
        cache: Some(path.clone()),
        ..without.clone()
    };
    let service = echo(&Registry::new(&without).unwrap()).await;
    let id = service.id();
    let first = Registry::new(&with).unwrap();
    let view = first.view();
    until("written", || remembers(&path, id)).await;
    drop((view, first));

    server.kill().await;
    let registry = Registry::new(&with).unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let calls = client.service("service=Echo".parse().unwrap());
    let called: Text = calls.call("Say", &hello()).await.unwrap();
    assert_eq!(called, hello());
    let view = client.view();
    timeout(PATIENCE, view.ready()).await.unwrap();
    let cached = *view.link().borrow();
    assert!(matches!(cached, Link::Cached { .. }), "{cached:?}");
    assert!(cached.refusal().is_some() && !cached.is_connected());
    assert_eq!(view.snapshot().revision(), 0, "only a registry counts");

    // Without a cache nobody is known: calls end at their deadlines, and no sooner.
    let blind = Client::connect_from(&Registry::new(&without).unwrap(), Place::default());
    let deadline = Duration::from_millis(500);
    let options = CallOptions {
        deadline,
        ..CallOptions::default()
    };
    let began = Instant::now();
    let blind_calls = blind.service("service=Echo".parse().unwrap());
    let failed = blind_calls
        .call_with::<_, Text>("Say", &hello(), options)
        .await
        .unwrap_err();
    assert!(matches!(failed, CallError::NoInstance { .. }), "{failed}");
    assert!(began.elapsed() >= deadline);
    let connecting = *blind.view().link().borrow();
    assert!(
        matches!(connecting, Link::Connecting { .. }),
        "{connecting:?}"
    );

    server.restart().await.unwrap();
    link(view, "live", Link::is_live).await;
    link(blind.view(), "live without a cache", Link::is_live).await;
    assert!(view.snapshot().revision() > 0);
    assert!(matches!(
        state_of(view, id),
        Some(State::Ready | State::Suspect)
    ));
    until("ready", || state_of(view, id) == Some(State::Ready)).await;
    let _called: Text = calls.call("Say", &hello()).await.unwrap();
    let _called: Text = blind_calls.call("Say", &hello()).await.unwrap();
    service.stop().await;
}

/// A registry on paused time that is remembered in a file, with one instance.
struct Remembered {
    server: SimulatedRegistry,
    config: RegistryConfig,
    folder: tempfile::TempDir,
}

impl Remembered {
    async fn new() -> Self {
        let server = SimulatedRegistry::new();
        let folder = tempfile::tempdir().unwrap();
        let config = RegistryConfig {
            cache: Some(folder.path().join("cache")),
            ..server.config("/t")
        };
        let remembered = Self {
            server,
            config,
            folder,
        };
        let owner = remembered.server.client("/t");
        let registration = owner.register(identity(1), value(1));
        registration.registered().await;
        let writer = remembered.start();
        let view = writer.view();
        let path = remembered.folder.path().join("cache");
        until("written", || remembers(&path, InstanceId::from_u128(1))).await;
        drop(view);
        owner.release().await.unwrap();
        remembered
    }

    fn start(&self) -> Registry {
        self.server
            .client_over(&self.config, &skynet::testing::Network::default())
    }
}

#[tokio::test(start_paused = true)]
async fn row_15_what_the_registry_lost_meanwhile_is_suspect_and_raises_no_alarm() {
    let remembered = Remembered::new().await;
    let id = InstanceId::from_u128(1);
    remembered
        .server
        .set_path(0, skynet::registry::embedded::Path::Lost);
    let began = Instant::now();
    let reader = remembered.start();
    let view = reader.view();
    link(&view, "cached", |link| matches!(link, Link::Cached { .. })).await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(state_of(&view, id), Some(State::Ready));
    sleep(Duration::from_mins(2)).await;
    assert_eq!(
        state_of(&view, id),
        Some(State::Ready),
        "for as long as it takes"
    );
    // Wiped and another one by now: it may only have to register again.
    let faults = remembered.server.faults();
    faults.change_cluster_id();
    faults.lose_data().await.unwrap();
    remembered
        .server
        .set_path(0, skynet::registry::embedded::Path::Open);
    link(&view, "live", Link::is_live).await;
    assert_eq!(state_of(&view, id), Some(State::Suspect));
    assert!(view.snapshot().alarms().is_empty());
    let owner = remembered.server.client("/t");
    let registration = owner.register(identity(1), value(1));
    registration.registered().await;
    until("back", || state_of(&view, id) == Some(State::Ready)).await;
}

#[tokio::test(start_paused = true)]
async fn row_15_a_registry_that_answers_at_once_needs_no_cache() {
    let remembered = Remembered::new().await;
    let reader = remembered.start();
    let view = reader.view();
    let mut changes = view.changes();
    view.ready().await;
    let seen = *view.link().borrow();
    assert!(seen.is_live(), "{seen:?}");
    // What only the disk knew is not shown, not even as a suspect.
    assert_eq!(changes.borrow_and_update().len(), 0);
    // And what is told by now is what the disk remembers from now on.
    let path = remembered.folder.path().join("cache");
    until("written anew", || {
        !remembers(&path, InstanceId::from_u128(1))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn row_15_what_is_not_ours_is_neither_used_nor_overwritten() {
    let remembered = Remembered::new().await;
    let path = remembered.folder.path().join("cache");
    let strange = "notes of somebody else";
    std::fs::write(&path, strange).unwrap();
    let reader = remembered.start();
    let view = reader.view();
    view.ready().await;
    sleep(Duration::from_mins(10)).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), strange);
}
