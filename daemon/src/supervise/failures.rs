//! The record of a child's failures, and the wait that follows from it.
//!
//! Invariants: never more than [`Policy::loop_failures`] times are kept; a wait is never longer than
//! [`Policy::longest_wait`]. Pure: chance comes from a seeded generator.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Policy;

/// Jittered waits are between this share of the full wait and the full wait.
const LEAST_SHARE: f64 = 0.8;

/// The failures of a child that still count.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    recent: VecDeque<Instant>,
    /// How often the wait has doubled.
    doublings: u32,
    looping: bool,
    random: fastrand::Rng,
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// How long to wait.
    pub(super) wait: Duration,
    /// Whether it is a crash loop.
    pub(super) looping: bool,
}

impl Failures {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            recent: VecDeque::new(),
            doublings: 0,
            looping: false,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether the last failure made it a crash loop.
    pub(super) fn is_looping(&self) -> bool {
        self.looping
    }

    /// Forgets everything: somebody asked for a start, or the child has proven itself.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
        self.doublings = 0;
        self.looping = false;
    }

    /// Notes a failure at `now` of a child that had been ready for `ready_for`.
    pub(super) fn note(&mut self, ready_for: Duration, now: Instant, policy: &Policy) -> Verdict {
        let old = |at: &Instant| now.saturating_duration_since(*at) >= policy.loop_window;
        if ready_for >= policy.proven || self.recent.back().is_none_or(old) {
            self.forget();
        }
        while self.recent.front().is_some_and(old) || self.recent.len() >= policy.loop_failures {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.looping |= self.recent.len() >= policy.loop_failures;
        let wait = if self.looping {
            self.jittered(policy.longest_wait)
        } else if ready_for >= policy.steady {
            policy.quick_wait
        } else {
            let doubled = policy
                .first_wait
                .saturating_mul(2_u32.saturating_pow(self.doublings))
                .min(policy.longest_wait);
            self.doublings = self.doublings.saturating_add(1);
            self.jittered(doubled)
        };
        Verdict {
            wait,
            looping: self.looping,
        }
    }

    fn jittered(&mut self, wait: Duration) -> Duration {
        wait.mul_f64(LEAST_SHARE + (1.0 - LEAST_SHARE) * self.random.f64())
    }
}
