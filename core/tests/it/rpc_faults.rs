//! Clients and instances that fail, each in its way: real sockets, and what is counted are calls.
//!
//! Where a client waits for seconds before it looks again, the clock is turned on: the time-outs of
//! leases are long here, so that nothing else ends by that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::client::{CallError, CallOptions, Client, Place, Policy, ServiceClient};
use skynet::instance::{InstanceId, State};
use skynet::registry::{Registration, Registry, RegistryConfig};
use skynet::rpc::Outcome;
use skynet::service::{Context, Service, ServiceError};
use skynet::testing::{Proxy, TestRegistry, Traffic, free_address};

use crate::rpc_support::{PATIENCE, eventually};
use stub::{Mode, SERVICE, Stub, entry};

mod stub;

/// How long failing instances are left alone the first time.
const LEFT_ALONE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct Nothing {}

struct World {
    server: TestRegistry,
    registry: Registry,
}

impl World {
    async fn new() -> Self {
        let server = TestRegistry::embedded().await.unwrap();
        let registry = at(&server, "/faults");
        Self { server, registry }
    }

    async fn stubs(&self, modes: &[Mode]) -> Vec<Stub> {
        let mut stubs = Vec::new();
        for mode in modes {
            stubs.push(Stub::start(&self.registry, *mode).await);
        }
        stubs
    }

    /// A client that knows so many instances.
    async fn client(&self, service: &str, known: usize) -> ServiceClient {
        knowing(&self.registry, service, known).await
    }
}

/// A handle whose leases outlive a clock that is turned on.
fn at(server: &TestRegistry, prefix: &str) -> Registry {
    let config = RegistryConfig {
        ttl: Duration::from_mins(1),
        ..RegistryConfig::at(&server.url())
    };
    Registry::new(&config.with_prefix(prefix)).unwrap()
}

async fn knowing(registry: &Registry, service: &str, known: usize) -> ServiceClient {
    let client = Client::connect_from(registry, Place::default());
    let query = format!("service={service}");
    let service = client.service(query.parse().unwrap());
    eventually("all are known", || service.known() == known).await;
    service
}

async fn call(service: &ServiceClient, options: CallOptions) -> Result<(), CallError> {
    let called = service.call_with::<_, Nothing>("Do", &Nothing {}, options);
    called.await.map(drop)
}

/// One call after the other; how many of them failed.
async fn failed_of(service: &ServiceClient, count: u32) -> u32 {
    let mut failed = 0;
    for _ in 0..count {
        // Longer than the clock is turned on: a service takes that for a pause of its own.
        if let Err(error) = call(service, within(Duration::from_mins(1))).await {
            failed += 1;
            tell(&error);
        }
    }
    failed
}

/// For who reads why a test failed.
#[expect(clippy::print_stdout, reason = "tests capture this")]
fn tell(error: &CallError) {
    println!("{}", skynet::hint::chain(error));
}

/// Turns the clock on.
async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

fn idempotent() -> CallOptions {
    CallOptions {
        idempotent: true,
        ..CallOptions::default()
    }
}

fn within(deadline: Duration) -> CallOptions {
    CallOptions {
        deadline,
        ..CallOptions::default()
    }
}

#[tokio::test]
async fn row_26_one_that_refuses_is_out_after_five_calls_and_back_after_it_recovers() {
    for code in ["overloaded", "internal"] {
        let world = World::new().await;
        let modes = [Mode::Answer; 5];
        let stubs = world.stubs(&modes).await;
        let service = world.client(SERVICE, 5).await;
        let service = service.with_policy(Policy::RoundRobin);
        // Another stub's share would be taken by none that is new.
        assert_eq!(failed_of(&service, 10).await, 0);
        let asked = stubs[4].asked();
        stubs[4].set(Mode::Refuse(code));
        let failed = failed_of(&service, 200).await;
        // A panic is not tried again, because the method ran.
        assert_eq!(failed, if code == "internal" { 5 } else { 0 }, "{code}");
        assert_eq!(stubs[4].asked() - asked, 5, "{code}");
        stubs[4].set(Mode::Answer);
        assert_eq!(failed_of(&service, 50).await, 0);
        assert_eq!(stubs[4].asked() - asked, 5, "{code}: nobody knows yet");
        later(LEFT_ALONE).await;
        assert_eq!(failed_of(&service, 1).await, 0);
        assert_eq!(stubs[4].asked() - asked, 6, "{code}: one call tries it");
        // It warms up, and then has its whole share.
        later(LEFT_ALONE).await;
        assert_eq!(failed_of(&service, 100).await, 0);
        assert_eq!(stubs[4].asked() - asked, 26, "{code}");
    }
}

