//! What the callers of a connection and its driver share.
//!
//! Invariants: `NotSent` is only said of a request of which the last byte was never given to the
//! system; bytes are given to the system by one party at a time, in the order of the buffer; the
//! lock is held for copying and looking up only.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use futures_util::task::AtomicWaker;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::IDLE_BUFFER;
use super::{ConnectOptions, Reply, Request};
use crate::rpc::error::{Code, Ended, Why};
use crate::rpc::message::{
    CANCEL, EMPTY_DOCUMENT, FORWARD, PING, RequestBody, RequestHeader, RequestInfo,
    ServiceHandshake,
};

/// How a call ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Reply),
    Refused { code: Option<Code>, message: String },
    NotSent(Why),
    Unknown(Why),
}

/// What became of an attempt to begin a call.
pub(super) enum Admitted {
    /// It is over, however it went.
    Yes(Outcome),
    /// Too much waits to be sent.
    NotNow,
}

/// A call without an answer, or with one that was not fetched yet.
struct Waiting {
    waker: Waker,
    /// The position in the stream behind the request's last byte.
    end: u64,
    deadline: Option<Instant>,
    outcome: Option<Outcome>,
}

impl Waiting {
    /// Whoever has an outcome is woken once.
    fn take_waker(&mut self) -> Waker {
        std::mem::replace(&mut self.waker, Waker::noop().clone())
    }
}

/// Sequence numbers only grow, so their low bits spread well by themselves.
#[derive(Debug, Default)]
pub(super) struct SeqHasher(u64);

impl Hasher for SeqHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ u64::from(*byte);
        }
    }

    fn write_i64(&mut self, number: i64) {
        // The table takes its control bytes from the high bits.
        self.0 = number.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

type Table = HashMap<i64, Waiting, BuildHasherDefault<SeqHasher>>;

/// What the lock guards.
pub(super) struct State {
    waiting: Table,
    next_seq: i64,
    /// Requests that nobody has begun to send.
    unsent: Vec<u8>,
    /// The position behind `unsent`'s last byte.
    appended: u64,
    /// The position up to which bytes were, or may have been, given to the system.
    given: u64,
    /// Whether somebody is giving bytes to the system.
    sending: bool,
    /// The earliest deadline that the driver has not looked at.
    earliest: Option<Instant>,
    ended: Option<Ended>,
}

/// One connection.
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) handshake: ServiceHandshake,
    pub(super) writing: OwnedWriteHalf,
    /// Places for calls.
    pub(super) room: Semaphore,
    pub(super) in_flight: AtomicUsize,
    /// Is cancelled when the connection has ended.
    pub(super) over: CancellationToken,
    pub(super) driver: AtomicWaker,
    /// How often something of the peer was read.
    pub(super) heard: AtomicU64,
    /// No new call is to be sent.
    shut: AtomicBool,
    state: Mutex<State>,
    sent_some: Notify,
    max_frame: usize,
    max_unsent: usize,
}

impl State {
    /// Appends a request without a parameter.
    fn append_bare(&mut self, service_method: &str, seq: i64) {
        let start = self.unsent.len();
        let header = RequestHeader {
            service_method: service_method.as_bytes(),
            seq,
        };
        header.write(&mut self.unsent);
        self.unsent.extend_from_slice(&EMPTY_DOCUMENT);
        self.appended += (self.unsent.len() - start) as u64;
    }
}

impl Shared {
    pub(super) fn new(
        address: SocketAddr,
        handshake: ServiceHandshake,
        options: &ConnectOptions,
        writing: OwnedWriteHalf,
    ) -> Self {
        // More would wait where it is not read, and be neither cancelled nor tried elsewhere.
        let most = usize::try_from(handshake.max_calls)
            .ok()
            .filter(|most| *most > 0);
        let most = options.max_in_flight.min(most.unwrap_or(usize::MAX));
        Self {
            address,
            handshake,
            writing,
            room: Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)),
            in_flight: AtomicUsize::new(0),
            over: CancellationToken::new(),
            driver: AtomicWaker::new(),
            heard: AtomicU64::new(0),
            shut: AtomicBool::new(false),
            state: Mutex::new(State {
                waiting: Table::default(),
                next_seq: 0,
                unsent: Vec::new(),
                appended: 0,
                given: 0,
                sending: false,
                earliest: None,
                ended: None,
            }),
            sent_some: Notify::new(),
            max_frame: options.max_frame,
            max_unsent: options.max_unsent,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// Closes from this side.
    pub(super) fn close(&self, why: Ended) {
        self.shut.store(true, Ordering::Release);
        let mut state = self.lock();
        state.ended.get_or_insert(why);
        drop(state);
        self.driver.wake();
    }

    /// Takes no new call; the driver closes once the last one is answered.
    pub(super) fn drain(&self) {
        self.shut.store(true, Ordering::Release);
    }

