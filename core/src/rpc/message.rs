//! The documents of the envelope: handshakes, headers, bodies. Read leniently, written exactly.
//!
//! Invariants: readers take any order, skip names that they do not know, let the last of duplicates
//! win, leave a field of a kind that does not fit as it was, and borrow everything; writers produce
//! the original's bytes wherever no extension is in use. Wire names stand only here. Parameters
//! and results are bytes here; [`crate::rpc::typed`] makes values of them.

#![warn(clippy::indexing_slicing)]

mod fields;
mod write;

pub use fields::{Fields, Value};
pub use write::{EMPTY_DOCUMENT, write_output};

use super::frame::{Elements, ScanError, declared_length, scan};

/// The method part of `servicemethod` on a service port.
pub const FORWARD: &str = "Forward";

/// The `servicemethod` of a drain notice.
pub const DRAIN_NOTICE: &str = "Skynet.Drain";

/// The `servicemethod` of a ping.
pub const PING: &str = "Skynet.Ping";

/// The `servicemethod` by which a client says that it waits for the request of this `seq` no more. It
/// is not answered; sent only to services whose handshake says that they understand it.
pub const CANCEL: &str = "Skynet.Cancel";

/// The `seq` of a notice, which answers nothing.
pub const NOTICE_SEQ: i64 = -1;

/// How many names a handshake may list; further ones are passed over.
const MOST_NAMES: usize = 1024;

/// What a service says first on a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceHandshake {
    /// Whether the service takes calls from clients that chose it.
    pub registered: bool,
    /// What every request on the connection must repeat.
    pub client_id: String,
    /// The service's name; empty from peers that do not say it.
    pub name: String,
    /// The service's version; empty from peers that do not say it.
    pub version: String,
    /// The instance's id; empty from peers that do not say it.
    pub uuid: String,
    /// How many calls of the connection run at once; what is sent beyond is not read before one
    /// has ended. 0 from peers that do not say it.
    pub max_calls: i64,
    /// The methods that may run twice, so that a call of unknown outcome may be made again; empty
    /// from peers that do not say it.
    pub idempotent: Vec<String>,
    /// Whether it understands that a call is given up.
    pub cancels: bool,
}

/// What a client says first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHandshake {
    /// skynet2's and Ruby's clients repeat the id here.
    pub client_id: String,
    /// Whether it understands notices.
    pub notices: bool,
}

/// Which request: the first document of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// `SERVICE.Forward`, or `Admin.METHOD` on an admin port.
    pub service_method: &'a [u8],
    /// The number that the answer repeats.
    pub seq: i64,
}

/// What goes with a request beside its parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestInfo<'a> {
    /// Where the first request of a chain came from.
    pub origin_address: &'a [u8],
    /// Where this request came from.
    pub connection_address: &'a [u8],
    /// The request's id, the same through a chain.
    pub request_id: &'a [u8],
    /// How many times it was tried before.
    pub retry_count: i64,
    /// Milliseconds that were left when it was sent.
    pub deadline_ms: Option<i64>,
    /// The W3C trace context.
    pub traceparent: &'a [u8],
}

/// What is asked: the second document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestBody<'a> {
    /// What the handshake said.
    pub client_id: &'a [u8],
    /// The method's name.
    pub method: &'a [u8],
    /// `None` where it was missing or null.
    pub info: Option<RequestInfo<'a>>,
    /// The parameter; `None` where there was none or one of a kind that does not fit.
    pub input: Option<&'a [u8]>,
}

/// Which answer: the first document of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseHeader<'a> {
    /// That of the request.
    pub service_method: &'a [u8],
    /// That of the request.
    pub seq: i64,
    /// Why the method was not reached; empty when it was.
    pub error: &'a [u8],
    /// The error as a word that programs compare; see [`crate::rpc::Code`].
    pub code: &'a [u8],
}

/// What is answered: the second document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseBody<'a> {
    /// The result; `None` where there was none.
    pub out: Option<&'a [u8]>,
    /// The method's error; empty when it succeeded.
    pub error: &'a [u8],
}

