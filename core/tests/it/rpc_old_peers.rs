//! Peers of 2012 as they are: services that leave out half of an answer, clients that write in an
//! order and in kinds of their own. What the original's programs took is taken, on both sides.

use bson::doc;
use skynet::rpc::message::{RequestBody, ResponseBody, ResponseHeader, ServiceHandshake};
use skynet::rpc::{CallFailure, ConnectOptions, Connection, Reply, Request, RequestInfo, typed};
use tokio::net::TcpListener;

use crate::rpc_support::{CAPTURED, Conversation, PATIENCE, Raw, Text, captured, echo};

fn conversation(name: &str) -> Conversation {
    let mut all = captured(CAPTURED).into_iter();
    all.find(|conversation| conversation.name == name).unwrap()
}

fn document(conversation: &Conversation, kind: &str) -> Vec<u8> {
    let mut documents = conversation.documents.iter();
    let found = documents.find(|document| document.kind == kind).unwrap();
    found.bytes.clone()
}

/// Calls `Upcase` of a peer that answers with these documents, its greeting first.
async fn call(greeting: &[u8], answer: &[Vec<u8>]) -> Result<Reply, CallFailure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut raw = Raw::over(stream);
        raw.send(greeting).await;
        for _ in ["client handshake", "request header", "request body"] {
            raw.document().await.unwrap();
        }
        raw.send(&answer.concat()).await;
        raw
    };
    let client = async {
        let options = ConnectOptions {
            timeout: PATIENCE,
            ..ConnectOptions::default()
        };
        let connection = Connection::open(address, &options).await.unwrap();
        let input = typed::encode(&Text::default()).unwrap();
        let request = Request {
            service: "EchoService",
            method: "Upcase",
            info: RequestInfo::default(),
            input: &input,
        };
        let reply = tokio::time::timeout(PATIENCE, connection.call(request)).await;
        reply.expect("a call neither ends nor fails")
    };
    tokio::join!(peer, client).1
}

fn bytes(document: &bson::Document) -> Vec<u8> {
    document.to_vec().unwrap()
}

fn binary(subtype: bson::spec::BinarySubtype, bytes: Vec<u8>) -> bson::Binary {
    bson::Binary { subtype, bytes }
}

