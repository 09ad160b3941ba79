//! Why an embedded registry does not start, or its data cannot be repaired or restored.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::hint::Hint;

/// Why an embedded registry did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The address can be reached from other machines, and nothing guards the registry yet.
    #[error("the registry may not listen on `{address}`: it is no loopback address")]
    NotLoopback {
        /// What was asked for.
        address: SocketAddr,
    },
    /// Somebody else listens there.
    #[error("the address `{address}` is in use")]
    AddressInUse {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("could not listen on `{address}`")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The folder cannot be made or written.
    #[error("could not write to the data folder `{}`", folder.display())]
    Folder {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another registry works on the folder.
    #[error("the data folder `{}` is in use by another registry", folder.display())]
    Locked {
        /// The data folder.
        folder: PathBuf,
    },
    /// The file is there and makes no sense.
    #[error("the registry's file `{}` is damaged", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was written by a version that is not known here.
    #[error("the registry's file `{}` has the format {found}, this version reads {known}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What the file says.
        found: u64,
        /// What can be read.
        known: u64,
    },
    /// A backup was to be restored where a registry's data are.
    #[error("the data folder `{}` holds a registry's data already", folder.display())]
    Occupied {
        /// The data folder.
        folder: PathBuf,
    },
    /// The backup cannot be read, or it is not what was written.
    #[error("the backup `{}` cannot be restored", file.display())]
    Backup {
        /// The backup.
        file: PathBuf,
        /// What was found.
        source: io::Error,
    },
    /// There is nothing that could be repaired.
    #[error("there is nothing of a registry in `{}`", file.display())]
    NothingToRepair {
        /// The file.
        file: PathBuf,
    },
    /// The system gave no thread.
    #[error("could not start the registry's threads")]
    Threads {
        /// What the system said.
        source: io::Error,
    },
}

impl Hint for EmbeddedError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotLoopback { .. } => {
                "listen on 127.0.0.1, or allow it with `--allow-insecure`".to_owned()
            }
            Self::AddressInUse { address, .. } => format!(
                "a registry may run there already: use it with `--registry http://{address}`, or \
                 choose another port (0 takes a free one)"
            ),
            Self::Bind { .. } => {
                "give an address of this machine and a port that is free".to_owned()
            }
            Self::Folder { folder, source } => folder_hint(folder, source),
            Self::Locked { .. } => "stop the other one or give another folder".to_owned(),
            Self::Damaged { file, .. } => damaged_hint(file),
            Self::Format { .. } => {
                "start the version that wrote it, or give another folder".to_owned()
            }
            Self::Occupied { folder } => format!(
                "give a folder that is empty, or move `{}` away first",
                folder.display()
            ),
            Self::Backup { .. } => {
                "give a file that `etcdctl snapshot save` wrote from a registry like this one; \
                 those of etcd are restored with `etcdctl snapshot restore` and run by etcd"
                    .to_owned()
            }
            Self::NothingToRepair { file } => format!(
                "restore a backup with `sky registry --data {} --restore FILE`, or start empty: \
                 instances register again by themselves",
                folder_of(file)
            ),
            Self::Threads { .. } => "raise the limit of processes (`ulimit -u`)".to_owned(),
        })
    }
}

fn folder_of(file: &Path) -> std::path::Display<'_> {
    file.parent().unwrap_or(file).display()
}

fn folder_hint(folder: &Path, source: &io::Error) -> String {
    let folder = folder.display();
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "give `{folder}` and what is in it to the user that runs the registry (`chown -R`), or \
             run it as the user that owns it"
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("mount the file system of `{folder}` for writing")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room on the disk that holds `{folder}` (`df {folder}`)")
        }
        _ => "give a folder that you may write and that has space left".to_owned(),
    }
}

fn damaged_hint(file: &Path) -> String {
    let (folder, file) = (folder_of(file), file.display());
    format!(
        "save what can be read of it with `sky registry --data {folder} --repair`; or move it away \
         (`mv {file} {file}.old`) and restore a backup with `sky registry --data {folder} --restore \
         FILE`, or start empty: instances register again by themselves, deployments and settings \
         do not"
    )
}
