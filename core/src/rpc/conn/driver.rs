//! The one task of a connection: it reads answers, sends what has gathered, keeps the deadlines.
//!
//! When several calls are in flight it lets the callers that it has just woken run first, so that
//! their next requests go out with one write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, Waker};

use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

use super::Reply;
use super::state::{Outcome, Shared};
use crate::rpc::error::{Ended, Why};
use crate::rpc::frame::{FrameBuffer, declared_length};
use crate::rpc::message::{DRAIN_NOTICE, NOTICE_SEQ, ResponseBody, ResponseHeader};
use crate::rpc::server::poll_read;
use crate::rpc::timer::Timer;

/// Reads in a row before other tasks get their turn.
const BUDGET: usize = 32;

/// A send buffer that has grown beyond this is given back once it is empty.
const LARGE_BUFFER: usize = 1024 * 1024;

/// And beyond this, once no call is in flight.
pub(super) const IDLE_BUFFER: usize = 64 * 1024;

pub(super) struct Driver {
    shared: Arc<Shared>,
    reading: OwnedReadHalf,
    frames: FrameBuffer,
    /// What is being sent, and how much of it is.
    sending: Vec<u8>,
    sent: usize,
    /// Whether the callers had their turn since something was there to be sent.
    yielded: bool,
    timer: Timer,
    outcomes: Vec<(i64, Outcome)>,
    wakers: Vec<Waker>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, reading: OwnedReadHalf, frames: FrameBuffer) -> Self {
        Self {
            shared,
            reading,
            frames,
            sending: Vec::new(),
            sent: 0,
            yielded: false,
            timer: Timer::default(),
            outcomes: Vec::new(),
            wakers: Vec::new(),
        }
    }

    /// Drives the connection to its end, and gives every call that is left its outcome.
    pub(super) async fn run(mut self) {
        let ended = std::future::poll_fn(|task| self.poll(task)).await;
        tracing::debug!(address = %self.shared.address, why = %ended, "a connection ended");
        let unsent = self.sending.len() - self.sent;
        for waker in self.shared.end(&ended, unsent) {
            waker.wake();
        }
        // Handles may outlive the connection; the peer must see its end all the same.
        let socket = self.shared.writing.as_ref();
        let _gone = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }

    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<Ended> {
        self.shared.driver.register(task.waker());
        let mut budget = BUDGET;
        loop {
            // Room is only made when there is something to read: until the callers have taken their
            // answers, which lie in the buffer, another would have to be allocated.
            match self.reading.as_ref().poll_read_ready(task) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Broken(Arc::new(error))),
            }
            match poll_read(&mut self.reading, &mut self.frames, task) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Poll::Ready(Ended::ByPeer),
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Broken(Arc::new(error))),
                Poll::Ready(Ok(_)) => {
                    self.shared.heard.fetch_add(1, Ordering::Relaxed);
                    let read = self.read_answers();
                    self.shared.deliver(&mut self.outcomes, &mut self.wakers);
                    self.wake_all();
                    if let Err(ended) = read {
                        return Poll::Ready(ended);
                    }
                }
            }
            budget -= 1;
            if budget == 0 {
                task.waker().wake_by_ref();
                break;
            }
        }
        let situation = self.shared.situation();
        if let Some(ended) = situation.ended {
            return Poll::Ready(ended);
        }
        if situation.waiting == 0 && self.sending.is_empty() {
            self.sending.shrink_to(IDLE_BUFFER);
        }
        if situation.unsent || self.sent < self.sending.len() {
            if situation.waiting > 1 && !self.yielded && self.sending.is_empty() {
                self.yielded = true;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Err(error) = self.send(task) {
                return Poll::Ready(Ended::Broken(Arc::new(error)));
            }
        }
        if let Some(earliest) = situation.earliest {
            self.keep_deadlines(earliest, task);
        }
        Poll::Pending
    }

    fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn keep_deadlines(&mut self, mut earliest: Instant, task: &mut TaskContext<'_>) {
        while self.timer.poll(task, earliest).is_ready() {
            let next = self.shared.expire(Instant::now(), &mut self.wakers);
            self.wake_all();
            match next {
                Some(next) => earliest = next,
                None => return,
            }
        }
    }

    /// Sends what has gathered, as far as the system takes it.
    fn send(&mut self, task: &mut TaskContext<'_>) -> std::io::Result<()> {
        loop {
            if self.sent == self.sending.len() {
                if self.sending.capacity() > LARGE_BUFFER {
                    self.sending = Vec::new();
                }
                self.sending.clear();
                self.sent = 0;
                self.yielded = false;
                if !self.shared.take_unsent_into(&mut self.sending) {
                    return Ok(());
                }
            }
            let rest = self.sending.get(self.sent..).unwrap_or_default();
            match self.shared.writing.try_write(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.sent += count;
                    if self.sent == self.sending.len() {
                        self.shared.sent();
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    match self.shared.writing.as_ref().poll_write_ready(task) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads every answer that has arrived whole.
    fn read_answers(&mut self) -> Result<(), Ended> {
        while let Some(header_length) = self.frames.whole_frame(0)? {
            if self.frames.whole_frame(header_length)?.is_none() {
                break;
            }
            let header = ResponseHeader::read(self.frames.slice(0, header_length))?;
            let seq = header.seq;
            if seq == NOTICE_SEQ && header.service_method == DRAIN_NOTICE.as_bytes() {
                self.shared.drain();
                self.frames.consume(header_length);
                self.frames.take()?;
                continue;
            }
            let refused =
                (!header.error.is_empty()).then(|| Outcome::refused(header.code, header.error));
            self.frames.consume(header_length);
            let Some(body) = self.frames.take()? else {
                break;
            };
            let outcome = refused.unwrap_or_else(|| read_body(&body));
            self.outcomes.push((seq, outcome));
        }
        Ok(())
    }
}

/// The answer in a response body; one that does not read fails its own call only.
fn read_body(document: &bytes::Bytes) -> Outcome {
    let body = match ResponseBody::read(document) {
        Ok(body) => body,
        Err(error) => return Outcome::Unknown(Why::Garbled(error)),
    };
    let out = body.out.unwrap_or_default();
    // What follows the result's document is ignored, as everywhere.
    let out = declared_length(out)
        .and_then(|length| out.get(..length))
        .unwrap_or(out);
    Outcome::Answer(Reply {
        output: document.slice_ref(out),
        service_error: (!body.error.is_empty())
            .then(|| String::from_utf8_lossy(body.error).into_owned()),
    })
}
