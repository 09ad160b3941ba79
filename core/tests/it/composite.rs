//! Three services in a row: what goes with a request arrives at the last one, time runs out on the
//! way, and giving up travels.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skynet::client::{CallError, CallOptions, Client, Place, ServiceClient};
use skynet::registry::{Registry, RegistryConfig};
use skynet::rpc::Outcome;
use skynet::service::{Builder, Context, MethodOptions, OnHangUp, Service, ServiceError};
use skynet::testing::TestRegistry;

use crate::rpc_support::{Text, eventually};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a service was told beside the parameter.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    request_id: String,
    origin: String,
    client: String,
    traceparent: Option<String>,
    left: Duration,
}

type Log = Arc<Mutex<Vec<Seen>>>;

fn seen(context: &Context) -> Seen {
    let deadline = context.deadline().unwrap();
    Seen {
        service: context.service().identity.service.to_string(),
        request_id: context.request_id().to_owned(),
        origin: context.origin().to_owned(),
        client: context.client().to_string(),
        traceparent: context.traceparent().map(str::to_owned),
        left: deadline.saturating_duration_since(tokio::time::Instant::now()),
    }
}

/// How long each service works before it asks the next.
const WORK: Duration = Duration::from_millis(60);

fn service(name: &str) -> Builder {
    Service::builder(name)
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_millis(50))
        .trust("127.0.0.0/8".parse().unwrap())
}

const CANCEL: MethodOptions = MethodOptions {
    idempotent: false,
    on_hang_up: OnHangUp::Cancel,
};

/// A service that notes what it sees, works, and asks the next one; the last one answers, or never.
fn link(name: &str, next: Option<ServiceClient>, log: &Log) -> Builder {
    let log = Arc::clone(log);
    service(name).method_with("Pass", CANCEL, move |context: Context, input: Text| {
        let (next, log) = (next.clone(), Arc::clone(&log));
        async move {
            log.lock().unwrap().push(seen(&context));
            tokio::time::sleep(WORK).await;
            match next {
                Some(next) => next
                    .call_with("Pass", &input, CallOptions::on_behalf_of(&context))
                    .await
                    .map_err(ServiceError::new),
                None if input.data == "never" => std::future::pending().await,
                None => Ok(input),
            }
        }
    })
}

struct Chain {
    _server: TestRegistry,
    services: Vec<Service>,
    first: ServiceClient,
    log: Log,
}

async fn chain() -> Chain {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    let log = Log::default();
    let client = |query: &str| {
        Client::connect_from(&registry, Place::default()).service(query.parse().unwrap())
    };
    let mut services = Vec::new();
    for (name, next) in [
        ("Third", None),
        ("Second", Some("service=Third")),
        ("First", Some("service=Second")),
    ] {
        let link = link(name, next.map(client), &log);
        services.push(link.start(&registry).await.unwrap());
    }
    Chain {
        first: client("service=First"),
        _server: server,
        services,
        log,
    }
}

fn options(deadline: Duration) -> CallOptions {
    CallOptions {
        deadline,
        request_id: Some("order-4711".to_owned()),
        traceparent: Some(TRACE.to_owned()),
        ..CallOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_with_a_request_arrives_at_the_last_of_three() {
    let chain = chain().await;
    let input = Text {
        data: "hello".to_owned(),
    };
    let deadline = Duration::from_secs(30);
    let call = chain.first.call_with("Pass", &input, options(deadline));
    let answer: Text = call.await.unwrap();
    assert_eq!(answer, input);
    let log = chain.log.lock().unwrap().clone();
    let names: Vec<_> = log.iter().map(|seen| &*seen.service).collect();
    assert_eq!(names, ["First", "Second", "Third"]);
    for (seen, before) in log.iter().zip([None, log.first(), log.get(1)]) {
        assert_eq!(seen.request_id, "order-4711");
        assert_eq!(seen.traceparent.as_deref(), Some(TRACE));
        // The first caller is the origin for all; each has another one at its door.
        assert_eq!(seen.origin, log[0].client);
        let shrunk = before.map_or(deadline, |before| before.left.saturating_sub(WORK / 2));
        assert!(seen.left <= shrunk, "{seen:?} after {before:?}");
    }
    assert_ne!(log[1].client, log[0].client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_believed_who_is_not_trusted() {
    let log = Log::default();
    let told = Arc::clone(&log);
    let service = Service::builder("Alone")
        .ports(0..=0)
        .trust("10.0.0.0/8".parse().unwrap())
        .method("Pass", move |context: Context, input: Text| {
            told.lock().unwrap().push(seen(&context));
            async move { Ok::<_, ServiceError>(input) }
        });
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    let service = service.start(&registry).await.unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let options = CallOptions {
        origin: Some("203.0.113.9:1".to_owned()),
        ..CallOptions::default()
    };
    let alone = client.service("service=Alone".parse().unwrap());
    let input = Text::default();
    let answer: Text = alone.call_with("Pass", &input, options).await.unwrap();
    assert_eq!(answer, input);
    let seen = log.lock().unwrap()[0].clone();
    assert_eq!(seen.origin, seen.client);
    drop(service);
}

/// Waits until no service runs a call any more, and tells how many each gave up.
async fn given_up(chain: &Chain) -> Vec<i64> {
    let idle = |service: &Service| service.stats().inflight == 0;
    eventually("nothing runs", || chain.services.iter().all(idle)).await;
    let cancelled = |service: &Service| service.metrics().service.methods[0].cancelled;
    chain.services.iter().map(cancelled).collect()
}

fn never() -> Text {
    Text {
        data: "never".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_work_of_all_three() {
    let chain = chain().await;
    // Long enough that the third is reached also by a machine that is busy.
    let deadline = Duration::from_secs(2);
    let input = never();
    let call = chain.first.call_with("Pass", &input, options(deadline));
    let late: Result<Text, CallError> = call.await;
    // The second one's word that its own call was too late may just come in time.
    let outcome = late.unwrap_err().outcome();
    assert!(matches!(outcome, Outcome::Unknown | Outcome::Failed));
    let third = given_up(&chain).await[0];
    assert_eq!(third, 1, "the last one does not wait any longer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_ends_the_work_of_all_three() {
    let chain = chain().await;
    let options = options(Duration::from_mins(2));
    let (input, first) = (never(), chain.first.clone());
    let call = tokio::spawn(async move {
        let answer = first.call_with::<_, Text>("Pass", &input, options);
        answer.await
    });
    let third = || chain.log.lock().unwrap().len() == 3;
    eventually("the third works", third).await;
    call.abort();
    assert_eq!(given_up(&chain).await, [1, 1, 1]);
}
