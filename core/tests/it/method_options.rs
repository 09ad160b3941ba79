//! What a service declares of its methods: whether they may run twice, and what becomes of a call whose
//! caller hangs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use skynet::client::{CallError, Client, Place};
use skynet::registry::{Registry, RegistryConfig};
use skynet::rpc::message::{RequestHeader, ServiceHandshake};
use skynet::rpc::{ConnectOptions, Connection, Outcome, Request, RequestInfo};
use skynet::service::{Builder, Context, MethodOptions, OnHangUp, Service, ServiceError};
use skynet::testing::TestRegistry;

use crate::rpc_support::{Raw, Text, eventually};

const IDEMPOTENT: MethodOptions = MethodOptions {
    idempotent: true,
    on_hang_up: OnHangUp::RunOn,
};

const CANCEL: MethodOptions = MethodOptions {
    idempotent: false,
    on_hang_up: OnHangUp::Cancel,
};

/// Counts what runs, and what is dropped before its end.
#[derive(Default)]
struct Ran {
    begun: AtomicU32,
    dropped: AtomicU32,
}

struct Guard(Arc<Ran>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two methods that never end by themselves.
fn waiting(ran: &Arc<Ran>, first: MethodOptions, second: MethodOptions) -> Builder {
    let wait = |ran: &Arc<Ran>| {
        let ran = Arc::clone(ran);
        move |_: Context, _: Text| {
            ran.begun.fetch_add(1, Ordering::SeqCst);
            let guard = Guard(Arc::clone(&ran));
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok::<_, ServiceError>(Text::default())
            }
        }
    };
    Service::builder("Waiting")
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_millis(50))
        .method_with("First", first, wait(ran))
        .method_with("Second", second, wait(ran))
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_only_the_calls_that_chose_it() {
    let ran = Arc::new(Ran::default());
    let service = waiting(&ran, CANCEL, MethodOptions::default())
        .serve()
        .await
        .unwrap();
    let options = ConnectOptions::default();
    let connection = Connection::open(service.address(), &options).await.unwrap();
    let input = skynet::rpc::typed::encode(&Text::default()).unwrap();
    let call = |method| {
        connection.call(Request {
            service: "Waiting",
            method,
            info: RequestInfo::default(),
            input: &input,
        })
    };
    let both = async { tokio::join!(call("First"), call("Second")) };
    let hung_up = async {
        eventually("both run", || ran.begun.load(Ordering::SeqCst) == 2).await;
        connection.close();
    };
    let ((first, second), ()) = tokio::join!(both, hung_up);
    for failed in [first, second] {
        assert_eq!(failed.unwrap_err().outcome(), Outcome::Unknown);
    }
    let ended = || {
        let methods = service.metrics().service.methods;
        methods.iter().map(|it| it.cancelled).collect::<Vec<_>>()
    };
    eventually("the first is given up", || ended() == [1, 0]).await;
    assert_eq!(ran.dropped.load(Ordering::SeqCst), 1);
    assert_eq!(service.stats().inflight, 1, "the second runs on");
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_alone_though_its_connection_stands() {
    let ran = Arc::new(Ran::default());
    let service = waiting(&ran, CANCEL, MethodOptions::default())
        .serve()
        .await
        .unwrap();
    let options = ConnectOptions::default();
    let connection = Connection::open(service.address(), &options).await.unwrap();
    let input = skynet::rpc::typed::encode(&Text::default()).unwrap();
    let call = |method| {
        let (connection, input) = (connection.clone(), input.clone());
        tokio::spawn(async move {
            let request = Request {
                service: "Waiting",
                method,
                info: RequestInfo::default(),
                input: &input,
            };
            connection.call(request).await
        })
    };
    let [dropped, kept, detached] = [call("First"), call("First"), call("Second")];
    eventually("all run", || ran.begun.load(Ordering::SeqCst) == 3).await;
    dropped.abort();
    detached.abort();
    eventually("one is given up", || service.stats().inflight == 2).await;
    assert_eq!(ran.dropped.load(Ordering::SeqCst), 1);
    assert!(!kept.is_finished() && !connection.is_closed());
    kept.abort();
    eventually("two are given up", || service.stats().inflight == 1).await;
    assert_eq!(service.stats().clients, 1);
}

#[tokio::test]
async fn a_peer_that_does_not_know_it_is_not_told_of_a_dropped_call() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let old_peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut raw = Raw::over(stream);
        let handshake = ServiceHandshake {
            registered: true,
            client_id: "a".to_owned(),
            ..ServiceHandshake::default()
        };
        let mut bytes = Vec::new();
        handshake.write(&mut bytes);
        raw.send(&bytes).await;
        let mut methods = Vec::new();
        let _greeting = raw.document().await.unwrap();
        for _ in 0..2 {
            let header = raw.document().await.unwrap();
            methods.push(
                RequestHeader::read(&header)
                    .unwrap()
                    .service_method
                    .to_vec(),
            );
            let _body = raw.document().await.unwrap();
        }
        methods
    });
    let options = ConnectOptions::default();
    let connection = Connection::open(address, &options).await.unwrap();
    let input = skynet::rpc::typed::encode(&Text::default()).unwrap();
    let request = Request {
        service: "Old",
        method: "Any",
        info: RequestInfo::default(),
        input: &input,
    };
    let dropped = tokio::time::timeout(Duration::from_millis(50), connection.call(request));
    assert!(dropped.await.is_err());
    // It ends when the peer, who has read enough, goes.
    let (methods, lost) = tokio::join!(old_peer, connection.call(request));
    assert_eq!(methods.unwrap(), [b"Old.Forward"; 2]);
    assert_eq!(lost.unwrap_err().outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn a_deadline_that_passes_ends_the_calls_that_chose_it() {
    let ran = Arc::new(Ran::default());
    let service = waiting(&ran, CANCEL, CANCEL).serve().await.unwrap();
    let options = ConnectOptions::default();
    let connection = Connection::open(service.address(), &options).await.unwrap();
    let input = skynet::rpc::typed::encode(&Text::default()).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    let request = Request {
        service: "Waiting",
        method: "First",
        info: RequestInfo {
            deadline: Some(deadline),
            ..RequestInfo::default()
        },
        input: &input,
    };
    assert!(connection.call(request).await.unwrap_err().is_deadline());
    eventually("nothing runs", || service.stats().inflight == 0).await;
    assert_eq!(
        ran.begun.load(Ordering::SeqCst),
        ran.dropped.load(Ordering::SeqCst)
    );
}

#[tokio::test]
async fn the_handshake_names_what_may_run_twice() {
    let ran = Arc::new(Ran::default());
    let service = waiting(&ran, IDEMPOTENT, CANCEL).serve().await.unwrap();
    let (_raw, handshake) = Raw::greeted(service.address()).await;
    assert_eq!(handshake.idempotent, ["First"]);

    // A peer that lists without end is not believed without end.
    let endless = ServiceHandshake {
        idempotent: (0..5000).map(|number| format!("m{number}")).collect(),
        ..handshake
    };
    let mut bytes = Vec::new();
    endless.write(&mut bytes);
    let read = ServiceHandshake::read(&bytes).unwrap();
    assert_eq!(read.idempotent.len(), 1024);
    assert_eq!(read.idempotent[1023], "m1023");
}

/// Calls `method` of an instance that is cut off while it runs, with another one beside it.
async fn cut_off(method: &str) -> (Result<Text, CallError>, u32) {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    let ran = Arc::new(Ran::default());
    let goes = waiting(&ran, IDEMPOTENT, MethodOptions::default())
        .start(&registry)
        .await
        .unwrap();
    let client = Client::connect_from(&registry, Place::default());
    let waiting = client.service("service=Waiting".parse().unwrap());
    let call = waiting.start::<_, Text>(method, Text::default());
    eventually("it runs", || ran.begun.load(Ordering::SeqCst) == 1).await;
    let answered = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&answered);
    let answer = move |_: Context, input: Text| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, ServiceError>(input) }
    };
    let stays = Service::builder("Waiting")
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_secs(5))
        .method("First", answer.clone())
        .method("Second", answer)
        .start(&registry)
        .await
        .unwrap();
    eventually("both are known", || waiting.known() == 2).await;
    drop(goes);
    let result = call.await;
    stays.stop().await;
    (result, answered.load(Ordering::SeqCst))
}

#[tokio::test]
async fn what_the_service_declares_idempotent_is_tried_again_and_nothing_else() {
    let (result, again) = cut_off("First").await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(again, 1);
    let (result, again) = cut_off("Second").await;
    assert_eq!(result.unwrap_err().outcome(), Outcome::Unknown);
    assert_eq!(again, 0, "it may have run before");
}
