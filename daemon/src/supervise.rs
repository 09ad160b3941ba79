//! The life of one child as a pure state machine: `step(state, event, now) -> (state, effects)`.
//!
//! Invariants: at most one process per child is asked for at a time; nothing is signalled when no
//! process lives; a child that is wanted is either alive, or waits with a deadline, or says why it
//! is not started again. Time is data (`now`), chance is a seeded generator inside the state.
//! Knows nothing of processes, sockets, files or the registry: the supervisor carries the effects
//! out and tells what came of them as events.

use tokio::time::Instant;

mod child;
mod event;
mod failures;
mod policy;
#[cfg(test)]
mod tests;

pub use child::{Child, Shown};
pub use event::{Effect, Event, Exit, Presence};
pub use policy::{ExitPolicy, Policy};

use failures::Failures;

/// Whether a child is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It is to run.
    Running,
    /// It is to stay stopped until somebody starts it.
    Stopped,
}

/// What a child is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Known, and never started.
    Pending,
    /// Its process was asked for.
    Starting,
    /// Its process lives; the registry has not shown it.
    Running,
    /// Its process lives, started by an earlier daemon; the registry has not shown it.
    Adopted,
    /// The registry shows it ready.
    Ready {
        /// Since when, without interruption.
        since: Instant,
    },
    /// It lives and was ready, or says in the registry that it is not.
    Unready,
    /// It was asked to finish what it has.
    Draining {
        /// When it is told with a signal instead.
        until: Instant,
    },
    /// It was told to end.
    Stopping {
        /// When its process group is killed (again).
        kill_at: Instant,
    },
    /// Its process is gone and the registry is being told.
    Exited {
        /// What comes afterwards.
        next: Next,
        /// When the registry's answer is not waited for any longer.
        until: Instant,
    },
    /// It failed and is started again.
    Backoff {
        /// When.
        until: Instant,
        /// Whether the wait is long enough to be told to others.
        notable: bool,
    },
    /// It fails again and again, and is still tried.
    CrashLoop {
        /// When it is tried again.
        until: Instant,
    },
    /// It cannot be started.
    Failed,
    /// It ended, and its policy says to leave it so.
    Done,
    /// It was stopped on request.
    Stopped,
}

/// What comes after an exit once the registry knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// A planned restart.
    Start,
    /// A start after a wait.
    Wait {
        /// When.
        until: Instant,
        /// Whether the wait is long enough to be told to others.
        notable: bool,
    },
    /// A try at the longest wait.
    Retry {
        /// When.
        until: Instant,
    },
    /// Nothing: it ended as it should.
    Done,
    /// Nothing: it was to stop.
    Stop,
}

impl Phase {
    /// Whether a process of this child lives, or may.
    pub fn has_process(&self) -> bool {
        matches!(
            self,
            Self::Starting
                | Self::Running
                | Self::Adopted
                | Self::Ready { .. }
                | Self::Unready
                | Self::Draining { .. }
                | Self::Stopping { .. }
        )
    }

    /// Whether it lives and nobody has told it to end.
    pub fn is_serving(&self) -> bool {
        matches!(
            self,
            Self::Running | Self::Adopted | Self::Ready { .. } | Self::Unready
        )
    }
}

/// Takes one event at `now`; returns what the child is now and what is to be done.
#[must_use]
pub fn step(mut child: Child, event: Event, now: Instant) -> (Child, Vec<Effect>) {
    let effects = child.take(event, now);
    (child, effects)
}
