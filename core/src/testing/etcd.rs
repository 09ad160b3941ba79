//! A private etcd process: started with short elections, watched until healthy, killed on drop.
//!
//! It speaks plain HTTP to etcd's health check and knows nothing of its API.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    net::SocketAddr,
    path::Path,
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

/// A running etcd.
#[derive(Debug)]
pub(super) struct EtcdProcess {
    child: Child,
}

impl EtcdProcess {
    /// Starts one and waits until it is healthy; `None` if there is no etcd on the PATH.
    pub(super) async fn start(
        address: SocketAddr,
        folder: &Path,
    ) -> Result<Option<Self>, TestRegistryError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(mut process) = Self::spawn(address, folder)? else {
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

    /// Kills it and waits until the system has taken it away.
    pub(super) fn kill(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn spawn(address: SocketAddr, folder: &Path) -> Result<Option<Self>, TestRegistryError> {
        let client = format!("http://{address}");
        let peer = format!("http://{}", free_address()?);
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("etcd.log"))?;
        let spawned = Command::new("etcd")
            .args(["--name", "test", "--heartbeat-interval", "10"])
            .args(["--election-timeout", "100", "--logger", "zap"])
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
            .spawn();
        match spawned {
            Ok(child) => Ok(Some(Self { child })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
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
