//! Counting calls: begun, ended in one of `N` ways, how long they took.
//!
//! Invariants: a call is counted once at its beginning and once at its end; what is in flight is the
//! difference, so it needs no counter of its own and is never below zero.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Counts, Histogram, Latency, signed};

/// Counts of calls that end in one of `N` ways.
#[derive(Debug)]
pub(crate) struct Recorder<const N: usize> {
    begun: AtomicU64,
    ended: [AtomicU64; N],
    latency: Histogram,
}

/// What a [`Recorder`] has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded<const N: usize> {
    pub(crate) calls: i64,
    pub(crate) in_flight: i64,
    /// By the index that was told at the end.
    pub(crate) ended: [i64; N],
    pub(crate) latency: Latency,
}

impl<const N: usize> Recorder<N> {
    /// Counts from `start` on, from which the windows of time are reckoned.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            begun: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; N],
            latency: Histogram::new(start),
        }
    }

    /// A call begins.
    pub(crate) fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A call ended in way `how`; `took` is `None` where it says nothing.
    pub(crate) fn ended(&self, how: usize, now: Instant, took: Option<Duration>) {
        if let Some(took) = took {
            self.latency.record(now, took);
        }
        if let Some(ended) = self.ended.get(how) {
            // Whoever reads this end reads the beginning too.
            ended.fetch_add(1, Ordering::Release);
        }
    }

    /// Calls that were begun, and those of them that run.
    pub(crate) fn calls(&self) -> (u64, u64) {
        let ended: u64 = self
            .ended
            .iter()
            .map(|ended| ended.load(Ordering::Acquire))
            .sum();
        let begun = self.begun.load(Ordering::Relaxed);
        (begun, begun.saturating_sub(ended))
    }

    /// The response times, added to those of others.
    pub(crate) fn add_latency(&self, counts: &mut Counts) {
        self.latency.add_to(counts);
    }

    /// All of it.
    pub(crate) fn read(&self) -> Recorded<N> {
        let ended = std::array::from_fn(|how| {
            let ended = self.ended.get(how);
            signed(ended.map_or(0, |ended| ended.load(Ordering::Acquire)))
        });
        let calls = signed(self.begun.load(Ordering::Relaxed));
        let mut counts = Counts::default();
        self.add_latency(&mut counts);
        Recorded {
            calls,
            in_flight: calls.saturating_sub(ended.iter().sum()).max(0),
            ended,
            latency: counts.latency(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_not_ended_is_in_flight() {
        let start = Instant::now();
        let recorder = Recorder::<2>::new(start);
        for _ in 0..3 {
            recorder.begun();
        }
        recorder.ended(0, start, Some(Duration::from_micros(7)));
        recorder.ended(1, start, None);
        let read = recorder.read();
        assert_eq!((read.calls, read.in_flight, read.ended), (3, 1, [1, 1]));
        assert_eq!((read.latency.count, read.latency.p50_us), (1, 7));
        assert_eq!(recorder.calls(), (3, 1));
    }
}
