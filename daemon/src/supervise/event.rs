//! What can happen to a child, and what its state machine asks for. Plain data.

use std::fmt;
use std::time::Duration;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody knows: it was not the daemon's own child any longer.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(formatter, "killed by {name}"),
                None => write!(formatter, "killed by signal {signal}"),
            },
            Self::Unknown => formatter.write_str("ended, nobody knows how"),
        }
    }
}

/// The names of the signals that end processes in practice.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// What the registry shows of a child's present process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No key of it.
    Absent,
    /// Its key says that it does not take requests.
    Unready,
    /// Its key says that it answers.
    Ready,
}

/// What happened to a child.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody wants it to run.
    Start,
    /// Somebody wants it to stop.
    Stop,
    /// Somebody wants it to run anew.
    Restart,
    /// Its process was started.
    Spawned,
    /// Its process could not be started.
    SpawnFailed {
        /// Why, for people.
        reason: String,
        /// Whether trying again cannot help.
        permanent: bool,
    },
    /// A living process of an earlier daemon was found.
    Found {
        /// How long that process has run.
        age: Duration,
    },
    /// Its process is gone.
    Exited(Exit),
    /// What the registry shows of it has changed.
    Presence(Presence),
    /// The registry knows of the death, or there was nothing to tell.
    Cleared,
    /// The request to stop by itself was answered, or could not be made.
    StopAsked {
        /// Whether it was taken.
        taken: bool,
    },
    /// It answered a liveness question, or failed to.
    Liveness {
        /// Whether it did.
        answered: bool,
    },
    /// Time has passed.
    Tick,
}

/// What is to be done for a child.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start its process; answer with [`Event::Spawned`], [`Event::SpawnFailed`] or
    /// [`Event::Exited`].
    Spawn,
    /// Ask it to finish and stop; answer with [`Event::StopAsked`].
    AskStop,
    /// Send SIGTERM to its process group.
    Terminate,
    /// Send SIGKILL to its process group.
    Kill,
    /// Tell the registry that its process is dead; answer with [`Event::Cleared`].
    Clear {
        /// Why it is dead, for people.
        reason: String,
    },
}
