//! A service's life: bind, serve, register, follow the operator's wish, drain, leave, close.
//!
//! Invariants: it serves before it registers and leaves the registry only after the last answer;
//! unregistering closes nothing; whatever asks for the stop, there is one drain; the registry being
//! away stops nothing, and neither does a callback that panics. Dropping a [`Service`] ends it without
//! a drain.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::builder::{Builder, Callbacks, Clash, OnState};
use super::context::{ServiceInfo, Who};
use super::error::StartError;
use super::figures::Figures;
use super::method::{Common, Table};
use super::signals::Signals;
use super::telling::{News, Telling};
use super::{admin, bind};
use crate::files;
use crate::instance::{Identity, InstanceId, ProcessId, State};
use crate::metrics::{Clients, Metrics};
use crate::registry::value::InstanceValue;
use crate::registry::{Registration, Registry};
use crate::rpc::server::{Identification, Server};
use crate::stats::InstanceStats;

/// The version of the wire protocol that registry entries name.
const PROTOCOL: u32 = 1;

/// How long the admin port's last answers may take.
const ADMIN_FLUSH: Duration = Duration::from_secs(1);

/// A service that runs.
#[derive(Debug)]
pub struct Service {
    core: Arc<Core>,
    abandoned: CancellationToken,
}

/// Stops a service from elsewhere. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: CancellationToken,
}

impl Stopper {
    /// Begins the drain; [`Service::until_stopped`] tells when it is over.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// What the parts of a running service share.
pub(super) struct Core {
    who: Arc<Who>,
    figures: Arc<Figures>,
    /// The clients beside it; none without a registry.
    clients: Option<Arc<Clients>>,
    server: Server,
    callbacks: Callbacks,
    registration: Mutex<Option<Registration>>,
    telling: Telling,
    drain: (Duration, Duration),
    stop: CancellationToken,
    hurry: CancellationToken,
    /// The drain is over; the admin port may still be answering.
    drained: CancellationToken,
    /// Nothing is left.
    stopped: CancellationToken,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Core")
            .field("info", self.info())
            .finish_non_exhaustive()
    }
}

impl Core {
    fn info(&self) -> &ServiceInfo {
        self.who.info()
    }

    /// Another machine has our id: from now on all tell the new one, before it is registered.
    fn set_id(&self, id: InstanceId) {
        self.who.set_id(id);
        self.server.set_id(id);
    }

    /// The operator's wish, from wherever it came.
    pub(super) fn wish(&self, registered: bool) {
        self.follow(|| {
            if let Some(registration) = &*self.lock_registration() {
                registration.set_registered(registered);
            }
            registered
        });
    }

    /// Begins the drain and waits until it is over; the admin port goes on answering.
    pub(super) async fn drained(&self) {
        self.stop.cancel();
        self.drained.cancelled().await;
    }

    pub(super) fn stats(&self) -> InstanceStats {
        self.figures.read(self.server.connections())
    }

    pub(super) fn metrics(&self) -> Metrics {
        Metrics {
            service: self.figures.metrics(self.info(), &self.server),
            clients: self
                .clients
                .as_ref()
                .map_or_else(Vec::new, |it| it.metrics()),
        }
    }

    fn lock_registration(&self) -> std::sync::MutexGuard<'_, Option<Registration>> {
        self.registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes handshakes say what is wished, and tells the callbacks when it is news.
    fn follow(&self, wished: impl FnOnce() -> bool) {
        let decide = || {
            let registered = wished();
            self.server.set_registered(registered);
            registered
        };
        self.telling.follow(decide, |news| self.tell(news));
    }

    fn tell(&self, news: News) {
        let (what, callback) = match news {
            News::Registered => ("registered", &self.callbacks.registered),
            News::Unregistered => ("unregistered", &self.callbacks.unregistered),
            News::Stopped => ("stopped", &self.callbacks.stopped),
        };
        tracing::info!(service = %self.info().identity.service, what, "the service changed");
        self.call(what, callback.as_ref());
    }