#[tokio::test]
async fn odd_answers_are_taken_as_the_original_takes_them() {
    use bson::spec::BinarySubtype::{BinaryOld, Generic};

    let greeting = document(&conversation("C13"), "service handshake");
    let out = || bytes(&doc! {"data": "X"});
    let usual = || doc! {"out": binary(Generic, out()), "errstring": ""};
    let answers = [
        (
            "no error",
            doc! {"servicemethod": "EchoService.Forward", "seq": 0_i64},
            usual(),
        ),
        ("error null", doc! {"seq": 0_i64, "error": null}, usual()),
        ("seq int32", doc! {"seq": 0_i32, "error": ""}, usual()),
        ("seq double", doc! {"seq": 0.0, "error": ""}, usual()),
        (
            "any order",
            doc! {"error": "", "more": [1], "seq": 0_i64},
            usual(),
        ),
        (
            "out old",
            doc! {"seq": 0_i64},
            doc! {"out": binary(BinaryOld, out())},
        ),
        (
            "null",
            doc! {"seq": 0_i64},
            doc! {"out": binary(Generic, out()), "errstring": null},
        ),
    ];
    for (name, header, body) in answers {
        let reply = call(&greeting, &[bytes(&header), bytes(&body)])
            .await
            .unwrap();
        assert_eq!(reply.service_error, None, "{name}");
        let text: Text = typed::decode(&reply.output).unwrap();
        assert_eq!(text.data, "X", "{name}");
    }
    // Where the result is missing, the call succeeds, and reading the result tells.
    let nothing = [
        doc! {},
        doc! {"out": null},
        doc! {"out": {"data": "X"}},
        doc! {"out": binary(bson::spec::BinarySubtype::UserDefined(0x80), out())},
    ];
    for body in nothing {
        let answer = [bytes(&doc! {"seq": 0_i64}), bytes(&body)];
        let reply = call(&greeting, &answer).await.unwrap();
        let text = typed::decode::<Text>(&reply.output);
        assert!(
            matches!(text, Err(typed::TypedError::Malformed { .. })),
            "{body}"
        );
    }
    // The original loses the service's error here.
    let body = doc! {"errstring": "it failed"};
    let answer = [bytes(&doc! {"seq": 0_i64}), bytes(&body)];
    let reply = call(&greeting, &answer).await.unwrap();
    assert_eq!(reply.service_error.as_deref(), Some("it failed"));
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_costs_nobody_anything() {
    let greeting = document(&conversation("C13"), "service handshake");
    let answer = |seq: i64, data: &str| {
        let out = binary(
            bson::spec::BinarySubtype::Generic,
            bytes(&doc! {"data": data}),
        );
        [bytes(&doc! {"seq": seq}), bytes(&doc! {"out": out})]
    };
    let answers = [answer(7, "other"), answer(0, "ours"), answer(0, "again")].concat();
    let reply = call(&greeting, &answers).await.unwrap();
    assert_eq!(typed::decode::<Text>(&reply.output).unwrap().data, "ours");
}

#[tokio::test]
async fn an_exception_of_a_ruby_service_arrives_as_its_result() {
    #[derive(serde::Deserialize)]
    struct Raised {
        exception: Exception,
    }
    #[derive(serde::Deserialize)]
    struct Exception {
        message: String,
        class: String,
    }
    let ruby = conversation("C14");
    let answer = [
        document(&ruby, "response header"),
        document(&ruby, "response body"),
    ];
    let reply = call(&document(&ruby, "service handshake"), &answer)
        .await
        .unwrap();
    assert_eq!(reply.service_error, None);
    let raised: Raised = typed::decode(&reply.output).unwrap();
    let exception = (&*raised.exception.message, &*raised.exception.class);
    assert_eq!(exception, ("it failed", "RuntimeError"));
}

/// `bytes` with every occurrence of one id replaced by another of the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let windows = bytes.windows(from.len()).enumerate();
    let places = windows.filter(|(_, window)| *window == from.as_bytes());
    for at in places.map(|(at, _)| at).collect::<Vec<_>>() {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[tokio::test]
async fn clients_of_skynet2_and_ruby_are_served_byte_for_byte_as_they_write() {
    for name in ["C11", "C12"] {
        let peer = conversation(name);
        let service = echo().serve().await.unwrap();
        let mut raw = Raw::connect(service.address()).await;
        let ours = ServiceHandshake::read(&raw.document().await.unwrap()).unwrap();
        // A client of skynet2 refuses a service that does not say its name.
        assert_eq!(ours.name, "EchoService");
        let theirs = document(&peer, "service handshake");
        let theirs = ServiceHandshake::read(&theirs).unwrap().client_id;
        for kind in ["client handshake", "request header", "request body"] {
            let said = document(&peer, kind);
            raw.send(&replaced(&said, &theirs, &ours.client_id)).await;
        }
        let (header, body) = raw.answer().await;
        assert_eq!(header, document(&peer, "response header"), "{name}");
        assert_eq!(body, document(&peer, "response body"), "{name}");
        let header = ResponseHeader::read(&header).unwrap();
        let out = ResponseBody::read(&body).unwrap().out.unwrap();
        assert_eq!(header.seq, 0);
        assert_eq!(typed::decode::<Text>(out).unwrap().data, "HELLO");
    }
    // What makes these two worth it: another order, other kinds, an id of 24 digits.
    let body = document(&conversation("C12"), "request body");
    let id = RequestBody::read(&body).unwrap().info.unwrap().request_id;
    assert_eq!(id.len(), 24);
}
