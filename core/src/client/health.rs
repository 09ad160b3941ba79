//! How an instance has done by us: latency, failures, ejection. Pure, time is data.
//!
//! Latency is a peak-sensitive moving average, after Finagle's `PeakEwma` load metric: a slow answer
//! counts at once, a fast one only with time. Failures count as slow answers. Ejection follows the
//! figures of the design: five in a row, or half of at least twenty within ten seconds; ten seconds
//! the first time, longer each time, five minutes at most, and the first time again once it has done
//! well for a minute. One call, and no more, shows whether an ejected instance is back, and a second
//! or more after a failure whether that was all: as slow as failures count, nobody would choose it
//! for a minute. A connection that breaks again and again ejects too. A service's own errors never count.

use std::time::Duration;

use tokio::time::Instant;

/// How fast old answers are forgotten.
const DECAY: Duration = Duration::from_secs(10);
/// What an instance is taken to need before it has answered.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(1);
/// What a failure counts as.
const PENALTY: Duration = Duration::from_secs(1);

/// After a first failure, one call tries it so much later; after each further one, twice as late.
const TRY_AFTER: Duration = Duration::from_secs(1);

const CONSECUTIVE_LIMIT: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);
const WINDOW_LEAST: u32 = 20;
const EJECT_FOR: Duration = Duration::from_secs(10);
const EJECT_MOST: Duration = Duration::from_mins(5);
/// Whoever has done well for so long starts anew.
const STABLE: Duration = Duration::from_mins(1);
/// How often a connection may break shortly after it stood before that ejects: once for a process
/// that is started again, once for what carries the connection.
const FREE_BREAKS: u32 = 2;

/// One instance's record.
#[derive(Debug)]
pub(super) struct Health {
    latency_s: f64,
    observed: Instant,
    consecutive: u32,
    failed_at: Instant,
    window_start: Instant,
    window_calls: u32,
    window_failures: u32,
    trouble: Trouble,
    ejected_until: Option<Instant>,
    /// A single call that decides whether the instance comes back.
    probing: bool,
}

/// What outlives a process: how often its instance was in trouble of late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trouble {
    ejections: u32,
    /// Connections that broke shortly after they stood.
    breaks: u32,
    /// When it was in trouble last, or was ejected until.
    last: Option<Instant>,
}

impl Trouble {
    /// Whether it is so long ago that it counts no more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now >= last + STABLE)
    }
}

impl Health {
    /// A new process of an instance that had this trouble before.
    pub(super) fn new(trouble: Trouble, now: Instant) -> Self {
        Self {
            latency_s: UNKNOWN_LATENCY.as_secs_f64(),
            observed: now,
            consecutive: 0,
            failed_at: now,
            window_start: now,
            window_calls: 0,
            window_failures: 0,
            trouble,
            // A new process may do better, but not if that is what never lasts.
            ejected_until: trouble
                .last
                .filter(|until| *until > now && trouble.breaks > FREE_BREAKS),
            probing: false,
        }
    }

    /// How often a connection broke of late.
    pub(super) fn breaks(&self) -> u32 {
        self.trouble.breaks
    }

