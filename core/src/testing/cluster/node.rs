//! One node of a cluster: its process, its addresses, its files, and the proxy before its peer port.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::super::{TestRegistryError, free_address, proxy::Proxy};

/// How much of the log an error shows, in bytes.
const LOG_TAIL: usize = 4000;

/// A node that may or may not run.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    program: PathBuf,
    /// Where clients reach it.
    address: SocketAddr,
    /// Where the proxy reaches it.
    peer: SocketAddr,
    /// Where its peers reach it.
    proxy: Proxy,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet, with addresses of its own.
    pub(super) fn new(
        index: usize,
        program: &Path,
        folder: &Path,
    ) -> Result<Self, TestRegistryError> {
        let name = format!("node{index}");
        let peer = free_address()?;
        Ok(Self {
            program: program.to_owned(),
            address: free_address()?,
            peer,
            proxy: Proxy::start(free_address()?, peer)?,
            data: folder.join(&name),
            log: folder.join(format!("{name}.log")),
            child: None,
            name,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its name and its address as its peers know it, as `--initial-cluster` takes it.
    pub(super) fn peer(&self) -> String {
        format!("{}=http://{}", self.name, self.proxy.address())
    }

    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Starts it, after it was killed if it runs.
    pub(super) fn start(&mut self, peers: &str, token: &str) -> Result<(), TestRegistryError> {
        self.kill();
        let log = File::options().create(true).append(true).open(&self.log)?;
        let client = self.url();
        let child = Command::new(&self.program)
            .args(["--name", &self.name, "--logger", "zap"])
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &format!("http://{}", self.peer)])
            .arg("--initial-advertise-peer-urls")
            .arg(format!("http://{}", self.proxy.address()))
            .args(["--initial-cluster", peers])
            .args(["--initial-cluster-token", token])
            .args(["--initial-cluster-state", "new"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it, frozen or not, and waits until the system has taken it away.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), TestRegistryError> {
        let child = self.child.as_ref().ok_or_else(|| {
            let message = format!("`{}` does not run", self.name);
            io::Error::new(ErrorKind::NotFound, message)
        })?;
        kill_process(Pid::from_child(child), signal).map_err(io::Error::from)?;
        Ok(())
    }

    pub(super) fn is_running(&mut self) -> io::Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    pub(super) fn remove_data(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn unhealthy(&self, patience: Duration) -> TestRegistryError {
        TestRegistryError::EtcdUnhealthy {
            address: self.address,
            patience,
            log: self.log_tail(),
        }
    }

    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = log.len().saturating_sub(LOG_TAIL);
        String::from_utf8_lossy(log.get(tail..).unwrap_or_default()).into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
