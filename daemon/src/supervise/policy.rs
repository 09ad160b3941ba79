//! The durations and limits by which a child is supervised. Plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an exit that nobody asked for leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitPolicy {
    /// It is started again, whatever its exit code.
    #[default]
    Always,
    /// It is started again unless its exit code was 0.
    OnFailure,
    /// It is left as it is.
    Never,
}

/// How a child is started again and stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What an exit that nobody asked for leads to.
    pub exit: ExitPolicy,
    /// How long it must have been ready for the quick wait.
    pub steady: Duration,
    /// The wait after an exit of a child that was steady.
    pub quick_wait: Duration,
    /// How long it must have been ready for its failures to be forgotten.
    pub proven: Duration,
    /// The first wait otherwise; it doubles with each failure.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// A wait of at least this length is told to others.
    pub notable_wait: Duration,
    /// This many failures …
    pub loop_failures: usize,
    /// … within this time are a crash loop.
    pub loop_window: Duration,
    /// How long a child may take to finish what it has before it gets a signal.
    pub drain: Duration,
    /// How long it may take after the signal before its group is killed.
    pub grace: Duration,
    /// How long the registry may take to hear of a death before the next start.
    pub notice: Duration,
    /// How many liveness questions in a row may stay unanswered.
    pub misses: u32,
}

impl Policy {
    /// The usual policy, with `drain` for a child to finish what it has.
    ///
    /// From the request to stop until the kill, the usual drain of 25 s gives 30 s.
    pub fn with_drain(drain: Duration) -> Self {
        Self {
            drain,
            grace: (drain / 5).clamp(Duration::from_secs(1), Duration::from_secs(5)),
            ..Self::default()
        }
    }

    /// The longest that a stop takes, short of a process that the kernel holds.
    pub fn longest_stop(&self) -> Duration {
        self.drain + self.grace
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            exit: ExitPolicy::Always,
            steady: Duration::from_secs(10),
            quick_wait: Duration::from_millis(100),
            proven: Duration::from_mins(1),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_mins(1),
            notable_wait: Duration::from_secs(1),
            loop_failures: 5,
            loop_window: Duration::from_mins(5),
            drain: Duration::from_secs(25),
            grace: Duration::from_secs(5),
            notice: Duration::from_millis(500),
            misses: 3,
        }
    }
}
