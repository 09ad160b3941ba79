//! How a reader's link to the registry stands.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The state of the link, with the times that a screen tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing has been read yet; the first attempt began then.
    Connecting {
        /// When the first attempt began.
        since: Instant,
    },
    /// The registry has not answered yet; the view is what the disk remembers of an earlier one.
    Cached {
        /// When the first attempt began.
        since: Instant,
        /// When the view was written to the disk.
        written: Timestamp,
    },
    /// The view is complete and followed.
    Live {
        /// When the registry last said anything.
        heard: Instant,
    },
    /// The registry answers and is followed, and is not the one that was known: what is missing in
    /// it is kept for a while, because it may only have to register again.
    Protected {
        /// When that was noticed.
        since: Instant,
        /// Until when what is missing is kept.
        until: Instant,
        /// When the registry last said anything.
        heard: Instant,
        /// What is the matter.
        why: Doubt,
    },
    /// The registry does not answer; the view is as it was.
    Lost {
        /// When the registry last said anything.
        since: Instant,
        /// When it will be tried again.
        retry_at: Instant,
    },
    /// The registry answers, and its keys are in a format that this program does not know; the view
    /// is as it was.
    Unknown {
        /// When that was noticed.
        since: Instant,
        /// When it will be tried again.
        retry_at: Instant,
        /// The format.
        format: u32,
    },
}

/// Why a registry is not believed when it says that something is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It is another registry than the one that was known.
    AnotherRegistry,
    /// Everything in it was deleted.
    Wiped,
    /// It was put back to an earlier state.
    WentBack,
}

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::AnotherRegistry => "the registry is another one than before",
            Self::Wiped => "the registry was wiped",
            Self::WentBack => "the registry was put back to an earlier state",
        })
    }
}

impl Link {
    /// How old the view is at `now`; of one from the disk, for how long the registry has been
    /// waited for.
    pub fn age(&self, now: Instant) -> Duration {
        let since = match self {
            Self::Connecting { since }
            | Self::Cached { since, .. }
            | Self::Lost { since, .. }
            | Self::Unknown { since, .. } => since,
            Self::Live { heard } | Self::Protected { heard, .. } => heard,
        };
        now.saturating_duration_since(*since)
    }

    /// Whether what is seen may be acted on.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Whether the registry answers, so that what is written arrives.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Live { .. } | Self::Protected { .. })
    }

    /// Why what is seen may not be acted on, for people; `None` when it may.
    pub fn refusal(&self) -> Option<String> {
        Some(match self {
            Self::Live { .. } => return None,
            Self::Connecting { .. } => "the registry has not answered yet".to_owned(),
            Self::Cached { .. } => {
                "the registry has not answered yet: what is shown is from the disk".to_owned()
            }
            Self::Protected { why, .. } => {
                format!("{why}: what is shown may be gone, wait until that is certain")
            }
            Self::Lost { .. } => {
                "the registry is not connected: what is shown is old and cannot be acted on"
                    .to_owned()
            }
            Self::Unknown { format, .. } => {
                format!(
                    "the registry's keys are in format {format}, which this program does not know"
                )
            }
        })
    }
}
