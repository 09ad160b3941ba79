//! Finding instances by a query and calling them.
//!
//! A [`Client`] shares one view of the cluster and one pool of connections among its
//! [`ServiceClient`]s, each of which has a query. The registry is advice, the connection is truth:
//! an instance whose connection ends is out of the choice before the registry says so, and one that
//! vanished from the registry without a word is called for as long as its connection stands.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::instance::{Instance, InstanceId, State};
use crate::metrics::{ClientMetrics, ServiceClientMetrics, Source};
use crate::query::{self, Query, StatsTable};
use crate::registry::snapshot::Snapshot;
use crate::registry::{Registry, View};
use balance::Nearness;
use figures::{Calls, CallsByQuery};
use peer::Peer;
use policy::Turn;
use pool::Pool;

mod balance;
mod call;
mod error;
mod figures;
mod health;
mod hedge;
mod life;
mod listener;
mod many;
mod peer;
mod policy;
mod pool;
mod retry;
#[cfg(test)]
mod shares;

pub use call::{CallOptions, DEFAULT_DEADLINE};
pub use error::{CallError, CallId};
pub use listener::{InstanceChange, InstanceListener};
pub use many::{AT_MOST, Answers, ManyCalls};
pub use policy::Policy;

/// Where a client stands, so that it prefers what is near.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its region; instances of the same region come first.
    pub region: Option<Arc<str>>,
    /// Its host; instances on the same host cost less.
    pub host: Option<Arc<str>>,
}

impl Place {
    /// From `SKYNET_REGION` and `SKYNET_HOST`, which daemons pass to their children.
    pub fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().map(Arc::from);
        Self {
            region: read("SKYNET_REGION"),
            host: read("SKYNET_HOST"),
        }
    }
}

impl Place {
    /// Without a region of its own, a client takes every region for its own.
    fn nearness(&self, instance: &Instance) -> Nearness {
        if self.host.as_ref().is_some_and(|own| own == instance.host()) {
            Nearness::SameHost
        } else if self
            .region
            .as_ref()
            .is_none_or(|own| own == instance.region())
        {
            Nearness::SameRegion
        } else {
            Nearness::Far
        }
    }
}

/// Access to every service of a cluster. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    view: Arc<View>,
    pool: Pool,
    place: Place,
    calls: CallsByQuery,
}

impl Source for Shared {
    fn metrics(&self) -> ClientMetrics {
        let text = |word: &Option<Arc<str>>| word.as_deref().unwrap_or_default().to_owned();
        ClientMetrics {
            region: text(&self.place.region),
            host: text(&self.place.host),
            services: self.calls.read(),
            ..self.pool.metrics()
        }
    }
}

impl Client {
    /// A client that follows the cluster, with the place of [`Place::from_env`]. It does not wait
    /// for the registry: calls do, up to their deadlines.
    ///
    /// Call it on a tokio runtime.
    pub fn connect(registry: &Registry) -> Self {
        Self::connect_from(registry, Place::from_env())
    }

    /// The same from a given place.
    pub fn connect_from(registry: &Registry, place: Place) -> Self {
        let view = registry.view();
        let pool = Pool::new(view.changes());
        let calls = CallsByQuery::default();
        let shared = Arc::new(Shared {
            view,
            pool,
            place,
            calls,
        });
        let source: Weak<Shared> = Arc::downgrade(&shared);
        registry.clients().add(source);
        Self { shared }
    }

    /// The services that a query chooses. It never fails for lack of instances.
    pub fn service(&self, query: Query) -> ServiceClient {
        ServiceClient {
            policy: Policy::default(),
            shared: Arc::new(ServiceShared {
                client: self.clone(),
                changes: self.shared.view.changes(),
                calls: self.shared.calls.of(query.to_string()),
                query,
                known: Mutex::new(Known {
                    seen: None,
                    peers: Arc::from([]),
                }),
                turns: AtomicUsize::new(0),
            }),
        }
    }

    /// Tells what comes, changes and goes among the instances that a query chooses.
    pub fn listen(&self, query: Query) -> InstanceListener {
        InstanceListener::new(Arc::clone(&self.shared.view), query)
    }

    /// What it measures.
    pub fn metrics(&self) -> ClientMetrics {
        self.shared.metrics()
    }

    /// The client's view of the cluster.
    pub fn view(&self) -> &Arc<View> {
        &self.shared.view
    }
}

/// Calls the instances that a query chooses. Clones are cheap and share everything.
#[derive(Clone)]
pub struct ServiceClient {
    shared: Arc<ServiceShared>,
    policy: Policy,
}

struct ServiceShared {
    client: Client,
    changes: watch::Receiver<Arc<Snapshot>>,
    query: Query,
    known: Mutex<Known>,
    /// Where its calls are counted; shared by all of the same query.
    calls: Arc<Calls>,
    /// How many choices were made, for policies that take turns.
    turns: AtomicUsize,
}

/// The peers that the query chose in the snapshot that was seen last.
struct Known {
    seen: Option<Arc<Snapshot>>,
    peers: Arc<[Choice]>,
}

/// For how long an instance that vanished from the registry without a word is as good as the others
/// while its connection stands: leases are lost for a moment, and load should not move for that.
const VANISHED_GRACE: Duration = Duration::from_secs(10);

