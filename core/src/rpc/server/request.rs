//! Judging one request: which texts the original answers with, and which of our codes go with
//! them.
//!
//! Invariant: everything here is decided from the two documents and the connection's own state; a
//! refusal never ends the connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::rpc::error::Code;
use crate::rpc::handler::{Client, Incoming, Refusal};
use crate::rpc::message::{CANCEL, FORWARD, PING, RequestBody};

/// The original's text for a request without the id of its connection's handshake.
const NO_CLIENT_ID: &str = "did not provide the ClientID";

/// What a `servicemethod` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A method of the service.
    Forward,
    /// A sign of life.
    Ping,
    /// To be told that nobody waits for the request of this number any more.
    Cancel,
    /// Something that is not here.
    Refused(Refusal),
}

/// Judges `servicemethod` at the port of `service`.
pub(super) fn target(service: &str, service_method: &[u8]) -> Target {
    if service_method == PING.as_bytes() {
        return Target::Ping;
    }
    if service_method == CANCEL.as_bytes() {
        return Target::Cancel;
    }
    let refused = |code, text: &str| {
        let text = [text.as_bytes(), service_method].concat();
        Target::Refused(Refusal::new(code, text))
    };
    let Some(dot) = service_method.iter().rposition(|byte| *byte == b'.') else {
        return refused(Code::BadRequest, "rpc: service/method request ill-formed: ");
    };
    let (name, method) = service_method.split_at(dot);
    if name != service.as_bytes() {
        refused(Code::NoMethod, "rpc: can't find service ")
    } else if method.get(1..) != Some(FORWARD.as_bytes()) {
        refused(Code::NoMethod, "rpc: can't find method ")
    } else {
        Target::Forward
    }
}

/// Reads the body of request `seq`, which `client` sent, which arrived at the first of the two times, and was
/// read at the second.
pub(super) fn incoming<'a>(
    (seq, body): (i64, &'a [u8]),
    client: &'a Arc<Client>,
    (arrived, received): (Instant, Instant),
) -> Result<Incoming<'a>, Refusal> {
    let malformed =
        |error: crate::rpc::frame::ScanError| Refusal::new(Code::BadRequest, error.to_string());
    let body = RequestBody::read(body).map_err(malformed)?;
    if body.client_id != client.id().as_bytes() {
        return Err(Refusal::new(Code::BadRequest, NO_CLIENT_ID));
    }
    let info = body.info.unwrap_or_default();
    let deadline = info.deadline_ms.and_then(|left| {
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        arrived.checked_add(left)
    });
    Ok(Incoming {
        seq,
        method: body.method,
        info,
        input: body.input.unwrap_or_default(),
        client,
        received,
        deadline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_original() {
        for (service_method, text) in [
            ("Wrong.Forward", "rpc: can't find service Wrong.Forward"),
            (
                "EchoService.Backward",
                "rpc: can't find method EchoService.Backward",
            ),
            ("NoDot", "rpc: service/method request ill-formed: NoDot"),
            ("", "rpc: service/method request ill-formed: "),
        ] {
            match target("EchoService", service_method.as_bytes()) {
                Target::Refused(refusal) => assert_eq!(refusal.text, text.as_bytes()),
                other => panic!("{service_method} is {other:?}"),
            }
        }
        assert_eq!(target("A.b", b"A.b.Forward"), Target::Forward);
        assert_eq!(target("A", b"Skynet.Ping"), Target::Ping);
        assert_eq!(target("A", b"Skynet.Cancel"), Target::Cancel);
    }
}
