//! Calls between our own client and service: many at once, and every way in which they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skynet::hint::Retry;
use skynet::rpc::message::{ClientHandshake, RequestHeader, ResponseHeader, ServiceHandshake};
use skynet::rpc::{
    CallFailure, Code, ConnectError, ConnectOptions, Connection, Ended, Expected, Limits, Reply,
    Request, RequestInfo, Why, typed,
};
use skynet::service::{Context, Service, ServiceError};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::rpc_support::{Millis, PATIENCE, Raw, Text, echo, eventually, request};

async fn connect(service: &Service) -> Connection {
    Connection::open(service.address(), &ConnectOptions::default())
        .await
        .unwrap()
}

async fn call_with(
    connection: &Connection,
    method: &str,
    input: &[u8],
    info: RequestInfo<'_>,
) -> Result<Reply, CallFailure> {
    let request = Request {
        service: "EchoService",
        method,
        info,
        input,
    };
    tokio::time::timeout(PATIENCE, connection.call(request))
        .await
        .expect("a call neither ends nor fails")
}

async fn call(connection: &Connection, method: &str, data: &str) -> Result<Reply, CallFailure> {
    let input = typed::encode(&Text {
        data: data.to_owned(),
    });
    call_with(connection, method, &input.unwrap(), RequestInfo::default()).await
}

async fn sleep(connection: &Connection, ms: i64) -> Result<Reply, CallFailure> {
    let input = typed::encode(&Millis { ms }).unwrap();
    call_with(connection, "Sleep", &input, RequestInfo::default()).await
}

