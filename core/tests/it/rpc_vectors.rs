//! The original's documents, byte for byte: all of them are read, and written again the same.

use skynet::daemon_api;
use skynet::rpc::message::{
    ClientHandshake, Fields, RequestBody, RequestHeader, ResponseBody, ResponseHeader,
    ServiceHandshake,
};
use skynet::rpc::{frame, typed};

use crate::rpc_support::{CAPTURED, DOCUMENTS, captured, documents};

/// Reads a document of the envelope and writes it again.
fn rewritten(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        "service handshake" => ServiceHandshake::read(bytes).unwrap().write(&mut out),
        "client handshake" => ClientHandshake::read(bytes).unwrap().write(&mut out),
        "request header" => RequestHeader::read(bytes).unwrap().write(&mut out),
        "request body" => RequestBody::read(bytes).unwrap().write(&mut out),
        "response header" => ResponseHeader::read(bytes).unwrap().write(&mut out),
        "response body" => ResponseBody::read(bytes).unwrap().write(&mut out),
        other => panic!("no reader for a {other}"),
    }
    out
}

#[test]
fn captured_conversations_are_written_as_they_were_read() {
    let captured = captured(CAPTURED);
    assert_eq!(captured.len(), 14);
    for conversation in &captured {
        for document in &conversation.documents {
            let kind = document.kind.split(" (").next().unwrap();
            frame::scan(&document.bytes).unwrap();
            let written = rewritten(kind, &document.bytes);
            // After a header error the original sends an empty document as body, and an admin
            // port's bodies are the parameters themselves.
            let is_plain = document.bytes.len() == 5;
            // Ruby's peers write int32, no `error`, and another order; skynet2 writes `name` first.
            let is_foreign = match conversation.name.as_str() {
                "C11" => kind == "service handshake",
                "C12" => kind.starts_with("request"),
                "C13" | "C14" => kind.starts_with("response"),
                _ => false,
            };
            if is_plain || is_foreign {
                continue;
            }
            assert_eq!(written, document.bytes, "{} {kind}", conversation.name);
        }
    }
}

#[test]
fn foreign_orders_and_kinds_are_understood() {
    let captured = captured(CAPTURED);
    let find = |name: &str, kind: &str| {
        captured
            .iter()
            .find(|conversation| conversation.name == name)
            .and_then(|conversation| {
                conversation
                    .documents
                    .iter()
                    .find(|document| document.kind.starts_with(kind))
            })
            .map(|document| document.bytes.clone())
            .unwrap()
    };
    let skynet2 = ServiceHandshake::read(&find("C11", "service handshake")).unwrap();
    assert_eq!(skynet2.name, "EchoService");
    assert!(skynet2.registered && !skynet2.client_id.is_empty());

    let bytes = find("C12", "request body");
    let ruby = RequestBody::read(&bytes).unwrap();
    assert_eq!(ruby.method, b"Upcase");
    assert!(ruby.info.is_some() && ruby.input.is_some());

    let bytes = find("C13", "response header");
    let ruby = ResponseHeader::read(&bytes).unwrap();
    assert_eq!((ruby.error, ruby.code), (&b""[..], &b""[..]));
    let bytes = find("C14", "response body");
    let ruby = ResponseBody::read(&bytes).unwrap();
    frame::scan(ruby.out.unwrap()).unwrap();
    assert_eq!(ruby.error, b"");
}

#[test]
fn single_documents_are_written_as_they_were_read() {
    let documents = documents(DOCUMENTS);
    assert_eq!(documents.len(), 43);
    for document in &documents {
        frame::scan(&document.bytes).unwrap();
        let kind = match document.kind.as_str() {
            name if name.starts_with("service_handshake") => "service handshake",
            "client_handshake" => "client handshake",
            name if name.ends_with("body_after_rpc_error") => continue,
            name if name.contains("response_header") => "response header",
            name if name.starts_with("response_body") => "response body",
            name if name.starts_with("request_body") => "request body",
            name if name.ends_with("header") || name.starts_with("request_header") => {
                "request header"
            }
            _ => continue,
        };
        let written = rewritten(kind, &document.bytes);
        assert_eq!(written, document.bytes, "{}", document.kind);
    }
}

#[test]
fn values_survive_the_way_through_the_decoder() {
    for document in documents(DOCUMENTS) {
        let read = bson::Document::from_reader(document.bytes.as_slice()).unwrap();
        assert_eq!(read.to_vec().unwrap(), document.bytes, "{}", document.kind);
        assert_eq!(Fields::of(&document.bytes).count(), read.len());
    }
}

#[test]
fn messages_of_the_daemon_have_the_bytes_of_the_original() {
    fn same<T: serde::Serialize + serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) {
        let read: T = typed::decode(bytes).unwrap();
        assert_eq!(typed::encode(&read).unwrap(), bytes, "{name}");
    }
    let mut seen = 0;
    for document in documents(DOCUMENTS) {
        let (name, bytes) = (document.kind.as_str(), document.bytes.as_slice());
        match name {
            "daemon_deploy_in" => same::<daemon_api::DeployRequest>(name, bytes),
            "daemon_deploy_out" | "daemon_restart_out" => {
                same::<daemon_api::ChildUuid>(name, bytes);
            }
            "daemon_start_in" | "daemon_stop_in" | "daemon_restart_in" => {
                same::<daemon_api::ChildRequest>(name, bytes);
            }
            "daemon_start_out" | "daemon_stop_out" => same::<daemon_api::ChildDone>(name, bytes),
            "daemon_stopall_out" => same::<daemon_api::StopAllReply>(name, bytes),
            "daemon_startall_out" | "daemon_startall_out_nil" => {
                same::<daemon_api::StartAllReply>(name, bytes);
            }
            "daemon_restartall_out" => same::<daemon_api::RestartAllReply>(name, bytes),
            name if name.starts_with("daemon_listsubservices_out") => {
                same::<daemon_api::ChildList>(name, bytes);
            }
            _ => continue,
        }
        seen += 1;
    }
    assert_eq!(seen, 14);
}