/// A text for people; what is not UTF-8 is replaced.
fn owned(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// The document that `bytes` begin with, its structure judged; what follows is ignored.
///
/// # Errors
/// When there is no whole document, or one that cannot be decoded safely.
pub fn leading_document(bytes: &[u8]) -> Result<&[u8], ScanError> {
    let document = declared_length(bytes)
        .and_then(|length| bytes.get(..length))
        .ok_or(ScanError::Corrupted)?;
    scan(document)?;
    Ok(document)
}

impl ServiceHandshake {
    /// Reads the document.
    ///
    /// # Errors
    /// When it cannot be decoded safely.
    pub fn read(document: &[u8]) -> Result<Self, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut read = Self::default();
        while let Some(element) = elements.step()? {
            let (name, value) = (element.name, Value::of(&element));
            let text = || value.text().map(owned);
            match name {
                b"registered" => read.registered = value.boolean().unwrap_or(read.registered),
                b"clientid" => read.client_id = text().unwrap_or(read.client_id),
                b"name" => read.name = text().unwrap_or(read.name),
                b"version" => read.version = text().unwrap_or(read.version),
                b"uuid" => read.uuid = text().unwrap_or(read.uuid),
                b"maxcalls" => read.max_calls = value.integer().unwrap_or(read.max_calls),
                b"cancels" => read.cancels = value.boolean().unwrap_or(read.cancels),
                b"idempotent" => {
                    let elements = value.array().into_iter().flat_map(Fields::of);
                    let names = elements.filter_map(|(_, name)| name.text().map(owned));
                    read.idempotent = names.take(MOST_NAMES).collect();
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

impl ClientHandshake {
    /// Reads the document.
    ///
    /// # Errors
    /// When it cannot be decoded safely.
    pub fn read(document: &[u8]) -> Result<Self, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut read = Self::default();
        while let Some(element) = elements.step()? {
            let (name, value) = (element.name, Value::of(&element));
            match name {
                b"clientid" => read.client_id = value.text().map_or(read.client_id, owned),
                b"notices" => read.notices = value.boolean().unwrap_or(read.notices),
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> RequestHeader<'a> {
    /// Reads the document.
    ///
    /// # Errors
    /// When it cannot be decoded safely.
    pub fn read(document: &'a [u8]) -> Result<Self, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut read = Self::default();
        while let Some(element) = elements.step()? {
            let (name, value) = (element.name, Value::of(&element));
            match name {
                b"servicemethod" => {
                    read.service_method = value.text().unwrap_or(read.service_method);
                }
                b"seq" => read.seq = value.integer().unwrap_or(read.seq),
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> RequestInfo<'a> {
    /// Reads an embedded document, and judges it.
    fn read(mut elements: Elements<'a>) -> Result<Self, ScanError> {
        let mut read = Self::default();
        while let Some(element) = elements.step()? {
            let (name, value) = (element.name, Value::of(&element));
            let text = |before| value.text().unwrap_or(before);
            match name {
                b"originaddress" => read.origin_address = text(read.origin_address),
                b"connectionaddress" => read.connection_address = text(read.connection_address),
                b"requestid" => read.request_id = text(read.request_id),
                b"retrycount" => read.retry_count = value.integer().unwrap_or(read.retry_count),
                b"deadlinems" => read.deadline_ms = value.integer().or(read.deadline_ms),
                b"traceparent" => read.traceparent = text(read.traceparent),
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> RequestBody<'a> {
    /// Reads the document; the parameter's own structure is not judged here.
    ///
    /// # Errors
    /// When it cannot be decoded safely.
    pub fn read(document: &'a [u8]) -> Result<Self, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut read = Self::default();
        while let Some(element) = elements.step_over()? {
            let (name, value) = (element.name, Value::of(&element));
            // Its elements are judged as they are read.
            if name == b"requestinfo"
                && let Some(info) = elements.enter(&element)?
            {
                read.info = Some(RequestInfo::read(info)?);
                continue;
            }
            elements.judge(&element)?;
            match name {
                b"clientid" => read.client_id = value.text().unwrap_or(read.client_id),
                b"method" => read.method = value.text().unwrap_or(read.method),
                // A null empties the pointer in the original; other kinds leave it.
                b"requestinfo" if value.kind == 0x0a => read.info = None,
                b"in" => read.input = value.text().or(read.input),
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> ResponseHeader<'a> {
    /// Reads the document.
    ///
    /// # Errors
    /// When it cannot be decoded safely.
    pub fn read(document: &'a [u8]) -> Result<Self, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut read = Self::default();
        while let Some(element) = elements.step()? {
            let (name, value) = (element.name, Value::of(&element));
            let text = |before| value.text().unwrap_or(before);
            match name {
                b"servicemethod" => read.service_method = text(read.service_method),
                b"seq" => read.seq = value.integer().unwrap_or(read.seq),
                b"error" => read.error = text(read.error),
                b"code" => read.code = text(read.code),
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> ResponseBody<'a> {
    /// Reads the document; the result's own structure is not judged here.
    ///
    /// # Errors
    /// When it cannot be decoded safely.
    pub fn read(document: &'a [u8]) -> Result<Self, ScanError> {
        let mut elements = Elements::of(document)?;
        let mut read = Self::default();
        while let Some(element) = elements.step()? {
            let (name, value) = (element.name, Value::of(&element));
            match name {
                b"out" => read.out = value.text().or(read.out),
                b"errstring" => read.error = value.text().unwrap_or(read.error),
                _ => {}
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> Vec<u8> {
        let mut bytes = Vec::new();
        RequestBody {
            client_id: b"an id",
            method: b"Echo",
            info: Some(RequestInfo {
                request_id: b"another",
                deadline_ms: Some(7),
                traceparent: b"00-01",
                ..RequestInfo::default()
            }),
            input: Some(&EMPTY_DOCUMENT),
        }
        .write(&mut bytes);
        bytes
    }

    proptest! {
        /// What is read in the same pass as it is judged passes exactly when `scan` says so.
        #[test]
        fn reading_judges_all_that_scan_does(
            flips in proptest::collection::vec((0_usize..300, any::<u8>()), 1..4),
        ) {
            let mut bytes = request();
            for (index, value) in flips {
                let index = index % bytes.len();
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = value;
                }
            }
            let judged = scan(&bytes);
            prop_assert_eq!(judged, RequestBody::read(&bytes).map(drop));
            prop_assert_eq!(judged, RequestHeader::read(&bytes).map(drop));
            prop_assert_eq!(judged, ResponseBody::read(&bytes).map(drop));
        }
    }
}