fn text(reply: &Reply) -> String {
    typed::decode::<Text>(&reply.output).unwrap().data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_get_their_own_answers() {
    let service = echo().serve().await.unwrap();
    let connection = connect(&service).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let connection = connection.clone();
        tasks.spawn(async move {
            for number in 0..100 {
                let reply = call(&connection, "Upcase", &format!("a{task}-{number}")).await;
                assert_eq!(text(&reply.unwrap()), format!("A{task}-{number}"));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(connection.in_flight(), 0);
    let stats = service.stats();
    assert_eq!(
        (stats.requests, stats.inflight, stats.clients),
        (6400, 0, 1)
    );
}

#[tokio::test]
async fn answers_come_in_the_order_of_completion() {
    let service = echo().serve().await.unwrap();
    let connection = connect(&service).await;
    let slow = tokio::spawn({
        let connection = connection.clone();
        async move { sleep(&connection, 3_600_000).await }
    });
    eventually("the slow call runs", || service.stats().inflight == 1).await;
    assert_eq!(text(&call(&connection, "Upcase", "x").await.unwrap()), "X");
    assert!(!slow.is_finished());
    slow.abort();
    assert!(slow.await.unwrap_err().is_cancelled());
    // Dropping a call's future frees its place at once.
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test]
async fn large_documents_go_both_ways() {
    let service = echo().serve().await.unwrap();
    let connection = connect(&service).await;
    for size in [4 << 10, 1 << 20, 7 << 20] {
        let reply = call(&connection, "Upcase", &"a".repeat(size))
            .await
            .unwrap();
        assert_eq!(text(&reply), "A".repeat(size));
    }
    let failure = call(&connection, "Upcase", &"a".repeat(17 << 20)).await;
    let failure = failure.unwrap_err();
    assert!(matches!(
        failure,
        CallFailure::NotSent {
            why: Why::TooLarge { .. },
            ..
        }
    ));
    assert_eq!(failure.retry(), Retry::Never);
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_panic_fails_its_call_and_nothing_else() {
    let service = echo().serve().await.unwrap();
    let connection = connect(&service).await;
    let failure = call(&connection, "Panic", "now").await.unwrap_err();
    let CallFailure::Rejected { code, message, .. } = failure else {
        panic!("{failure}");
    };
    assert_eq!(code, Some(Code::Internal));
    assert_eq!(message, "method \"Panic\" panicked");
    assert!(call(&connection, "Panic", "").await.is_ok());
    let stats = service.stats();
    assert_eq!((stats.requests, stats.inflight), (2, 0));
}

#[tokio::test]
async fn header_errors_fail_their_call_only() {
    let service = echo().serve().await.unwrap();
    let connection = connect(&service).await;
    let failure = call(&connection, "Nope", "").await.unwrap_err();
    assert!(
        matches!(
            &failure,
            CallFailure::Rejected {
                code: Some(Code::NoMethod),
                ..
            }
        ),
        "{failure}"
    );
    let input = typed::encode(&Text::default()).unwrap();
    let request = Request {
        service: "Wrong",
        method: "Upcase",
        info: RequestInfo::default(),
        input: &input,
    };
    let failure = connection.call(request).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!(
            "`Upcase` of `Wrong` at {} (instance {}) was refused (not executed): \
             rpc: can't find service Wrong.Forward",
            service.address(),
            service.id()
        )
    );
    let broken = call_with(&connection, "Upcase", b"xx", RequestInfo::default()).await;
    assert!(matches!(
        broken.unwrap_err(),
        CallFailure::Rejected { code: Some(Code::BadRequest), message, .. }
            if message == "Document is corrupted"
    ));
    assert!(call(&connection, "Upcase", "x").await.is_ok());
}

#[tokio::test]
async fn the_origin_is_the_connections_own_address() {
    let service = echo().serve().await.unwrap();
    let connection = connect(&service).await;
    let input = typed::encode(&Text::default()).unwrap();
    let info = RequestInfo {
        request_id: "the-id",
        origin: "192.0.2.7:1",
        ..RequestInfo::default()
    };
    let reply = call_with(&connection, "Who", &input, info).await.unwrap();
    let said = text(&reply);
    let origin = said.strip_prefix("the-id 127.0.0.1:").unwrap();
    assert!(origin.parse::<u16>().is_ok());
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let service = echo()
        .method("Wait", move |context: Context, input: Text| {
            let ran = Arc::clone(&counted);
            async move {
                context.cancelled().await;
                ran.fetch_add(1, Ordering::SeqCst);
                // An answer at the very deadline might still come in time.
                std::future::pending::<()>().await;
                Ok::<_, ServiceError>(input)
            }
        })
        .serve()
        .await
        .unwrap();
    let connection = connect(&service).await;
    let input = typed::encode(&Text::default()).unwrap();
    let info = |deadline| RequestInfo {
        deadline: Some(deadline),
        ..RequestInfo::default()
    };
    let soon = Instant::now() + Duration::from_millis(50);
    let failure = call_with(&connection, "Wait", &input, info(soon)).await;
    let failure = failure.unwrap_err();
    assert!(failure.is_deadline(), "{failure}");
    assert_eq!(failure.retry(), Retry::IfIdempotent);
    eventually("the method hears of it", || ran.load(Ordering::SeqCst) == 1).await;

    let past = Instant::now();
    let failure = call_with(&connection, "Wait", &input, info(past)).await;
    let failure = failure.unwrap_err();
    assert!(matches!(
        failure,
        CallFailure::NotSent {
            why: Why::Deadline,
            ..
        }
    ));
    assert_eq!(connection.in_flight(), 0);
    assert!(call(&connection, "Upcase", "x").await.is_ok());
}

#[tokio::test]
async fn the_limit_of_a_service_refuses_and_that_of_a_connection_holds_back() {
    let limits = Limits {
        per_service: 2,
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let connection = connect(&service).await;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { sleep(&connection, 3_600_000).await })
        })
        .collect();
    eventually("two calls run", || service.stats().inflight == 2).await;
    let failure = call(&connection, "Upcase", "x").await.unwrap_err();
    assert!(
        matches!(
            &failure,
            CallFailure::NotExecuted {
                code: Code::Overloaded,
                ..
            }
        ),
        "{failure}"
    );
    assert_eq!(failure.retry(), Retry::Safe);
    drop(calls);

    let limits = Limits {
        per_connection: 1,
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let connection = connect(&service).await;
    let (first, second) = tokio::join!(sleep(&connection, 30), sleep(&connection, 30));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(service.stats().requests, 2);
}

#[tokio::test]
async fn whoever_else_is_there_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = ConnectOptions {
        expect: Some(Expected {
            service: Some("EchoService".into()),
            id: Some(uuid::Uuid::from_u128(1)),
        }),
        ..ConnectOptions::default()
    };
    let other_service = ServiceHandshake {
        registered: true,
        client_id: "c".to_owned(),
        name: "Other".to_owned(),
        ..ServiceHandshake::default()
    };
    let other_instance = ServiceHandshake {
        name: "EchoService".to_owned(),
        uuid: uuid::Uuid::from_u128(2).to_string(),
        ..other_service.clone()
    };
    for handshake in [other_service, other_instance] {
        let peer = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut raw = Raw::over(stream);
            let mut bytes = Vec::new();
            handshake.write(&mut bytes);
            raw.send(&bytes).await;
            raw.document().await
        };
        let (opened, received) = tokio::join!(Connection::open(address, &options), peer);
        assert!(matches!(opened, Err(ConnectError::Mismatch { .. })));
        assert_eq!(received, None, "something was sent");
    }
    // An old peer names neither and is believed.
    options.timeout = PATIENCE;
    let peer = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut raw = Raw::over(stream);
        let mut bytes = Vec::new();
        let old = ServiceHandshake {
            registered: true,
            client_id: "c".to_owned(),
            ..ServiceHandshake::default()
        };
        old.write(&mut bytes);
        raw.send(&bytes).await;
        raw.document().await
    };
    let (opened, received) = tokio::join!(Connection::open(address, &options), peer);
    assert!(opened.is_ok() && received.is_some());
}