    /// Calls back; a panic ends the callback only, and never what it was called from.
    fn call(&self, what: &'static str, callback: Option<&OnState>) {
        let Some(callback) = callback else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| callback(self.info()))).is_err() {
            let service = &self.info().identity.service;
            tracing::error!(%service, what, "a callback panicked, the service goes on");
        }
    }

    /// Follows the wish in the own registry key, once that stands, until the drain begins.
    async fn follow_wish(&self) {
        let watched = self
            .lock_registration()
            .as_ref()
            .map(|registration| (registration.wish(), registration.stands()));
        let Some((mut wish, mut stands)) = watched else {
            return;
        };
        if stands.wait_for(|stands| *stands).await.is_err() {
            return;
        }
        self.follow(|| *wish.borrow_and_update());
        while wish.changed().await.is_ok() {
            self.follow(|| *wish.borrow_and_update());
        }
    }

    /// From the request to stop until nothing is left.
    async fn drain(&self) {
        let (least, most) = self.drain;
        tracing::info!(service = %self.info().identity.service, id = %self.info().identity.id, "draining");
        if let Some(registration) = &*self.lock_registration() {
            registration.set_state(State::Draining);
        }
        self.server.announce_drain();
        let _hurried = self
            .hurry
            .run_until_cancelled(tokio::time::sleep(least))
            .await;
        self.server.refuse_new();
        let ended = timeout(most, self.server.ended());
        let in_time = self.hurry.run_until_cancelled(ended).await;
        if !matches!(in_time, Some(Ok(()))) {
            let in_flight = self.server.in_flight();
            tracing::warn!(in_flight, "cutting what was not answered in time");
            self.server.cut();
        }
        let registration = self.lock_registration().take();
        if let Some(registration) = registration {
            registration.leave().await;
        }
        self.telling.end(|news| self.tell(news));
        self.drained.cancel();
    }
}

impl Service {
    /// A service that is called `name`.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// The instance's id.
    pub fn id(&self) -> InstanceId {
        self.core.info().identity.id
    }

    /// Who and where it is.
    pub fn info(&self) -> &ServiceInfo {
        self.core.info()
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.core.info().address
    }

    /// Where it answers `Admin` requests, when it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.core.info().admin_address
    }

    /// Its figures.
    pub fn stats(&self) -> InstanceStats {
        self.core.stats()
    }

    /// What it measures, and the clients beside it: those that were made from the registry handle
    /// that it was started with, or from a clone of it.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    /// Whether clients may choose it.
    pub fn is_registered(&self) -> bool {
        self.core.server.is_registered()
    }

    /// Lets clients choose it, or no more; writes it into the registry too.
    pub fn set_registered(&self, registered: bool) {
        self.core.wish(registered);
    }

    /// Changes its registry entry, such as its state or its tags.
    pub fn update(&self, change: impl FnOnce(&mut InstanceValue)) {
        if let Some(registration) = &*self.core.lock_registration() {
            registration.update(change);
        }
    }

    /// A handle that can stop it.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: self.core.stop.clone(),
        }
    }

    /// Drains and ends: says so, accepts on for a moment, answers what is in flight, leaves the
    /// registry, closes.
    ///
    /// # Cancel safety
    /// Once it was polled the drain goes on also when the future is dropped, unless the service is
    /// dropped too.
    pub async fn stop(&self) {
        self.core.stop.cancel();
        self.core.stopped.cancelled().await;
    }

    /// Waits until it has ended. SIGTERM and SIGINT begin the drain, a second one cuts it short; a
    /// first one does not, whatever else has begun it.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing, but signals then end the process no more.
    pub async fn until_stopped(&self) {
        let mut signals = Signals::listen();
        let hurry = async {
            signals.next().await;
            self.core.stop.cancel();
            signals.next().await;
            self.core.hurry.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = hurry => {}
            () = self.core.stopped.cancelled() => {}
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.abandoned.cancel();
        if !self.core.stopped.is_cancelled() {
            self.core.server.cut();
        }
    }
}