    /// Asks for a sign of life, behind what waits to be sent. The answer goes to nobody: that
    /// something was read is all that counts.
    pub(super) fn ping(&self) {
        let mut state = self.lock();
        if state.ended.is_some() || state.unsent.len() >= self.max_unsent {
            return;
        }
        let seq = state.next_seq;
        state.append_bare(PING, seq);
        state.next_seq += 1;
        drop(state);
        self.driver.wake();
    }

    /// Why the connection has ended; `None` while it stands.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// Why no call can be sent any more.
    pub(super) fn why_ended(&self) -> Ended {
        self.lock().ended.clone().unwrap_or(Ended::Draining)
    }

    /// Waits until some of what is unsent was sent, or the connection has ended.
    pub(super) async fn wait_for_room(&self) {
        let sent = self.sent_some.notified();
        tokio::pin!(sent);
        sent.as_mut().enable();
        if !self.has_room() {
            sent.await;
        }
    }

    fn has_room(&self) -> bool {
        let state = self.lock();
        state.unsent.len() < self.max_unsent || state.ended.is_some()
    }

    /// Encodes a request behind those that wait, and sends it at once if its caller is alone.
    pub(super) fn begin(
        &self,
        request: &Request<'_>,
        task: &TaskContext<'_>,
    ) -> Result<i64, Admitted> {
        let not_sent = |why| Err(Admitted::Yes(Outcome::NotSent(why)));
        let deadline = request.info.deadline;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return not_sent(Why::Deadline);
        }
        let deadline_ms =
            left.map(|left| i64::try_from(left.as_millis().max(1)).unwrap_or(i64::MAX));
        let waker = task.waker().clone();
        let mut state = self.lock();
        if let Some(ended) = &state.ended {
            return not_sent(Why::Ended(ended.clone()));
        }
        if self.is_closed() {
            return not_sent(Why::Ended(Ended::Draining));
        }
        if state.unsent.len() >= self.max_unsent {
            return Err(Admitted::NotNow);
        }
        let seq = state.next_seq;
        let start = state.unsent.len();
        self.encode(request, seq, deadline_ms, &mut state.unsent);
        let bytes = state.unsent.len() - start;
        if bytes > self.max_frame {
            state.unsent.truncate(start);
            let limit = self.max_frame;
            return not_sent(Why::TooLarge { bytes, limit });
        }
        state.next_seq += 1;
        state.appended += bytes as u64;
        let end = state.appended;
        state.waiting.insert(
            seq,
            Waiting {
                waker,
                end,
                deadline,
                outcome: None,
            },
        );
        self.in_flight.store(state.waiting.len(), Ordering::Relaxed);
        let is_earliest = deadline.is_some_and(|at| state.earliest.is_none_or(|known| at < known));
        if is_earliest {
            state.earliest = deadline;
        }
        let alone = state.waiting.len() == 1 && !state.sending;
        let unsent = alone.then(|| state.take_unsent());
        drop(state);
        let must_wake = unsent.is_none_or(|unsent| !self.send_now(unsent));
        if must_wake || is_earliest {
            self.driver.wake();
        }
        Ok(seq)
    }

    fn encode(
        &self,
        request: &Request<'_>,
        seq: i64,
        deadline_ms: Option<i64>,
        buffer: &mut Vec<u8>,
    ) {
        let name = [request.service.as_bytes(), b".", FORWARD.as_bytes()];
        RequestHeader::write_parts(&name, seq, buffer);
        RequestBody {
            client_id: self.handshake.client_id.as_bytes(),
            method: request.method.as_bytes(),
            info: Some(RequestInfo {
                origin_address: request.info.origin.as_bytes(),
                connection_address: b"",
                request_id: request.info.request_id.as_bytes(),
                retry_count: i64::from(request.info.retry_count),
                deadline_ms,
                traceparent: request.info.traceparent.unwrap_or_default().as_bytes(),
            }),
            input: Some(request.input),
        }
        .write(buffer);
    }

    /// One attempt to send, without the lock; whether all of it went.
    fn send_now(&self, mut bytes: Vec<u8>) -> bool {
        // An error shows again, and is dealt with, in the driver.
        let count = self.writing.try_write(&bytes).unwrap_or(0);
        let mut state = self.lock();
        state.sending = false;
        state.given = state.given - bytes.len() as u64 + count as u64;
        let complete = count == bytes.len();
        if complete {
            bytes.clear();
        } else {
            bytes.drain(..count);
        }
        if !bytes.is_empty() || state.unsent.is_empty() {
            bytes.append(&mut state.unsent);
            state.unsent = bytes;
        }
        complete && state.unsent.is_empty()
    }

    /// The outcome of call `seq`, once there is one.
    pub(super) fn poll_outcome(&self, seq: i64, task: &TaskContext<'_>) -> Poll<Outcome> {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.get_mut(&seq) else {
            return Poll::Ready(Outcome::Unknown(Why::Ended(Ended::ByUs)));
        };
        let Some(outcome) = waiting.outcome.take() else {
            waiting.waker.clone_from(task.waker());
            return Poll::Pending;
        };
        self.remove(state, seq);
        Poll::Ready(outcome)
    }

    fn remove(&self, mut state: MutexGuard<'_, State>, seq: i64) {
        state.waiting.remove(&seq);
        let left = state.waiting.len();
        // Stored under the lock, so that an older count never overwrites a newer one.
        self.in_flight.store(left, Ordering::Relaxed);
        drop(state);
        if left == 0 && self.is_closed() {
            self.driver.wake();
        }
    }

    /// Removes call `seq`: nobody waits for it, which the service is told if it had no answer.
    pub(super) fn forget(&self, seq: i64) {
        let mut state = self.lock();
        let waiting = state.waiting.get(&seq);
        let is_told = waiting.is_some_and(|waiting| waiting.outcome.is_none())
            && self.handshake.cancels
            && state.ended.is_none()
            && state.unsent.len() < self.max_unsent;
        if is_told {
            state.append_bare(CANCEL, seq);
        }
        self.remove(state, seq);
        if is_told {
            self.driver.wake();
        }
    }

    // === for the driver ===

    /// Hands outcomes to the calls that wait for them, and collects whom to wake. Answers that
    /// nobody waits for are dropped.
    pub(super) fn deliver(&self, outcomes: &mut Vec<(i64, Outcome)>, wakers: &mut Vec<Waker>) {
        let mut state = self.lock();
        for (seq, outcome) in outcomes.drain(..) {
            if let Some(waiting) = state.waiting.get_mut(&seq)
                && waiting.outcome.is_none()
            {
                waiting.outcome = Some(outcome);
                wakers.push(waiting.take_waker());
            }
        }
    }

    /// Whether something is to be sent by the driver, how many calls wait, and whether this side
    /// has closed the connection.
    pub(super) fn situation(&self) -> Situation {
        let mut state = self.lock();
        if state.waiting.is_empty() && self.is_closed() {
            // Decided under the lock, so that no call begins on a connection that is about to end.
            state.ended.get_or_insert(Ended::Draining);
        }
        if state.waiting.is_empty() && state.unsent.is_empty() {
            state.unsent.shrink_to(IDLE_BUFFER);
        }
        Situation {
            unsent: !state.unsent.is_empty() && !state.sending,
            waiting: state.waiting.len(),
            earliest: state.earliest,
            ended: state.ended.clone(),
        }
    }

    /// Takes what is to be sent, in exchange for the empty `buffer`; whether there was something.
    pub(super) fn take_unsent_into(&self, buffer: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if state.sending || state.unsent.is_empty() {
            return false;
        }
        std::mem::swap(buffer, &mut state.unsent);
        state.sending = true;
        state.given = state.appended;
        true
    }

    /// Everything that was taken is sent.
    pub(super) fn sent(&self) {
        self.lock().sending = false;
        self.sent_some.notify_waiters();
    }

    /// Gives up calls whose deadline has passed; the next deadline to look at.
    pub(super) fn expire(&self, now: Instant, wakers: &mut Vec<Waker>) -> Option<Instant> {
        let mut state = self.lock();
        let mut earliest = None;
        for waiting in state.waiting.values_mut() {
            let Some(deadline) = waiting.deadline.filter(|_| waiting.outcome.is_none()) else {
                continue;
            };
            if deadline <= now {
                waiting.outcome = Some(Outcome::Unknown(Why::Deadline));
                wakers.push(waiting.take_waker());
            } else if earliest.is_none_or(|known| deadline < known) {
                earliest = Some(deadline);
            }
        }
        state.earliest = earliest;
        earliest
    }

    /// The connection is over: `unsent` bytes of what the driver had taken never left.
    pub(super) fn end(&self, ended: &Ended, unsent: usize) -> Vec<Waker> {
        self.shut.store(true, Ordering::Release);
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let ended = state.ended.get_or_insert_with(|| ended.clone()).clone();
        let given = state.given - unsent as u64;
        for waiting in state.waiting.values_mut() {
            if waiting.outcome.is_some() {
                continue;
            }
            let why = Why::Ended(ended.clone());
            waiting.outcome = Some(if waiting.end > given {
                Outcome::NotSent(why)
            } else {
                Outcome::Unknown(why)
            });
            wakers.push(waiting.take_waker());
        }
        state.unsent = Vec::new();
        drop(state);
        self.room.close();
        self.sent_some.notify_waiters();
        self.over.cancel();
        wakers
    }
}

/// What the driver must know of the callers' side.
pub(super) struct Situation {
    pub(super) unsent: bool,
    pub(super) waiting: usize,
    pub(super) earliest: Option<Instant>,
    pub(super) ended: Option<Ended>,
}

impl State {
    fn take_unsent(&mut self) -> Vec<u8> {
        self.sending = true;
        self.given = self.appended;
        std::mem::take(&mut self.unsent)
    }
}
