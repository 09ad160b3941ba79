//! One connection of a service, from its handshake to its end, as one task.
//!
//! Each wake-up reads what has come, begins every whole request in it, and sends all answers with
//! one write. Invariants: a connection begins no call while it has as many as it may have, and reads
//! little; it reads nothing while the peer does not take its answers; half a document and a peer that does not read are
//! bounded in time; after end of file, calls in flight are still answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::calls::Calls;
use super::crowd::{Seat, Stage};
use super::parting::Parting;
use super::phases::Phases;
use super::{Phase, QUIET, Shared};
use crate::rpc::error::Ended;
use crate::rpc::frame::{FrameBuffer, FrameError};
use crate::rpc::handler::Client;
use crate::rpc::timer::Timer;

/// Requests that are begun before other tasks get their turn.
const BUDGET: usize = 256;

/// A connection behind its handshake.
pub(super) struct Serving<S> {
    stream: S,
    seat: Seat,
    frames: FrameBuffer,
    /// How much of `frames` was looked through for what need not wait for a call to end.
    peeked: usize,
    calls: Calls,
    phases: Phases,
    /// Whether the client understands notices and has not been told of the drain.
    to_be_told: bool,
    /// Nothing is read any more: end of file, or something that cannot be read on.
    ended: Option<Ended>,
    timer: Timer,
    /// Since when half a document has been waiting for its rest.
    half_since: Option<Instant>,
    /// Since when the peer has not taken what is to be sent.
    stalled_since: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serving<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        (stream, frames): (S, FrameBuffer),
        client: Arc<Client>,
        seat: Seat,
        notices: bool,
    ) -> Self {
        let now = Instant::now();
        seat.heard(now);
        seat.reach(if notices { Stage::Told } else { Stage::Untold });
        let outbox = Arc::clone(seat.presence().outbox());
        let phases = shared.phase.subscribe();
        let phase = *phases.borrow();
        let mut serving = Self {
            stream,
            seat,
            frames,
            peeked: 0,
            phases: Phases::new(phases),
            to_be_told: notices,
            ended: None,
            timer: Timer::default(),
            half_since: None,
            stalled_since: None,
            calls: Calls {
                shared,
                client,
                outbox,
                sending: Vec::new(),
                sent: 0,
                phase: Phase::Serving,
                parting: Parting::new(notices),
                received: now,
                arrived: now,
                empty: now,
                now,
            },
        };
        // A client that comes while the service drains is served: it may know of no other. It is
        // told once nothing new is begun.
        if phase == Phase::Draining {
            serving.calls.phase = phase;
        } else {
            serving.enter(phase);
        }
        serving
    }

    /// The socket, once the connection is over.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Serves; ready when everything is answered and nothing more is to come.
    pub(super) fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<Ended> {
        self.calls.outbox.wake(task);
        while let Some(phase) = self.phases.poll(task) {
            self.enter(phase);
        }
        if self.calls.phase != Phase::Refusing && self.seat.presence().is_asked() {
            self.make_room();
        }
        let mut budget = BUDGET;
        loop {
            self.calls.outbox.take_into(&mut self.calls.sending);
            let held_back = self.begin(task, &mut budget);
            if let Poll::Ready(Err(error)) = self.send(task) {
                return Poll::Ready(Ended::Broken(Arc::new(error)));
            }
            if let Some(ended) = self.finished() {
                return Poll::Ready(ended);
            }
            if budget == 0 {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.ended.is_some() || !self.may_read() {
                break;
            }
            if held_back && self.calls.may_begin() {
                // Sending has made room, and who has waited for it comes before what is to be read:
                // behind that may be the end.
                continue;
            }
            match self.read(task) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Broken(Arc::new(error))),
                Poll::Pending => break,
            }
        }
        self.poll_deadlines(task)
    }

    fn enter(&mut self, phase: Phase) {
        self.calls.now = Instant::now();
        if self.to_be_told && phase != Phase::Serving {
            self.to_be_told = false;
            self.calls.write_notice();
        }
        self.calls.phase = phase;
        if phase == Phase::Refusing {
            self.calls.parting.begin(self.calls.now);
        }
    }

    /// Is going, and says so, unless it has something to do; what is on its way is refused.
    fn make_room(&mut self) {
        if self.is_idle() {
            self.enter(Phase::Refusing);
        } else {
            self.seat.presence().stay();
        }
    }

    /// Whether nothing has begun to arrive, nothing runs, and everything is sent.
    fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.calls.outbox.running() == 0 && self.calls.unsent().is_none()
    }

    /// Begins every request that has arrived whole, as far as it may; tells whether some may be left.
    fn begin(&mut self, task: &mut TaskContext<'_>, budget: &mut usize) -> bool {
        let mut at = 0;
        let mut held_back = true;
        while *budget > 0 && self.ended.is_none() && self.calls.may_begin() {
            let (header, body) = match self.whole_request(at) {
                Ok(Some(lengths)) => lengths,
                Ok(None) => {
                    held_back = false;
                    break;
                }
                Err(error) => {
                    self.ended = Some(Ended::Frame(error));
                    break;
                }
            };
            let documents = (
                self.frames.slice(at, header),
                self.frames.slice(at + header, body),
            );
            let is_peeked = at < self.peeked;
            if let Err(error) = self.calls.request(documents, is_peeked, task) {
                self.ended = Some(Ended::Document(error));
                break;
            }
            at += header + body;
            *budget -= 1;
        }
        if self.ended.is_none() && self.calls.is_full() {
            self.peek(at);
        }
        self.frames.consume(at);
        self.peeked = self.peeked.saturating_sub(at);
        if self.frames.is_empty() {
            self.half_since = None;
        } else if at > 0 || self.half_since.is_none() {
            self.half_since = Some(self.calls.now);
        }
        held_back
    }

    /// The lengths of the two documents of a request that has arrived whole.
    fn whole_request(&self, at: usize) -> Result<Option<(usize, usize)>, FrameError> {
        let Some(header) = self.frames.whole_frame(at)? else {
            return Ok(None);
        };
        let body = self.frames.whole_frame(at + header)?;
        Ok(body.map(|body| (header, body)))
    }

    /// Answers signs of life, and hears who gives up, behind requests that wait for a call to end:
    /// else the client takes a busy connection for a dead one.
    fn peek(&mut self, at: usize) {
        let mut ahead = self.peeked.max(at);
        // What is not whole, or wrong, is found out in its turn.
        while self.calls.may_answer()
            && let Ok(Some((header, body))) = self.whole_request(ahead)
        {
            self.calls.control(self.frames.slice(ahead, header));
            ahead += header + body;
        }
        self.peeked = ahead;
    }

    /// Whether to read on: with as many calls as it may have a connection is read only a little way,
    /// so that its end and what [`Self::peek`] looks for are noticed.
    fn may_read(&self) -> bool {
        self.calls.may_begin()
            || self.calls.is_full() && self.calls.may_answer() && self.frames.len() < LOOKAHEAD
    }

    fn read(&mut self, task: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        let Poll::Ready(count) = poll_read(&mut self.stream, &mut self.frames, task) else {
            self.calls.empty = self.calls.now;
            return Poll::Pending;
        };
        let count = count?;
        self.calls.read();
        self.seat.heard(self.calls.now);
        if count == 0 {
            self.ended = Some(Ended::ByPeer);
            self.calls.client.gone().cancel();
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, task: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        while let Some(rest) = self.calls.unsent() {
            match Pin::new(&mut self.stream).poll_write(task, rest) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(count)) => {
                    self.calls.sent += count;
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(self.calls.now);
                    return Poll::Pending;
                }
            }
        }
        if self.calls.phase == Phase::Refusing && !self.calls.sending.is_empty() {
            self.calls.now = Instant::now();
            let grace = self.calls.shared.limits.grace;
            self.calls.parting.answered(grace, self.calls.now);
        }
        self.calls.all_sent();
        Poll::Ready(Ok(()))
    }

    /// Why the connection is over, once it is.
    fn finished(&mut self) -> Option<Ended> {
        let parting = self.calls.parting.is_due() && self.frames.is_empty();
        if self.ended.is_none() && !parting {
            return None;
        }
        // An answer is put into the outbox before its place is given back, so this order sees all.
        if self.calls.outbox.running() > 0 {
            return None;
        }
        self.calls.outbox.take_into(&mut self.calls.sending);
        if self.calls.unsent().is_some() {
            return None;
        }
        Some(self.ended.take().unwrap_or(Ended::Draining))
    }

    /// When something is overdue, and what then ends the connection.
    fn due(&self) -> Option<(Instant, Due)> {
        let limits = &self.calls.shared.limits;
        let half = self
            .half_since
            .filter(|_| self.ended.is_none() && self.calls.may_begin())
            .map(|since| (since + limits.partial_frame, Due::HalfDocument));
        let stalled = self
            .stalled_since
            .map(|since| (since + limits.partial_frame, Due::Stalled));
        let idle = self.calls.phase == Phase::Refusing && self.is_idle();
        let quiet = idle.then(|| (self.calls.now + QUIET, Due::Quiet));
        [half, stalled, quiet]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn poll_deadlines(&mut self, task: &mut TaskContext<'_>) -> Poll<Ended> {
        while let Some((at, due)) = self.due() {
            ready!(self.timer.poll(task, at));
            if at > Instant::now() {
                continue;
            }
            let client = self.calls.client.address();
            return Poll::Ready(match due {
                Due::HalfDocument => {
                    tracing::warn!(%client, "half a document and no rest, closing");
                    Ended::ByUs
                }
                Due::Stalled => {
                    tracing::warn!(%client, "the client does not take its answers, closing");
                    Ended::ByUs
                }
                Due::Quiet => Ended::Draining,
            });
        }
        Poll::Pending
    }
}

/// So many bytes of requests that must wait are read, to see what stands behind them.
const LOOKAHEAD: usize = 64 * 1024;

/// What ends a connection when its time has come.
#[derive(Debug, Clone, Copy)]
enum Due {
    HalfDocument,
    Stalled,
    Quiet,
}

/// Reads once into the buffer; zero bytes mean end of file.
pub(crate) fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    frames: &mut FrameBuffer,
    task: &mut TaskContext<'_>,
) -> Poll<std::io::Result<usize>> {
    let read = tokio_util::io::poll_read_buf(Pin::new(stream), task, frames.room());
    let count = ready!(read)?;
    frames.filled(count);
    Poll::Ready(Ok(count))
}
