//! The phases of a server as one of its connections follows them.
//!
//! Invariants: no phase is missed; a wake-up without news takes no lock, because all connections of
//! a server would share it. Knows nothing of what phases mean.

use std::task::{Context as TaskContext, Poll};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::coop::has_budget_remaining;
use tokio_stream::wrappers::WatchStream;

use super::Phase;

/// The changes that one connection has yet to see. It is polled by one task, whose waker stays the
/// same: the stream keeps it from one time to the next.
pub(super) struct Phases {
    stream: WatchStream<Phase>,
    /// Tells whether the stream has, or is about to have, something.
    news: watch::Receiver<Phase>,
    /// Whether the stream knows whom to wake.
    is_watching: bool,
}

impl Phases {
    /// What changes from now on.
    pub(super) fn new(phases: watch::Receiver<Phase>) -> Self {
        Self {
            news: phases.clone(),
            stream: WatchStream::from_changes(phases),
            is_watching: false,
        }
    }

    /// The phase that the server has gone on to.
    pub(super) fn poll(&mut self, task: &mut TaskContext<'_>) -> Option<Phase> {
        if self.is_watching && matches!(self.news.has_changed(), Ok(false)) {
            return None;
        }
        // A task that has had its turn is told to come again before anybody notes its waker.
        self.is_watching = has_budget_remaining();
        let Poll::Ready(Some(phase)) = self.stream.poll_next_unpin(task) else {
            // What has changed is told a moment later: it stays news until it was taken.
            return None;
        };
        self.news.mark_unchanged();
        // It watches again once it has nothing more.
        self.is_watching = false;
        Some(phase)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Waker;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    /// As a busy connection does: again and again, whatever woke it. Tells when it has begun, and
    /// whether it saw the last phase before it was given up.
    fn follow(mut phases: Phases, began: &AtomicBool, given_up: &AtomicBool) -> bool {
        let mut task = TaskContext::from_waker(Waker::noop());
        loop {
            if phases.poll(&mut task) == Some(Phase::Refusing) {
                return true;
            }
            began.store(true, Ordering::Release);
            if given_up.load(Ordering::Acquire) {
                // What was sent before is there.
                return phases.poll(&mut task) == Some(Phase::Refusing);
            }
        }
    }

    /// As an idle one does: when it is woken.
    async fn tell(mut phases: Phases, told: mpsc::Sender<Phase>) {
        let mut next = |task: &mut TaskContext<'_>| {
            let phase = phases.poll(task);
            phase.map_or(Poll::Pending, Poll::Ready)
        };
        while told.send(poll_fn(&mut next).await).await.is_ok() {}
    }

    /// A change can be seen before the stream tells it: what is asked in between must not be lost.
    #[test]
    fn a_connection_that_is_always_busy_misses_no_phase() {
        for _ in 0..200 {
            let sender = watch::Sender::new(Phase::Serving);
            let phases = Phases::new(sender.subscribe());
            let (began, given_up) = (AtomicBool::new(false), AtomicBool::new(false));
            let has_seen = std::thread::scope(|scope| {
                let following = scope.spawn(|| follow(phases, &began, &given_up));
                while !began.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                sender.send_replace(Phase::Refusing);
                given_up.store(true, Ordering::Release);
                following.join().unwrap()
            });
            assert!(has_seen, "a phase was missed");
        }
    }

    #[tokio::test]
    async fn one_that_sleeps_is_woken() {
        let sender = watch::Sender::new(Phase::Serving);
        let phases = Phases::new(sender.subscribe());
        let (told, mut seen) = mpsc::channel(1);
        tokio::spawn(tell(phases, told));
        for phase in [Phase::Draining, Phase::Refusing] {
            // On one thread that is enough for it to fall asleep.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            sender.send_replace(phase);
            let next = tokio::time::timeout(Duration::from_secs(30), seen.recv());
            assert_eq!(next.await.expect("nobody was woken"), Some(phase));
        }
    }
}
