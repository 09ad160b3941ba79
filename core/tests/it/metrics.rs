//! What services and clients measure: in process, and by the admin port of a service beside them.

use std::time::Duration;

use skynet::client::{CallError, CallOptions, Client, Place, ServiceClient};
use skynet::daemon_api::Empty;
use skynet::metrics::{MethodMetrics, Metrics};
use skynet::registry::{Registry, RegistryConfig};
use skynet::rpc::admin::{AdminConnection, METRICS, STATS};
use skynet::service::{Context, Service, ServiceError};
use skynet::stats::InstanceStats;
use skynet::testing::TestRegistry;

use crate::rpc_support::{Millis, Text, echo, eventually};

async fn registry() -> (TestRegistry, Registry) {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    (server, registry)
}

fn text(data: &str) -> Text {
    Text {
        data: data.to_owned(),
    }
}

fn within(deadline: Duration) -> CallOptions {
    CallOptions {
        deadline,
        ..CallOptions::default()
    }
}

async fn asked(service: &Service) -> Metrics {
    let address = service.admin_address().unwrap();
    let mut admin = AdminConnection::open(address).await.unwrap();
    admin.call(METRICS, &Empty {}).await.unwrap()
}

fn method<'a>(metrics: &'a Metrics, name: &str) -> &'a MethodMetrics {
    let mut methods = metrics.service.methods.iter();
    methods.find(|method| method.method == name).unwrap()
}

