//! What an instance measures of itself, cheap enough for every call: a few atomics and a histogram
//! of fixed buckets.
//!
//! Invariants: percentiles are of the last 30 to 60 s, exact to an eighth; nothing allocates after
//! the start; times come from the monotonic clock, the wall clock is only for display.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::stats::InstanceStats;

/// How long a window of the histogram gathers before the other one takes over.
const WINDOW: Duration = Duration::from_secs(30);

/// Each power of two is cut into this many buckets.
const PARTS: u32 = 8;

/// 2^36 µs are 19 hours; what takes longer counts as that.
const MAX_EXPONENT: u32 = 36;

const BUCKETS: usize = ((MAX_EXPONENT - 2) * PARTS + PARTS) as usize;

/// An instance's figures.
#[derive(Debug)]
pub(super) struct Figures {
    started: Timestamp,
    clock: Instant,
    in_flight: AtomicU32,
    requests: AtomicU64,
    completed: AtomicU64,
    total_us: AtomicU64,
    /// When the last request came, in microseconds since the start, plus one; zero for none.
    last_us: AtomicU64,
    windows: [Window; 2],
}

#[derive(Debug)]
struct Window {
    /// Which stretch of time the counts are of.
    number: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Window {
    fn new(number: u64) -> Self {
        Self {
            number: AtomicU64::new(number),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }

    fn begin(&self, number: u64) {
        // Two that begin a window at once may lose a few counts; no reader can tell.
        if self.number.swap(number, Ordering::AcqRel) != number {
            for count in &self.counts {
                count.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl Figures {
    pub(super) fn new() -> Self {
        Self {
            started: Timestamp::now(),
            clock: Instant::now(),
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            total_us: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
            windows: [Window::new(0), Window::new(u64::MAX)],
        }
    }

    /// When the instance started.
    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    /// A call that was read at `received` has reached its method.
    pub(super) fn begun(&self, received: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let since = micros(received.saturating_duration_since(self.clock));
        self.last_us.store(since + 1, Ordering::Relaxed);
    }

    /// A method ended, however it did.
    pub(super) fn completed(&self, now: Instant, took: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.completed.fetch_add(1, Ordering::Relaxed);
        let took = micros(took);
        self.total_us.fetch_add(took, Ordering::Relaxed);
        let number = now.saturating_duration_since(self.clock).as_secs() / WINDOW.as_secs();
        let [even, odd] = &self.windows;
        let window = if number.is_multiple_of(2) { even } else { odd };
        if window.number.load(Ordering::Acquire) != number {
            window.begin(number);
        }
        if let Some(count) = window.counts.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The figures, with `clients` connections.
    pub(super) fn read(&self, clients: usize) -> InstanceStats {
        let number = self.clock.elapsed().as_secs() / WINDOW.as_secs();
        let mut counts = [0_u64; BUCKETS];
        for window in &self.windows {
            let age = number.wrapping_sub(window.number.load(Ordering::Acquire));
            if age <= 1 {
                for (sum, count) in counts.iter_mut().zip(&window.counts) {
                    *sum += u64::from(count.load(Ordering::Relaxed));
                }
            }
        }
        let completed = self.completed.load(Ordering::Relaxed);
        let total = self.total_us.load(Ordering::Relaxed);
        let last = self.last_us.load(Ordering::Relaxed);
        InstanceStats {
            clients: i64::try_from(clients).unwrap_or(i64::MAX),
            inflight: i64::from(self.in_flight.load(Ordering::Relaxed)),
            requests: signed(self.requests.load(Ordering::Relaxed)),
            avg_us: signed(total.checked_div(completed).unwrap_or(0)),
            p50_us: percentile(&counts, 50),
            p99_us: percentile(&counts, 99),
            started: self.started.to_string(),
            last: last.checked_sub(1).map_or_else(String::new, |since| {
                let since = SignedDuration::from_micros(signed(since));
                self.started
                    .saturating_add(since)
                    .map_or_else(|_never| String::new(), |last| last.to_string())
            }),
            ..InstanceStats::default()
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Values below 8 have a bucket each; above, every power of two has eight.
fn bucket(us: u64) -> usize {
    let us = us.min((1 << (MAX_EXPONENT + 1)) - 1);
    if us < u64::from(PARTS) {
        return usize::try_from(us).unwrap_or(0);
    }
    let exponent = us.ilog2();
    let part = (us >> (exponent - 3)) & u64::from(PARTS - 1);
    let index = u64::from((exponent - 2) * PARTS) + part;
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The largest value that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let parts = u64::from(PARTS);
    if bucket < parts {
        return bucket;
    }
    let exponent = bucket / parts + 2;
    let part = bucket % parts;
    ((parts + part + 1) << (exponent - 3)) - 1
}

/// The value below which `percent` of the counts are; zero without counts.
fn percentile(counts: &[u64], percent: u64) -> i64 {
    let total: u64 = counts.iter().sum();
    let rank = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (index, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank && seen > 0 {
            return signed(upper_end(index));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_falls_into_them_to_an_eighth() {
        for us in (0..2000).chain([65_535, 65_536, 1 << 30, u64::MAX]) {
            let index = bucket(us);
            assert!(index < BUCKETS);
            let end = upper_end(index);
            if us < 1 << MAX_EXPONENT {
                assert!(end >= us && end - us <= us / 8, "{us} falls below {end}");
            }
            assert_eq!(bucket(end), index);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn percentiles_forget_and_totals_do_not() {
        let figures = Figures::new();
        assert_eq!(
            (figures.read(0).p50_us, figures.read(0).last.as_str()),
            (0, "")
        );
        for us in 1..=100 {
            figures.begun(Instant::now());
            figures.completed(Instant::now(), Duration::from_micros(us));
        }
        let read = figures.read(3);
        assert_eq!((read.clients, read.inflight, read.requests), (3, 0, 100));
        assert_eq!(read.avg_us, 50);
        assert!((50..=55).contains(&read.p50_us), "{}", read.p50_us);
        assert!((99..=111).contains(&read.p99_us), "{}", read.p99_us);
        assert_eq!(read.last.parse::<Timestamp>().unwrap(), figures.started());

        tokio::time::advance(WINDOW).await;
        assert!(figures.read(0).p50_us > 0, "the window before counts still");
        tokio::time::advance(WINDOW).await;
        assert_eq!(figures.read(0).p50_us, 0);
        assert_eq!(figures.read(0).requests, 100);
    }
}
