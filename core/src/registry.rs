//! The central registry: who is there, and where.
//!
//! Readers hold a [`snapshot::Snapshot`]; only this folder speaks etcd. The registry is advice: what
//! a client sees on the wire overrides what stands here. When it is away, everything goes on with
//! what is known, for ever.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch as channel;

use crate::instance::{Identity, InstanceId};
use crate::metrics::Clients;
use dial::Dial;
use entry::{Entry, EntryKind};
use etcd::Etcd;
use lease::LeaseKeeper;
use registration::OnNewId;
use snapshot::Snapshot;
use value::{HostValue, InstanceValue};
use watch::ViewConfig;

pub mod access;
mod cache;
mod changes;
mod cluster;
mod dial;
#[cfg(feature = "embedded")]
pub mod embedded;
mod endpoint;
mod entry;
pub mod error;
mod etcd;
pub mod key;
mod lease;
pub mod link;
mod list;
mod liveness;
mod names;
mod origin;
mod protection;
mod read;
pub mod refusal;
mod registration;
mod removal;
mod rotation;
mod said;
pub mod snapshot;
mod stale;
mod stream;
mod suspects;
mod unreadable;
pub mod value;
mod view;
mod watch;

pub use access::Access;
pub use cache::CACHE_VARIABLE;
pub use cluster::FORMAT;
#[cfg(feature = "testing")]
pub use dial::{Connection, Connector, Duplex};
pub use error::Error;
pub use refusal::Refusal;
pub use registration::{HostRegistration, Registration};
pub use stale::{Listed, QUORUM_WITHIN};
pub use watch::View;

/// The registry that is used unless another is given.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";

/// The environment's variable for [`RegistryConfig::ttl`].
pub const TTL_VARIABLE: &str = "SKYNET_REGISTRY_TTL";
/// What [`RegistryConfig::ttl`] may be.
const TTL: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_mins(1);

/// Reads a time to live, like `30s`.
///
/// # Errors
/// [`TtlError`] for what is no time, or not from 5 s to 60 s.
pub fn parse_ttl(text: &str) -> Result<Duration, TtlError> {
    humantime::parse_duration(text)
        .ok()
        .filter(|ttl| TTL.contains(ttl))
        .ok_or_else(|| TtlError {
            given: text.to_owned(),
        })
}

/// A text that is no time to live.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no time from 5s to 60s")]
pub struct TtlError {
    given: String,
}

/// Where the registry is, and how long to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The endpoints, each like `http://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// How we are let in.
    pub access: Access,
    /// The prefix of all keys, so that clusters can share one registry.
    pub prefix: String,
    /// How long an entry outlives its process: 5 to 60 seconds.
    pub ttl: Duration,
    /// How long one exchange may take.
    pub call_timeout: Duration,
    /// A file that remembers the cluster, so that a process that starts while the registry is away
    /// can call at once. Written while the registry is followed; processes of one host and user
    /// that follow the same prefix may share it.
    pub cache: Option<PathBuf>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            endpoints: vec![DEFAULT_ENDPOINT.to_owned()],
            access: Access::default(),
            prefix: key::DEFAULT_PREFIX.to_owned(),
            ttl: Duration::from_secs(10),
            call_timeout: Duration::from_secs(5),
            cache: None,
        }
    }
}

impl RegistryConfig {
    /// The usual settings with these endpoints, separated by commas.
    pub fn at(endpoints: &str) -> Self {
        let endpoints = endpoints
            .split(',')
            .map(str::trim)
            .filter(|endpoint| !endpoint.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            endpoints,
            ..Self::default()
        }
    }

    /// The same below another prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = format!("/{}", prefix.trim_matches('/'));
        self
    }

    /// Settings from `SKYNET_REGISTRY`, `SKYNET_PREFIX`, [`TTL_VARIABLE`],
    /// [`CACHE_VARIABLE`] and the variables in [`access`], the usual ones where they are not set. A time to live that cannot be read is
    /// warned of and passed over.
    pub fn from_env() -> Self {
        let mut config = std::env::var("SKYNET_REGISTRY")
            .map_or_else(|_| Self::default(), |endpoints| Self::at(&endpoints));
        config.access = Access::from_env();
        config.cache = cache::from_env();
        match std::env::var(TTL_VARIABLE).map(|text| parse_ttl(&text)) {
            Ok(Ok(ttl)) => config.ttl = ttl,
            Ok(Err(error)) => tracing::warn!(%error, "{TTL_VARIABLE} is passed over"),
            Err(_not_set) => {}
        }
        match std::env::var("SKYNET_PREFIX") {
            Ok(prefix) => config.with_prefix(&prefix),
            Err(_) => config,
        }
    }
}