    /// What is to be remembered when the process is gone.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// The expected response time in seconds. What was long ago counts for little, so that an
    /// instance that once was slow, and gets no calls for it, is tried again.
    pub(super) fn latency_s(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.observed).as_secs_f64();
        self.latency_s * (-elapsed / DECAY.as_secs_f64()).exp()
    }

    /// Whether calls should go elsewhere.
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.probing || self.ejected_until.is_some_and(|until| now < until)
    }

    /// Whether its time is over, and one call is to show whether it is back.
    pub(super) fn awaits_probe(&self, now: Instant) -> bool {
        let doublings = self.consecutive.checked_sub(1);
        let try_at =
            doublings.map(|n| self.failed_at + TRY_AFTER * (1 << n.min(CONSECUTIVE_LIMIT)));
        let at = self.ejected_until.or(try_at);
        !self.probing && at.is_some_and(|at| now >= at)
    }

    /// Notes that a call goes out; `true` when it is the one that shows whether it is back.
    pub(super) fn calling(&mut self, now: Instant) -> bool {
        let is_probe = self.awaits_probe(now);
        self.probing |= is_probe;
        is_probe
    }

    /// Notes an answer, whatever it said; `true` when the instance comes back by it.
    pub(super) fn answered(&mut self, latency: Duration, now: Instant) -> bool {
        let is_back = self.ejected_until.take().is_some();
        if is_back {
            self.window_calls = 0;
            self.window_failures = 0;
            self.trouble.last = Some(now);
        }
        if is_back || self.probing {
            // How it did before it was left alone says nothing any more.
            self.latency_s = latency.as_secs_f64();
            self.observed = now;
        } else {
            self.observe(latency, now);
        }
        self.count(false, now);
        self.consecutive = 0;
        self.probing = false;
        is_back
    }

    /// Notes a time-out or a refusal to execute; `true` when the instance is ejected by it.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.observe(PENALTY, now);
        if self.ejected_until.is_some_and(|until| now < until) {
            // It was called because too many are ejected, or before it was.
            return false;
        }
        self.count(true, now);
        self.consecutive += 1;
        self.failed_at = now;
        let was_probing = std::mem::take(&mut self.probing);
        let failed_probe = was_probing && self.ejected_until.is_some();
        let half =
            self.window_calls >= WINDOW_LEAST && self.window_failures * 2 >= self.window_calls;
        let eject = failed_probe || self.consecutive >= CONSECUTIVE_LIMIT || half;
        if eject {
            self.eject(now);
        }
        eject
    }

    /// Notes that a connection broke without a word after it had stood for so long; `true` when the
    /// instance is ejected by it.
    pub(super) fn broke(&mut self, stood: Duration, now: Instant) -> bool {
        if self.ejected_until.is_some_and(|until| now < until) {
            return false;
        }
        let was_probing = std::mem::take(&mut self.probing);
        let failed_probe = was_probing && self.ejected_until.is_some();
        self.calm(now);
        if stood >= STABLE {
            self.trouble.breaks = 0;
        }
        self.trouble.breaks += 1;
        self.trouble.last = self.trouble.last.max(Some(now));
        let eject = failed_probe || self.trouble.breaks > FREE_BREAKS;
        if eject {
            self.eject(now);
        }
        eject
    }

    /// Notes that the probe was given up by its caller, which says nothing of the instance.
    pub(super) fn abandoned(&mut self) {
        self.probing = false;
    }

    fn eject(&mut self, now: Instant) {
        self.calm(now);
        self.trouble.ejections += 1;
        let until = now + (EJECT_FOR * self.trouble.ejections).min(EJECT_MOST);
        self.trouble.last = Some(until);
        self.ejected_until = Some(until);
        self.consecutive = 0;
        self.window_calls = 0;
        self.window_failures = 0;
    }

    fn calm(&mut self, now: Instant) {
        if self.trouble.is_over(now) {
            self.trouble = Trouble::default();
        }
    }

    fn observe(&mut self, latency: Duration, now: Instant) {
        let latency_s = latency.as_secs_f64();
        // Compared with what is left of older answers, so that one who was slow, and was not asked
        // for that, is as fast as it shows itself now.
        if latency_s > self.latency_s(now) {
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
        let mut health = Health::new(Trouble::default(), start);
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
        let mut health = Health::new(Trouble::default(), start);
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
        let mut health = Health::new(Trouble::default(), start);
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
        let mut health = Health::new(Trouble::default(), start);
        let mut ejected = false;
        for _ in 0..10 {
            health.answered(MS, start);
            ejected |= health.failed(start);
        }
        assert!(ejected);
    }

    #[tokio::test(start_paused = true)]
    async fn row_26_whoever_is_back_is_as_fast_as_its_probe() {
        let start = Instant::now();
        let mut health = Health::new(Trouble::default(), start);
        for _ in 0..5 {
            health.failed(start);
        }
        let over = start + EJECT_FOR;
        assert!(!health.awaits_probe(over - MS) && health.awaits_probe(over));
        assert!(health.calling(over) && !health.awaits_probe(over));
        assert!(health.answered(MS, over), "it is back");
        assert!((health.latency_s(over) - 0.001).abs() < 1e-9);
        assert!(!health.answered(MS, over), "it was back");
    }

    #[tokio::test(start_paused = true)]
    async fn row_26_after_a_failure_one_call_tries_it_again_soon() {
        let start = Instant::now();
        let mut health = Health::new(Trouble::default(), start);
        let mut now = start;
        for (n, wait_s) in [1, 2, 4, 8].into_iter().enumerate() {
            assert!(!health.failed(now), "failure {n}");
            now += Duration::from_secs(wait_s);
            assert!(!health.awaits_probe(now.checked_sub(MS).unwrap()));
            assert!(health.calling(now) && health.is_ejected(now) && !health.calling(now));
        }
        let mut again = Health::new(Trouble::default(), start);
        again.failed(start);
        let later = start + TRY_AFTER;
        assert!(again.calling(later) && !again.answered(MS, later));
        assert!((again.latency_s(later) - 0.001).abs() < 1e-9);
        assert!(!again.is_ejected(later) && !again.awaits_probe(later + TRY_AFTER));
        assert!(health.failed(now), "five in a row");
        assert!(!health.awaits_probe(now + TRY_AFTER) && health.awaits_probe(now + EJECT_FOR));
    }

    #[tokio::test(start_paused = true)]
    async fn row_45_each_ejection_is_longer_until_a_minute_went_well() {
        let mut now = Instant::now();
        let mut health = Health::new(Trouble::default(), now);
        let eject = |health: &mut Health, now: Instant| {
            while !health.failed(now) {}
            health.ejected_until.unwrap().duration_since(now)
        };
        for n in 1..=40 {
            let left_alone = eject(&mut health, now);
            assert_eq!(left_alone, (EJECT_FOR * n).min(EJECT_MOST));
            now += left_alone;
            assert!(health.calling(now) && health.answered(MS, now));
            // It does well, and not for long enough.
            now += STABLE.saturating_sub(MS);
            health.answered(MS, now);
        }
        now += MS;
        assert_eq!(eject(&mut health, now), EJECT_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn row_45_a_connection_that_breaks_again_and_again_ejects_for_longer_each_time() {
        const UP: Duration = Duration::from_secs(3);
        let mut now = Instant::now();
        let mut trouble = Trouble::default();
        let mut left_alone = Vec::new();
        for _ in 0..6 {
            // A process that is started again is another process.
            let mut health = Health::new(trouble, now);
            if health.awaits_probe(now) {
                health.calling(now);
            }
            health.answered(MS, now);
            now += UP;
            health.broke(UP, now);
            let until = health.ejected_until.unwrap_or(now);
            left_alone.push(until.duration_since(now).as_secs());
            now = until + UP;
            trouble = health.trouble();
        }
        assert_eq!(left_alone, [0, 0, 10, 20, 30, 40]);
        let mut health = Health::new(trouble, now + STABLE);
        assert!(!health.broke(UP, now + STABLE), "that was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_process_is_tried_at_once_unless_none_lasts() {
        let start = Instant::now();
        let mut refused = Health::new(Trouble::default(), start);
        for _ in 0..5 {
            refused.failed(start);
        }
        assert!(!Health::new(refused.trouble(), start).is_ejected(start));
        let mut flapping = Health::new(Trouble::default(), start);
        while !flapping.broke(MS, start) {}
        let again = Health::new(flapping.trouble(), start);
        assert!(again.is_ejected(start) && !again.is_ejected(start + EJECT_FOR));
        assert!(again.awaits_probe(start + EJECT_FOR));
    }
}
