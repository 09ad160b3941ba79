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
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    /// As a busy connection does: at every turn, whatever woke it.
    async fn follow(mut phases: Phases) {
        let mut last = Phase::Serving;
        while last != Phase::Refusing {
            let seen = poll_fn(|task| Poll::Ready(phases.poll(task))).await;
            last = seen.unwrap_or(last);
            tokio::task::yield_now().await;
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_connection_that_is_always_busy_misses_no_phase() {
        for _ in 0..2_000 {
            let sender = watch::Sender::new(Phase::Serving);
            let following = tokio::spawn(follow(Phases::new(sender.subscribe())));
            tokio::task::yield_now().await;
            sender.send_replace(Phase::Draining);
            sender.send_replace(Phase::Refusing);
            tokio::time::timeout(Duration::from_secs(30), following)
                .await
                .expect("a phase was missed")
                .unwrap();
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
