//! A timer that many short-lived deadlines share.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::time::{Instant, Sleep};

/// One timer that is only set again when it must ring earlier than before.
#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Timer {
    /// Ready when it has rung, at `at` or before; the caller looks at the clock.
    pub(super) fn poll(&mut self, task: &mut TaskContext<'_>, at: Instant) -> Poll<()> {
        if self.armed.is_none_or(|armed| at < armed) {
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(at),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
            }
            self.armed = Some(at);
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(task));
        }
        self.armed = None;
        Poll::Ready(())
    }
}
