//! Misbehaviour on request: what goes wrong with an etcd now and then, a test can have at once.
//!
//! Invariants: without the feature `testing` nothing of this is compiled; a fault that is not asked
//! for changes nothing; the handle does not keep a registry alive. One file per concept: `gate`
//! (calls), `wire` (connections), `state` (what is stored), and the watch service's `replay`. It
//! knows nothing of who uses the registry.

mod gate;
mod state;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(super) use self::gate::Gate;
pub use self::wire::Path;
pub(crate) use self::wire::{Line, Wire};
use super::{
    engine::Engine,
    node::{Node, State},
    owner::Job,
    refusal::Refusal,
};

/// The registry could not do to itself what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the registry refused the fault: {why}")]
pub struct FaultRefused {
    why: String,
}

/// What leases do while the registry is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// They wait, and get their whole time when it thaws, as after a change of etcd's leader.
    Stand,
    /// They expire, as if another member went on.
    Expire,
}

/// A key that stands in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The lease that it hangs on, 0 for none.
    pub lease: i64,
    /// The revision that wrote it.
    pub mod_revision: i64,
}

/// What was asked of a registry since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that clients opened.
    pub connections: usize,
    /// Calls by their name in etcd's API, like `Range` or `LeaseKeepAlive`.
    pub calls: BTreeMap<String, usize>,
    /// How many calls of that name went on at once, at most.
    pub most_at_once: BTreeMap<String, usize>,
}

impl Tally {
    /// How often a call was made.
    pub fn calls(&self, name: &str) -> usize {
        self.calls.get(name).copied().unwrap_or(0)
    }
}

/// What a watch that starts is sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Replay {
    pub(super) n_events: usize,
    /// After the new events and backwards, not before them in their order.
    pub(super) is_late: bool,
}

