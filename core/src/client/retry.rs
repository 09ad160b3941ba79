//! How many retries a client may make, so that failures never multiply its load. Pure.
//!
//! A token bucket: each call earns a fifth of a retry, each second earns ten, and no more than ten
//! seconds' worth is kept.

use tokio::time::Instant;

const PER_CALL: f64 = 0.2;
const PER_SECOND: f64 = 10.0;
const MOST: f64 = 100.0;

/// The budget of one service client.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: f64,
    filled: Instant,
}

impl RetryBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: PER_SECOND,
            filled: now,
        }
    }

    /// Notes a call that was asked for.
    pub(super) fn earn(&mut self) {
        self.tokens = (self.tokens + PER_CALL).min(MOST);
    }

    /// How many retries may be made now.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "no more than `MOST`, and no half retry"
    )]
    pub(super) fn left(&self, now: Instant) -> i64 {
        self.tokens_at(now) as i64
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        (self.tokens + elapsed * PER_SECOND).min(MOST)
    }

    /// Takes one retry; `false` when there is none left.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        self.tokens = self.tokens_at(now);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_stay_within_a_fifth_of_the_calls_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.earn();
            retries += u32::from(budget.spend(start));
        }
        assert!((205..=211).contains(&retries), "{retries}");
        assert!(!budget.spend(start));
        assert!(budget.spend(start + Duration::from_millis(200)));
    }
}
