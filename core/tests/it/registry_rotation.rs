//! One endpoint of several is dead, and costs once: real sockets, counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use skynet::{
    instance::State,
    registry::{Registry, RegistryConfig},
    testing::{TestRegistry, free_address},
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::registry_client::{identity, value};

const PATIENCE: Duration = Duration::from_secs(30);

/// Takes every connection and never answers; how many it took.
async fn black_hole() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(socket);
        }
    });
    (url, taken)
}

/// A registry that begins at the first of these endpoints.
fn beginning_at_the_first(endpoints: &[&str]) -> Registry {
    let config = RegistryConfig::at(&endpoints.join(","));
    for seed in 0.. {
        fastrand::seed(seed);
        if fastrand::usize(..endpoints.len()) == 0 {
            fastrand::seed(seed);
            break;
        }
    }
    Registry::new(&config).unwrap()
}

#[tokio::test]
async fn one_that_never_answers_is_paid_for_once() {
    let good = TestRegistry::embedded().await.unwrap();
    let nobody = format!("http://{}", free_address().unwrap());
    let (hole, taken) = black_hole().await;
    let registry = beginning_at_the_first(&[&hole, &nobody, &good.url()]);
    let began = Instant::now();
    registry.snapshot().await.unwrap();
    let share = RegistryConfig::default().call_timeout / 3;
    assert!(began.elapsed() >= share, "it did not begin at the hole");
    for _ in 0..20 {
        registry.snapshot().await.unwrap();
    }
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn leases_entries_and_watches_pay_for_it_together_and_once() {
    let good = TestRegistry::embedded().await.unwrap();
    let nobody = format!("http://{}", free_address().unwrap());
    let (hole, taken) = black_hole().await;
    let registry = beginning_at_the_first(&[&hole, &nobody, &good.url()]);
    let registration = registry.register(identity(1), value(9001));
    let view = registry.view();
    timeout(PATIENCE, registration.registered()).await.unwrap();
    timeout(PATIENCE, view.ready()).await.unwrap();
    registration.set_state(State::Pressured);
    let id = identity(1).id;
    let mut changes = view.changes();
    let seen = changes.wait_for(|snapshot| {
        snapshot
            .instance(id)
            .is_some_and(|it| it.state == State::Pressured)
    });
    timeout(PATIENCE, seen).await.unwrap().unwrap();
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    registration.leave().await;
}

#[tokio::test]
async fn the_dead_come_back_into_use_when_the_others_fail() {
    let mut first = TestRegistry::embedded().await.unwrap();
    let mut second = TestRegistry::embedded().await.unwrap();
    let registry = beginning_at_the_first(&[&first.url(), &second.url()]);
    first.kill().await;
    registry.snapshot().await.unwrap();
    first.restart().await.unwrap();
    second.kill().await;
    registry.snapshot().await.unwrap();
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_after_a_while_and_by_one_at_a_time() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    registry.snapshot().await.unwrap();
    let faults = server.faults().await.unwrap();
    let before = faults.tally().calls("Range");
    faults.refuse(3);
    let began = Instant::now();
    registry.snapshot().await.unwrap();
    // Three pauses of 50 ms at least.
    assert!(began.elapsed() >= Duration::from_millis(150));
    let asked = faults.tally().calls("Range") - before;
    assert!((4..=8).contains(&asked), "{asked} calls");
}

#[tokio::test]
async fn a_slow_registry_gets_one_renewal_at_a_time_and_loses_no_lease() {
    let server = TestRegistry::embedded().await.unwrap();
    let config = RegistryConfig::at(&server.url());
    let registry = Registry::new(&config).unwrap();
    let registration = registry.register(identity(1), value(9001));
    timeout(PATIENCE, registration.registered()).await.unwrap();
    let faults = server.faults().await.unwrap();
    faults.answer_after(Duration::from_secs(1));
    let renewed = async {
        while faults.tally().calls("LeaseKeepAlive") < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
    let tally = faults.tally();
    assert_eq!(tally.calls("LeaseGrant"), 1, "the lease was lost");
    assert_eq!(tally.most_at_once["LeaseKeepAlive"], 1);
    assert!(*registration.stands().borrow());
}
