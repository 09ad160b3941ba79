//! A private etcd process: started with short elections, watched until healthy, killed on drop.
//!
//! It speaks plain HTTP to etcd's health check and knows nothing of its API.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{TestRegistryError, free_address};

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at its health.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How much of the log an error shows, in bytes.
const LOG_TAIL: usize = 2000;

/// The variable that names the folder with the programs of etcd 3.5.
const FOLDER_3_5: &str = "SKYNET_ETCD_3_5";

/// Which etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EtcdVersion {
    /// The one on the PATH: 3.4, as Debian has it.
    V3_4,
    /// The one in the folder that `SKYNET_ETCD_3_5` names.
    V3_5,
}

impl EtcdVersion {
    /// How messages and tests call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V3_4 => "etcd-3.4",
            Self::V3_5 => "etcd-3.5",
        }
    }

    /// What to do where it is missing.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::V3_4 => "install `etcd-server`",
            Self::V3_5 => {
                "let `SKYNET_ETCD_3_5` name the folder that holds its `etcd` and `etcdctl`, as \
                 `.ci/run` does"
            }
        }
    }

    /// Where one of its programs is, if it is installed.
    pub(super) fn program(self, name: &str) -> Option<PathBuf> {
        let folders = match self {
            Self::V3_4 => std::env::var_os("PATH"),
            Self::V3_5 => std::env::var_os(FOLDER_3_5),
        };
        std::env::split_paths(&folders?)
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    }
}

/// How long a leader may be silent before another is elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elections {
    /// 100 ms, so that tests start soon and leases may be short; a busy machine loses its leader.
    Short,
    /// As etcd does it by itself.
    Usual,
}

impl Elections {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Short => &["--heartbeat-interval", "10", "--election-timeout", "100"],
            Self::Usual => &[],
        }
    }
}

/// A running etcd.
#[derive(Debug)]
pub(super) struct EtcdProcess {
    child: Child,
    version: EtcdVersion,
    elections: Elections,
}

impl EtcdProcess {
    /// Starts one and waits until it is healthy; `None` if it is not installed.
    pub(super) async fn start(
        version: EtcdVersion,
        elections: Elections,
        address: SocketAddr,
        folder: &Path,
    ) -> Result<Option<Self>, TestRegistryError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(mut process) = Self::spawn(version, elections, address, folder)? else {
                return Ok(None);
            };
            while process.is_running()? {
                if is_healthy(address).await {
                    return Ok(Some(process));
                }
                if Instant::now() >= deadline {
                    break;
                }
                sleep(LOOK_EVERY).await;
            }
            // It ends at once if somebody took its peer port meanwhile; then another one is tried.
            if Instant::now() >= deadline {
                return Err(TestRegistryError::EtcdUnhealthy {
                    address,
                    patience: PATIENCE,
                    log: log_tail(folder),
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Which etcd it is.
    pub(super) fn version(&self) -> EtcdVersion {
        self.version
    }

    /// How it elects.
    pub(super) fn elections(&self) -> Elections {
        self.elections
    }

    /// Kills it and waits until the system has taken it away.
    pub(super) fn kill(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn spawn(
        version: EtcdVersion,
        elections: Elections,
        address: SocketAddr,
        folder: &Path,
    ) -> Result<Option<Self>, TestRegistryError> {
        let Some(program) = version.program("etcd") else {
            return Ok(None);
        };
        let client = format!("http://{address}");
        let peer = format!("http://{}", free_address()?);
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("etcd.log"))?;
        let child = Command::new(program)
            .args(["--name", "test", "--logger", "zap"])
            .args(elections.arguments())
            .args(["--experimental-watch-progress-notify-interval", "200ms"])
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Some(Self {
            child,
            version,
            elections,
        }))
    }

    fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn is_healthy(address: SocketAddr) -> bool {
    let ask = async {
        let mut connection = TcpStream::connect(address).await?;
        connection
            .write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    matches!(
        timeout(Duration::from_secs(1), ask).await,
        Ok(Ok(answer)) if answer.contains("\"health\":\"true\"")
    )
}

fn log_tail(folder: &Path) -> String {
    let log = fs::read(folder.join("etcd.log")).unwrap_or_default();
    let tail = log.len().saturating_sub(LOG_TAIL);
    String::from_utf8_lossy(log.get(tail..).unwrap_or_default()).into_owned()
}
