//! The demo's processes and files: the registry, a daemon for each host, a folder for all of them.

use std::collections::HashSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use rustix::process::Signal;
use skynet::registry::{CACHE_VARIABLE, Registry, RegistryConfig};
use skynet::session::Session;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::layout::{self, DemoHost};
use super::{ClusterView, DemoArgs, reaper};

/// How long services and daemons finish what they have when the demo leaves.
const DRAIN: &str = "1s";
/// From the beginning of leaving, until when daemons are asked to stop,
const ASK_BY: Duration = Duration::from_secs(2);
/// until when they may take for it,
const STOP_BY: Duration = Duration::from_millis(3_300);
/// until when whatever else runs may end by itself,
const KILL_BY: Duration = Duration::from_millis(3_800);
/// and until when the keys on a given registry are deleted.
const DELETE_BY: Duration = Duration::from_millis(4_700);
/// How long the registry may take to answer for the first time.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Where the demo's own registry listens.
const REGISTRY_PORTS: std::ops::Range<u16> = 20_000..30_000;
/// How many of them are tried.
const PORT_ATTEMPTS: usize = 100;
/// The ports that services of each host share.
const PORTS: &str = "9000-9999";

/// A cluster that is taken away with [`Cluster::stop`].
pub(super) struct Cluster {
    hosts: Vec<DemoHost>,
    folder: TempDir,
    executable: PathBuf,
    headless: bool,
    registry_pid: Option<u32>,
    /// Where our own registry listens; `None` when one was given.
    listen: Option<SocketAddr>,
    daemon_pids: Vec<u32>,
    config: RegistryConfig,
    session: Session,
}

impl Cluster {
    /// Nothing runs yet.
    pub(super) fn new(args: &DemoArgs, given: Option<RegistryConfig>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sky-demo-")
            .tempdir()
            .context("cannot make a folder for the demo")?;
        let (config, listen) = if let Some(given) = given {
            (given, None)
        } else {
            let listen = free_address()?;
            let config = RegistryConfig::at(&format!("http://{listen}"));
            (config, Some(listen))
        };
        // On a registry of others, a prefix of its own keeps it apart.
        let config = match listen {
            Some(_own) => config,
            None => config.with_prefix(&format!("/skynet-demo-{:08x}", fastrand::u32(..))),
        };
        let registry = Registry::new(&config)?;
        Ok(Self {
            hosts: layout::hosts(args.regions, args.hosts),
            folder,
            executable: std::env::current_exe().context("cannot find this program")?,
            headless: args.headless,
            registry_pid: None,
            listen,
            daemon_pids: Vec::new(),
            config,
            session: Session::new(registry),
        })
    }

