//! Saying what a service is, before it runs.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::{Listen, PORTS, ServiceConfig};
use super::context::{Context, ServiceError, ServiceInfo};
use super::error::StartError;
use super::lifecycle::{self, Service};
use super::method::{Completed, Declared, MethodOptions, OnCalled, OnCompleted, Typed};
use super::trust::Network;
use crate::instance::InstanceId;
use crate::registry::Registry;
use crate::rpc::Limits;

/// For how long a draining service goes on accepting, at least.
const DRAIN_LEAST: Duration = Duration::from_secs(1);

/// How long a draining service waits for what is in flight, at most.
const DRAIN_MOST: Duration = Duration::from_secs(30);

pub(super) type OnState = Box<dyn Fn(&ServiceInfo) + Send + Sync>;

/// What is called when a service's state changes.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) started: Option<OnState>,
    pub(super) registered: Option<OnState>,
    pub(super) unregistered: Option<OnState>,
    pub(super) stopped: Option<OnState>,
}

/// What we do when a living instance of another machine has our id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    TakeAnother,
    /// A daemon started us, and knows us by this id: until the other one is gone.
    Wait,
}

/// A service that does not run yet. Made by [`Service::builder`].
pub struct Builder {
    pub(super) name: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) region: Arc<str>,
    pub(super) host: Option<Arc<str>>,
    pub(super) bind: IpAddr,
    pub(super) ports: RangeInclusive<u16>,
    pub(super) admin: bool,
    pub(super) admin_listen: Option<Listen>,
    pub(super) id: Option<InstanceId>,
    pub(super) clash: Clash,
    pub(super) registered: bool,
    pub(super) tags: Vec<Arc<str>>,
    pub(super) weight: u32,
    pub(super) deployment: Option<Arc<str>>,
    pub(super) limits: Limits,
    pub(super) allow_insecure: bool,
    pub(super) drain: (Duration, Duration),
    pub(super) trusted: Vec<Network>,
    pub(super) methods: Vec<Declared>,
    pub(super) callbacks: Callbacks,
    pub(super) on_called: Option<OnCalled>,
    pub(super) on_completed: Option<OnCompleted>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("methods", &self.methods.len())
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            version: "1".into(),
            region: "local".into(),
            host: None,
            bind: Ipv4Addr::LOCALHOST.into(),
            ports: PORTS,
            admin: true,
            admin_listen: None,
            id: None,
            clash: Clash::TakeAnother,
            registered: true,
            tags: Vec::new(),
            weight: 100,
            deployment: None,
            limits: Limits::default(),
            allow_insecure: false,
            drain: (DRAIN_LEAST, DRAIN_MOST),
            trusted: Vec::new(),
            methods: Vec::new(),
            callbacks: Callbacks::default(),
            on_called: None,
            on_completed: None,
        }
    }

    /// The service's version; `1` unless it is said.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// The region that it runs in; `local` unless it is said.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.into();
        self
    }

    /// The name of its host; the system's unless it is said.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The address to listen at; 127.0.0.1 unless it is said.
    #[must_use]
    pub fn bind(mut self, ip: IpAddr) -> Self {
        self.bind = ip;
        self
    }

    /// The ports to try in order; 9000 to 9999 unless it is said. `0..=0` takes any.
    #[must_use]
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// The instance's id; a random one unless it is said. A living instance of another machine that
    /// has it already keeps it, and this one takes a new id, unless a daemon supervises it; one of
    /// this machine is waited for.
    #[must_use]
    pub fn id(mut self, id: InstanceId) -> Self {
        self.id = Some(id);
        self
    }

    /// Whether clients may choose it from the start; they may unless it is said.
    #[must_use]
    pub fn registered(mut self, registered: bool) -> Self {
        self.registered = registered;
        self
    }

    /// A free word that queries can ask for.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Its share of the traffic beside others; 100 unless it is said.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The deployment that it belongs to.
    #[must_use]
    pub fn deployment(mut self, deployment: &str) -> Self {
        self.deployment = Some(deployment.into());
        self
    }

    /// What it takes on at once.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether it may listen where other machines reach it; nothing is encrypted or authenticated.
    #[must_use]
    pub fn allow_insecure(mut self, allow: bool) -> Self {
        self.allow_insecure = allow;
        self
    }

    /// Believes clients at these addresses about where a request came from in the first place: other
    /// services, that is, which call on somebody's behalf. Nobody is believed unless it is said.
    #[must_use]
    pub fn trust(mut self, network: Network) -> Self {
        self.trusted.push(network);
        self
    }

    /// How a drain goes: for how long it accepts on at least, so that clients learn of it, and how
    /// long it then waits for what is in flight at most.
    #[must_use]
    pub fn drain(mut self, least: Duration, most: Duration) -> Self {
        self.drain = (least, most);
        self
    }

    /// Whether it has an admin port; it has unless it is said.
    #[must_use]
    pub fn admin(mut self, admin: bool) -> Self {
        self.admin = admin;
        self
    }

    /// Takes over what environment and flags say.
    #[must_use]
    pub fn configure(mut self, config: impl Borrow<ServiceConfig>) -> Self {
        let config = config.borrow().clone();
        self.version = config.version.unwrap_or(self.version);
        self.region = config.region.unwrap_or(self.region);
        self.host = config.host.or(self.host);
        self.bind = config.bind.unwrap_or(self.bind);
        self.ports = config.ports.unwrap_or(self.ports);
        self.admin_listen = config.admin.or(self.admin_listen);
        self.id = config.id.or(self.id);
        if config.supervised == Some(true) {
            self.clash = Clash::Wait;
        }
        self.registered = config.registered.unwrap_or(self.registered);
        self.deployment = config.deployment.or(self.deployment);
        self.allow_insecure = config.allow_insecure.unwrap_or(self.allow_insecure);
        self.trusted = config.trusted.unwrap_or(self.trusted);
        self
    }

    /// Adds a method: an async function from a parameter to a result, both made of BSON by serde.
    ///
    /// It runs to its end also when the client hangs up; [`Context::cancelled`] tells, and
    /// [`Builder::method_with`] chooses otherwise. What waits must be awaited; what computes for long
    /// belongs into `tokio::task::spawn_blocking`. A later method of the same name replaces the
    /// earlier one.
    #[must_use]
    pub fn method<F, I, R, O, E>(self, name: &str, function: F) -> Self
    where
        F: Fn(Context, I) -> R + Send + Sync + 'static,
        I: DeserializeOwned + 'static,
        R: Future<Output = Result<O, E>> + Send + 'static,
        O: Serialize + 'static,
        E: Into<ServiceError> + 'static,
    {
        self.method_with(name, MethodOptions::default(), function)
    }

    /// Adds a method, and says what clients and the service may take for granted of it.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use skynet::service::{Context, MethodOptions, OnHangUp, Service, ServiceError};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Entry {
    ///     name: String,
    ///     number: Option<u32>,
    /// }
    ///
    /// let lookup = MethodOptions {
    ///     idempotent: true,
    ///     on_hang_up: OnHangUp::Cancel,
    /// };
    /// let service = Service::builder("Phonebook").method_with(
    ///     "Find",
    ///     lookup,
    ///     |_: Context, asked: Entry| async move { Ok::<_, ServiceError>(asked) },
    /// );
    /// ```
    #[must_use]
    pub fn method_with<F, I, R, O, E>(
        mut self,
        name: &str,
        options: MethodOptions,
        function: F,
    ) -> Self
    where
        F: Fn(Context, I) -> R + Send + Sync + 'static,
        I: DeserializeOwned + 'static,
        R: Future<Output = Result<O, E>> + Send + 'static,
        O: Serialize + 'static,
        E: Into<ServiceError> + 'static,
    {
        self.methods.push(Declared {
            name: name.into(),
            options,
            method: Box::new(Typed::new(function)),
        });
        self
    }

    /// Adds a method that blocks or computes for long: it runs on a thread for such work, of which
    /// there are 512 at most, and is otherwise as one of [`Builder::method`]. It runs to its end also
    /// when the client hangs up.
    #[must_use]
    pub fn blocking_method<F, I, O, E>(self, name: &str, function: F) -> Self
    where
        F: Fn(Context, I) -> Result<O, E> + Send + Sync + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<ServiceError> + Send + 'static,
    {
        let function = Arc::new(function);
        self.method(name, move |context: Context, input: I| {
            let function = Arc::clone(&function);
            async move {
                let work = move || crate::blocking::allowed(|| function(context, input));
                let running = tokio::task::spawn_blocking(work);
                match running.await {
                    Ok(result) => result.map_err(Into::into),
                    Err(ended) => match ended.try_into_panic() {
                        // As if it had run here, where panics are contained.
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_cancelled) => Err(ServiceError::new("the service ended before it")),
                    },
                }
            }
        })
    }

    /// Is called when the service answers at its address.
    #[must_use]
    pub fn on_started(mut self, callback: impl Fn(&ServiceInfo) + Send + Sync + 'static) -> Self {
        self.callbacks.started = Some(Box::new(callback));
        self
    }

    /// Is called when clients may choose the service.
    #[must_use]
    pub fn on_registered(
        mut self,
        callback: impl Fn(&ServiceInfo) + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.registered = Some(Box::new(callback));
        self
    }

    /// Is called when clients may no longer choose the service.
    #[must_use]
    pub fn on_unregistered(
        mut self,
        callback: impl Fn(&ServiceInfo) + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.unregistered = Some(Box::new(callback));
        self
    }

    /// Is called when the last call is answered and the service has left the registry.
    #[must_use]
    pub fn on_stopped(mut self, callback: impl Fn(&ServiceInfo) + Send + Sync + 'static) -> Self {
        self.callbacks.stopped = Some(Box::new(callback));
        self
    }

    /// Is called before each call of a method, between reads: it must be quick.
    #[must_use]
    pub fn on_method_called(mut self, callback: impl Fn(&Context) + Send + Sync + 'static) -> Self {
        self.on_called = Some(Box::new(callback));
        self
    }

    /// Is called when a method has ended by itself: it must be quick.
    #[must_use]
    pub fn on_method_completed(
        mut self,
        callback: impl Fn(Completed<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_completed = Some(Box::new(callback));
        self
    }

    /// Serves, and registers; the registry may be away, then it registers when it is back.
    ///
    /// # Errors
    /// When there is no port, or the address may not be listened at.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn start(self, registry: &Registry) -> Result<Service, StartError> {
        lifecycle::start(self, Some(registry)).await
    }

    /// Serves without a registry; clients call it by its address.
    ///
    /// # Errors
    /// When there is no port, or the address may not be listened at.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn serve(self) -> Result<Service, StartError> {
        lifecycle::start(self, None).await
    }
}