/// A handle on the registry. Clones are cheap and share connections, lease and watcher.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    etcd: Arc<Etcd>,
    prefix: Arc<str>,
    ttl: Duration,
    cache: Option<PathBuf>,
    /// One lease per process, from the first registration on.
    keeper: OnceLock<Arc<LeaseKeeper>>,
    /// Counts how often the registry turned out to be another one.
    doubts: channel::Sender<u64>,
    /// One watcher, as long as anybody holds a view.
    view: Mutex<Weak<View>>,
    /// Who calls with the help of this handle.
    clients: Arc<Clients>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("endpoints", &self.shared.etcd.urls())
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// A handle; it connects when it is first used, so a registry that is away is no error here.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::BadEndpoint`] and [`Error::Access`].
    pub fn new(config: &RegistryConfig) -> Result<Self, Error> {
        Self::dialled(config, Dial::Network)
    }

    /// A handle over connections that a test makes.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::BadEndpoint`] and [`Error::Access`].
    #[cfg(feature = "testing")]
    pub fn over(config: &RegistryConfig, connector: Connector) -> Result<Self, Error> {
        Self::dialled(config, Dial::Simulated(connector))
    }

    fn dialled(config: &RegistryConfig, dial: Dial) -> Result<Self, Error> {
        let (endpoints, access) = (&config.endpoints, config.access.clone());
        let etcd = Arc::new(Etcd::new(dial, endpoints, access, config.call_timeout)?);
        let ttl = config.ttl.clamp(*TTL.start(), *TTL.end());
        let prefix = Arc::from(config.prefix.as_str());
        Ok(Self {
            shared: Arc::new(Shared {
                etcd,
                prefix,
                ttl,
                cache: config.cache.clone(),
                keeper: OnceLock::new(),
                doubts: channel::channel(0).0,
                view: Mutex::new(Weak::new()),
                clients: Arc::default(),
            }),
        })
    }

    /// The prefix of all keys.
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// The endpoints, as children get them in `SKYNET_REGISTRY`.
    pub fn endpoints(&self) -> Vec<String> {
        self.shared.etcd.urls()
    }

    /// The clients that were made from this handle: what services beside them tell of.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.shared.clients
    }

    /// Lists the cluster once.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no endpoint answers in time.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        // Large, and not to be carried about in the futures of all who ask.
        Box::pin(list::snapshot(&self.shared.etcd, &self.shared.prefix)).await
    }

    /// Lists the cluster once for people: if no quorum of the registry answers within
    /// [`QUORUM_WITHIN`], what one node of it knew last, and says so.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no node answers in time.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn listing(&self) -> Result<Listed, Error> {
        Box::pin(stale::listing(&self.shared.etcd, &self.shared.prefix)).await
    }

    /// The live view; the watcher starts with the first and ends with the last.
    ///
    /// Call it on a tokio runtime.
    pub fn view(&self) -> Arc<View> {
        let mut shared = self
            .shared
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = shared.upgrade() {
            return view;
        }
        let etcd = Arc::clone(&self.shared.etcd);
        let config = ViewConfig {
            prefix: Arc::clone(&self.shared.prefix),
            grace: self.shared.ttl * 2,
            doubts: self.shared.doubts.clone(),
            cache: self.shared.cache.clone(),
        };
        let view = Arc::new(View::start(etcd, config));
        *shared = Arc::downgrade(&view);
        view
    }

    /// Registers an instance; the entry is written in the background and heals itself.
    ///
    /// Call it on a tokio runtime.
    pub fn register(&self, identity: Identity, value: InstanceValue) -> Registration {
        Registration::of(self.hold(EntryKind::Instance { identity, value }, None))
    }

    /// Registers an instance that takes a new id if a living one of another machine has its id, as
    /// on a cloned machine. `on_new_id` is told the new id before anything is written under it.
    ///
    /// Call it on a tokio runtime.
    pub fn register_yielding(
        &self,
        identity: Identity,
        value: InstanceValue,
        on_new_id: impl Fn(InstanceId) + Send + Sync + 'static,
    ) -> Registration {
        let kind = EntryKind::Instance { identity, value };
        Registration::of(self.hold(kind, Some(Box::new(on_new_id))))
    }

    /// Registers a host for its daemon, in the same way.
    ///
    /// Call it on a tokio runtime.
    pub fn register_host(&self, name: Arc<str>, value: HostValue) -> HostRegistration {
        HostRegistration::of(self.hold(EntryKind::Host { name, value }, None))
    }

    fn hold(&self, kind: EntryKind, on_new_id: Option<OnNewId>) -> registration::Handle {
        let shared = &self.shared;
        let entry = Entry { kind, decisions: 0 };
        let (etcd, prefix) = (Arc::clone(&shared.etcd), Arc::clone(&shared.prefix));
        let doubts = shared.doubts.subscribe();
        registration::Handle::start(etcd, self.keeper(), prefix, entry, doubts, on_new_id)
    }

    /// Gives the process's lease back, with every entry that still hangs on it: the last step of a
    /// process that ends.
    ///
    /// # Errors
    /// [`Error::Unreachable`]; then the lease ends by itself.
    pub async fn release(&self) -> Result<(), Error> {
        match self.shared.keeper.get() {
            Some(keeper) => keeper.revoke().await,
            None => Ok(()),
        }
    }

    fn keeper(&self) -> Arc<LeaseKeeper> {
        let shared = &self.shared;
        Arc::clone(shared.keeper.get_or_init(|| {
            let (etcd, prefix) = (Arc::clone(&shared.etcd), Arc::clone(&shared.prefix));
            Arc::new(LeaseKeeper::start(etcd, prefix, shared.ttl))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_five_to_sixty_seconds() {
        for (text, ttl) in [("5s", 5), ("30s", 30), ("1m", 60)] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(ttl)), "{text}");
        }
        for text in ["", "30", "4s", "61s", "soon"] {
            let error = parse_ttl(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
