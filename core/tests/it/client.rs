//! Clients that find, balance and survive: real services on real sockets, on the embedded registry.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::client::{CallError, CallOptions, Client, InstanceChange, Place, Policy};
use skynet::hint::{Hint, Retry};
use skynet::instance::InstanceId;
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::{Context, Service, ServiceError};
use skynet::testing::TestRegistry;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    data: String,
}

fn registry(server: &TestRegistry) -> Registry {
    Registry::new(&RegistryConfig::at(&server.url())).unwrap()
}

/// A service whose answers tell which instance gave them, and which counts what it ran.
async fn whoami(registry: &Registry, ran: &Arc<AtomicU32>) -> Service {
    let id = InstanceId::new_v4();
    let counted = Arc::clone(ran);
    Service::builder("WhoAmI")
        .version("1")
        .region("east")
        .host("host-1")
        .id(id)
        .drain(Duration::from_millis(200), Duration::from_secs(5))
        .method("Who", move |_: Context, _: Text| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                Ok::<_, ServiceError>(Text {
                    data: id.to_string(),
                })
            }
        })
        .method("Fail", |_: Context, _: Text| async move {
            Err::<Text, _>(ServiceError::new("it failed"))
        })
        .start(registry)
        .await
        .unwrap()
}

fn client(registry: &Registry) -> Client {
    Client::connect_from(registry, Place::default())
}

fn nothing() -> Text {
    Text {
        data: String::new(),
    }
}

fn within(deadline: Duration) -> CallOptions {
    CallOptions {
        deadline,
        ..CallOptions::default()
    }
}

#[tokio::test]
async fn calls_wait_for_an_instance_and_reach_all_of_them() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let service = client(&registry).service("service=WhoAmI version=1".parse().unwrap());
    let early = service.start::<_, Text>("Who", nothing());
    let ran = Arc::new(AtomicU32::new(0));
    let first = whoami(&registry, &ran).await;
    assert_eq!(early.await.unwrap().data, first.id().to_string());
    let second = whoami(&registry, &ran).await;
    let wanted = HashSet::from([first.id().to_string(), second.id().to_string()]);
    let mut seen = HashSet::new();
    let all = async {
        while seen != wanted {
            let text: Text = service.call("Who", &nothing()).await.unwrap();
            seen.insert(text.data);
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("one of them never got a call");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_service_that_stops_costs_no_call() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let stays = whoami(&registry, &ran).await;
    let goes = whoami(&registry, &ran).await;
    let service = client(&registry).service("service=WhoAmI".parse().unwrap());
    let stop = async {
        while ran.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        goes.stop().await;
    };
    let calls = async {
        let mut made = 0;
        loop {
            let _text: Text = service.call("Who", &nothing()).await.unwrap();
            made += 1;
            if made % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = calls => {}
    }
    let text: Text = service.call("Who", &nothing()).await.unwrap();
    assert_eq!(text.data, stays.id().to_string());
    stays.stop().await;
}

#[tokio::test]
async fn errors_of_the_method_come_back_once_and_name_the_instance() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let running = whoami(&registry, &ran).await;
    let service = client(&registry).service("service=WhoAmI".parse().unwrap());
    let failed = service
        .call::<_, Text>("Fail", &nothing())
        .await
        .unwrap_err();
    assert_eq!(failed.retry(), Retry::Never);
    assert!(matches!(
        &failed,
        CallError::Service { called, message }
            if called.address == running.address() && message == "it failed"
    ));
    let unknown = service
        .call::<_, Text>("Nope", &nothing())
        .await
        .unwrap_err();
    assert!(
        matches!(&unknown, CallError::Failed { attempts: 1, .. }),
        "{unknown:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn without_an_instance_a_call_ends_at_its_deadline_and_says_so() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let service = client(&registry).service("service=Nobody".parse().unwrap());
    let options = within(Duration::from_millis(50));
    let failed = service
        .call_with::<_, Text>("Who", &nothing(), options)
        .await
        .unwrap_err();
    assert!(
        matches!(&failed, CallError::NoInstance { known: 0, .. }),
        "{failed:?}"
    );
    assert_eq!(failed.retry(), Retry::Safe);
    let measured = client(&registry).service("avg>5ms".parse().unwrap());
    let failed = measured
        .call::<_, Text>("Who", &nothing())
        .await
        .unwrap_err();
    assert!(matches!(failed, CallError::Measurements { .. }));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_named_as_the_reason() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    server.kill().await;
    let nobody = client(&registry).service("service=Nobody".parse().unwrap());
    let options = within(Duration::from_millis(50));
    let input = nothing();
    let failed = nobody.call_with::<_, Text>("Who", &input, options);
    let failed = failed.await.unwrap_err();
    assert!(
        failed.to_string().contains("registry does not answer"),
        "{failed}"
    );
    assert!(failed.hint().unwrap().contains("SKYNET_REGISTRY"));
}

#[tokio::test]
async fn calls_go_on_while_the_registry_is_away() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let running = whoami(&registry, &ran).await;
    let client = client(&registry);
    let service = client.service("service=WhoAmI".parse().unwrap());
    let _text: Text = service.call("Who", &nothing()).await.unwrap();
    server.kill().await;
    let mut link = client.view().link();
    let lost = link.wait_for(|link| !link.is_live());
    tokio::time::timeout(PATIENCE, lost)
        .await
        .expect("never lost")
        .unwrap();
    for _ in 0..20 {
        let _text: Text = service.call("Who", &nothing()).await.unwrap();
    }
    running.stop().await;
}

#[tokio::test]
async fn an_unregistered_instance_gets_no_call_until_it_is_registered_again() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let running = whoami(&registry, &ran).await;
    let client = client(&registry);
    let service = client.service("service=WhoAmI".parse().unwrap());
    let mut news = client.listen("service=WhoAmI registered".parse().unwrap());
    let added = tokio::time::timeout(PATIENCE, news.next())
        .await
        .expect("no news");
    let Some(InstanceChange::Added(instance)) = added else {
        panic!("{added:?}")
    };
    registry
        .set_registered(&instance.identity, false)
        .await
        .unwrap();
    loop {
        let change = tokio::time::timeout(PATIENCE, news.next())
            .await
            .expect("no news");
        if matches!(change, Some(InstanceChange::Removed(_))) {
            break;
        }
    }
    let options = within(Duration::from_millis(50));
    let failed = service
        .call_with::<_, Text>("Who", &nothing(), options)
        .await
        .unwrap_err();
    assert!(matches!(failed, CallError::NoInstance { .. }), "{failed:?}");
    registry
        .set_registered(&instance.identity, true)
        .await
        .unwrap();
    let _text: Text = service.call("Who", &nothing()).await.unwrap();
    running.stop().await;
}

