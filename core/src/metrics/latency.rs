//! Response times in buckets of atomics, cheap enough for every call.
//!
//! Invariants: percentiles are of the last 30 to 60 s, exact to an eighth; nothing allocates while
//! it counts; times come from the monotonic clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::signed;

/// How long a window gathers before the other one takes over.
pub(crate) const WINDOW: Duration = Duration::from_secs(30);

/// Each power of two is cut into this many buckets.
const PARTS: u32 = 8;

/// 2^36 µs are 19 hours; what takes longer counts as that.
const MAX_EXPONENT: u32 = 36;

const BUCKETS: usize = ((MAX_EXPONENT - 2) * PARTS + PARTS) as usize;

/// Response times, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Calls that were measured since the start.
    pub count: i64,
    /// The sum of their times, for the mean over any stretch between two pictures.
    pub total_us: i64,
    /// The median of the last 30 to 60 seconds; zero without calls, as all that follow.
    pub p50_us: i64,
    /// Nine of ten of that time were at most this.
    pub p90_us: i64,
    /// 99 of 100.
    pub p99_us: i64,
    /// 999 of 1000.
    pub p999_us: i64,
    /// The longest of that time.
    pub max_us: i64,
    /// How many of that time took how long; buckets without calls are left out. Those of several
    /// instances can be added up, which percentiles cannot.
    pub recent: Vec<Bucket>,
}

/// Calls whose times were alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// None took longer than this, in microseconds; all took more than seven eighths of it.
    pub upto_us: i64,
    /// How many there were.
    pub count: i64,
}

impl Latency {
    /// The mean since the start, in microseconds; zero without calls.
    pub fn mean_us(&self) -> i64 {
        self.total_us.checked_div(self.count).unwrap_or(0)
    }

    /// The sum of several, as of several instances or methods.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut counts = Counts::default();
        for one in all {
            let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
            counts.count = counts.count.saturating_add(unsigned(one.count));
            counts.total_us = counts.total_us.saturating_add(unsigned(one.total_us));
            for Bucket { upto_us, count } in &one.recent {
                if let Some(sum) = counts.recent.get_mut(bucket(unsigned(*upto_us))) {
                    *sum = sum.saturating_add(unsigned(*count));
                }
            }
        }
        counts.latency()
    }
}

/// Times that are being added up.
pub(crate) struct Counts {
    /// Calls since the start.
    pub(crate) count: u64,
    /// The sum of their times.
    pub(crate) total_us: u64,
    /// Calls of the recent past.
    recent: Box<[u64; BUCKETS]>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            count: 0,
            total_us: 0,
            recent: Box::new([0; BUCKETS]),
        }
    }
}

impl Counts {
    /// The value below which `per_mille` of the recent past are; zero without calls.
    pub(crate) fn percentile_us(&self, per_mille: u64) -> i64 {
        let total: u64 = self.recent.iter().sum();
        let rank = (u128::from(total) * u128::from(per_mille)).div_ceil(1000);
        let mut seen = 0_u128;
        for (index, count) in self.recent.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank && seen > 0 {
                return signed(upper_end(index));
            }
        }
        0
    }

    /// As it is told.
    pub(crate) fn latency(&self) -> Latency {
        let recent = self.recent.iter().enumerate();
        Latency {
            count: signed(self.count),
            total_us: signed(self.total_us),
            p50_us: self.percentile_us(500),
            p90_us: self.percentile_us(900),
            p99_us: self.percentile_us(990),
            p999_us: self.percentile_us(999),
            max_us: self.percentile_us(1000),
            recent: recent
                .filter(|(_, count)| **count > 0)
                .map(|(index, count)| Bucket {
                    upto_us: signed(upper_end(index)),
                    count: signed(*count),
                })
                .collect(),
        }
    }
}

/// Response times as they are counted.
#[derive(Debug)]
pub(crate) struct Histogram {
    start: Instant,
    count: AtomicU64,
    total_us: AtomicU64,
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

impl Histogram {
    /// Counts from `start` on.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            count: AtomicU64::new(0),
            total_us: AtomicU64::new(0),
            windows: [Window::new(0), Window::new(u64::MAX)],
        }
    }

    /// Notes what took `took` and ended `now`.
    pub(crate) fn record(&self, now: Instant, took: Duration) {
        let took = micros(took);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(took, Ordering::Relaxed);
        let number = self.window_at(now);
        let [even, odd] = &self.windows;
        let window = if number.is_multiple_of(2) { even } else { odd };
        if window.number.load(Ordering::Acquire) != number {
            window.begin(number);
        }
        if let Some(count) = window.counts.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what was noted to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Counts) {
        sum.count += self.count.load(Ordering::Relaxed);
        sum.total_us += self.total_us.load(Ordering::Relaxed);
        let number = self.window_at(Instant::now());
        for window in &self.windows {
            let age = number.wrapping_sub(window.number.load(Ordering::Acquire));
            if age <= 1 {
                for (sum, count) in sum.recent.iter_mut().zip(&window.counts) {
                    *sum += u64::from(count.load(Ordering::Relaxed));
                }
            }
        }
    }

    fn window_at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / WINDOW.as_secs()
    }
}

/// Whole microseconds; what is beyond all reason is cut.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
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

    fn read(histogram: &Histogram) -> Latency {
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        counts.latency()
    }

    #[tokio::test(start_paused = true)]
    async fn percentiles_forget_and_totals_do_not() {
        let histogram = Histogram::new(Instant::now());
        assert_eq!(read(&histogram), Latency::default());
        for us in 1..=1000 {
            histogram.record(Instant::now(), Duration::from_micros(us));
        }
        let latency = read(&histogram);
        assert_eq!((latency.count, latency.mean_us()), (1000, 500));
        for (read, exact) in [
            (latency.p50_us, 500),
            (latency.p90_us, 900),
            (latency.p99_us, 990),
            (latency.p999_us, 999),
            (latency.max_us, 1000),
        ] {
            assert!(
                (exact..=exact * 9 / 8).contains(&read),
                "{read}, not {exact}"
            );
        }
        let counted: i64 = latency.recent.iter().map(|bucket| bucket.count).sum();
        assert_eq!(counted, 1000);

        tokio::time::advance(WINDOW).await;
        assert_eq!(read(&histogram).recent, latency.recent);
        tokio::time::advance(WINDOW).await;
        let later = read(&histogram);
        assert_eq!((later.count, later.p50_us, later.max_us), (1000, 0, 0));
        assert_eq!(later.recent, []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sum_of_two_is_that_of_all_their_calls() {
        let now = Instant::now();
        let [left, right, both] = std::array::from_fn(|_| Histogram::new(now));
        for us in 0..5000 {
            let one = if us % 3 == 0 { &left } else { &right };
            one.record(now, Duration::from_micros(us));
            both.record(now, Duration::from_micros(us));
        }
        assert_eq!(Latency::sum([&read(&left), &read(&right)]), read(&both));
    }
}
