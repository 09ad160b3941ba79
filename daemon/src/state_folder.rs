//! The folder in which a daemon keeps what outlives it: one daemon at a time.
//!
//! Invariants: the lock is held as long as the value lives and dies with the process; children do
//! not inherit it. Knows where things lie, not what they say.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use skynet::hint::Hint;
use skynet::instance::{InstanceId, ProcessId};

use crate::process;

/// The state folder, locked.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// Held for its lock only.
    _lock: File,
}

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It cannot be made or written.
    #[error("cannot use the state folder `{}`", path.display())]
    Unusable {
        /// The folder, or what lies in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("the state folder `{}` is in use by another daemon{}", path.display(), holder(*.pid))]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The other daemon, as far as it said.
        pid: Option<u32>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(", pid {pid}")).unwrap_or_default()
}

impl Hint for FolderError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unusable { .. } => {
                "give a folder that this user may write, with `--state DIR`".to_owned()
            }
            Self::Taken { .. } => {
                "one daemon runs per host; give a second one its own `--state DIR` and `--host NAME`"
                    .to_owned()
            }
        })
    }
}

impl StateFolder {
    /// Makes the folder where it is missing, and locks it. Blocks.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let unusable = |source| FolderError::Unusable {
            path: path.to_owned(),
            source,
        };
        // What children print and are given may be private.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(unusable)?;
        // Children get absolute paths, whatever their working folder.
        let path = path.canonicalize().map_err(unusable)?;
        builder.create(path.join("logs")).map_err(unusable)?;
        let lock = Self::lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    fn lock(path: &Path) -> Result<File, FolderError> {
        let unusable = |source| FolderError::Unusable {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut lock = options.open(path.join("lock")).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The number is a courtesy: without it the message says less.
                let _ = lock.read_to_string(&mut pid);
                return Err(FolderError::Taken {
                    path: path.to_owned(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        lock.set_len(0).map_err(unusable)?;
        lock.rewind().map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(lock)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the children are noted.
    pub fn children(&self) -> PathBuf {
        self.path.join("children.json")
    }

    /// Where a child's output goes.
    pub fn log(&self, id: InstanceId) -> PathBuf {
        self.path.join("logs").join(format!("{id}.log"))
    }

    /// The living processes that carry the mark of a child of this folder, whether or not it is noted:
    /// every child has had its output here. Blocks.
    ///
    /// # Errors
    /// When the system does not let us look.
    pub fn living(&self) -> io::Result<Vec<ProcessId>> {
        let marked = process::find_marked()?;
        let mut living: Vec<ProcessId> = marked
            .into_iter()
            .filter(|(id, _)| self.log(*id).exists())
            .map(|(_, process)| process)
            .collect();
        living.sort_by_key(|process| process.pid);
        Ok(living)
    }

    /// Where the embedded registry keeps its data.
    pub fn registry(&self) -> PathBuf {
        self.path.join("registry")
    }
}

/// The state folder when none is given: below `/var/lib/skynet` for root, else in the user's folder
/// for state; each host name has its own, so that several hosts can live on one machine.
pub fn usual(host: &str) -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = variable("XDG_STATE_HOME").map(|state| state.join("skynet"));
    let base = base.or_else(|| {
        if rustix::process::geteuid().is_root() {
            Some(PathBuf::from("/var/lib/skynet"))
        } else {
            variable("HOME").map(|home| home.join(".local/state/skynet"))
        }
    });
    base.unwrap_or_else(|| std::env::temp_dir().join("skynet"))
        .join(host.replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = StateFolder::open(&path).unwrap();
        let refused = StateFolder::open(&path).unwrap_err();
        let own = std::process::id();
        let named = first.path().display();
        assert_eq!(
            refused.to_string(),
            format!("the state folder `{named}` is in use by another daemon, pid {own}")
        );
        assert!(refused.hint().is_some());
        drop(first);
        StateFolder::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let refused = StateFolder::open(Path::new("/proc/no/such")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot use the state folder `/proc/no/such`"
        );
    }
}