/// One call for each way in which a call can end at once.
async fn one_of_each(echo: &ServiceClient) {
    let upcased: Text = echo.call("Upcase", &text("a")).await.unwrap();
    assert_eq!(upcased.data, "A");
    for (method, input) in [("Fail", ""), ("Panic", "x"), ("Nope", "")] {
        let failed = echo.call::<_, Text>(method, &text(input)).await;
        assert!(failed.is_err(), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_counts_each_method_and_what_it_refused() {
    let (_server, registry) = registry().await;
    let service = echo().version("7").start(&registry).await.unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let echo = client.service("service=EchoService".parse().unwrap());
    one_of_each(&echo).await;

    let metrics = asked(&service).await;
    assert_eq!(metrics.service, service.metrics().service);
    let told = &metrics.service;
    assert_eq!((&*told.service, &*told.version), ("EchoService", "7"));
    assert_eq!(told.uuid, service.id().to_string());
    assert_eq!((told.connections, told.refused["no_method"]), (1, 1));
    assert!(told.refused.len() == 1, "{:?}", told.refused);
    let ends = |name| {
        let it = method(&metrics, name);
        assert_eq!((it.calls, it.in_flight, it.latency.count), (1, 0, 1));
        [it.succeeded, it.failed, it.panicked, it.cancelled]
    };
    assert_eq!(ends("Upcase"), [1, 0, 0, 0]);
    assert_eq!(ends("Fail"), [0, 1, 0, 0]);
    assert_eq!(ends("Panic"), [0, 0, 1, 0]);
    assert_eq!(method(&metrics, "Sleep"), &never_called("Sleep"));

    // The older request tells the same sums, in its own words.
    let mut admin = AdminConnection::open(service.admin_address().unwrap())
        .await
        .unwrap();
    let stats: InstanceStats = admin.call(STATS, &Empty {}).await.unwrap();
    assert_eq!((stats.requests, stats.inflight, stats.clients), (3, 0, 1));
    service.stop().await;
}

fn never_called(method: &str) -> MethodMetrics {
    MethodMetrics {
        method: method.to_owned(),
        ..MethodMetrics::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_counts_how_its_calls_ended() {
    let (_server, registry) = registry().await;
    let service = echo().start(&registry).await.unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let echo = client.service("service=EchoService".parse().unwrap());
    one_of_each(&echo).await;
    // Two of one query are counted together.
    let again = client.service("service=EchoService".parse().unwrap());
    let sleeping = again.start::<_, Millis>("Sleep", Millis { ms: 600_000 });
    eventually("it sleeps", || {
        echo.metrics().in_flight == 1 && service.stats().inflight == 1
    })
    .await;
    drop(sleeping);
    eventually("it was given up", || echo.metrics().abandoned == 1).await;
    let late = echo
        .call_with::<_, Millis>(
            "Sleep",
            &Millis { ms: 600_000 },
            within(Duration::from_millis(300)),
        )
        .await;
    assert!(matches!(late, Err(CallError::Failed { .. })), "{late:?}");

    let metrics = echo.metrics();
    assert_eq!(metrics.query, "service=EchoService");
    let ends = [
        metrics.succeeded,
        metrics.failed,
        metrics.not_sent,
        metrics.not_executed,
        metrics.unknown,
        metrics.abandoned,
    ];
    assert_eq!(ends, [1, 2, 0, 1, 1, 1], "{metrics:?}");
    assert_eq!((metrics.calls, metrics.in_flight), (6, 0));
    assert_eq!(metrics.latency.count, 5, "all but the abandoned one");
    assert!(metrics.latency.max_us >= 290_000, "{:?}", metrics.latency);

    let all = client.metrics();
    assert_eq!(all.services.len(), 1);
    assert_eq!(all.services[0].latency, metrics.latency);
    assert_eq!((all.connected, all.connect_failures), (1, 0));
    let [instance] = &*all.instances else {
        panic!("{:?}", all.instances)
    };
    assert_eq!(instance.uuid, service.id().to_string());
    assert_eq!((instance.attempts, instance.in_flight), (6, 0));
    assert!(instance.connected && !instance.ejected);
    drop(service);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ejections_and_calls_without_an_instance_are_counted() {
    let (_server, registry) = registry().await;
    let service = echo().start(&registry).await.unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let echo = client.service("service=EchoService".parse().unwrap());
    let _connected: Text = echo.call("Upcase", &text("a")).await.unwrap();
    for _ in 0..5 {
        let options = within(Duration::from_millis(200));
        let long = Millis { ms: 600_000 };
        let late = echo.call_with::<_, Millis>("Sleep", &long, options).await;
        assert!(late.is_err());
    }
    let metrics = client.metrics();
    assert_eq!(metrics.ejections, 1);
    assert!(metrics.instances[0].ejected, "{:?}", metrics.instances);
    assert_eq!(metrics.instances[0].ejections, 1);
    let calls = &metrics.services[0];
    assert_eq!((calls.succeeded, calls.unknown + calls.not_sent), (1, 5));

    let nobody = client.service("service=Nobody".parse().unwrap());
    let options = within(Duration::from_millis(20));
    let input = text("a");
    let failed = nobody.call_with::<_, Text>("Upcase", &input, options);
    assert!(matches!(
        failed.await,
        Err(CallError::NoInstance { known: 0, .. })
    ));
    assert_eq!(nobody.metrics().not_sent, 1);
    drop(service);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_service_tells_what_its_clients_measure() {
    let (_server, registry) = registry().await;
    let behind = echo().start(&registry).await.unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let echo = client.service("service=EchoService".parse().unwrap());
    let front = Service::builder("Front")
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_secs(10))
        .method("Twice", move |context: Context, input: Text| {
            let echo = echo.clone();
            async move {
                let options = || CallOptions::on_behalf_of(&context);
                let once: Text = echo
                    .call_with("Upcase", &input, options())
                    .await
                    .map_err(ServiceError::new)?;
                echo.call_with::<_, Text>("Upcase", &once, options())
                    .await
                    .map_err(ServiceError::new)
            }
        })
        .start(&registry)
        .await
        .unwrap();
    let caller = Registry::new(&RegistryConfig::at(&registry.endpoints().join(","))).unwrap();
    let caller = Client::connect_from(&caller, Place::default());
    let twice = caller.service("service=Front".parse().unwrap());
    let _text: Text = twice.call("Twice", &text("a")).await.unwrap();

    let metrics = asked(&front).await;
    assert_eq!(method(&metrics, "Twice").succeeded, 1);
    let [of_front] = &*metrics.clients else {
        panic!("another process's client is none of its own: {metrics:?}")
    };
    assert_eq!(of_front.services[0].query, "service=EchoService");
    assert_eq!(of_front.services[0].succeeded, 2);
    assert_eq!(of_front.instances[0].uuid, behind.id().to_string());
    front.stop().await;
    behind.stop().await;
}