#[tokio::test]
async fn row_26_by_latency_too_one_that_refuses_is_seldom_asked_and_comes_back() {
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Answer; 5]).await;
    let service = world.client(SERVICE, 5).await;
    stubs[4].set(Mode::Refuse("overloaded"));
    assert_eq!(failed_of(&service, 300).await, 0);
    let asked = stubs[4].asked();
    assert!((1..=5).contains(&asked), "{asked} calls");
    stubs[4].set(Mode::Answer);
    later(LEFT_ALONE).await;
    assert_eq!(failed_of(&service, 1).await, 0);
    assert_eq!(stubs[4].asked(), asked + 1, "the next call tries it");
}

#[tokio::test]
async fn row_27_when_all_refuse_the_budget_holds_and_the_first_good_moment_counts() {
    const CALLS: u32 = 200;
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Refuse("overloaded"); 3]).await;
    let service = world.client(SERVICE, 3).await;
    let began = tokio::time::Instant::now();
    for _ in 0..CALLS {
        let error = call(&service, CallOptions::default()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotExecuted, "{error}");
    }
    let asked: u32 = stubs.iter().map(Stub::asked).sum();
    let most = f64::from(CALLS) * 1.2 + (began.elapsed().as_secs_f64() + 1.0) * 10.0;
    assert!(f64::from(asked) <= most, "{asked} attempts, at most {most}");
    for stub in &stubs {
        stub.set(Mode::Answer);
    }
    assert_eq!(failed_of(&service, 20).await, 0);
}

#[tokio::test]
async fn row_27_who_would_rather_fail_than_wait_is_told_at_once_that_none_is_reached() {
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Answer; 2]).await;
    let service = world.client(SERVICE, 2).await;
    for stub in &stubs {
        stub.die();
    }
    let options = CallOptions {
        fail_fast: true,
        ..within(Duration::from_hours(1))
    };
    let failing = async {
        loop {
            let error = call(&service, options.clone()).await.unwrap_err();
            if let CallError::NoInstance { known, .. } = error {
                return known;
            }
        }
    };
    let known = tokio::time::timeout(PATIENCE, failing).await;
    assert_eq!(known.expect("it waits"), 2);
}

#[tokio::test]
async fn i2_one_that_died_costs_one_attempt_at_most() {
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Answer; 3]).await;
    let service = world.client(SERVICE, 3).await;
    while stubs.iter().any(|stub| stub.asked() == 0) {
        assert_eq!(failed_of(&service, 1).await, 0);
    }
    let asked = stubs[0].asked();
    stubs[0].die();
    // The call may be on its way when the end of the connection is.
    assert!(failed_of(&service, 100).await <= 1);
    assert_eq!(stubs[0].asked(), asked);
}

#[tokio::test]
async fn row_44_many_calls_open_one_connection() {
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Silent]).await;
    let service = world.client(SERVICE, 1).await;
    let calls: Vec<_> = (0..100)
        .map(|_| service.start::<_, Nothing>("Do", Nothing {}))
        .collect();
    eventually("a connection comes", || stubs[0].accepted() > 0).await;
    // Callers that give up leave the attempt to the others.
    let given_up = call(&service, within(Duration::from_millis(1))).await;
    assert_eq!(given_up.unwrap_err().outcome(), Outcome::NotSent);
    stubs[0].set(Mode::Answer);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((stubs[0].accepted(), stubs[0].asked()), (1, 100));
}