#[derive(Debug, Serialize, Deserialize)]
struct Heard {
    request_id: String,
    origin: String,
    traceparent: String,
    left_ms: i64,
}

fn heard(context: &Context) -> Heard {
    let left = context
        .deadline()
        .map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()));
    Heard {
        request_id: context.request_id().to_owned(),
        origin: context.origin().to_owned(),
        traceparent: context.traceparent().unwrap_or_default().to_owned(),
        left_ms: left.map_or(-1, |left| i64::try_from(left.as_millis()).unwrap()),
    }
}

#[tokio::test]
async fn what_a_call_is_about_passes_through_composite_services() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let inner = Service::builder("Inner")
        .method("Tell", |context: Context, _: Text| async move {
            Ok::<_, ServiceError>(heard(&context))
        })
        .start(&registry)
        .await
        .unwrap();
    let next = client(&registry).service("service=Inner".parse().unwrap());
    let outer = Service::builder("Outer")
        .method("Tell", move |context: Context, _: Text| {
            let next = next.clone();
            async move {
                let options = CallOptions::on_behalf_of(&context);
                let answer: Heard = next
                    .call_with("Tell", &nothing(), options)
                    .await
                    .map_err(ServiceError::new)?;
                Ok::<_, ServiceError>(answer)
            }
        })
        .start(&registry)
        .await
        .unwrap();
    let options = CallOptions {
        request_id: Some("request-7".to_owned()),
        traceparent: Some(TRACE.to_owned()),
        ..within(Duration::from_secs(25))
    };
    let service = client(&registry).service("service=Outer".parse().unwrap());
    let told: Heard = service
        .call_with("Tell", &nothing(), options)
        .await
        .unwrap();
    assert_eq!(
        (told.request_id.as_str(), told.traceparent.as_str()),
        ("request-7", TRACE)
    );
    // Without a deadline of the first caller it would be the usual one, which is shorter.
    assert!(
        told.left_ms > 10_000 && told.left_ms <= 25_000,
        "{} ms left",
        told.left_ms
    );
    inner.stop().await;
    outer.stop().await;
}

