//! Puts the daemon together: state folder, registry, supervisor, its own service; and its end.
//!
//! Invariants: nothing is started before everything that can refuse has been asked (folder, file,
//! registry's address, port); a daemon that cannot go on leaves its children alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skynet::daemon_api::{DAEMON_SERVICE, DAEMON_VERSION};
use skynet::hint::Hint;
use skynet::instance::{InstanceId, ProcessId};
use skynet::registry::embedded::{Embedded, EmbeddedConfig, EmbeddedError};
use skynet::registry::value::HostValue;
use skynet::registry::{self, HostRegistration, Registry};
use skynet::service::{Service, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{ConfigError, DaemonArgs, DaemonConfig, RegistrySource};
use crate::deploy_file::{self, FileError};
use crate::figures::Figures;
use crate::logging::{self, LogLevel};
use crate::methods::Methods;
use crate::state_folder::{FolderError, StateFolder};
use crate::store::{self, Noted, StoreError};
use crate::supervise::Policy;
use crate::supervisor::{AdoptError, ChildContext, CloseMode, Start, Supervisor, SupervisorHandle};

/// How long calls of the daemon's own methods, and its last one to the registry, may take once it
/// ends.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// How many requests to end may wait: a second one says that it is urgent.
const ENDS: usize = 2;

/// The daemon cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// What was typed cannot be meant.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The notes of the daemon before this one cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The notes of the daemon before this one do not read, and children of it live.
    #[error(
        "the notes `{}` do not read ({reason}), and children of this host live: pid {}",
        notes.display(),
        listed(pids)
    )]
    Orphans {
        /// The notes.
        notes: PathBuf,
        /// Why they do not read.
        reason: String,
        /// The children's processes.
        pids: Vec<u32>,
    },
    /// It cannot be told which children live.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// The file of services cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The registry inside the daemon does not start.
    #[error("the embedded registry did not start")]
    Embedded(#[from] EmbeddedError),
    /// The registry's address cannot be used.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The daemon's own service does not start.
    #[error("the daemon's own service did not start")]
    Service(#[from] StartError),
    /// The system refuses what every process may do.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A part of the daemon panicked.
    #[error("the daemon broke; its children live on")]
    Broken(#[from] tokio::task::JoinError),
}

fn listed(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    pids.join(", ")
}

impl Hint for DaemonError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Folder(error) => error.hint(),
            Self::Adopt(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Embedded(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Service(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Orphans { .. } => Some(
                "put the notes back from a copy, or stop these processes and start the daemon again: \
                 it starts no twins of them"
                    .to_owned(),
            ),
            Self::System { .. } => None,
            Self::Broken(_) => {
                Some("start it again with the same arguments: it adopts them".into())
            }
        }
    }
}

/// Runs a daemon as its command line says, logging to stderr, until a signal or a request ends it:
/// SIGTERM and SIGHUP leave the children running, SIGINT stops them first.
///
/// # Errors
/// [`DaemonError`].
///
/// # Cancel safety
/// Dropping the future is like kill -9: the next daemon adopts the children.
pub async fn run(args: DaemonArgs) -> Result<(), DaemonError> {
    let log = logging::start();
    let config = DaemonConfig::new(args.registry, args.host)?;
    let (end, ends) = mpsc::channel(ENDS);
    tokio::spawn(pass_signals(Signals::listen()?, end.clone()));
    run_until(config, log, end, ends).await
}

/// Runs a daemon until `ends` says how it ends; its own method `Stop` says so by `end`.
///
/// # Errors
/// [`DaemonError`].
///
/// # Cancel safety
/// As for [`run`].
pub async fn run_until(
    config: DaemonConfig,
    log: LogLevel,
    end: mpsc::Sender<CloseMode>,
    mut ends: mpsc::Receiver<CloseMode>,
) -> Result<(), DaemonError> {
    let prepared = prepare(&config).await?;
    let id = prepared.noted.daemon;
    let embedded = prepared.embedded;
    let registry = prepared.registry;
    let (supervisor, life) = Supervisor::prepare(Start {
        context: ChildContext {
            host: Arc::clone(&config.host),
            region: Arc::clone(&config.region),
            policy: Policy::with_drain(config.drain),
            env: config.child_env(&registry.endpoints()),
        },
        folder: prepared.folder,
        registry: registry.clone(),
        noted: prepared.noted,
        file: prepared.file,
    });
    let figures = Figures::new(supervisor.clone(), id);
    let methods = Methods {
        supervisor: supervisor.clone(),
        figures: figures.clone(),
        registry: registry.clone(),
        log,
        end,
    };
    let service = Arc::new(serve(&config, id, methods, &registry).await?);
    figures.include(&service);
    let host = register_host(&config, &service, &registry)?;
    let mut life = tokio::spawn(life);
    let sampling = tokio::spawn(async move { figures.sample().await });
    tracing::info!(
        host = &*config.host,
        region = &*config.region,
        address = %service.address(),
        registry = ?registry.endpoints(),
        "the daemon serves"
    );
    let lived = live(&supervisor, &mut ends, &mut life).await;
    sampling.abort();
    tokio::join!(service.stop(), host.leave());
    let released = tokio::time::timeout(LAST_CALLS, registry.release()).await;
    if !matches!(released, Ok(Ok(()))) {
        tracing::warn!("the registry did not take the lease back, it ends by itself");
    }
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    lived
}

/// Waits for the end, passes it on, and waits for the supervisor.
async fn live(
    supervisor: &SupervisorHandle,
    ends: &mut mpsc::Receiver<CloseMode>,
    life: &mut tokio::task::JoinHandle<Result<(), AdoptError>>,
) -> Result<(), DaemonError> {
    loop {
        tokio::select! {
            ended = &mut *life => return Ok(ended??),
            Some(mode) = ends.recv() => {
                tracing::info!(?mode, "the daemon ends");
                supervisor.close(mode).await;
            }
        }
    }
}

/// What a daemon needs before anything is started.
struct Prepared {
    folder: Arc<StateFolder>,
    noted: Noted,
    file: Option<Vec<crate::spec::ChildSpec>>,
    embedded: Option<Embedded>,
    registry: Registry,
}

async fn prepare(config: &DaemonConfig) -> Result<Prepared, DaemonError> {
    let (state, file) = (config.state.clone(), config.file.clone());
    let read = tokio::task::spawn_blocking(move || -> Result<_, DaemonError> {
        let folder = StateFolder::open(&state)?;
        let noted = read_notes(&folder)?;
        let specs = file.as_deref().map(deploy_file::read).transpose()?;
        Ok((folder, noted, specs))
    });
    let (folder, noted, file) = read.await??;
    let mut settings = config.registry_config.clone();
    let embedded = match &config.registry {
        RegistrySource::Endpoints(endpoints) => {
            settings.endpoints.clone_from(endpoints);
            None
        }
        RegistrySource::Embedded { listen } => {
            let embedded = Embedded::start(EmbeddedConfig {
                listen: *listen,
                data: Some(folder.registry()),
                allow_insecure: config.allow_insecure,
                ..EmbeddedConfig::default()
            })
            .await?;
            settings.endpoints = vec![embedded.url()];
            Some(embedded)
        }
    };
    Ok(Prepared {
        folder: Arc::new(folder),
        noted,
        file,
        embedded,
        registry: Registry::new(&settings)?,
    })
}

/// Reads the notes; broken ones are set aside, but only when nothing lives that they may have named:
/// its twin would be started. Blocks.
fn read_notes(folder: &StateFolder) -> Result<Noted, DaemonError> {
    let path = folder.children();
    let loaded = store::load(&path)?;
    if let Some(reason) = loaded.broken {
        let living = folder.living().map_err(|source| DaemonError::System {
            what: "search the processes for children that live",
            source,
        })?;
        if !living.is_empty() {
            return Err(DaemonError::Orphans {
                notes: path,
                reason,
                pids: living.into_iter().map(|process| process.pid).collect(),
            });
        }
        let kept = store::set_aside(&path)?;
        tracing::error!(
            reason,
            kept = %kept.display(),
            "the notes of the children do not read and were set aside; none of the children lives"
        );
    }
    Ok(loaded.noted)
}

async fn serve(
    config: &DaemonConfig,
    id: InstanceId,
    methods: Methods,
    registry: &Registry,
) -> Result<Service, StartError> {
    let builder = Service::builder(DAEMON_SERVICE)
        .version(DAEMON_VERSION)
        .region(&config.region)
        .host(&config.host)
        .bind(config.bind)
        .ports(config.ports.clone())
        .allow_insecure(config.allow_insecure)
        .id(id)
        .admin(false)
        .drain(Duration::ZERO, LAST_CALLS);
    methods.add_to(builder).start(registry).await
}

fn register_host(
    config: &DaemonConfig,
    service: &Service,
    registry: &Registry,
) -> Result<HostRegistration, DaemonError> {
    let process = ProcessId::own().map_err(|source| DaemonError::System {
        what: "find out which process this is",
        source,
    })?;
    let value = HostValue {
        region: Arc::clone(&config.region),
        address: service.address(),
        process,
        started: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        other: serde_json::Map::new(),
    };
    Ok(registry.register_host(Arc::clone(&config.host), value))
}

/// The signals that end a daemon.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, DaemonError> {
        let listen = |kind| {
            signal(kind).map_err(|source| DaemonError::System {
                what: "listen for signals",
                source,
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> CloseMode {
        tokio::select! {
            _ = self.terminate.recv() => CloseMode::Leave,
            _ = self.hang_up.recv() => CloseMode::Leave,
            _ = self.interrupt.recv() => CloseMode::StopChildren,
        }
    }
}

/// Passes signals on for as long as the daemon listens.
async fn pass_signals(mut signals: Signals, end: mpsc::Sender<CloseMode>) {
    while !end.is_closed() {
        let mode = signals.next().await;
        // A full queue means that it was asked before.
        let _ = end.try_send(mode);
    }
}
