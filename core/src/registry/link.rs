//! How a reader's link to the registry stands.

use std::time::Duration;

use tokio::time::Instant;

/// The state of the link, with the times that a screen tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing has been read yet; the first attempt began then.
    Connecting {
        /// When the first attempt began.
        since: Instant,
    },
    /// The view is complete and followed.
    Live {
        /// When the registry last said anything.
        heard: Instant,
    },
    /// The registry does not answer; the view is as it was.
    Lost {
        /// When the registry last said anything.
        since: Instant,
        /// When it will be tried again.
        retry_at: Instant,
    },
}

impl Link {
    /// How old the view is at `now`.
    pub fn age(&self, now: Instant) -> Duration {
        match self {
            Self::Connecting { since } | Self::Lost { since, .. } => {
                now.saturating_duration_since(*since)
            }
            Self::Live { heard } => now.saturating_duration_since(*heard),
        }
    }

    /// Whether what is seen may be acted on.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}
