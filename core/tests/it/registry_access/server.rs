//! An etcd with options of its own, of both versions, and what operators do to it.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use skynet::{
    instance::State,
    registry::{Registration, Registry, RegistryConfig, View, link::Link, snapshot::Snapshot},
    testing::free_address,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::registry_client::{identity, value};

/// How long a condition may take to come about on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on etcd 3.4 and 3.5, where they are installed.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod etcd_3_4 {
            $(#[tokio::test]
            async fn $name() {
                if let Some(ctl) = skynet::testing::etcdctl().unwrap() {
                    super::$name(super::Programs::of(&ctl)).await;
                }
            })*
        }
        mod etcd_3_5 {
            $(#[tokio::test]
            async fn $name() {
                if let Some(ctl) = skynet::testing::etcdctl_3_5().unwrap() {
                    super::$name(super::Programs::of(&ctl)).await;
                }
            })*
        }
    };
}
pub(super) use on_both;

/// The programs of one version.
#[derive(Clone)]
pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    pub(super) fn of(ctl: &Command) -> Self {
        let folder = Path::new(ctl.get_program()).parent().unwrap().to_owned();
        Self { folder }
    }
}

/// One etcd; it ends with this.
pub(super) struct Server {
    child: Child,
    programs: Programs,
    options: Vec<String>,
    /// What etcdctl is told beside its command.
    pub(super) ctl_options: Vec<String>,
    pub(super) address: SocketAddr,
    scheme: &'static str,
    pub(super) folder: TempDir,
}

impl Server {
    /// `options` may name files in the folder, which `prepare` fills.
    pub(super) async fn start(
        programs: Programs,
        scheme: &'static str,
        prepare: impl FnOnce(&Path) -> (Vec<String>, Vec<String>),
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let (options, ctl_options) = prepare(folder.path());
        let address = free_address().unwrap();
        let mut server = Self {
            child: spawn(&programs, &options, scheme, address, folder.path()),
            programs,
            options,
            ctl_options,
            address,
            scheme,
            folder,
        };
        server.come_up().await;
        server
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Ends it like `kill -9`, and starts it on the same data.
    pub(super) async fn restart(&mut self) {
        self.kill();
        self.child = self.spawn();
        self.come_up().await;
    }

    fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    fn spawn(&self) -> Child {
        let folder = self.folder.path();
        spawn(
            &self.programs,
            &self.options,
            self.scheme,
            self.address,
            folder,
        )
    }

    async fn come_up(&mut self) {
        let up = async {
            loop {
                if self.child.try_wait().unwrap().is_some() {
                    // Somebody took its other port meanwhile.
                    self.child = self.spawn();
                }
                if self.try_ctl(["endpoint", "status"]) {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, up).await.is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("etcd.log")).unwrap();
            panic!("etcd did not come up: {log}");
        }
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.programs.folder.join("etcdctl"));
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url(), "--dial-timeout", "2s"])
            .args(&self.ctl_options)
            .args(args);
        command
    }

    pub(super) fn try_ctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> bool {
        let output = self.command(args).output().unwrap();
        output.status.success()
    }

    /// Runs etcdctl; its words.
    pub(super) fn ctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.command(args).output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}{errors}");
        words
    }

    /// Gives a user another password.
    pub(super) fn passwd<'a>(&self, args: impl IntoIterator<Item = &'a str>, password: &str) {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(
    programs: &Programs,
    options: &[String],
    scheme: &str,
    address: SocketAddr,
    folder: &Path,
) -> Child {
    let client = format!("{scheme}://{address}");
    let peer = format!("http://{}", free_address().unwrap());
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("etcd.log"))
        .unwrap();
    Command::new(programs.folder.join("etcd"))
        .args(["--name", "test", "--heartbeat-interval", "10"])
        .args(["--election-timeout", "100", "--logger", "zap"])
        .args(["--bcrypt-cost", "4"])
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}")])
        .args(options)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// An instance that holds an entry, and somebody who watches it.
pub(super) struct Pair {
    pub(super) registration: Registration,
    pub(super) view: std::sync::Arc<View>,
    id: skynet::instance::InstanceId,
}

impl Pair {
    /// Registers over one handle and watches over another.
    pub(super) async fn start(config: &RegistryConfig) -> Self {
        let id = identity(1).id;
        let registry = Registry::new(config).unwrap();
        let registration = registry.register(identity(1), value(9001));
        let view = Registry::new(config).unwrap().view();
        let pair = Self {
            registration,
            view,
            id,
        };
        pair.sees(State::Ready).await;
        pair
    }

    /// Waits until the instance is seen in this state.
    pub(super) async fn sees(&self, state: State) {
        let mut changes = self.view.changes();
        let is_so = |snapshot: &std::sync::Arc<Snapshot>| {
            snapshot
                .instance(self.id)
                .is_some_and(|it| it.state == state)
        };
        timeout(PATIENCE, changes.wait_for(is_so))
            .await
            .unwrap_or_else(|_| panic!("{state:?} is not seen"))
            .unwrap();
    }

    /// The lease that the entry is seen to hang on.
    pub(super) fn lease(&self) -> i64 {
        self.view.snapshot().instance(self.id).unwrap().lease
    }

    pub(super) async fn is_live(&self) {
        let mut link = self.view.link();
        timeout(PATIENCE, link.wait_for(Link::is_live))
            .await
            .unwrap()
            .unwrap();
    }
}
