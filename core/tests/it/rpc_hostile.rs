//! Input that nobody should send: it costs its own connection at most.

use std::time::Duration;

use proptest::prelude::*;
use skynet::daemon_api::Empty;
use skynet::rpc::admin::{AdminConnection, STATS};
use skynet::rpc::message::{RequestBody, RequestHeader, RequestInfo, ResponseHeader};
use skynet::rpc::{ConnectOptions, Connection, Limits, Request, typed};
use skynet::service::Service;
use skynet::stats::InstanceStats;
use tokio::time::Instant;

use crate::rpc_support::{PATIENCE, Raw, Text, echo, request};

/// Makes an input for the client id of a connection.
type Make = Box<dyn Fn(&str) -> Vec<u8>>;

/// What a service does with an input.
#[derive(Debug, PartialEq)]
enum Effect {
    Closes,
    Error(&'static str),
    Answers,
}

fn header(seq: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    RequestHeader {
        service_method: b"EchoService.Forward",
        seq,
    }
    .write(&mut bytes);
    bytes
}

fn body(client_id: &str, info: Option<RequestInfo<'_>>, input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    RequestBody {
        client_id: client_id.as_bytes(),
        method: b"Upcase",
        info,
        input: Some(input),
    }
    .write(&mut bytes);
    bytes
}

fn nested(levels: usize) -> Vec<u8> {
    let mut document = vec![5, 0, 0, 0, 0];
    for _ in 1..levels {
        let length = u32::try_from(document.len() + 8).unwrap();
        document = [&length.to_le_bytes()[..], b"\x03d\0", &document, &[0]].concat();
    }
    document
}

async fn assert_alive(service: &Service) {
    let options = ConnectOptions::default();
    let connection = Connection::open(service.address(), &options).await.unwrap();
    let input = typed::encode(&Text::default()).unwrap();
    let request = Request {
        service: "EchoService",
        method: "Upcase",
        info: skynet::rpc::RequestInfo::default(),
        input: &input,
    };
    connection.call(request).await.unwrap();
}

const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];
const GARBAGE: [u8; 12] = [12, 0, 0, 0, 0x55, b'a', 0, 1, 2, 3, 4, 0];
const CORRUPTED: &str = "Document is corrupted";

fn what_closes() -> Vec<(&'static str, Make, Effect)> {
    vec![
        ("length 0", Box::new(|_| vec![0; 8]), Effect::Closes),
        ("length 3", Box::new(|_| vec![3, 0, 0, 0]), Effect::Closes),
        ("length 4", Box::new(|_| vec![4, 0, 0, 0]), Effect::Closes),
        ("length 4 GiB", Box::new(|_| vec![255; 4]), Effect::Closes),
        (
            "length 2 GiB",
            Box::new(|_| vec![255, 255, 255, 127]),
            Effect::Closes,
        ),
        (
            "a header of an unknown kind",
            Box::new(move |_| [&GARBAGE[..], &EMPTY].concat()),
            Effect::Closes,
        ),
        (
            "a header too deep",
            Box::new(move |_| [&nested(5000)[..], &EMPTY].concat()),
            Effect::Closes,
        ),
        (
            "a body of length 3",
            Box::new(|_| [&header(0)[..], &[3, 0, 0, 0]].concat()),
            Effect::Closes,
        ),
    ]
}

fn what_is_answered() -> Vec<(&'static str, Make, Effect)> {
    vec![
        (
            "a body of an unknown kind",
            Box::new(move |_| [&header(0)[..], &GARBAGE].concat()),
            Effect::Error("Unknown element kind (0x55)"),
        ),
        (
            "a body that ends early",
            Box::new(|_| [&header(0)[..], &[6, 0, 0, 0, 1, 0]].concat()),
            Effect::Error(CORRUPTED),
        ),
        (
            "a body too deep",
            Box::new(|_| [&header(0)[..], &nested(101)].concat()),
            Effect::Error("Document is nested more than 100 levels deep"),
        ),
        (
            "a parameter too deep",
            Box::new(|id| [&header(0)[..], &body(id, None, &nested(2000))].concat()),
            Effect::Error("Document is nested more than 100 levels deep"),
        ),
        (
            "no parameter",
            Box::new(|id| [&header(0)[..], &body(id, None, &[])].concat()),
            Effect::Error(CORRUPTED),
        ),
        (
            "no client id",
            Box::new(move |_| [&header(0)[..], &body("", None, &EMPTY)].concat()),
            Effect::Error("did not provide the ClientID"),
        ),
        (
            "requestinfo null",
            Box::new(move |id| [&header(0)[..], &body(id, None, &EMPTY)].concat()),
            Effect::Answers,
        ),
        (
            "bytes behind the parameter",
            Box::new(|id| [&header(0)[..], &body(id, None, &[5, 0, 0, 0, 0, 9, 9])].concat()),
            Effect::Answers,
        ),
        (
            "an expired deadline",
            Box::new(move |id| {
                let info = RequestInfo {
                    deadline_ms: Some(-5),
                    ..RequestInfo::default()
                };
                [&header(0)[..], &body(id, Some(info), &EMPTY)].concat()
            }),
            Effect::Error("the deadline had passed before the method began"),
        ),
    ]
}

