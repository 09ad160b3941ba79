//! Lets clients in whose first request names its server like `http://127.0.0.1:2379`.
//!
//! etcdctl 3.4 does so in its maintenance commands (`endpoint status`) when the endpoint is given
//! as a URL; etcd ignores it, but the HTTP/2 library below us refuses the request as malformed
//! before any service sees it. So the first request's header block is mended on its way in: the
//! Huffman code of `http://` becomes that of `httpx--`, which is as long (the compression tables of
//! both sides stay equal) and well-formed. Nobody here reads the name.
//!
//! Invariants: frames before the first request pass at once, since clients wait for the answer to
//! them; after the first request every byte passes untouched; at most one frame is held back.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_LEN: usize = 9;
const TYPE_HEADERS: u8 = 1;

/// The longest frame that a peer may send unless it is told otherwise.
const MAX_FRAME: usize = 16 * 1024;

/// A literal that enters the table under the name `:authority`.
const LITERAL_AUTHORITY: u8 = 0x41;
/// Says that a string is in Huffman code.
const HUFFMAN: u8 = 0x80;
/// `http://` in Huffman code is these 40 bits and one more, 0.
const HTTP_URL: [u8; 5] = [0x9d, 0x29, 0xae, 0xe3, 0x0c];
/// `httpx--`, with the same bit behind it.
const MENDED: [u8; 5] = [0x9d, 0x29, 0xaf, 0xca, 0xcb];

/// How much is read at once while the first request has not come.
const READ_LEN: usize = 4096;

/// A connection whose first request is mended.
#[derive(Debug)]
pub(super) struct LenientStream {
    inner: TcpStream,
    mender: Option<Mender>,
    /// Bytes that may pass, and how many of them have.
    passed: Vec<u8>,
    n_taken: usize,
}

impl LenientStream {
    /// Wraps a connection that nothing was read from.
    pub(super) fn new(inner: TcpStream) -> Self {
        Self {
            inner,
            mender: Some(Mender::default()),
            passed: Vec::new(),
            n_taken: 0,
        }
    }
}

impl AsyncRead for LenientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let rest = this.passed.get(this.n_taken..).unwrap_or_default();
            if let Some(now) = rest.get(..rest.len().min(buffer.remaining()))
                && !now.is_empty()
            {
                buffer.put_slice(now);
                this.n_taken += now.len();
                return Poll::Ready(Ok(()));
            }
            let Some(mender) = &mut this.mender else {
                return Pin::new(&mut this.inner).poll_read(cx, buffer);
            };
            this.passed.clear();
            this.n_taken = 0;
            let mut bytes = [0; READ_LEN];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            let is_over = read.filled().is_empty();
            if mender.feed(read.filled(), &mut this.passed) || is_over {
                mender.release(&mut this.passed);
                this.mender = None;
            }
        }
    }
}

impl AsyncWrite for LenientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl Connected for LenientStream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

/// Follows the frames up to the first request.
#[derive(Debug, Default)]
struct Mender {
    held: Vec<u8>,
    /// Whether the preface has passed.
    is_open: bool,
    /// How much of a frame that does not matter is still to come.
    n_skip: usize,
}

impl Mender {
    /// Takes in bytes and passes on what may pass; true once the first request has passed.
    fn feed(&mut self, bytes: &[u8], passed: &mut Vec<u8>) -> bool {
        self.held.extend_from_slice(bytes);
        loop {
            if self.n_skip > 0 {
                let n_now = self.n_skip.min(self.held.len());
                passed.extend(self.held.drain(..n_now));
                self.n_skip -= n_now;
            }
            let needed = if self.is_open {
                FRAME_HEADER_LEN
            } else {
                PREFACE.len()
            };
            if self.held.len() < needed {
                return false;
            }
            if !self.is_open {
                if !self.held.starts_with(PREFACE) {
                    // No HTTP/2: whoever reads it will say so.
                    return true;
                }
                self.is_open = true;
                self.n_skip = needed;
                continue;
            }
            let [high, middle, low, kind, ..] = *self.held.as_slice() else {
                return false;
            };
            let payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if kind != TYPE_HEADERS {
                self.n_skip = needed + payload;
                continue;
            }
            if payload > MAX_FRAME {
                return true;
            }
            if self.held.len() < needed + payload {
                return false;
            }
            if let Some(block) = self.held.get_mut(needed..needed + payload) {
                mend(block);
            }
            return true;
        }
    }

    /// Passes on whatever is held back.
    fn release(&mut self, passed: &mut Vec<u8>) {
        passed.append(&mut self.held);
    }
}

/// Mends the name of the server in a header block, if it is a URL.
fn mend(block: &mut [u8]) {
    let head = 2;
    let window = head + HTTP_URL.len() + 1;
    let found = block.windows(window).position(|bytes| {
        matches!(bytes, [LITERAL_AUTHORITY, length, .., last]
            if length & HUFFMAN != 0 && last & 0x80 == 0)
            && bytes.get(head..window - 1) == Some(&HTTP_URL)
    });
    if let Some(at) = found
        && let Some(code) = block.get_mut(at + head..at + window - 1)
    {
        code.copy_from_slice(&MENDED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcdctl 3.4 sends first: preface, settings, their acknowledgement, a request to
    /// `http://127.0.0.1:23791`, its body.
    fn from_etcdctl() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 0, 4, 1, 0, 0, 0, 0]);
        bytes.extend([0, 0, 20, 1, 4, 0, 0, 0, 1, 0x83, 0x86]);
        bytes.extend([
            0x41, 0x90, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x6e,
            0x09, 0x97, 0x5f, 0x0f,
        ]);
        bytes.extend([0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        bytes
    }

    fn mended() -> Vec<u8> {
        let mut bytes = from_etcdctl();
        let at = bytes.windows(5).position(|window| window == HTTP_URL);
        bytes[at.unwrap()..][..5].copy_from_slice(&MENDED);
        bytes
    }

    #[test]
    fn a_url_is_mended_however_the_bytes_arrive() {
        let bytes = from_etcdctl();
        for piece in [1, 2, 7, 24, 60, bytes.len()] {
            let mut mender = Mender::default();
            let mut passed = Vec::new();
            let mut is_done = false;
            for piece in bytes.chunks(piece) {
                if is_done {
                    passed.extend_from_slice(piece);
                } else {
                    is_done = mender.feed(piece, &mut passed);
                }
                if is_done {
                    mender.release(&mut passed);
                }
            }
            assert!(is_done);
            assert_eq!(passed, mended(), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_comes_before_the_request_passes_at_once() {
        let bytes = from_etcdctl();
        let mut mender = Mender::default();
        let mut passed = Vec::new();
        let n_before = PREFACE.len() + 2 * FRAME_HEADER_LEN;
        assert!(!mender.feed(&bytes[..n_before], &mut passed));
        assert_eq!(passed, bytes[..n_before]);
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let mut plain = from_etcdctl();
        let at = plain.windows(5).position(|window| window == HTTP_URL);
        plain[at.unwrap()] = 0x09;
        for bytes in [
            plain,
            b"GET / HTTP/1.1\r\nHost: nobody at all\r\n\r\n".to_vec(),
        ] {
            let mut mender = Mender::default();
            let mut passed = Vec::new();
            assert!(mender.feed(&bytes, &mut passed));
            mender.release(&mut passed);
            assert_eq!(passed, bytes);
        }
    }
}
