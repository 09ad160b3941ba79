//! The calls of one connection: which may begin, and where their answers are collected.
//!
//! Invariants: no more run than the limits allow; an answer is collected whole; what is no call is
//! done at once, also while a call must wait. It reads and writes no socket.

use std::sync::Arc;
use std::task::Context as TaskContext;
use std::time::Duration;

use tokio::time::Instant;

use super::call::{self, Outbox};
use super::parting::Parting;
use super::request::{self, Target};
use super::{Phase, Shared};
use crate::rpc::error::Code;
use crate::rpc::frame::ScanError;
use crate::rpc::handler::{Answer, Begun, Client, Refusal};
use crate::rpc::message::{DRAIN_NOTICE, NOTICE_SEQ, RequestHeader, ResponseHeader};

/// A poll that takes longer than this holds up the reads of its connection.
const SLOW_POLL: Duration = Duration::from_micros(500);

/// A send buffer that has grown beyond this is given back once it is empty.
const LARGE_BUFFER: usize = 256 * 1024;

/// What a connection needs to begin calls and to collect their answers.
pub(super) struct Calls {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<Client>,
    pub(super) outbox: Arc<Outbox>,
    /// Answers that are to be sent.
    pub(super) sending: Vec<u8>,
    /// How much of `sending` is sent.
    pub(super) sent: usize,
    pub(super) phase: Phase,
    pub(super) parting: Parting,
    /// When the bytes that are worked on were read.
    pub(super) received: Instant,
    /// When they may have arrived at the earliest; before that by as long as the process stood still.
    pub(super) arrived: Instant,
    /// When nothing more was there to read.
    pub(super) empty: Instant,
    /// The time as of the last look at the clock.
    pub(super) now: Instant,
}

impl Calls {
    /// Whether this connection may begin another call.
    pub(super) fn may_begin(&self) -> bool {
        !self.is_full() && self.may_answer()
    }

    /// Whether it has as many calls as it may.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.running() >= self.shared.limits.per_connection
    }

    /// Whether its client takes its answers.
    pub(super) fn may_answer(&self) -> bool {
        self.sending.len() - self.sent < self.shared.limits.unsent
    }

    /// Notes that bytes were read.
    pub(super) fn read(&mut self) {
        self.received = Instant::now();
        self.now = self.received;
        self.arrived = self.shared.pauses.arrival(self.empty, self.now);
    }

    pub(super) fn unsent(&self) -> Option<&[u8]> {
        self.sending
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
    }

    pub(super) fn all_sent(&mut self) {
        if self.sending.capacity() > LARGE_BUFFER {
            self.sending = Vec::new();
        } else {
            self.sending.clear();
        }
        self.sent = 0;
    }

    pub(super) fn write_notice(&mut self) {
        ResponseHeader {
            service_method: DRAIN_NOTICE.as_bytes(),
            seq: NOTICE_SEQ,
            ..ResponseHeader::default()
        }
        .write(&mut self.sending);
        let grace = i64::try_from(self.shared.limits.grace.as_millis()).unwrap_or(i64::MAX);
        let body = [
            &[22, 0, 0, 0][..],
            b"\x12gracems\0",
            &grace.to_le_bytes(),
            &[0],
        ]
        .concat();
        self.sending.extend_from_slice(&body);
    }

    /// Does what a request asks for that is no call.
    pub(super) fn control(&mut self, header: &[u8]) {
        let Ok(header) = RequestHeader::read(header) else {
            return;
        };
        match request::target(&self.shared.service, header.service_method) {
            Target::Ping => {
                let limit = self.shared.limits.frame;
                let (method, seq) = (header.service_method, header.seq);
                Answer::new(&mut self.sending, method, seq, limit).empty();
            }
            // Its answer, if there is one, is that of the call.
            Target::Cancel => self.client.give_up(header.seq),
            Target::Forward | Target::Refused(_) => {}
        }
    }

    /// Answers a request, or begins the call that will; of those that were peeked at, what was done
    /// then is not done again.
    pub(super) fn request(
        &mut self,
        (document, body): (&[u8], &[u8]),
        is_peeked: bool,
        task: &mut TaskContext<'_>,
    ) -> Result<(), ScanError> {
        let header = RequestHeader::read(document)?;
        let refusal = match request::target(&self.shared.service, header.service_method) {
            Target::Forward => match self.admit(header.seq, body) {
                Ok(begun) => {
                    self.run(begun, header.seq, task);
                    return Ok(());
                }
                Err(refusal) => refusal,
            },
            Target::Ping | Target::Cancel => {
                if !is_peeked {
                    self.control(document);
                }
                return Ok(());
            }
            Target::Refused(refusal) => refusal,
        };
        self.shared.refused.count(refusal.code);
        let limit = self.shared.limits.frame;
        let (method, seq) = (header.service_method, header.seq);
        Answer::new(&mut self.sending, method, seq, limit).refuse(&refusal);
        Ok(())
    }

    pub(super) fn admit(&self, seq: i64, body: &[u8]) -> Result<Begun, Refusal> {
        let times = (self.arrived, self.received);
        let incoming = request::incoming((seq, body), &self.client, times)?;
        if self.parting.refuses() {
            let going = *self.shared.phase.borrow() == Phase::Refusing;
            let who = if going { "service" } else { "connection" };
            return Err(Refusal::new(
                Code::Draining,
                format!("the {who} is draining"),
            ));
        }
        if incoming
            .deadline
            .is_some_and(|deadline| deadline <= self.now)
        {
            let text = "the deadline had passed before the method began";
            return Err(Refusal::new(Code::Expired, text));
        }
        if self.shared.in_flight() >= self.shared.limits.per_service {
            let text = "the service runs as many calls as it may";
            return Err(Refusal::new(Code::Overloaded, text));
        }
        self.shared.dispatch.begin(incoming)
    }

    pub(super) fn run(&mut self, begun: Begun, seq: i64, task: &mut TaskContext<'_>) {
        let mut running = match begun {
            Begun::Task(running) => return call::spawn(&self.shared, &self.outbox, running, seq),
            Begun::Inline(running) => running,
        };
        let began = self.now;
        let limit = self.shared.limits.frame;
        let mut reply = Answer::new(&mut self.sending, &self.shared.forward, seq, limit);
        let polled = call::poll(&mut running, task, &mut reply);
        self.now = running.ended().unwrap_or_else(Instant::now);
        if self.now - began > SLOW_POLL {
            running.was_slow();
        }
        if polled.is_pending() {
            call::spawn(&self.shared, &self.outbox, running, seq);
        }
    }
}
