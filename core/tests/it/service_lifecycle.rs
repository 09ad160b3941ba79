//! Services and their registry: registering, the operator's wish, draining, leaving.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skynet::daemon_api::Empty;
use skynet::instance::{Instance, ProcessId, State};
use skynet::registry::{Registry, RegistryConfig};
use skynet::rpc::admin::{AdminConnection, REGISTER, UNREGISTER};
use skynet::service::{Service, StartError};
use skynet::testing::TestRegistry;

use crate::rpc_support::{PATIENCE, echo};

async fn registry() -> (TestRegistry, Registry) {
    let server = TestRegistry::embedded().await.unwrap();
    let config = RegistryConfig::at(&server.url()).with_prefix("/test");
    let registry = Registry::new(&config).unwrap();
    (server, registry)
}

/// Waits until what the registry says of the service satisfies `condition`.
async fn shows(
    registry: &Registry,
    service: &Service,
    what: &str,
    condition: impl Fn(Option<&Arc<Instance>>) -> bool,
) {
    let view = registry.view();
    let mut changes = view.changes();
    let seen = changes.wait_for(|snapshot| condition(snapshot.instance(service.id())));
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
}

async fn admin(service: &Service, method: &str) {
    let mut admin = AdminConnection::open(service.admin_address().unwrap())
        .await
        .unwrap();
    let Empty {} = admin.call(method, &Empty {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_registers_follows_the_wish_and_leaves() {
    let (_server, registry) = registry().await;
    let told = Arc::new(AtomicUsize::new(0));
    let counted = |by: usize| {
        let told = Arc::clone(&told);
        move |_: &skynet::service::ServiceInfo| {
            told.fetch_add(by, Ordering::SeqCst);
        }
    };
    let service = echo()
        .version("2")
        .region("east")
        .host("h1")
        .tag("canary")
        .drain(Duration::from_millis(300), Duration::from_secs(5))
        .on_started(counted(1))
        .on_registered(counted(10))
        .on_unregistered(counted(100))
        .on_stopped(counted(1000))
        .start(&registry)
        .await
        .unwrap();
    let own = ProcessId::own().unwrap();
    shows(&registry, &service, "it stands", |instance| {
        instance.is_some_and(|instance| {
            instance.address == Some(service.address())
                && instance.admin_address == service.admin_address()
                && instance.process.as_ref() == Some(&own)
                && instance.state == State::Ready
                && instance.registered
                && *instance.tags == ["canary".into()]
                && instance.identity == service.info().identity
        })
    })
    .await;
    until(|| told.load(Ordering::SeqCst) == 11, "registered is told").await;

    let identity = service.info().identity.clone();
    registry.set_registered(&identity, false).await.unwrap();
    until(|| !service.is_registered(), "the operator's wish").await;
    registry.set_registered(&identity, true).await.unwrap();
    until(|| service.is_registered(), "the operator's second wish").await;

    // What the admin port is told stands in the registry, and is not the last word either.
    admin(&service, UNREGISTER).await;
    assert!(!service.is_registered());
    shows(&registry, &service, "unregistered", |instance| {
        instance.is_some_and(|instance| !instance.registered)
    })
    .await;
    registry.set_registered(&identity, true).await.unwrap();
    until(|| service.is_registered(), "registered from outside").await;
    admin(&service, UNREGISTER).await;
    admin(&service, REGISTER).await;
    shows(&registry, &service, "registered", |instance| {
        instance.is_some_and(|instance| instance.registered)
    })
    .await;
    assert!(service.is_registered());

    let stopping = service.stop();
    let draining = shows(&registry, &service, "draining", |instance| {
        instance.is_some_and(|instance| instance.state == State::Draining)
    });
    tokio::join!(stopping, draining);
    shows(&registry, &service, "gone", |instance| instance.is_none()).await;
    assert_eq!(told.load(Ordering::SeqCst), 1 + 40 + 400 + 1000);
}

/// A wish that was written earlier and arrives late must not undo a newer one, not for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_told_once_however_late_the_registry_hears_of_it() {
    const ROUNDS: usize = 500;
    let (_server, registry) = registry().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = |registered: bool| {
        let told = Arc::clone(&told);
        move |_: &skynet::service::ServiceInfo| told.lock().unwrap().push(registered)
    };
    let service = echo()
        .drain(Duration::ZERO, Duration::from_secs(5))
        .on_registered(telling(true))
        .on_unregistered(telling(false))
        .start(&registry)
        .await
        .unwrap();
    until(|| told.lock().unwrap().len() == 1, "registered is told").await;
    for round in 0..ROUNDS {
        service.set_registered(round % 2 == 1);
        assert_eq!(service.is_registered(), round % 2 == 1);
        // About as long as a write to the registry takes, so that its answers come in between.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..3000))).await;
    }
    service.stop().await;
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1 + ROUNDS + 1);
    assert!(told[0] && told.windows(2).all(|two| two[0] != two[1]));
}

async fn until(condition: impl FnMut() -> bool, what: &str) {
    crate::rpc_support::eventually(what, condition).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_serves_before_its_registry_is_there() {
    // Nobody listens at a port that was just given back.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let registry = Registry::new(&RegistryConfig::at(&url)).unwrap();
    let service = echo().start(&registry).await.unwrap();
    let options = skynet::rpc::ConnectOptions::default();
    let connection = skynet::rpc::Connection::open(service.address(), &options).await;
    assert!(connection.is_ok());
    drop(connection);
    tokio::time::timeout(PATIENCE, service.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn services_take_the_next_free_port_and_no_foreign_address() {
    let first = echo().ports(9000..=9999).serve().await.unwrap();
    let second = echo().ports(9000..=9999).serve().await.unwrap();
    let ports = [
        first.address(),
        first.admin_address().unwrap(),
        second.address(),
        second.admin_address().unwrap(),
    ]
    .map(|address| address.port());
    assert!(ports.iter().all(|port| (9000..=9999).contains(port)));
    let taken = first.address().port();
    let failed = echo().ports(taken..=taken).serve().await;
    assert!(matches!(failed, Err(StartError::NoPort { .. })));

    let everywhere = "0.0.0.0".parse().unwrap();
    let refused = echo().bind(everywhere).serve().await;
    assert!(matches!(refused, Err(StartError::Insecure { .. })));
    let allowed = echo().bind(everywhere).allow_insecure(true).serve().await;
    assert!(allowed.is_ok());
}

#[tokio::test]
async fn dropping_a_service_frees_its_ports() {
    let service = echo().serve().await.unwrap();
    let address = service.address();
    let admin = service.admin_address().unwrap();
    drop(service);
    until(|| std::net::TcpListener::bind(address).is_ok(), "the port").await;
    until(
        || std::net::TcpListener::bind(admin).is_ok(),
        "the admin port",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_that_panics_ends_nothing_but_itself() {
    let (_server, registry) = registry().await;
    let service = echo()
        .drain(Duration::ZERO, Duration::from_secs(5))
        .on_started(|_| panic!("started"))
        .on_registered(|_| panic!("registered"))
        .on_unregistered(|_| panic!("unregistered"))
        .on_stopped(|_| panic!("stopped"))
        .start(&registry)
        .await
        .unwrap();
    shows(&registry, &service, "it stands", |instance| {
        instance.is_some_and(|instance| instance.registered)
    })
    .await;
    until(|| service.is_registered(), "it follows its entry").await;
    tokio::time::timeout(PATIENCE, service.stop())
        .await
        .unwrap();
    shows(&registry, &service, "gone", |instance| instance.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_signal_does_not_hurry_a_drain_that_was_asked_for_otherwise() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let begun = Arc::new(AtomicUsize::new(0));
    let (opened, counted) = (Arc::clone(&gate), Arc::clone(&begun));
    let service = Service::builder("Slow")
        .bind("127.0.0.1".parse().unwrap())
        .drain(Duration::ZERO, PATIENCE)
        .method("Wait", move |_, Empty {}| {
            let (opened, counted) = (Arc::clone(&opened), Arc::clone(&counted));
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                let _open = opened.acquire().await;
                Ok::<_, skynet::service::ServiceError>(Empty {})
            }
        })
        .serve()
        .await
        .unwrap();
    let connection =
        skynet::rpc::Connection::open(service.address(), &skynet::rpc::ConnectOptions::default())
            .await
            .unwrap();
    let input = skynet::rpc::typed::encode(&Empty {}).unwrap();
    let call = connection.call(skynet::rpc::conn::Request {
        service: "Slow",
        method: "Wait",
        info: skynet::rpc::conn::RequestInfo::default(),
        input: &input,
    });
    let signals = async {
        until(|| begun.load(Ordering::SeqCst) == 1, "the call runs").await;
        service.stopper().stop();
        let kind = tokio::signal::unix::SignalKind::terminate();
        let mut heard = tokio::signal::unix::signal(kind).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        heard.recv().await.unwrap();
        // Were the drain hurried, the service would end now although a call runs.
        let ended = tokio::time::timeout(Duration::from_millis(300), service.until_stopped());
        assert!(ended.await.is_err(), "the drain was cut");
        gate.add_permits(1);
    };
    let (answer, (), ended) = tokio::join!(
        call,
        signals,
        tokio::time::timeout(PATIENCE, service.until_stopped())
    );
    answer.unwrap();
    ended.unwrap();
}