/// Binds, serves, and registers where there is a registry.
#[expect(
    clippy::unused_async,
    reason = "starting is a step that its callers await, whether or not it waits for something"
)]
pub(super) async fn start(
    mut builder: Builder,
    registry: Option<&Registry>,
) -> Result<Service, StartError> {
    files::raise_limit();
    let process = ProcessId::own().map_err(StartError::Process)?;
    let name = Arc::clone(&builder.name);
    bind::check(&name, builder.bind, builder.allow_insecure)?;
    let ip = builder.bind;
    let listener = bind::first_free(&name, ip, builder.ports.clone())?;
    let admin_listener = admin_listener(&builder)?;
    let listen = |source| StartError::Listen {
        service: name.to_string(),
        ip,
        source,
    };
    let info = ServiceInfo {
        identity: Identity {
            service: Arc::clone(&name),
            version: Arc::clone(&builder.version),
            region: Arc::clone(&builder.region),
            host: builder.host.clone().unwrap_or_else(bind::host_name),
            id: builder.id.unwrap_or_else(InstanceId::new_v4),
        },
        address: listener.local_addr().map_err(listen)?,
        admin_address: admin::address(admin_listener.as_ref()).map_err(listen)?,
    };
    let figures = Arc::new(Figures::new(builder.methods.iter().map(|it| &it.name)));
    let who = Arc::new(Who::new(info.clone()));
    let common = Arc::new(Common {
        who: Arc::clone(&who),
        figures: Arc::clone(&figures),
        trusted: std::mem::take(&mut builder.trusted),
        on_called: builder.on_called.take(),
        on_completed: builder.on_completed.take(),
    });
    let table = Table::new(std::mem::take(&mut builder.methods), &common);
    let identification = Identification {
        service: Arc::clone(&info.identity.service),
        version: Arc::clone(&info.identity.version),
        id: info.identity.id,
    };
    let mut limits = builder.limits;
    limits.grace = builder.drain.1;
    let server =
        Server::start(listener, identification, limits, Arc::new(table)).map_err(listen)?;
    server.set_registered(builder.registered);
    let value = value(&builder, &info, process, figures.started());
    let core = Arc::new(Core {
        who,
        figures,
        clients: registry.map(|registry| Arc::clone(registry.clients())),
        server,
        callbacks: std::mem::take(&mut builder.callbacks),
        registration: Mutex::new(None),
        telling: Telling::default(),
        drain: builder.drain,
        stop: CancellationToken::new(),
        hurry: CancellationToken::new(),
        drained: CancellationToken::new(),
        stopped: CancellationToken::new(),
    });
    Ok(launch(
        core,
        builder.registered,
        admin_listener,
        registry.map(|registry| (registry, builder.clash)),
        value,
    ))
}

/// The admin port stands beside the service's unless a place of its own was said for it.
fn admin_listener(builder: &Builder) -> Result<Option<TcpListener>, StartError> {
    if !builder.admin {
        return Ok(None);
    }
    let (ip, ports) = match &builder.admin_listen {
        Some(listen) => (listen.ip, listen.ports.clone()),
        None => (builder.bind, builder.ports.clone()),
    };
    bind::check(&builder.name, ip, builder.allow_insecure)?;
    bind::first_free(&builder.name, ip, ports).map(Some)
}

fn value(
    builder: &Builder,
    info: &ServiceInfo,
    process: ProcessId,
    started: Timestamp,
) -> InstanceValue {
    InstanceValue {
        address: info.address,
        admin_address: info.admin_address,
        process,
        started,
        registered: builder.registered,
        state: State::Ready,
        reason: None,
        deployment: builder.deployment.clone(),
        weight: builder.weight,
        lease: 0,
        protocol: PROTOCOL,
        tags: builder.tags.clone(),
        other: serde_json::Map::new(),
    }
}

/// Starts what goes on beside the server.
fn launch(
    core: Arc<Core>,
    registered: bool,
    admin_listener: Option<TcpListener>,
    registry: Option<(&Registry, Clash)>,
    value: InstanceValue,
) -> Service {
    let abandoned = CancellationToken::new();
    let admin_tasks = TaskTracker::new();
    let admin_over = abandoned.child_token();
    if let Some(listener) = admin_listener {
        let (tasks, over) = (admin_tasks.clone(), admin_over.clone());
        let accepting = admin::accept(listener, Arc::clone(&core), tasks, over);
        tokio::spawn(admin_over.clone().run_until_cancelled_owned(accepting));
    }
    core.call("started", core.callbacks.started.as_ref());
    match registry {
        Some((registry, clash)) => {
            let registration = register(&core, registry, clash, value);
            *core.lock_registration() = Some(registration);
        }
        None => core.follow(|| registered),
    }
    let run = {
        let core = Arc::clone(&core);
        async move {
            tokio::select! {
                () = core.stop.cancelled() => {}
                () = async {
                    core.follow_wish().await;
                    std::future::pending::<()>().await;
                } => {}
            }
            core.drain().await;
            admin_tasks.close();
            admin_over.cancel();
            let _flushed = timeout(ADMIN_FLUSH, admin_tasks.wait()).await;
            core.stopped.cancel();
        }
    };
    tokio::spawn(abandoned.clone().run_until_cancelled_owned(run));
    Service { core, abandoned }
}

/// Registers; an id that a living instance of another machine has is given up to it.
fn register(
    core: &Arc<Core>,
    registry: &Registry,
    clash: Clash,
    value: InstanceValue,
) -> Registration {
    let identity = core.info().identity.clone();
    if clash == Clash::Wait {
        return registry.register(identity, value);
    }
    let renamed = Arc::downgrade(core);
    registry.register_yielding(identity, value, move |id| {
        if let Some(core) = renamed.upgrade() {
            core.set_id(id);
        }
    })
}
