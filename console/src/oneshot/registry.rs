//! `sky registry`: an embedded registry in this process, until it is told to end.
//!
//! Invariants: it says where it listens when it answers, not before; SIGINT and SIGTERM end it with
//! its data safe.

use skynet::registry::embedded::{Embedded, EmbeddedConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::RegistryArgs;
use crate::report::{self, Exit, Failure};

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the address or the folder cannot be used.
///
/// # Cancel safety
/// Dropping the future ends the registry at once; what it acknowledged is kept.
pub async fn run(args: &RegistryArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, error);
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let config = EmbeddedConfig {
        listen: args.listen,
        data: args.data.clone(),
        allow_insecure: args.allow_insecure,
        ..EmbeddedConfig::default()
    };
    let embedded = Embedded::start(config)
        .await
        .map_err(|error| Failure::of(Exit::Failed, error))?;
    match &args.data {
        Some(folder) => {
            report::note(&format!(
                "Registry at {}, data in {}",
                embedded.url(),
                folder.display()
            ));
        }
        None => report::note(&format!(
            "Registry at {}, data in memory only (`--data DIR` keeps them)",
            embedded.url()
        )),
    }
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    embedded.stop().await;
    Ok(())
}
