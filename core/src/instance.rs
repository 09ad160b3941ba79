//! What the cluster knows of one running copy of a service.
//!
//! Invariants: an [`Instance`] is immutable once it stands in a snapshot; its four names are shared
//! strings; measurements are not part of it (they are [`crate::stats::InstanceStats`], asked from
//! hosts, and never stored in the registry). Knows nothing of etcd.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The identity of an instance: random, and its own for as long as its process lives.
pub type InstanceId = uuid::Uuid;

/// The name that a daemon has as a service.
pub const DAEMON_SERVICE: &str = "SkynetDaemon";

/// What an instance, or a child that is not registered, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its process runs and is not ready to answer.
    Starting,
    /// It answers.
    Ready,
    /// It answers, and asks for less.
    Pressured,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// It has said that it goes.
    Leaving,
    /// Its daemon saw its process die.
    Dead,
    /// A child that was stopped on request.
    Stopped,
    /// A child that waits for its next start.
    Backoff,
    /// A child that fails again and again; it is still tried.
    Crashloop,
    /// A child that cannot be started.
    Failed,
    /// A child that ended and is not to be started again.
    Done,
    /// It vanished from the registry without a word; it may well live.
    Suspect,
    /// It has just left and is still on the screen.
    Gone,
}

impl State {
    /// Every state, in the order in which help texts name them.
    pub const ALL: [Self; 13] = [
        Self::Starting,
        Self::Ready,
        Self::Pressured,
        Self::Draining,
        Self::Leaving,
        Self::Dead,
        Self::Stopped,
        Self::Backoff,
        Self::Crashloop,
        Self::Failed,
        Self::Done,
        Self::Suspect,
        Self::Gone,
    ];

    /// The state's word, as in JSON and in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Pressured => "pressured",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Dead => "dead",
            Self::Stopped => "stopped",
            Self::Backoff => "backoff",
            Self::Crashloop => "crashloop",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
        }
    }

    /// Whether only a daemon's `status/` key says it: the child is not registered.
    pub const fn is_child_only(self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Backoff | Self::Crashloop | Self::Failed | Self::Done
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A word that is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a state")]
pub struct UnknownState {
    /// The word that was given.
    pub word: String,
}

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownState {
                word: word.to_owned(),
            })
    }
}

/// The names under which an instance is registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The service's name.
    pub service: Arc<str>,
    /// The service's version, as its author writes it.
    pub version: Arc<str>,
    /// The region of its host.
    pub region: Arc<str>,
    /// The name of its host.
    pub host: Arc<str>,
    /// The instance's own id.
    pub id: InstanceId,
}

/// A process on a host, so that a reused pid is never taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The kernel's boot id of the host; in a container with pids of its own, `/` and the number of
    /// its pid namespace follow.
    pub boot_id: Arc<str>,
    /// The process id.
    pub pid: u32,
    /// The process's start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub process_start: u64,
}

/// One copy of a service: registered, or a child that only its daemon knows of.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Service, version, region, host and id.
    pub identity: Identity,
    /// Where it answers; a child that does not run has no address.
    pub address: Option<SocketAddr>,
    /// Where it answers `Admin` requests.
    pub admin_address: Option<SocketAddr>,
    /// Whether clients may choose it: the operator's wish, which the instance follows.
    pub registered: bool,
    /// What it is doing.
    pub state: State,
    /// Why it is in that state, for people.
    pub reason: Option<Arc<str>>,
    /// Its process, when one is known.
    pub process: Option<ProcessId>,
    /// When its process started (for a child that does not run: when it last did).
    pub started: Timestamp,
    /// The deployment that it belongs to.
    pub deployment: Option<Arc<str>>,
    /// Its share of the traffic beside others; 100 is usual.
    pub weight: u32,
    /// The lease that its key hangs on; 0 for a child that is not registered.
    pub lease: i64,
    /// Free words that queries can ask for.
    pub tags: Vec<Arc<str>>,
    /// The registry's revision of its last change.
    pub mod_revision: i64,
}

impl Instance {
    /// The instance's id.
    pub fn id(&self) -> InstanceId {
        self.identity.id
    }

    /// The service's name.
    pub fn service(&self) -> &Arc<str> {
        &self.identity.service
    }

    /// The service's version.
    pub fn version(&self) -> &Arc<str> {
        &self.identity.version
    }

    /// The region of its host.
    pub fn region(&self) -> &Arc<str> {
        &self.identity.region
    }

    /// The name of its host.
    pub fn host(&self) -> &Arc<str> {
        &self.identity.host
    }

    /// Its process id, when a process is known.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Whether it belongs to Skynet itself: changes by filter leave such instances out.
    pub fn is_system(&self) -> bool {
        &*self.identity.service == DAEMON_SERVICE
    }
}

/// A host, as its daemon has registered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name; no two hosts of a cluster have the same.
    pub name: Arc<str>,
    /// The region that it is in.
    pub region: Arc<str>,
    /// Where its daemon answers.
    pub address: SocketAddr,
    /// The daemon's process.
    pub process: ProcessId,
    /// When the daemon started.
    pub started: Timestamp,
    /// The registry's revision of its last change.
    pub mod_revision: i64,
}
