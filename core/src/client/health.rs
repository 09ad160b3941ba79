//! How an instance has done by us: latency, failures, ejection. Pure, time is data.
//!
//! Latency is a peak-sensitive moving average, after Finagle's `PeakEwma` load metric: a slow answer
//! counts at once, a fast one only with time. Failures count as slow answers. Ejection follows the
//! figures of the design: five in a row, or half of at least twenty within ten seconds; ten seconds
//! the first time, longer each time, five minutes at most. A service's own errors never count.

use std::time::Duration;

use tokio::time::Instant;

/// How fast old answers are forgotten.
const DECAY: Duration = Duration::from_secs(10);
/// What an instance is taken to need before it has answered.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(1);
/// What a failure counts as.
const PENALTY: Duration = Duration::from_secs(1);

const CONSECUTIVE_LIMIT: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);
const WINDOW_LEAST: u32 = 20;
const EJECT_FOR: Duration = Duration::from_secs(10);
const EJECT_MOST: Duration = Duration::from_mins(5);

/// One instance's record.
#[derive(Debug)]
pub(super) struct Health {
    latency_s: f64,
    observed: Instant,
    consecutive: u32,
    window_start: Instant,
    window_calls: u32,
    window_failures: u32,
    ejections: u32,
    ejected_until: Option<Instant>,
    /// A single call that decides whether the instance comes back.
    probing: bool,
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            latency_s: UNKNOWN_LATENCY.as_secs_f64(),
            observed: now,
            consecutive: 0,
            window_start: now,
            window_calls: 0,
            window_failures: 0,
            ejections: 0,
            ejected_until: None,
            probing: false,
        }
    }

    /// The expected response time in seconds. What was long ago counts for little, so that an
    /// instance that once was slow, and gets no calls for it, is tried again.
    pub(super) fn latency_s(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.observed).as_secs_f64();
        self.latency_s * (-elapsed / DECAY.as_secs_f64()).exp()
    }

    /// Whether calls should go elsewhere.
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until
            .is_some_and(|until| now < until || self.probing)
    }

    /// Notes that a call goes out; `true` when it is the probe after an ejection.
    pub(super) fn calling(&mut self, now: Instant) -> bool {
        let is_probe = !self.probing && self.ejected_until.is_some_and(|until| now >= until);
        self.probing |= is_probe;
        is_probe
    }

    /// Notes an answer, whatever it said.
    pub(super) fn answered(&mut self, latency: Duration, now: Instant) {
        self.observe(latency, now);
        self.count(false, now);
        self.consecutive = 0;
        self.probing = false;
        if self.ejected_until.take().is_none() && self.window_failures == 0 {
            self.ejections = 0;
        }
    }

    /// Notes a time-out or a refusal to execute; `true` when the instance is ejected by it.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.observe(PENALTY, now);
        self.count(true, now);
        self.consecutive += 1;
        let failed_probe = std::mem::take(&mut self.probing);
        let half =
            self.window_calls >= WINDOW_LEAST && self.window_failures * 2 >= self.window_calls;
        let eject = failed_probe || self.consecutive >= CONSECUTIVE_LIMIT || half;
        if eject {
            self.ejections += 1;
            self.ejected_until = Some(now + (EJECT_FOR * self.ejections).min(EJECT_MOST));
            self.consecutive = 0;
            self.window_calls = 0;
            self.window_failures = 0;
        }
        eject
    }

    /// Notes that the probe was given up by its caller, which says nothing of the instance.
    pub(super) fn abandoned(&mut self) {
        self.probing = false;
    }

    fn observe(&mut self, latency: Duration, now: Instant) {
        let latency_s = latency.as_secs_f64();
        if latency_s > self.latency_s {
            self.latency_s = latency_s;
        } else {
            let elapsed = now.saturating_duration_since(self.observed).as_secs_f64();
            let keep = (-elapsed / DECAY.as_secs_f64()).exp();
            self.latency_s = self.latency_s * keep + latency_s * (1.0 - keep);
        }
        self.observed = now;
    }

    fn count(&mut self, failed: bool, now: Instant) {
        if now.saturating_duration_since(self.window_start) > WINDOW {
            self.window_start = now;
            self.window_calls = 0;
            self.window_failures = 0;
        }
        self.window_calls += 1;
        self.window_failures += u32::from(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn slow_answers_count_at_once_and_fast_ones_with_time() {
        let start = Instant::now();
        let mut health = Health::new(start);
        health.answered(MS * 200, start);
        assert!((health.latency_s(start) - 0.2).abs() < 1e-9);
        health.answered(MS, start + MS);
        assert!(
            health.latency_s(start + MS) > 0.19,
            "one fast answer does not wash a slow one away"
        );
        let later = start + Duration::from_mins(1);
        assert!(
            health.latency_s(later) < 0.01,
            "without calls it is forgotten, too"
        );
        health.answered(MS, later);
        assert!(health.latency_s(later) < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_eject_and_a_good_probe_brings_back() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for _ in 0..4 {
            assert!(!health.failed(start));
        }
        assert!(health.failed(start));
        assert!(health.is_ejected(start));
        let over = start + EJECT_FOR;
        assert!(!health.is_ejected(over));
        assert!(health.calling(over));
        assert!(!health.calling(over));
        assert!(health.is_ejected(over), "only the probe may call");
        health.answered(MS, over);
        assert!(!health.is_ejected(over));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_ejects_for_longer() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for _ in 0..5 {
            health.failed(start);
        }
        let over = start + EJECT_FOR;
        assert!(health.calling(over));
        assert!(health.failed(over));
        assert!(health.is_ejected(over + EJECT_FOR));
        assert!(!health.is_ejected(over + EJECT_FOR * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_twenty_eject_though_never_five_in_a_row() {
        let start = Instant::now();
        let mut health = Health::new(start);
        let mut ejected = false;
        for _ in 0..10 {
            health.answered(MS, start);
            ejected |= health.failed(start);
        }
        assert!(ejected);
    }
}
