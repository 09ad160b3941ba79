//! Growing waits with full jitter, so that many that fail together do not come back together.
//!
//! Pure: it hands out durations, the caller sleeps. The jitter is that of "Exponential Backoff And
//! Jitter" (AWS Architecture Blog, 2015): uniform between the floor and the current cap.

use std::time::Duration;

/// A sequence of waits: the cap doubles from `floor` to `ceiling`; each wait is uniform in
/// `floor..=cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    cap: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits from `floor` up to `ceiling`; a ceiling below the floor counts as the floor.
    pub fn new(floor: Duration, ceiling: Duration) -> Self {
        Self {
            floor,
            ceiling: ceiling.max(floor),
            cap: floor,
            random: fastrand::Rng::new(),
        }
    }

    /// The same with a seed, so that a run can be repeated.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random.seed(seed);
        self
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let spread = self.cap.saturating_sub(self.floor);
        let wait = self.floor + spread.mul_f64(self.random.f64());
        self.cap = self.cap.saturating_mul(2).min(self.ceiling);
        wait
    }

    /// Starts again from the floor: call it after a success.
    pub fn reset(&mut self) {
        self.cap = self.floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_stay_within() {
        let floor = Duration::from_millis(100);
        let ceiling = Duration::from_secs(5);
        let mut backoff = Backoff::new(floor, ceiling).with_seed(7);
        let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
        assert_eq!(waits[0], floor);
        assert!(waits.iter().all(|wait| (floor..=ceiling).contains(wait)));
        assert!(
            waits[10..]
                .iter()
                .any(|wait| *wait > Duration::from_secs(2))
        );
        backoff.reset();
        assert_eq!(backoff.next_wait(), floor);
    }
}