#[tokio::test]
async fn malformed_input_costs_a_call_or_a_connection() {
    let service = echo().serve().await.unwrap();
    let table = what_closes().into_iter().chain(what_is_answered());
    for (name, bytes, effect) in table {
        let (mut raw, handshake) = Raw::greeted(service.address()).await;
        raw.send(&bytes(&handshake.client_id)).await;
        if effect == Effect::Closes {
            assert_eq!(raw.document().await, None, "{name}");
        } else {
            let (answer, _) = raw.answer().await;
            let error = ResponseHeader::read(&answer).unwrap().error.to_vec();
            let error = String::from_utf8(error).unwrap();
            match effect {
                Effect::Error(text) => assert_eq!(error, text, "{name}"),
                _ => assert_eq!(error, "", "{name}"),
            }
            // The connection goes on.
            raw.send(&request(&handshake.client_id, 1, "Upcase", &EMPTY))
                .await;
            let (answer, _) = raw.answer().await;
            assert_eq!(ResponseHeader::read(&answer).unwrap().error, b"", "{name}");
        }
        assert_alive(&service).await;
    }
}

#[tokio::test]
async fn an_id_is_valid_on_its_own_connection_only() {
    let service = echo().serve().await.unwrap();
    let (_other, other) = Raw::greeted(service.address()).await;
    let (mut raw, _) = Raw::greeted(service.address()).await;
    raw.send(&request(&other.client_id, 0, "Upcase", &[5, 0, 0, 0, 0]))
        .await;
    let (answer, body) = raw.answer().await;
    let answer = ResponseHeader::read(&answer).unwrap();
    assert_eq!(answer.error, b"did not provide the ClientID");
    assert_eq!(answer.code, b"bad_request");
    assert_eq!(body, [5, 0, 0, 0, 0]);
}

#[tokio::test]
async fn any_segments_make_a_request_and_a_half_closed_client_is_answered() {
    let service = echo().serve().await.unwrap();
    let (mut raw, handshake) = Raw::greeted(service.address()).await;
    let input = typed::encode(&Text {
        data: "x".to_owned(),
    });
    let bytes = request(&handshake.client_id, 7, "Upcase", &input.unwrap());
    for byte in bytes {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    let (answer, _) = raw.answer().await;
    assert_eq!(ResponseHeader::read(&answer).unwrap().seq, 7);
    let wait = typed::encode(&crate::rpc_support::Millis { ms: 50 }).unwrap();
    raw.send(&request(&handshake.client_id, 8, "Sleep", &wait))
        .await;
    raw.finish().await;
    let (answer, _) = raw.answer().await;
    assert_eq!(ResponseHeader::read(&answer).unwrap().seq, 8);
    assert_eq!(raw.document().await, None);
}

#[tokio::test]
async fn half_a_document_and_a_silent_client_have_a_deadline() {
    let limits = Limits {
        handshake: Duration::from_millis(50),
        partial_frame: Duration::from_millis(50),
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let mut silent = Raw::connect(service.address()).await;
    silent.document().await.unwrap();
    assert_eq!(silent.document().await, None);
    let (mut half, _) = Raw::greeted(service.address()).await;
    half.send(&header(0)).await;
    assert_eq!(half.document().await, None);
    // Whoever has sent nothing may be silent for as long as it likes.
    let (mut idle, handshake) = Raw::greeted(service.address()).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    idle.send(&request(
        &handshake.client_id,
        0,
        "Upcase",
        &[5, 0, 0, 0, 0],
    ))
    .await;
    idle.answer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_hold_up_nobody() {
    let service = echo().serve().await.unwrap();
    let mut silent = Vec::new();
    for number in 0_u32..300 {
        let mut raw = Raw::connect(service.address()).await;
        if number % 3 == 1 {
            // Half a handshake, announcing as much as is allowed.
            raw.send(&[0, 0, 0xff]).await;
        }
        silent.push(raw);
    }
    // The best of a few tries: what is measured is the service, not the machine.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        assert_alive(&service).await;
        best = best.min(began.elapsed());
    }
    assert!(best < Duration::from_millis(100), "a call took {best:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_close_the_admin_port() {
    let service = echo().serve().await.unwrap();
    let address = service.admin_address().unwrap();
    let mut known = AdminConnection::open(address).await.unwrap();
    let _stats: InstanceStats = known.call(STATS, &Empty {}).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0_u32..300 {
        silent.push(Raw::connect(address).await);
    }
    // Sooner than silence is given up: the silent make room.
    let asked = async {
        let mut new = AdminConnection::open(address).await.unwrap();
        let _stats: InstanceStats = new.call(STATS, &Empty {}).await.unwrap();
        // Who has asked before is not ended for the sake of who never did.
        let _stats: InstanceStats = known.call(STATS, &Empty {}).await.unwrap();
    };
    let limit = Duration::from_secs(4);
    tokio::time::timeout(limit, asked).await.unwrap();
    // The oldest had to go.
    for raw in silent.iter_mut().take(40) {
        let closed = tokio::time::timeout(PATIENCE, raw.document()).await;
        assert_eq!(closed.unwrap(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_never_end_the_service(
        chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 1..64), 1..8),
        lengths in proptest::collection::vec(0_u8..64, 1..8),
        polite: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let service = echo().serve().await.unwrap();
            let mut raw = if polite {
                Raw::greeted(service.address()).await.0
            } else {
                Raw::connect(service.address()).await
            };
            for (chunk, length) in chunks.iter().zip(lengths.iter().cycle()) {
                // Plausible lengths get further than random ones.
                let framed = [&[*length, 0, 0, 0][..], chunk].concat();
                raw.try_send(&framed).await;
            }
            raw.try_finish().await;
            while raw.document().await.is_some() {}
            assert_alive(&service).await;
        });
    }
}