#[tokio::test]
async fn a_key_keeps_to_its_instance() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let services = [
        whoami(&registry, &ran).await,
        whoami(&registry, &ran).await,
        whoami(&registry, &ran).await,
    ];
    let service = client(&registry)
        .service("service=WhoAmI".parse().unwrap())
        .with_policy(Policy::ConsistentHash);
    while service.known() < services.len() {
        let _text: Text = service.call("Who", &nothing()).await.unwrap();
    }
    let mut owners = HashSet::new();
    for key in 0..20 {
        let mut answers = HashSet::new();
        for _ in 0..3 {
            let options = CallOptions {
                key: Some(key.to_string()),
                ..CallOptions::default()
            };
            let text: Text = service.call_with("Who", &nothing(), options).await.unwrap();
            answers.insert(text.data);
        }
        assert_eq!(answers.len(), 1, "key {key} went to {answers:?}");
        owners.extend(answers);
    }
    assert!(owners.len() > 1, "all keys went to one instance");
    for service in services {
        service.stop().await;
    }
}

/// A service of which the first request hangs until nobody waits for it any more.
async fn first_hangs(registry: &Registry, ran: &Arc<AtomicU32>) -> Service {
    let ran = Arc::clone(ran);
    Service::builder("Slow")
        .method("Who", move |context: Context, _: Text| {
            let is_first = ran.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if is_first {
                    context.cancelled().await;
                }
                Ok::<_, ServiceError>(nothing())
            }
        })
        .start(registry)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_second_request_overtakes_one_that_hangs() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let services = [
        first_hangs(&registry, &ran).await,
        first_hangs(&registry, &ran).await,
    ];
    let service = client(&registry).service("service=Slow".parse().unwrap());
    let hedged = CallOptions {
        idempotent: true,
        hedge: Some(Duration::from_millis(20)),
        ..within(PATIENCE)
    };
    let all_known = async {
        while service.known() < services.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_known)
        .await
        .expect("an instance is missing");
    let began = tokio::time::Instant::now();
    let _text: Text = service.call_with("Who", &nothing(), hedged).await.unwrap();
    assert!(
        began.elapsed() < PATIENCE,
        "the hanging request was waited for"
    );
    assert_eq!(ran.load(Ordering::Relaxed), 2, "one request to each");
}

/// Copies everything below `/a` to `/b`, so that nobody holds what stands there.
async fn copy_entries(etcd: &mut etcd_client::Client) {
    let below = etcd_client::GetOptions::new().with_prefix();
    let listed = etcd.get("/a/", Some(below)).await.unwrap();
    for kv in listed.kvs() {
        let key = kv.key_str().unwrap().replacen("/a/", "/b/", 1);
        etcd.put(key, kv.value(), None).await.unwrap();
    }
}

/// Waits until so many instances are listed.
async fn listed(registry: &Registry, count: usize) {
    let view = registry.view();
    let mut cluster = view.changes();
    let seen = cluster.wait_for(|snapshot| snapshot.len() == count);
    drop(
        tokio::time::timeout(PATIENCE, seen)
            .await
            .expect("never listed"),
    );
}

#[tokio::test]
async fn row_20_what_vanished_at_once_is_called_by_those_who_never_called_it() {
    let server = TestRegistry::embedded().await.unwrap();
    let at = |prefix| {
        let config = RegistryConfig::at(&server.url()).with_prefix(prefix);
        Registry::new(&config).unwrap()
    };
    let ran = Arc::new(AtomicU32::new(0));
    let first = at("/a");
    let mut services = Vec::new();
    for _ in 0..3 {
        services.push(whoami(&first, &ran).await);
    }
    listed(&first, 3).await;
    let mut etcd = etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap();
    copy_entries(&mut etcd).await;
    let second = at("/b");
    let client = client(&second);
    listed(&second, 3).await;
    let below = etcd_client::DeleteOptions::new().with_prefix();
    etcd.delete("/b/instances/", Some(below)).await.unwrap();
    let mut cluster = client.view().changes();
    let alarmed = cluster.wait_for(|snapshot| !snapshot.alarms().is_empty());
    drop(
        tokio::time::timeout(PATIENCE, alarmed)
            .await
            .expect("no alarm"),
    );
    let service = client.service("service=WhoAmI registered".parse().unwrap());
    let _text: Text = service.call("Who", &nothing()).await.unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    for service in services {
        service.stop().await;
    }
}

#[tokio::test]
async fn a_call_may_wait_for_ever() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = registry(&server);
    let ran = Arc::new(AtomicU32::new(0));
    let running = whoami(&registry, &ran).await;
    let service = client(&registry).service("service=WhoAmI".parse().unwrap());
    let _text: Text = service
        .call_with("Who", &nothing(), within(Duration::MAX))
        .await
        .unwrap();
    running.stop().await;
}