    /// Starts the registry, waits for it, and starts the daemons.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        if let Some(listen) = self.listen {
            let mut command = self.command("registry")?;
            let data = self.folder.path().join("registry");
            command
                .arg("registry")
                .arg("--listen")
                .arg(listen.to_string());
            command.arg("--data").arg(data);
            self.registry_pid = Some(reaper::start(command).context("cannot start the registry")?);
        }
        self.wait_for_registry().await?;
        for host in self.hosts.clone() {
            let pid = self
                .start_daemon(&host)
                .with_context(|| format!("cannot start the daemon of {}", host.name))?;
            self.daemon_pids.push(pid);
        }
        Ok(())
    }

    /// What is shown of it.
    pub(super) fn view(&self) -> ClusterView {
        let report = serde_json::json!({
            "registry": self.config.endpoints.join(","),
            "prefix": self.config.prefix,
            "pids": { "registry": self.registry_pid, "daemons": self.daemon_pids },
        });
        ClusterView {
            session: self.session.clone(),
            report: report.to_string(),
            instances: layout::instances(self.hosts.len()),
            daemons: self.hosts.len(),
        }
    }

    /// Takes everything away: within five seconds no process and no file is left.
    pub(super) async fn stop(mut self) {
        let begun = Instant::now();
        self.stop_daemons(begun + ASK_BY).await;
        if !self.daemons_are_gone(begun + STOP_BY).await {
            tracing::warn!("daemons did not stop in time, killing them");
        }
        let registry = self.registry_pid.take();
        let keep = registry.as_slice();
        if !reaper::all_ended(keep, begun + KILL_BY).await {
            tracing::warn!("processes did not stop in time, killing them");
            reaper::kill_all(keep, begun + KILL_BY + Duration::from_millis(200)).await;
        }
        if registry.is_none() {
            let deleted = self.session.registry().delete_prefix();
            match timeout_at(begun + DELETE_BY, deleted).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the demo's keys are left behind"),
                Err(_elapsed) => {
                    tracing::warn!("the registry does not answer, the demo's keys are left behind");
                }
            }
        }
        // Of our own registry nothing is to be kept, so it needs no farewell.
        reaper::kill_all(&[], begun + DELETE_BY + Duration::from_millis(100)).await;
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the demo's folder could not be removed");
        }
    }

    /// Asks every daemon of the registry, ours and those that were started by hand.
    async fn stop_daemons(&self, until: Instant) {
        let asked = async {
            let snapshot = self.session.snapshot().await?;
            let within = until.saturating_duration_since(Instant::now());
            let stops = snapshot.hosts().map(|host| async move {
                if let Err(error) = self.session.stop_daemon(host, within).await {
                    tracing::debug!(host = %host.name, %error, "the daemon did not take the stop");
                }
            });
            join_all(stops).await;
            let known = snapshot.hosts().map(|host| host.process.pid).collect();
            Ok::<HashSet<u32>, skynet::registry::Error>(known)
        };
        let known = timeout_at(until, asked).await;
        let known = known.ok().and_then(Result::ok).unwrap_or_default();
        // Ours take an interrupt for the same: those that are not registered yet, and all of them
        // when the registry is away.
        for pid in self.daemon_pids.iter().filter(|pid| !known.contains(pid)) {
            reaper::send(*pid, Signal::INT);
        }
    }

    /// Waits until our daemons have ended and no other is registered any more; `false` when the
    /// time is over first.
    async fn daemons_are_gone(&self, until: Instant) -> bool {
        if !reaper::have_ended(&self.daemon_pids, until).await {
            return false;
        }
        let others_gone = async {
            // A registry that does not answer tells of nobody.
            while let Ok(snapshot) = self.session.snapshot().await {
                if snapshot.hosts().next().is_none() {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout_at(until, others_gone).await.is_ok()
    }

    async fn wait_for_registry(&self) -> anyhow::Result<()> {
        let give_up = Instant::now() + REGISTRY_TIMEOUT;
        let named = || format!("no registry at {}", self.config.endpoints.join(", "));
        loop {
            let answer = timeout(Duration::from_secs(2), self.session.snapshot()).await;
            match answer {
                Ok(Ok(_empty)) => return Ok(()),
                Ok(Err(error)) if Instant::now() >= give_up => {
                    return Err(error).with_context(named);
                }
                Err(elapsed) if Instant::now() >= give_up => {
                    return Err(elapsed).with_context(named);
                }
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(50)).await,
            }
            if self.registry_pid.is_some_and(|pid| !reaper::is_child(pid)) {
                anyhow::bail!("the registry that was started has ended at once");
            }
        }
    }

    fn start_daemon(&self, host: &DemoHost) -> anyhow::Result<u32> {
        let file = self.folder.path().join(format!("{}.toml", host.name));
        std::fs::write(
            &file,
            layout::deploy_file(&self.executable, self.hosts.len()),
        )
        .context("cannot write what it is to run")?;
        let mut command = self.command(&host.name)?;
        command.arg("daemon");
        command
            .arg("--registry")
            .arg(self.config.endpoints.join(","));
        command.arg("--prefix").arg(&self.config.prefix);
        command
            .arg("--region")
            .arg(&host.region)
            .arg("--host")
            .arg(&host.name);
        command
            .arg("--bind")
            .arg(host.address.to_string())
            .arg("--ports")
            .arg(PORTS);
        command
            .arg("--state")
            .arg(self.folder.path().join(&host.name));
        command.arg("--drain").arg(DRAIN);
        command.arg(file);
        reaper::start(command).context("cannot start the program")
    }

    /// This program again, in a process group of its own, so that a Ctrl-C in the terminal reaches
    /// only the demo. Its log goes to our standard error, or to a file while the console is open.
    fn command(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.executable);
        command
            .process_group(0)
            .env_remove(CACHE_VARIABLE)
            .envs(self.config.access.to_env())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if self.headless {
            command.stderr(Stdio::inherit());
        } else {
            let log = self.folder.path().join(format!("{name}.log"));
            command.stderr(File::create(log).context("cannot write a log")?);
        }
        Ok(command)
    }
}

/// A loopback address that nobody listens on, from ports that the system does not hand out by
/// itself, so that nobody takes it before the registry does.
fn free_address() -> anyhow::Result<SocketAddr> {
    for _attempt in 0..PORT_ATTEMPTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(REGISTRY_PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port for the registry between 20000 and 30000")
}