#[tokio::test]
async fn a_silent_or_unregistered_peer_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions {
        timeout: Duration::from_millis(50),
        ..ConnectOptions::default()
    };
    let opened = Connection::open(listener.local_addr().unwrap(), &options).await;
    assert!(matches!(opened, Err(ConnectError::TimedOut { .. })));

    let service = echo().registered(false).serve().await.unwrap();
    let opened = Connection::open(service.address(), &ConnectOptions::default()).await;
    assert!(matches!(opened, Err(ConnectError::Unregistered { .. })));
}

#[tokio::test]
async fn a_connection_that_ends_tells_what_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut raw = Raw::over(stream);
        let mut bytes = Vec::new();
        ServiceHandshake {
            registered: true,
            ..ServiceHandshake::default()
        }
        .write(&mut bytes);
        raw.send(&bytes).await;
        raw.document().await.unwrap();
        let header = raw.document().await.unwrap();
        assert_eq!(RequestHeader::read(&header).unwrap().seq, 0);
    };
    let client = async {
        let options = ConnectOptions::default();
        let connection = Connection::open(address, &options).await.unwrap();
        let failure = call(&connection, "Upcase", "x").await.unwrap_err();
        assert!(matches!(
            &failure,
            CallFailure::Unknown {
                why: Why::Ended(_),
                ..
            }
        ));
        tokio::time::timeout(PATIENCE, connection.closed())
            .await
            .unwrap();
        assert!(connection.is_closed());
        let failure = call(&connection, "Upcase", "x").await.unwrap_err();
        assert!(matches!(failure, CallFailure::NotSent { .. }));
        assert_eq!(failure.retry(), Retry::Safe);
    };
    tokio::join!(peer, client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_loses_no_request() {
    let service = echo()
        .drain(Duration::from_millis(200), Duration::from_secs(10))
        .serve()
        .await
        .unwrap();
    let address = service.address();
    let told = connect(&service).await;
    let slow = tokio::spawn({
        let told = told.clone();
        async move { sleep(&told, 400).await }
    });
    eventually("the slow call runs", || service.stats().inflight == 1).await;
    let untold = ConnectOptions {
        notices: false,
        ..ConnectOptions::default()
    };
    let untold = Connection::open(address, &untold).await.unwrap();
    let deaf = tokio::spawn(call_until_refused_by_a_word(address));
    eventually("all are there", || service.stats().clients == 3).await;
    let stopping = tokio::spawn(async move {
        service.stop().await;
        service
    });
    eventually("the notice arrives", || told.is_closed()).await;
    let failure = call(&told, "Upcase", "x").await.unwrap_err();
    assert!(matches!(
        failure,
        CallFailure::NotSent {
            why: Why::Ended(Ended::Draining),
            ..
        }
    ));
    // Whoever was told and goes on all the same is refused by the word for it.
    assert_eq!(deaf.await.unwrap(), "draining");
    // Whoever was not told is served for as long as it goes on: it would take a refusal for an error.
    for _ in 0..20 {
        call(&untold, "Upcase", "x").await.unwrap();
    }
    assert!(
        slow.await.unwrap().is_ok(),
        "what was in flight is answered"
    );
    let service = tokio::time::timeout(PATIENCE, stopping)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(service.stats().clients, 0);
    assert!(
        Connection::open(address, &ConnectOptions::default())
            .await
            .is_err()
    );
}

/// Calls, one after the other, though it is told not to; the word that it is refused by.
async fn call_until_refused_by_a_word(address: std::net::SocketAddr) -> String {
    let mut raw = Raw::connect(address).await;
    let handshake = ServiceHandshake::read(&raw.document().await.unwrap()).unwrap();
    let mut greeting = Vec::new();
    ClientHandshake {
        notices: true,
        ..ClientHandshake::default()
    }
    .write(&mut greeting);
    raw.send(&greeting).await;
    let input = typed::encode(&Text::default()).unwrap();
    for seq in 0.. {
        raw.send(&request(&handshake.client_id, seq, "Upcase", &input))
            .await;
        loop {
            let (header, _body) = raw.answer().await;
            let header = ResponseHeader::read(&header).unwrap();
            if header.seq != seq {
                continue;
            }
            if header.code.is_empty() {
                break;
            }
            return String::from_utf8_lossy(header.code).into_owned();
        }
    }
    unreachable!("it is refused or fails")
}

#[tokio::test]
async fn a_silent_client_does_not_hold_up_the_end() {
    let service = echo().serve().await.unwrap();
    let mut silent = Raw::connect(service.address()).await;
    silent.document().await.unwrap();
    let connection = connect(&service).await;
    let began = Instant::now();
    service.stop().await;
    // The deadline of a handshake is 10 s.
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(silent.document().await, None);
    tokio::time::timeout(PATIENCE, connection.closed())
        .await
        .unwrap();
}

/// One that was served, one that waits for its method, and one that has only just come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_dropped_cuts_every_connection() {
    let service = echo().serve().await.unwrap();
    let (used, busy) = (connect(&service).await, connect(&service).await);
    let fresh = connect(&service).await;
    assert_eq!(text(&call(&used, "Upcase", "x").await.unwrap()), "X");
    let waits = busy.clone();
    let waits = tokio::spawn(async move { sleep(&waits, 60_000).await });
    eventually("the call runs", || service.stats().inflight == 1).await;
    drop(service);
    for connection in [&used, &busy, &fresh] {
        tokio::time::timeout(PATIENCE, connection.closed())
            .await
            .expect("a connection outlives its service");
    }
    let failure = waits.await.unwrap().unwrap_err();
    assert!(matches!(failure, CallFailure::Unknown { .. }), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_drains_under_load_lose_no_request() {
    let mut done = 0;
    for _ in 0..5 {
        let service = echo()
            .drain(Duration::from_millis(20), Duration::from_secs(10))
            .serve()
            .await
            .unwrap();
        let connection = connect(&service).await;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            callers.spawn(call_until_refused(connection.clone()));
        }
        eventually("calls are made", || service.stats().requests > 100).await;
        service.stop().await;
        while let Some(ended) = callers.join_next().await {
            let (calls, failure) = ended.unwrap();
            assert_eq!(failure.retry(), Retry::Safe, "{failure}");
            done += calls;
        }
    }
    assert!(done > 500);
}

/// How many calls are answered, and how the first that is not fails.
async fn call_until_refused(connection: Connection) -> (usize, CallFailure) {
    let mut answered = 0;
    loop {
        match call(&connection, "Upcase", "x").await {
            Ok(_) => answered += 1,
            Err(failure) => return (answered, failure),
        }
    }
}

#[tokio::test]
async fn a_method_that_computes_holds_up_nobody_for_long() {
    let service = echo()
        .method("Compute", |_: Context, input: Millis| async move {
            let until = Instant::now() + Duration::from_millis(u64::try_from(input.ms).unwrap());
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            Ok::<_, ServiceError>(input)
        })
        .serve()
        .await
        .unwrap();
    let connection = connect(&service).await;
    let input = typed::encode(&Millis { ms: 2 }).unwrap();
    for _ in 0..3 {
        let reply = call_with(&connection, "Compute", &input, RequestInfo::default()).await;
        assert!(reply.is_ok());
    }
    assert!(call(&connection, "Upcase", "x").await.is_ok());
}
