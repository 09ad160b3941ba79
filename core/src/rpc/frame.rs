//! Reading BSON documents off a stream, safely: the length is judged before memory is reserved,
//! the structure before anything is decoded.
//!
//! Invariants: no input makes this panic, recurse, or reserve more memory than a small multiple of
//! what has really arrived. Knows nothing of sockets, of time, or of what the documents mean; the
//! deadline of a half document is kept by whoever owns the socket.

#![warn(clippy::indexing_slicing)]

use bytes::{Buf, Bytes, BytesMut};

mod scan;

pub(crate) use scan::{Element, Elements, cstring_length, declared_length};
pub use scan::{MAX_DEPTH, ScanError, scan};

/// The length of the smallest document: its own length and the byte that ends it.
pub const MIN_FRAME: usize = 5;

/// The largest document that is read unless somebody says otherwise.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// What a buffer holds when nothing is known of its connection yet: many connections are idle.
const SMALL_BUFFER: usize = 512;

/// What a busy connection reads at once, at most, unless a document is larger.
const LARGE_BUFFER: usize = 64 * 1024;

/// Why a stream of documents cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No document is this short.
    #[error("a document announces {length} bytes, no document has fewer than {MIN_FRAME}")]
    TooShort {
        /// What the document announces.
        length: u32,
    },
    /// Longer than this side reads.
    #[error("a document announces {length} bytes, the limit is {limit}")]
    TooLong {
        /// What the document announces.
        length: u32,
        /// What is allowed.
        limit: usize,
    },
}

/// The bytes that have arrived on a connection, cut into documents.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    limit: usize,
    /// How much to make room for at the next read; grows with what the connection brings.
    chunk: usize,
}

impl FrameBuffer {
    /// An empty buffer that refuses documents longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit: limit.clamp(MIN_FRAME, i32::MAX as usize),
            chunk: SMALL_BUFFER,
        }
    }

    /// Whether a document has begun to arrive.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that have arrived and were not taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The room for the next read, never empty. It grows with what arrives, never with what a
    /// length announces.
    pub fn room(&mut self) -> &mut BytesMut {
        // A read into the little that is left behind consumed bytes would fetch half a document.
        // Where nobody holds any of them, their place is used again and nothing is allocated.
        if self.bytes.capacity() - self.bytes.len() < self.chunk / 2 {
            let wanted = self.chunk.max(self.bytes.len());
            self.bytes.reserve(wanted);
        }
        &mut self.bytes
    }

    /// Tells how much the last read brought, so that busy connections read more at once.
    pub fn filled(&mut self, count: usize) {
        if count >= self.chunk && self.chunk < LARGE_BUFFER {
            self.chunk = (self.chunk * 4).min(LARGE_BUFFER);
        }
    }

    /// Gives memory back while nothing is in the buffer.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.chunk = SMALL_BUFFER;
        }
    }

    /// The documents that have arrived whole, beginning at byte `from`: the length of the first.
    ///
    /// # Errors
    /// When the length that it announces is below 5 or above the limit.
    pub fn whole_frame(&self, from: usize) -> Result<Option<usize>, FrameError> {
        let Some(rest) = self.bytes.get(from..) else {
            return Ok(None);
        };
        let Some(announced) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*announced);
        let length = announced as usize;
        if length < MIN_FRAME {
            return Err(FrameError::TooShort { length: announced });
        }
        if length > self.limit {
            return Err(FrameError::TooLong {
                length: announced,
                limit: self.limit,
            });
        }
        Ok((rest.len() >= length).then_some(length))
    }

    /// The bytes from `from` on, `length` of them; empty when they have not arrived.
    pub fn slice(&self, from: usize, length: usize) -> &[u8] {
        from.checked_add(length)
            .and_then(|end| self.bytes.get(from..end))
            .unwrap_or_default()
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.advance(count);
    }

    /// Takes the first document out, when it has arrived whole.
    ///
    /// # Errors
    /// As [`FrameBuffer::whole_frame`].
    pub fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.whole_frame(0)? else {
            return Ok(None);
        };
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: &[u8]) -> FrameBuffer {
        let mut buffer = FrameBuffer::new(64);
        buffer.room().extend_from_slice(bytes);
        buffer
    }

    #[test]
    fn lengths_are_judged_before_the_rest_arrives() {
        for (bytes, expected) in [
            (&[0, 0, 0, 0][..], Err(FrameError::TooShort { length: 0 })),
            (&[4, 0, 0, 0], Err(FrameError::TooShort { length: 4 })),
            (&[5, 0, 0], Ok(None)),
            (&[5, 0, 0, 0], Ok(None)),
            (&[5, 0, 0, 0, 0], Ok(Some(5))),
            (&[64, 0, 0, 0], Ok(None)),
            (
                &[65, 0, 0, 0],
                Err(FrameError::TooLong {
                    length: 65,
                    limit: 64,
                }),
            ),
            (
                &[255, 255, 255, 255],
                Err(FrameError::TooLong {
                    length: u32::MAX,
                    limit: 64,
                }),
            ),
        ] {
            assert_eq!(filled(bytes).whole_frame(0), expected, "{bytes:?}");
        }
    }

    #[test]
    fn documents_come_out_whatever_the_segments() {
        let stream = [5, 0, 0, 0, 0, 8, 0, 0, 0, 10, b'a', 0, 0, 5, 0, 0, 0, 0];
        for cut in 1..stream.len() {
            let mut buffer = FrameBuffer::new(64);
            let mut lengths = Vec::new();
            for segment in stream.chunks(cut) {
                buffer.room().extend_from_slice(segment);
                while let Some(document) = buffer.take().unwrap() {
                    lengths.push(document.len());
                }
            }
            assert_eq!(lengths, [5, 8, 5], "cut every {cut}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_read_has_room_and_takes_the_place_of_what_was_consumed() {
        let mut buffer = FrameBuffer::new(64);
        let documents = [5, 0, 0, 0, 0].repeat(40);
        for _ in 0..100 {
            let room = buffer.room();
            assert!(room.capacity() >= SMALL_BUFFER / 2);
            assert!(room.capacity() <= SMALL_BUFFER, "it has grown");
            room.extend_from_slice(&documents);
            buffer.consume(documents.len());
        }
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut buffer = FrameBuffer::new(MAX_FRAME);
        buffer.room().extend_from_slice(&[0, 0, 0xff, 0]);
        assert_eq!(buffer.whole_frame(0), Ok(None));
        assert!(buffer.room().capacity() <= LARGE_BUFFER);
    }
}