/// The faults of one endpoint, and those that its siblings share.
#[derive(Debug, Clone, Default)]
pub(super) struct Switches {
    own: Arc<Own>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Own {
    line: Line,
    silent: watch::Sender<bool>,
    answer_after: Mutex<Duration>,
    refusals: AtomicUsize,
    leaderless: AtomicBool,
    replay: Mutex<Replay>,
    tally: Mutex<Tally>,
    at_once: Mutex<BTreeMap<String, usize>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Told when the leases go on.
    leases_stand: watch::Sender<bool>,
    /// Leases that are gone and are renewed all the same, with their TTL.
    ghosts: Mutex<HashMap<i64, i64>>,
    /// What the cluster's id is disguised with.
    disguise: AtomicU64,
    is_disguised: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switches {
    /// The faults of another endpoint of the same registry.
    pub(super) fn sibling(&self) -> Self {
        Self {
            own: Arc::default(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// The TTL that a lease is renewed with though it is gone.
    pub(super) fn ghost(&self, lease: i64) -> Option<i64> {
        lock(&self.shared.ghosts).get(&lease).copied()
    }

    /// The cluster's id as clients see it.
    pub(super) fn cluster_id(&self, cluster_id: u64) -> u64 {
        if self.shared.is_disguised.load(Ordering::Relaxed) {
            self.shared.disguise.load(Ordering::Relaxed)
        } else {
            cluster_id
        }
    }

    /// Waits until watches may speak.
    pub(super) async fn until_audible(&self) {
        // The sender lives in what we hold.
        let _ = self.own.silent.subscribe().wait_for(|silent| !silent).await;
    }

    /// Waits until leases may expire; true if they had to wait.
    pub(super) async fn until_leases_go_on(&self) -> bool {
        let mut stand = self.shared.leases_stand.subscribe();
        let waits = *stand.borrow();
        // The sender lives in what we hold.
        let _ = stand.wait_for(|stand| !stand).await;
        waits
    }

    /// What a watch that starts is sent again.
    pub(super) fn replay(&self) -> Replay {
        *lock(&self.own.replay)
    }

    /// A connection that these faults reach.
    pub(super) fn wire<S>(&self, inner: S) -> Wire<S>
    where
        S: Send + 'static,
    {
        lock(&self.own.tally).connections += 1;
        Wire::new(inner, vec![self.own.line.clone()])
    }
}

/// A registry's faults on request. Clones are cheap and drive the same registry.
#[derive(Debug, Clone)]
pub struct Faults {
    state: Arc<State>,
    jobs: mpsc::WeakSender<Job>,
    /// One per endpoint, never empty.
    switches: Vec<Switches>,
}

impl Faults {
    pub(super) fn new(node: &Node, switches: Vec<Switches>) -> Self {
        Self {
            state: Arc::clone(&node.state),
            jobs: node.jobs.downgrade(),
            switches,
        }
    }

    /// The same for one endpoint only, as far as a fault can be that of one: stored state and
    /// leases are everybody's.
    #[must_use]
    pub fn of_endpoint(&self, endpoint: usize) -> Self {
        Self {
            switches: self.switches.get(endpoint).cloned().into_iter().collect(),
            ..self.clone()
        }
    }

    /// Stops answering, even pings: connections stand and say nothing.
    pub fn freeze(&self, leases: Leases) {
        for one in &self.switches {
            one.own.line.set(Path::Stalled);
            let stand = leases == Leases::Stand;
            one.shared.leases_stand.send_replace(stand);
        }
    }

    /// Answers again, what has waited first.
    pub fn thaw(&self) {
        for one in &self.switches {
            one.own.line.set(Path::Open);
            one.shared.leases_stand.send_replace(false);
        }
    }

    /// Breaks all connections off; new ones are taken.
    pub fn cut(&self) {
        for one in &self.switches {
            one.own.line.cut();
        }
    }

    /// Lets watch streams say nothing, not even progress, while calls go on.
    pub fn silence(&self, silent: bool) {
        for one in &self.switches {
            one.own.silent.send_replace(silent);
        }
    }

    /// Carries calls out at once and answers them only after this time.
    pub fn answer_after(&self, time: Duration) {
        for one in &self.switches {
            *lock(&one.own.answer_after) = time;
        }
    }

    /// Refuses the next `n` calls with "too many requests".
    pub fn refuse(&self, n: usize) {
        for one in &self.switches {
            one.own.refusals.store(n, Ordering::Relaxed);
        }
    }

    /// Refuses every call with "no leader", as a member without a quorum does; streams that stand
    /// break off.
    pub fn lose_leader(&self, lost: bool) {
        for one in &self.switches {
            one.own.leaderless.store(lost, Ordering::Relaxed);
        }
        if lost {
            self.cut();
        }
    }

    /// Sends every watch that starts the last `n` events before its start again, first; 0 ends it.
    pub fn duplicate(&self, n: usize) {
        self.set_replay(Replay {
            n_events: n,
            is_late: false,
        });
    }

    /// Sends every watch that starts the last `n` events that it has seen again, backwards and
    /// after newer ones, as etcd 3.4.24 and 3.4.25 did; 0 ends it.
    pub fn reorder(&self, n: usize) {
        self.set_replay(Replay {
            n_events: n,
            is_late: true,
        });
    }

    fn set_replay(&self, replay: Replay) {
        for one in &self.switches {
            *lock(&one.own.replay) = replay;
        }
    }

    /// Becomes another cluster with the same data; connections break off, as in a restart.
    pub fn change_cluster_id(&self) {
        for one in &self.switches {
            let disguise = &one.shared.disguise;
            disguise.store(fastrand::u64(1..), Ordering::Relaxed);
            one.shared.is_disguised.store(true, Ordering::Relaxed);
        }
        self.cut();
    }

    /// What was asked of these endpoints.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for one in &self.switches {
            let tally = lock(&one.own.tally).clone();
            sum.connections += tally.connections;
            for (name, n) in tally.calls {
                *sum.calls.entry(name).or_default() += n;
            }
            for (name, n) in tally.most_at_once {
                let most = sum.most_at_once.entry(name).or_default();
                *most = n.max(*most);
            }
        }
        sum
    }

    /// Runs `work` on the state, as a request would.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, FaultRefused> {
        let refused = |why: &dyn std::fmt::Display| FaultRefused {
            why: why.to_string(),
        };
        let jobs = self.jobs.upgrade();
        let node = Node {
            state: Arc::clone(&self.state),
            jobs: jobs.ok_or_else(|| refused(&Refusal::Stopped))?,
            stop: CancellationToken::new(),
            progress_every: super::PROGRESS_EVERY,
            faults: Switches::default(),
        };
        let done = node.call(work).await;
        done.map_err(|status| refused(&status.message()))
    }
}
