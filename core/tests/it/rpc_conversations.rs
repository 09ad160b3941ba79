//! The captured conversations, replayed against a real service: our side's documents are the
//! original's, byte for byte, but for the ids and our own extensions.

use skynet::rpc::admin::AdminConnection;
use skynet::rpc::message::{RequestBody, RequestHeader, ResponseHeader};

use crate::rpc_support::{CAPTURED, Conversation, Raw, captured, echo};

/// Whether the client gave the id of its handshake.
fn with_our_id(body: &[u8], original_id: &str, ours: &str) -> Vec<u8> {
    let read = RequestBody::read(body).unwrap();
    let client_id = if read.client_id == original_id.as_bytes() {
        ours.as_bytes()
    } else {
        read.client_id
    };
    let mut bytes = Vec::new();
    RequestBody { client_id, ..read }.write(&mut bytes);
    bytes
}

/// The header without our `code`.
fn without_code(header: &[u8]) -> Vec<u8> {
    let read = ResponseHeader::read(header).unwrap();
    let mut bytes = Vec::new();
    ResponseHeader { code: b"", ..read }.write(&mut bytes);
    bytes
}

async fn replay(conversation: &Conversation) {
    let service = echo().serve().await.unwrap();
    let mut raw = Raw::connect(service.address()).await;
    let mut ours = String::new();
    let mut theirs = String::new();
    for document in &conversation.documents {
        let name = format!("{} {}", conversation.name, document.kind);
        if document.from_client {
            let bytes = match document.kind.as_str() {
                "request body" => with_our_id(&document.bytes, &theirs, &ours),
                _ => document.bytes.clone(),
            };
            raw.send(&bytes).await;
            continue;
        }
        let answer = raw.document().await.unwrap();
        match document.kind.as_str() {
            "service handshake" => {
                let read = skynet::rpc::message::ServiceHandshake::read;
                ours = read(&answer).unwrap().client_id;
                theirs = read(&document.bytes).unwrap().client_id;
                assert!(read(&answer).unwrap().registered, "{name}");
            }
            "response header" => assert_eq!(without_code(&answer), document.bytes, "{name}"),
            _ => assert_eq!(answer, document.bytes, "{name}"),
        }
    }
}

#[tokio::test]
async fn a_service_says_what_the_original_said() {
    let conversations = captured(CAPTURED);
    let ours = ["C1", "C2", "C3", "C4", "C5", "C6", "C11", "C12"];
    let mut seen = 0;
    for conversation in &conversations {
        if ours.contains(&conversation.name.as_str()) {
            replay(conversation).await;
            seen += 1;
        }
    }
    assert_eq!(seen, ours.len());
}

#[tokio::test]
async fn an_unregistered_service_says_so_and_closes() {
    let service = echo().registered(false).serve().await.unwrap();
    let mut raw = Raw::connect(service.address()).await;
    let handshake = raw.document().await.unwrap();
    let handshake = skynet::rpc::message::ServiceHandshake::read(&handshake).unwrap();
    assert!(!handshake.registered && !handshake.client_id.is_empty());
    assert_eq!(raw.document().await, None);
}

#[tokio::test]
async fn an_admin_port_says_what_the_original_said() {
    for conversation in captured(CAPTURED) {
        if !["C8", "C9", "C10"].contains(&conversation.name.as_str()) {
            continue;
        }
        let service = echo().serve().await.unwrap();
        let mut raw = Raw::connect(service.admin_address().unwrap()).await;
        for document in &conversation.documents {
            if document.from_client {
                raw.send(&document.bytes).await;
                continue;
            }
            let answer = raw.document().await.unwrap();
            let answer = match document.kind.as_str() {
                "response header" => without_code(&answer),
                _ => answer,
            };
            assert_eq!(answer, document.bytes, "{}", conversation.name);
        }
        let registered = conversation.name != "C9";
        assert_eq!(service.is_registered(), registered);
    }
}

#[tokio::test]
async fn admin_stop_is_answered_after_the_last_call() {
    let service = echo().serve().await.unwrap();
    let mut admin = AdminConnection::open(service.admin_address().unwrap())
        .await
        .unwrap();
    let stats: skynet::stats::InstanceStats = admin
        .call(skynet::rpc::admin::STATS, &skynet::daemon_api::Empty {})
        .await
        .unwrap();
    assert_eq!((stats.requests, stats.last.as_str()), (0, ""));
    stats.started.parse::<jiff::Timestamp>().unwrap();
    let stop = skynet::rpc::admin::StopRequest {
        waitforclients: true,
    };
    let stopped = admin.call(skynet::rpc::admin::STOP, &stop);
    let (stopped, ()) = tokio::join!(stopped, service.until_stopped());
    let skynet::daemon_api::Empty {} = stopped.unwrap();
}

#[tokio::test]
async fn a_client_says_what_the_original_said() {
    use skynet::rpc::{ConnectOptions, Connection, Request, RequestInfo};

    // Services of skynet1, skynet2 and Ruby, as they were captured.
    for conversation in captured(CAPTURED) {
        if !["C1", "C2", "C4", "C11", "C13", "C14"].contains(&conversation.name.as_str()) {
            continue;
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let of = |kind: &str| {
            conversation
                .documents
                .iter()
                .find(|document| document.kind == kind)
                .unwrap()
                .bytes
                .clone()
        };
        let (header, body) = (of("request header"), of("request body"));
        let said = RequestBody::read(&body).unwrap();
        let method = String::from_utf8(said.method.to_vec()).unwrap();
        let id = String::from_utf8(said.info.unwrap().request_id.to_vec()).unwrap();
        let name = RequestHeader::read(&header).unwrap().service_method;
        let name = String::from_utf8(name.to_vec()).unwrap();
        let service = name.strip_suffix(".Forward").unwrap();
        let peer = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut raw = Raw::over(stream);
            raw.send(&of("service handshake")).await;
            let greeting = raw.document().await.unwrap();
            let request = (raw.document().await.unwrap(), raw.document().await.unwrap());
            raw.send(&of("response header")).await;
            raw.send(&of("response body")).await;
            (greeting, request)
        };
        let client = async {
            let options = ConnectOptions {
                notices: false,
                ..ConnectOptions::default()
            };
            let connection = Connection::open(address, &options).await.unwrap();
            let info = RequestInfo {
                request_id: &id,
                ..RequestInfo::default()
            };
            let request = Request {
                service,
                method: &method,
                info,
                input: said.input.unwrap(),
            };
            connection.call(request).await
        };
        let ((greeting, request), reply) = tokio::join!(peer, client);
        assert_eq!(greeting, [5, 0, 0, 0, 0]);
        assert_eq!(
            request,
            (header.clone(), body.clone()),
            "{}",
            conversation.name
        );
        match conversation.name.as_str() {
            "C2" => assert_eq!(reply.unwrap().service_error.as_deref(), Some("it failed")),
            "C4" => assert_eq!(
                reply.unwrap_err().to_string(),
                format!(
                    "`Nope` of `{service}` at {address} (request {id}) was refused (unknown): \
                     No such method \"Nope\""
                )
            ),
            _ => assert!(reply.unwrap().service_error.is_none()),
        }
    }
}
