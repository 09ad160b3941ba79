//! Running one call: between reads while it does not wait, in a task of its own when it does.
//!
//! Invariants: a panic of a method ends its call and nothing else; every call that has begun
//! answers once; an answer from a task reaches the connection through its [`Outbox`], whose size is
//! bounded by the number of calls that the connection may have.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

use futures_util::task::AtomicWaker;

use super::Shared;
use crate::rpc::error::Code;
use crate::rpc::handler::{Answer, Refusal, RunningCall};

/// Answers of tasks, on their way to the connection that sends them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    answers: Mutex<Vec<u8>>,
    /// Whether there are any: most wake-ups of a connection have other causes.
    is_filled: AtomicBool,
    running: AtomicUsize,
    connection: AtomicWaker,
}

impl Outbox {
    /// Calls of this connection that run in tasks.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Has `task` woken when an answer comes.
    pub(super) fn wake(&self, task: &TaskContext<'_>) {
        self.connection.register(task.waker());
    }

    /// Wakes the connection up.
    pub(super) fn wake_connection(&self) {
        self.connection.wake();
    }

    /// Moves what has come to the end of `sending`.
    pub(super) fn take_into(&self, sending: &mut Vec<u8>) {
        if !self.is_filled.load(Ordering::Acquire) {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Both only change under the lock.
        self.is_filled.store(false, Ordering::Relaxed);
        if sending.is_empty() {
            std::mem::swap(sending, &mut *answers);
        } else {
            sending.append(&mut answers);
        }
    }
}

/// One call's place among those that run; given back when it is dropped.
struct Place {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
}

impl Place {
    fn take(shared: &Arc<Shared>, outbox: &Arc<Outbox>) -> Self {
        shared.in_flight.fetch_add(1, Ordering::AcqRel);
        outbox.running.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: Arc::clone(shared),
            outbox: Arc::clone(outbox),
        }
    }

    fn answer(&self, answer: &mut Vec<u8>) {
        let mut answers = self
            .outbox
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if answers.is_empty() {
            std::mem::swap(&mut *answers, answer);
        } else {
            answers.append(answer);
        }
        self.outbox.is_filled.store(true, Ordering::Release);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.outbox.running.fetch_sub(1, Ordering::AcqRel);
        self.outbox.connection.wake();
    }
}

/// Gives the call a task of its own.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    outbox: &Arc<Outbox>,
    mut call: Pin<Box<dyn RunningCall>>,
    seq: i64,
) {
    let place = Place::take(shared, outbox);
    shared.tasks.spawn(async move {
        let mut answer = Vec::new();
        let shared = Arc::clone(&place.shared);
        let mut reply = Answer::new(&mut answer, &shared.forward, seq, shared.limits.frame);
        std::future::poll_fn(|task| poll(&mut call, task, &mut reply)).await;
        // It is counted before its client can know of it.
        drop(call);
        place.answer(&mut answer);
    });
}

/// Polls the call; a panic becomes its answer.
pub(super) fn poll(
    call: &mut Pin<Box<dyn RunningCall>>,
    task: &mut TaskContext<'_>,
    reply: &mut Answer<'_>,
) -> Poll<()> {
    let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll_answer(task, reply)));
    polled.unwrap_or_else(|panic| {
        tracing::error!(
            method = call.method(),
            request_id = call.request_id(),
            panic = panic_text(&*panic),
            "a method panicked, its call fails and the service goes on"
        );
        let text = format!("method \"{}\" panicked", call.method());
        reply.refuse(&Refusal::new(Code::Internal, text));
        Poll::Ready(())
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}