/// An instance that may be chosen.
struct Choice {
    peer: Arc<Peer>,
    /// Since when it is missing in the registry, though it said no word: it counts only while its
    /// connection stands, and after a while only when no other can be called.
    vanished: Option<Instant>,
    /// Most of its service vanished at once. Those that answer are as good as the others, which
    /// could not carry the load of all.
    alarmed: bool,
}

impl Choice {
    fn counts(&self) -> bool {
        self.vanished.is_none() || self.alarmed || self.peer.is_connected()
    }

    fn comes_last(&self, now: Instant) -> bool {
        let long_ago = |since| now.saturating_duration_since(since) >= VANISHED_GRACE;
        !self.alarmed && self.vanished.is_some_and(long_ago)
    }
}

impl ServiceClient {
    /// The same client, choosing among instances in another way.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Begins a call; it runs while other things are done, and is awaited later. Dropping the
    /// returned [`Call`] gives it up.
    ///
    /// Call it on a tokio runtime.
    pub fn start<I, O>(&self, method: &str, input: I) -> Call<O>
    where
        I: Serialize + Send + Sync + 'static,
        O: DeserializeOwned + Send + 'static,
    {
        let (client, method) = (self.clone(), method.to_owned());
        Call {
            task: tokio::spawn(async move { client.call(&method, &input).await }),
        }
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.shared.query
    }

    /// What it measures, together with all that have the same query and the same client.
    pub fn metrics(&self) -> ServiceClientMetrics {
        self.shared.calls.read()
    }

    /// How many instances can be chosen, as far as the registry tells.
    pub fn known(&self) -> usize {
        self.peers().len()
    }

    /// Waits until an instance can be chosen, and chooses; `None` only for who would rather fail, when
    /// instances are known and none can be reached.
    async fn choose_or_wait(
        &self,
        key: u64,
        tried: &[InstanceId],
        fail_fast: bool,
    ) -> Option<Arc<Peer>> {
        let shared = &self.shared;
        let mut changes = shared.changes.clone();
        loop {
            let news = shared.client.shared.pool.news().notified();
            tokio::pin!(news);
            // From here on, no news is missed.
            news.as_mut().enable();
            changes.mark_unchanged();
            let chosen = self.choose(key, tried);
            if chosen.is_some() || (fail_fast && self.known() > 0) {
                return chosen;
            }
            tokio::select! {
                () = news => {}
                changed = changes.changed() => {
                    // The view lives as long as the client.
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    fn choose(&self, key: u64, tried: &[InstanceId]) -> Option<Arc<Peer>> {
        let now = Instant::now();
        let place = &self.shared.client.shared.place;
        let peers = self.peers();
        let choices: Vec<&Choice> = peers.iter().filter(|choice| choice.counts()).collect();
        let candidates: Vec<balance::Candidate> = choices
            .iter()
            .map(|choice| {
                let peer = &choice.peer;
                let tried = tried.contains(&peer.instance.id());
                let nearness = place.nearness(&peer.instance);
                let candidate = peer.candidate(nearness, tried, now);
                balance::Candidate {
                    last: candidate.last || choice.comes_last(now),
                    ..candidate
                }
            })
            .collect();
        let turn = Turn {
            number: self.shared.turns.fetch_add(1, Ordering::Relaxed),
            key,
        };
        let draw = |below| fastrand::usize(..below);
        let index = balance::choose(&candidates, self.policy, turn, draw)?;
        choices.get(index).map(|choice| Arc::clone(&choice.peer))
    }

    /// The peers of the newest snapshot; recomputed only when there is a new one.
    fn peers(&self) -> Arc<[Choice]> {
        let shared = &self.shared;
        let snapshot = Arc::clone(&shared.changes.borrow());
        let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known
            .seen
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, &snapshot));
        if !same {
            let pool = &shared.client.shared.pool;
            pool.retain(&snapshot);
            let (stats, now) = (StatsTable::new(), jiff::Timestamp::now());
            let mut candidates = Vec::new();
            query::Known::new(&snapshot, &stats, now).each_match(&shared.query, |instance| {
                if instance.registered {
                    candidates.push(instance);
                }
            });
            let choices = |wanted| choices_of(pool, &snapshot, &candidates, wanted);
            known.peers = choices(State::Ready);
            if known.peers.iter().all(|choice| choice.vanished.is_some()) {
                // Better one that asks for less than none.
                known.peers = choices(State::Pressured);
            }
            known.seen = Some(snapshot);
        }
        Arc::clone(&known.peers)
    }
}

fn choices_of(
    pool: &Pool,
    snapshot: &Snapshot,
    candidates: &[&Arc<Instance>],
    wanted: State,
) -> Arc<[Choice]> {
    candidates
        .iter()
        .filter(|it| it.state == wanted || it.state == State::Suspect)
        .filter_map(|it| {
            let peer = pool.peer(it)?;
            Some(Choice {
                vanished: peer.vanished_since(it.state),
                alarmed: snapshot.alarms().contains_key(&**it.service()),
                peer,
            })
        })
        .collect()
}

/// A call that runs; await it for its result, drop it to give it up.
pub struct Call<O> {
    task: JoinHandle<Result<O, CallError>>,
}

impl<O> Future for Call<O> {
    type Output = Result<O, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task)
            .poll(context)
            .map(|ended| match ended {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    // A panic of the call is the caller's to see.
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only dropping aborts the task, and then nobody polls.
                    Err(_cancelled) => unreachable!("a call is aborted only when it is dropped"),
                },
            })
    }
}

impl<O> Drop for Call<O> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
