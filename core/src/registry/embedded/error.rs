//! Why an embedded registry does not start.

use std::{io, net::SocketAddr, path::PathBuf};

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
            Self::Folder { .. } => {
                "give a folder that you may write and that has space left".to_owned()
            }
            Self::Locked { .. } => "stop the other one or give another folder".to_owned(),
            Self::Damaged { file, .. } => format!(
                "move `{}` away to start empty: instances register again by themselves",
                file.display()
            ),
            Self::Format { .. } => {
                "start the version that wrote it, or give another folder".to_owned()
            }
            Self::Threads { .. } => "raise the limit of processes (`ulimit -u`)".to_owned(),
        })
    }
}
