//! The demo's processes and files: the registry, a daemon for each host, a folder for all of them.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use rustix::process::Signal;
use skynet::registry::{Registry, RegistryConfig};
use skynet::session::Session;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::layout::{self, DemoHost};
use super::{ClusterView, DemoArgs, reaper};

/// How long services and daemons finish what they have when the demo leaves.
const DRAIN: &str = "1s";
/// From the beginning of leaving: when daemons that have not stopped are killed.
const STOP_BY: Duration = Duration::from_millis(3_500);
/// And when everything else is.
const KILL_BY: Duration = Duration::from_millis(4_200);
/// How long the registry may take to answer for the first time.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(20);
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
    pub(super) fn new(args: &DemoArgs, given: Option<Vec<String>>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sky-demo-")
            .tempdir()
            .context("cannot make a folder for the demo")?;
        let (endpoints, listen) = if let Some(endpoints) = given {
            (endpoints, None)
        } else {
            let listen = free_address()?;
            (vec![format!("http://{listen}")], Some(listen))
        };
        let config = RegistryConfig {
            endpoints,
            ..RegistryConfig::default()
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
        self.stop_daemons(begun + Duration::from_millis(2_500))
            .await;
        if !reaper::have_ended(&self.daemon_pids, begun + STOP_BY).await {
            tracing::warn!("daemons did not stop in time, killing them");
        }
        let registry_pid = self.registry_pid.take();
        if registry_pid.is_none() {
            self.kill_services(begun + KILL_BY).await;
            let deleted = timeout(
                Duration::from_millis(700),
                self.session.registry().delete_prefix(),
            )
            .await;
            match deleted {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the demo's keys are left behind"),
                Err(_elapsed) => {
                    tracing::warn!("the registry does not answer, the demo's keys are left behind");
                }
            }
        }
        // Of our own registry nothing is to be kept, so it needs no farewell.
        reaper::kill_all(begun + Duration::from_millis(4_800)).await;
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the demo's folder could not be removed");
        }
    }

    /// Asks every daemon of the registry, ours and those that were started by hand.
    async fn stop_daemons(&self, until: Instant) {
        let asked = async {
            let snapshot = self.session.snapshot().await?;
            let hosts: Vec<_> = snapshot.hosts().cloned().collect();
            let within = until.saturating_duration_since(Instant::now());
            let stops = hosts.iter().map(|host| async move {
                if let Err(error) = self.session.stop_daemon(host, within).await {
                    tracing::debug!(host = %host.name, %error, "the daemon did not take the stop");
                }
            });
            join_all(stops).await;
            Ok::<_, skynet::registry::Error>(())
        };
        let within = until
            .saturating_duration_since(Instant::now())
            .min(Duration::from_secs(2));
        let asked = timeout(within, asked).await;
        if !matches!(asked, Ok(Ok(()))) {
            // The registry is away: our own daemons take an interrupt for the same.
            for pid in &self.daemon_pids {
                reaper::send(*pid, Signal::INT);
            }
        }
    }

    async fn kill_services(&self, until: Instant) {
        if !reaper::all_ended(until).await {
            tracing::warn!("services did not stop in time, killing them");
            reaper::kill_all(until + Duration::from_millis(200)).await;
        }
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

/// A loopback address that nobody listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    listener.local_addr().context("cannot find a free port")
}