#[tokio::test]
async fn row_45_one_that_breaks_its_connections_is_left_alone_for_longer_each_time() {
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Answer, Mode::HangUp]).await;
    let service = world.client(SERVICE, 2).await;
    let flapping = &stubs[1];
    let asked_until_left_alone = async {
        while flapping.asked() < 3 {
            call(&service, idempotent()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asked_until_left_alone).await;
    asked.expect("it was not asked again");
    for (after, turns) in [(3, 1), (4, 2), (5, 3)] {
        for _ in 0..turns {
            eventually("it can be reached", || {
                flapping.accepted() > flapping.asked()
            })
            .await;
            for _ in 0..100 {
                call(&service, idempotent()).await.unwrap();
            }
            assert_eq!(flapping.asked(), after, "it is left alone");
            later(LEFT_ALONE).await;
        }
        eventually("it can be reached", || {
            flapping.accepted() > flapping.asked()
        })
        .await;
        let probed = async {
            while flapping.asked() == after {
                call(&service, idempotent()).await.unwrap();
            }
        };
        let probed = tokio::time::timeout(PATIENCE, probed).await;
        probed.expect("it is never tried again");
    }
}

/// A service that counts what it runs; its method waits while it is held.
struct Counted {
    ran: Arc<AtomicU32>,
    held: Arc<AtomicBool>,
    service: Service,
}

impl Counted {
    async fn start(registry: &Registry, limits: skynet::rpc::Limits) -> Self {
        let (ran, held) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (counted, waits) = (Arc::clone(&ran), Arc::clone(&held));
        let service = Service::builder("Counted")
            .ports(0..=0)
            .admin(false)
            .limits(limits)
            .drain(Duration::from_millis(50), PATIENCE)
            .method("Do", move |_: Context, _: Nothing| {
                counted.fetch_add(1, Ordering::Relaxed);
                let waits = Arc::clone(&waits);
                async move {
                    while waits.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok::<_, ServiceError>(Nothing {})
                }
            })
            .start(registry)
            .await
            .unwrap();
        Self { ran, held, service }
    }

    fn ran(&self) -> u32 {
        self.ran.load(Ordering::Relaxed)
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn row_28_what_an_overloaded_instance_sheds_runs_elsewhere() {
    let world = World::new().await;
    let small = skynet::rpc::Limits {
        per_service: 1,
        ..skynet::rpc::Limits::default()
    };
    let full = Counted::start(&world.registry, small).await;
    let free = Counted::start(&world.registry, skynet::rpc::Limits::default()).await;
    let service = world.client("Counted", 2).await;
    let service = service.with_policy(Policy::RoundRobin);
    full.hold(true);
    let mut holding = Vec::new();
    while full.ran() == 0 {
        holding.push(service.start::<_, Nothing>("Do", Nothing {}));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ran = free.ran();
    assert_eq!(
        failed_of(&service, 20).await,
        0,
        "refused, and not tried elsewhere"
    );
    assert_eq!((full.ran(), free.ran() - ran), (1, 20));
    full.hold(false);
    for call in holding {
        call.await.unwrap();
    }
    full.service.stop().await;
    free.service.stop().await;
}

#[tokio::test]
async fn row_42_what_is_in_flight_completes_after_its_instance_was_taken_out() {
    let world = World::new().await;
    let goes = Counted::start(&world.registry, skynet::rpc::Limits::default()).await;
    let service = world.client("Counted", 1).await;
    goes.hold(true);
    let call = service.start::<_, Nothing>("Do", Nothing {});
    eventually("it runs", || goes.ran() == 1).await;
    let stays = Counted::start(&world.registry, skynet::rpc::Limits::default()).await;
    eventually("both are known", || service.known() == 2).await;
    let identity = &goes.service.info().identity;
    world
        .registry
        .set_registered(identity, false)
        .await
        .unwrap();
    eventually("it is out", || service.known() == 1).await;
    assert_eq!(failed_of(&service, 20).await, 0);
    assert_eq!((goes.ran(), stays.ran()), (1, 20));
    goes.hold(false);
    call.await.unwrap();
    goes.service.stop().await;
    stays.service.stop().await;
}

/// A service behind a proxy, in a registry prefix of its own.
async fn behind_a_proxy(registry: &Registry, service: &Service) -> (Proxy, Registration) {
    let proxy = Proxy::start(free_address().unwrap(), service.address()).unwrap();
    let entry = announced(registry, service.id(), proxy.address()).await;
    (proxy, entry)
}

async fn announced(registry: &Registry, id: InstanceId, address: SocketAddr) -> Registration {
    let (identity, value) = entry("Counted", id, address);
    let registration = registry.register(identity, value);
    registration.registered().await;
    registration
}

#[tokio::test]
async fn row_22_one_client_that_is_cut_off_calls_others_and_takes_nobody_out_for_all() {
    let world = World::new().await;
    let limits = skynet::rpc::Limits::default();
    let services = [
        Counted::start(&world.registry, limits).await,
        Counted::start(&world.registry, limits).await,
    ];
    // The same two, seen over another way.
    let other = at(&world.server, "/other-way");
    let (proxy, _first) = behind_a_proxy(&other, &services[0].service).await;
    let address = services[1].service.address();
    let _second = announced(&other, services[1].service.id(), address).await;
    let near = world.client("Counted", 2).await;
    let far = knowing(&other, "Counted", 2).await;
    let far = far.with_policy(Policy::RoundRobin);
    assert_eq!(failed_of(&far, 10).await, 0);
    proxy.set(Traffic::Cut);
    let failed = failed_of(&far, 100).await;
    assert!(failed <= 1, "{failed} failed: the one on its way at most");
    let before = services[0].ran();
    assert_eq!(failed_of(&far, 20).await, 0);
    assert_eq!(services[0].ran(), before, "it was reached all the same");
    assert_eq!(
        failed_of(&near.with_policy(Policy::RoundRobin), 20).await,
        0
    );
    assert_eq!(services[0].ran(), before + 10);
    let listed = other.snapshot().await.unwrap();
    let found = listed.instance(services[0].service.id()).unwrap();
    assert_eq!(found.state, State::Ready, "one client's trouble is its own");
    proxy.set(Traffic::Forward);
    let again = async {
        while services[0].ran() == before + 10 {
            assert_eq!(failed_of(&far, 1).await, 0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await;
    again.expect("it is never called again");
    for counted in services {
        counted.service.stop().await;
    }
}

#[tokio::test]
async fn row_23_lost_answers_are_unknown_run_once_and_eject_after_five() {
    let world = World::new().await;
    let limits = skynet::rpc::Limits::default();
    let services = [
        Counted::start(&world.registry, limits).await,
        Counted::start(&world.registry, limits).await,
    ];
    let other = at(&world.server, "/other-way");
    let (proxy, _first) = behind_a_proxy(&other, &services[0].service).await;
    let address = services[1].service.address();
    let _second = announced(&other, services[1].service.id(), address).await;
    let service = knowing(&other, "Counted", 2).await;
    let service = service.with_policy(Policy::RoundRobin);
    assert_eq!(failed_of(&service, 10).await, 0);
    let ran = [services[0].ran(), services[1].ran()];
    proxy.set(Traffic::HoldAnswers);
    let mut unknown = 0;
    for _ in 0..50 {
        // Long enough that a busy machine alone exceeds none.
        let called = call(&service, within(Duration::from_secs(2))).await;
        if let Err(error) = called {
            assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
            unknown += 1;
        }
    }
    assert!((1..=5).contains(&unknown), "{unknown} of 50 are unknown");
    assert_eq!(services[0].ran() - ran[0], unknown, "each ran, and once");
    assert_eq!(services[1].ran() - ran[1], 50 - unknown);
    for counted in services {
        counted.service.stop().await;
    }
}

#[tokio::test]
async fn row_23_what_may_run_twice_is_tried_elsewhere_when_its_answer_is_lost() {
    let world = World::new().await;
    let stubs = world.stubs(&[Mode::Answer, Mode::HangUp]).await;
    let service = world.client(SERVICE, 2).await;
    while stubs[1].asked() == 0 {
        call(&service, idempotent()).await.unwrap();
    }
    let service = world.client(SERVICE, 2).await;
    let once = async {
        loop {
            if let Err(error) = call(&service, CallOptions::default()).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, once).await;
    assert_eq!(
        error.expect("it is never asked").outcome(),
        Outcome::Unknown
    );
}

#[tokio::test]
async fn row_24_a_peer_that_vanished_without_a_word_is_noticed_by_pings() {
    let world = World::new().await;
    let limits = skynet::rpc::Limits::default();
    let counted = Counted::start(&world.registry, limits).await;
    let other = at(&world.server, "/other-way");
    let (proxy, _entry) = behind_a_proxy(&other, &counted.service).await;
    let service = knowing(&other, "Counted", 1).await;
    counted.hold(true);
    let options = within(Duration::from_hours(1));
    let mut calling = std::pin::pin!(call(&service, options));
    while counted.ran() == 0 {
        let look = tokio::time::timeout(Duration::from_millis(5), calling.as_mut());
        assert!(look.await.is_err(), "it waits");
    }
    proxy.set(Traffic::Stall);
    let mut seconds = 0;
    let error = loop {
        let look = tokio::time::timeout(Duration::from_millis(20), calling.as_mut());
        if let Ok(ended) = look.await {
            break ended.unwrap_err();
        }
        seconds += 1;
        assert!(seconds < 20, "nobody notices");
        later(Duration::from_secs(1)).await;
    };
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert!(seconds >= 4, "given up after {seconds} s");
    counted.hold(false);
    counted.service.stop().await;
}

#[tokio::test]
async fn row_21_what_vanished_from_the_registry_keeps_its_share_for_a_while_and_then_comes_last() {
    let world = World::new().await;
    let limits = skynet::rpc::Limits::default();
    let mut services = Vec::new();
    for _ in 0..3 {
        services.push(Counted::start(&world.registry, limits).await);
    }
    drop(world.client("Counted", 3).await);
    // Copies of their entries, which nobody puts right, as of instances that the registry lost.
    let mut etcd = etcd_client::Client::connect([world.server.url()], None)
        .await
        .unwrap();
    let below = etcd_client::GetOptions::new().with_prefix();
    let entries = etcd.get("/faults/", Some(below)).await.unwrap();
    for kv in entries.kvs() {
        let key = kv.key_str().unwrap().replacen("/faults/", "/other-way/", 1);
        etcd.put(key, kv.value(), None).await.unwrap();
    }
    let other = at(&world.server, "/other-way");
    let service = knowing(&other, "Counted", 3).await;
    let service = service.with_policy(Policy::RoundRobin);
    assert_eq!(failed_of(&service, 30).await, 0);
    let vanished = &services[0];
    let key = vanished.service.info().identity.clone();
    let key = skynet::registry::key::Key::Instance(key).path("/other-way");
    assert_eq!(etcd.delete(key, None).await.unwrap().deleted(), 1);
    let view = other.view();
    let mut changes = view.changes();
    let id = vanished.service.id();
    let suspected = changes.wait_for(|snapshot| {
        let found = snapshot.instance(id);
        found.is_some_and(|found| found.state == State::Suspect)
    });
    let suspected = tokio::time::timeout(PATIENCE, suspected).await;
    drop(suspected.expect("nobody misses it").unwrap());
    let ran = vanished.ran();
    assert_eq!(failed_of(&service, 30).await, 0);
    assert_eq!(vanished.ran() - ran, 10, "it answers, so it has its share");
    later(Duration::from_secs(10)).await;
    assert_eq!(failed_of(&service, 30).await, 0);
    assert_eq!(vanished.ran() - ran, 10, "others come first");
    for counted in services {
        counted.service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_one_that_gets_ten_times_slower_gets_less_than_a_tenth() {
    const FAST: Duration = Duration::from_millis(10);
    const AT_ONCE: u32 = 16;
    const CALLS: u32 = 1_600;
    let world = World::new().await;
    let slow = Arc::new(AtomicBool::new(false));
    let by_slow = Arc::new(AtomicU32::new(0));
    let mut services = Vec::new();
    for number in 0..5 {
        let (slow, by_slow) = (Arc::clone(&slow), Arc::clone(&by_slow));
        let service = Service::builder("Counted")
            .ports(0..=0)
            .admin(false)
            .drain(Duration::from_millis(50), PATIENCE)
            .method("Do", move |_: Context, _: Nothing| {
                let is_slow = number == 4 && slow.load(Ordering::Relaxed);
                by_slow.fetch_add(u32::from(is_slow), Ordering::Relaxed);
                let takes = if is_slow { FAST * 10 } else { FAST };
                async move {
                    tokio::time::sleep(takes).await;
                    Ok::<_, ServiceError>(Nothing {})
                }
            })
            .start(&world.registry)
            .await;
        services.push(service.unwrap());
    }
    let service = world.client("Counted", 5).await;
    for calls in [CALLS / 4, CALLS] {
        slow.store(calls == CALLS, Ordering::Relaxed);
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let service = service.clone();
                tokio::spawn(async move { failed_of(&service, calls / AT_ONCE).await })
            })
            .collect();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), 0);
        }
    }
    let by_slow = by_slow.load(Ordering::Relaxed);
    assert!(
        by_slow * 10 < CALLS,
        "{by_slow} of {CALLS} went to the slow one"
    );
    for service in services {
        service.stop().await;
    }
}
