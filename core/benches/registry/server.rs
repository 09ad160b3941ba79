//! The registries under measure, each a process of its own, so that their work and memory are not
//! taken for the client's.

use std::io::{BufRead as _, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use etcd_client::Client;
use skynet::registry::embedded::{Embedded, EmbeddedConfig};
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::{TestRegistry, free_address};
use tempfile::TempDir;

/// The prefix below which everything is measured.
pub(crate) const PREFIX: &str = "/bench";

/// Which registry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Etcd,
    Embedded,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Etcd, Self::Embedded];
}

/// A running registry; it ends with this.
pub(crate) enum Server {
    Etcd(TestRegistry),
    Embedded(Own),
}

/// This program again, as an embedded registry.
pub(crate) struct Own {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// Starts one; `None` where there is no etcd.
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Option<Self>> {
        Ok(match kind {
            Kind::Etcd => TestRegistry::etcd_with_usual_elections()
                .await?
                .map(Self::Etcd),
            Kind::Embedded => {
                let (address, folder) = (free_address()?, TempDir::new()?);
                let child = spawn(address, &folder)?;
                Some(Self::Embedded(Own {
                    child,
                    address,
                    folder,
                }))
            }
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd 3.4",
            Self::Embedded(_) => "embedded",
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Etcd(etcd) => etcd.address(),
            Self::Embedded(own) => own.address,
        }
    }

    /// Ends it like `kill -9`.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Etcd(etcd) => etcd.kill().await,
            Self::Embedded(own) => own.end()?,
        }
        Ok(())
    }

    /// Starts it again with the same address and data; it answers when this returns.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Etcd(etcd) => etcd.restart().await?,
            Self::Embedded(own) => {
                own.end()?;
                own.child = spawn(own.address, &own.folder)?;
            }
        }
        Ok(())
    }

    /// A client without our machinery.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect([self.address().to_string()], None).await?)
    }

    /// A handle as of a process of its own.
    pub(crate) fn registry(&self) -> anyhow::Result<Registry> {
        registry(self.address())
    }

    /// The registry's revision.
    pub(crate) async fn revision(&self) -> anyhow::Result<i64> {
        let found = self.client().await?.get("nothing", None).await?;
        Ok(found.header().context("no header")?.revision())
    }
}

/// A handle as of a process of its own, on the registry at `address`.
pub(crate) fn registry(address: SocketAddr) -> anyhow::Result<Registry> {
    let config = RegistryConfig::at(&address.to_string()).with_prefix(PREFIX);
    Ok(Registry::new(&config)?)
}

impl Own {
    fn end(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It fails only if the process is gone already.
        let _gone = self.end();
    }
}

fn spawn(address: SocketAddr, folder: &TempDir) -> anyhow::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", &address.to_string()])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("the registry has no output")?;
    let mut line = String::new();
    std::io::BufReader::new(output).read_line(&mut line)?;
    anyhow::ensure!(!line.is_empty(), "the embedded registry did not start");
    Ok(child)
}

/// Runs an embedded registry until the input ends.
pub(crate) async fn serve(address: SocketAddr, folder: PathBuf) -> anyhow::Result<()> {
    let registry = Embedded::start(EmbeddedConfig {
        listen: address,
        data: Some(folder),
        ..EmbeddedConfig::default()
    })
    .await?;
    println!("{}", registry.url());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    registry.stop().await;
    Ok(())
}
