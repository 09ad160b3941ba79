//! Writing the envelope's documents, byte for byte as the original, straight into a send buffer.
//!
//! Invariants: fields stand in the order of `protocol.md` section 3; our own extensions follow
//! behind, and only where they say something. Nothing is built in between.

use serde::Serialize;

use super::{
    ClientHandshake, RequestBody, RequestHeader, RequestInfo, ResponseBody, ResponseHeader,
    ServiceHandshake,
};

/// A document without fields.
pub const EMPTY_DOCUMENT: [u8; 5] = [5, 0, 0, 0, 0];

/// A document that is being written at the end of a buffer.
struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
}

// Names come as arrays, whose length the compiler knows: they are stored, not copied by a call.
impl<'a> Writer<'a> {
    #[inline]
    fn begin(buffer: &'a mut Vec<u8>) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 4]);
        Self { buffer, start }
    }

    #[inline]
    fn end(self) {
        self.buffer.push(0);
        let length = self.buffer.len() - self.start;
        patch(self.buffer, self.start, length);
    }

    /// `element` is the kind byte, the name and its zero.
    #[inline]
    fn text<const N: usize>(&mut self, element: &[u8; N], text: &[u8]) {
        self.buffer.extend_from_slice(element);
        self.text_value(text);
    }

    #[inline]
    fn text_value(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(&prefix(text.len() + 1));
        self.buffer.extend_from_slice(text);
        self.buffer.push(0);
    }

    /// A text that is put together from `parts`.
    #[inline]
    fn joined<const N: usize>(&mut self, element: &[u8; N], parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.buffer.extend_from_slice(element);
        self.buffer.extend_from_slice(&prefix(length + 1));
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        self.buffer.push(0);
    }

    /// An array of texts.
    #[inline]
    fn texts<const N: usize>(&mut self, element: &[u8; N], texts: &[String]) {
        self.buffer.extend_from_slice(element);
        let mut array = Writer::begin(self.buffer);
        for (index, text) in texts.iter().enumerate() {
            let element = format!("\x02{index}\0");
            array.buffer.extend_from_slice(element.as_bytes());
            array.text_value(text.as_bytes());
        }
        array.end();
    }

    #[inline]
    fn int64<const N: usize>(&mut self, element: &[u8; N], number: i64) {
        self.buffer.extend_from_slice(element);
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    #[inline]
    fn boolean<const N: usize>(&mut self, element: &[u8; N], value: bool) {
        self.buffer.extend_from_slice(element);
        self.buffer.push(u8::from(value));
    }

    #[inline]
    fn binary<const N: usize>(&mut self, element: &[u8; N], bytes: &[u8]) {
        self.buffer.extend_from_slice(element);
        self.buffer.extend_from_slice(&prefix(bytes.len()));
        self.buffer.push(0);
        self.buffer.extend_from_slice(bytes);
    }
}

/// Lengths are int32 on the wire; frames are limited far below, so the cut never happens.
fn prefix(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes()
}

fn patch(buffer: &mut [u8], at: usize, length: usize) {
    if let Some(place) = buffer.get_mut(at..at + 4) {
        place.copy_from_slice(&prefix(length));
    }
}

impl ServiceHandshake {
    /// Appends the document; what peers of 2012 do not say only where it is said.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        writer.boolean(b"\x08registered\0", self.registered);
        writer.text(b"\x02clientid\0", self.client_id.as_bytes());
        if !self.name.is_empty() {
            writer.text(b"\x02name\0", self.name.as_bytes());
        }
        if !self.version.is_empty() {
            writer.text(b"\x02version\0", self.version.as_bytes());
        }
        if !self.uuid.is_empty() {
            writer.text(b"\x02uuid\0", self.uuid.as_bytes());
        }
        if self.max_calls > 0 {
            writer.int64(b"\x12maxcalls\0", self.max_calls);
        }
        if !self.idempotent.is_empty() {
            writer.texts(b"\x04idempotent\0", &self.idempotent);
        }
        if self.cancels {
            writer.boolean(b"\x08cancels\0", true);
        }
        writer.end();
    }
}

impl ClientHandshake {
    /// Appends the document.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        if !self.client_id.is_empty() {
            writer.text(b"\x02clientid\0", self.client_id.as_bytes());
        }
        if self.notices {
            writer.boolean(b"\x08notices\0", true);
        }
        writer.end();
    }
}

impl RequestHeader<'_> {
    /// Appends the document.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        Self::write_parts(&[self.service_method], self.seq, buffer);
    }

    /// Appends the document with a `servicemethod` that stands in parts.
    pub(crate) fn write_parts(service_method: &[&[u8]], seq: i64, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        writer.joined(b"\x02servicemethod\0", service_method);
        writer.int64(b"\x12seq\0", seq);
        writer.end();
    }
}

impl RequestInfo<'_> {
    fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        writer.text(b"\x02originaddress\0", self.origin_address);
        writer.text(b"\x02connectionaddress\0", self.connection_address);
        writer.text(b"\x02requestid\0", self.request_id);
        match i32::try_from(self.retry_count) {
            Ok(count) => {
                writer.buffer.extend_from_slice(b"\x10retrycount\0");
                writer.buffer.extend_from_slice(&count.to_le_bytes());
            }
            Err(_too_large) => writer.int64(b"\x12retrycount\0", self.retry_count),
        }
        if let Some(deadline) = self.deadline_ms {
            writer.int64(b"\x12deadlinems\0", deadline);
        }
        if !self.traceparent.is_empty() {
            writer.text(b"\x02traceparent\0", self.traceparent);
        }
        writer.end();
    }
}

impl RequestBody<'_> {
    /// Appends the document; `requestinfo` is null where there is none.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        writer.text(b"\x02clientid\0", self.client_id);
        writer.text(b"\x02method\0", self.method);
        match &self.info {
            Some(info) => {
                writer.buffer.extend_from_slice(b"\x03requestinfo\0");
                info.write(writer.buffer);
            }
            None => writer.buffer.extend_from_slice(b"\x0arequestinfo\0"),
        }
        writer.binary(b"\x05in\0", self.input.unwrap_or_default());
        writer.end();
    }
}

impl ResponseHeader<'_> {
    /// Appends the document; `code` only where it is not empty.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        writer.text(b"\x02servicemethod\0", self.service_method);
        writer.int64(b"\x12seq\0", self.seq);
        writer.text(b"\x02error\0", self.error);
        if !self.code.is_empty() {
            writer.text(b"\x02code\0", self.code);
        }
        writer.end();
    }
}

impl ResponseBody<'_> {
    /// Appends the document.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::begin(buffer);
        writer.binary(b"\x05out\0", self.out.unwrap_or_default());
        writer.text(b"\x02errstring\0", self.error);
        writer.end();
    }
}

/// Appends a response body whose `out` is serialized in its place.
///
/// # Errors
/// When `output` is not something that becomes a document; the buffer then holds garbage behind
/// its former end.
pub fn write_output<T: Serialize + ?Sized>(
    output: &T,
    service_error: &str,
    buffer: &mut Vec<u8>,
) -> Result<(), bson::error::Error> {
    let mut writer = Writer::begin(buffer);
    writer.buffer.extend_from_slice(b"\x05out\0\0\0\0\0\0");
    let start = writer.buffer.len();
    bson::serialize_to_buffer(&output, writer.buffer)?;
    let length = writer.buffer.len() - start;
    patch(writer.buffer, start - 5, length);
    writer.text(b"\x02errstring\0", service_error.as_bytes());
    writer.end();
    Ok(())
}
