//! `sky registry`: an embedded registry in this process, until it is told to end.
//!
//! With `--repair` or `--restore` it works on the data folder and ends instead.
//!
//! Invariants: it says where it listens when it answers, not before; SIGINT and SIGTERM end it with
//! its data safe.

use std::path::{Path, PathBuf};

use skynet::registry::embedded::{
    Embedded, EmbeddedConfig, EmbeddedError, Repaired, repair, restore,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::RegistryArgs;
use crate::report::{self, Exit, Failure};

/// Serves until SIGINT or SIGTERM, or repairs or restores.
///
/// # Errors
/// When the address or the folder cannot be used, or nothing can be repaired or restored.
///
/// # Cancel safety
/// Dropping the future ends the registry at once; what it acknowledged is kept.
pub async fn run(args: &RegistryArgs) -> Result<(), Failure> {
    if let Some(folder) = &args.data {
        if args.repair {
            return off_line(folder.clone(), |folder| repaired(&folder)).await;
        }
        if let Some(file) = args.restore.clone() {
            return off_line(folder.clone(), move |folder| restored(&folder, &file)).await;
        }
    }
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, error);
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let config = EmbeddedConfig {
        listen: args.listen,
        data: args.data.clone(),
        quota_bytes: args.quota_bytes,
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

/// Works on the data folder, which blocks, and says what came of it.
async fn off_line(
    folder: PathBuf,
    work: impl FnOnce(PathBuf) -> Result<Vec<String>, EmbeddedError> + Send + 'static,
) -> Result<(), Failure> {
    let shown = folder.display().to_string();
    let done = tokio::task::spawn_blocking(move || work(folder)).await;
    let said = done
        .map_err(|error| Failure::new(Exit::Failed, error))?
        .map_err(|error| Failure::of(Exit::Failed, error))?;
    for line in said {
        report::note(&line);
    }
    report::note(&format!("Start it with `sky registry --data {shown}`"));
    Ok(())
}

fn repaired(folder: &Path) -> Result<Vec<String>, EmbeddedError> {
    Ok(match repair(folder)? {
        Repaired::Rewritten {
            aside,
            n_keys,
            revision,
        } => vec![
            format!("Saved everything: {n_keys} keys at revision {revision}"),
            kept(&aside),
        ],
        Repaired::Saved {
            aside,
            n_keys,
            n_leases,
            reached,
            n_missing,
            is_unsure,
            revision,
        } => {
            let mut said = vec![
                format!("Saved {n_keys} keys and {n_leases} leases, up to revision {reached}"),
                kept(&aside),
            ];
            if n_missing > 0 {
                said.push(format!(
                    "{n_missing} revisions are lost: look whether deployments and settings are as \
                     they should be; instances register again by themselves"
                ));
            }
            if is_unsure {
                said.push(
                    "The file's index was lost, so keys that were deleted long ago may be back"
                        .to_owned(),
                );
            }
            said.push(format!(
                "It is a new registry, at revision {revision}: clients notice and list it again"
            ));
            said
        }
        Repaired::Whole { revision } => vec![format!(
            "Nothing is damaged and nothing was changed, at revision {revision}"
        )],
        _ => Vec::new(),
    })
}

fn kept(aside: &Path) -> String {
    format!("The damaged file is kept as {}", aside.display())
}

fn restored(folder: &Path, file: &Path) -> Result<Vec<String>, EmbeddedError> {
    let restored = restore(folder, file)?;
    Ok(vec![
        format!(
            "Restored {} keys and {} leases of revision {}",
            restored.n_keys, restored.n_leases, restored.backup_revision
        ),
        format!(
            "It is a new registry, at revision {}: clients notice and list it again",
            restored.revision
        ),
    ])
}
