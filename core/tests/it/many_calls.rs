//! Many calls at once: bounded, in order or as they come, given up with their answers, and without a
//! task for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use skynet::client::{CallError, CallOptions, Client, Place, ServiceClient};
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::{Context, Service, ServiceError};
use skynet::testing::TestRegistry;
use tokio::sync::Semaphore;

use crate::rpc_support::eventually;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    value: i64,
}

/// A service that answers when it is let.
struct Gate {
    now: AtomicUsize,
    most: AtomicUsize,
    doors: Semaphore,
}

impl Gate {
    fn new(open: usize) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            doors: Semaphore::new(open),
        })
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }
}

const NEVER: i64 = -1;

async fn serve(registry: &Registry, gate: &Arc<Gate>) -> Service {
    let gate = Arc::clone(gate);
    Service::builder("Doubler")
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_secs(5))
        .method("Double", move |_: Context, input: Number| {
            let gate = Arc::clone(&gate);
            async move {
                let now = gate.now.fetch_add(1, Ordering::SeqCst) + 1;
                gate.most.fetch_max(now, Ordering::SeqCst);
                if input.value == NEVER {
                    std::future::pending::<()>().await;
                }
                gate.doors.acquire().await.unwrap().forget();
                gate.now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, ServiceError>(Number {
                    value: input.value * 2,
                })
            }
        })
        .start(registry)
        .await
        .unwrap()
}

async fn set_up(gate: &Arc<Gate>) -> (TestRegistry, Service, ServiceClient) {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    let service = serve(&registry, gate).await;
    let client = Client::connect_from(&registry, Place::default());
    let doubler = client.service("service=Doubler".parse().unwrap());
    (server, service, doubler)
}

fn numbers(values: impl IntoIterator<Item = i64>) -> Vec<Number> {
    let values = values.into_iter();
    values.map(|value| Number { value }).collect()
}

fn patient() -> CallOptions {
    CallOptions {
        deadline: Duration::from_mins(2),
        ..CallOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_order_and_no_more_run_than_may() {
    let gate = Gate::new(0);
    let (_server, service, doubler) = set_up(&gate).await;
    let inputs = numbers(0..50);
    let calls = doubler.calls("Double", inputs).at_most(8).with(patient());
    let mut answers = calls.in_order::<Number>();
    let mut doubled = Vec::new();
    let collect = async {
        while let Some(answer) = answers.next().await {
            doubled.push(answer.unwrap().value);
        }
    };
    let open = async {
        eventually("as many run as may", || gate.now() == 8).await;
        gate.doors.add_permits(50);
    };
    tokio::join!(collect, open);
    assert_eq!(doubled, (0..50).map(|value| value * 2).collect::<Vec<_>>());
    assert_eq!(gate.most.load(Ordering::SeqCst), 8);
    assert_eq!(doubler.metrics().succeeded, 50);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_there_do_not_wait_for_one_that_is_not() {
    let gate = Gate::new(100);
    let (_server, service, doubler) = set_up(&gate).await;
    // The first never answers, and the inputs never end.
    let inputs = std::iter::once(NEVER).chain(1..);
    let inputs = inputs.map(|value| Number { value });
    let calls = doubler.calls("Double", inputs).at_most(4).with(patient());
    let answers = calls.as_completed::<Number>();
    let first: Vec<(usize, Result<Number, CallError>)> = answers.take(30).collect().await;
    for (number, answer) in first {
        assert!((1..60).contains(&number), "{number}");
        assert_eq!(answer.unwrap().value, i64::try_from(number).unwrap() * 2);
    }
    // Dropping the answers gave up what was under way.
    eventually("nothing is under way", || doubler.metrics().in_flight == 0).await;
    let metrics = doubler.metrics();
    assert!((1..=4).contains(&metrics.abandoned), "{metrics:?}");
    drop(service);
}

#[tokio::test]
async fn a_failed_call_is_an_answer_like_others() {
    let gate = Gate::new(100);
    let (_server, service, doubler) = set_up(&gate).await;
    let inputs = futures_util::stream::iter(numbers([1, 2]));
    let mut answers = doubler.calls_from("Halve", inputs).in_order::<Number>();
    for _ in 0..2 {
        let answer = answers.next().await.unwrap();
        assert!(
            matches!(answer, Err(CallError::Failed { .. })),
            "{answer:?}"
        );
    }
    assert!(answers.next().await.is_none());
    service.stop().await;
}

#[tokio::test]
async fn a_call_has_no_task() {
    let gate = Gate::new(0);
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    // The service has a runtime of its own, so that only the client's tasks are counted.
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let serving = {
        let (registry, gate) = (registry.clone(), Arc::clone(&gate));
        elsewhere.spawn(async move { serve(&registry, &gate).await })
    };
    let service = serving.await.unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let doubler = client.service("service=Doubler".parse().unwrap());
    gate.doors.add_permits(1);
    let _connected: Number = doubler.call("Double", &Number { value: 1 }).await.unwrap();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let calls = doubler.calls("Double", numbers(0..500)).at_most(500);
    let mut answers = calls.with(patient()).in_order::<Number>();
    let observe = async {
        eventually("all run", || gate.now() == 500).await;
        let during = tasks();
        gate.doors.add_permits(500);
        during
    };
    let first = answers.next();
    let (first, during) = tokio::join!(first, observe);
    assert_eq!(first.unwrap().unwrap().value, 0);
    assert!(during < before + 50, "{before} tasks became {during}");
    assert_eq!(answers.count().await, 499);
    drop(service);
    elsewhere.shutdown_background();
}
