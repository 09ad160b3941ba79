//! Processes: started, found again, watched, signalled, reaped. The only file that does.
//!
//! Invariants: every child leads a process group of its own and writes straight into a file, so that
//! nothing of it depends on the daemon's life; nothing is signalled unless pid, start time and boot
//! id are those of the child; what a child leaves of its group does not outlive it. Own and adopted
//! children are watched the same way, by a pidfd. Knows nothing of services or of the registry.

mod account;

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use procfs::ProcError;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    waitid,
};
use skynet::instance::{InstanceId, ProcessId};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::supervise::Exit;

use account::Account;
pub use account::UserError;

/// The variable that marks a process as a child, and tells it its id.
pub const UUID_VARIABLE: &str = "SKYNET_UUID";

/// How often a process is looked at when it cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What its environment has beside the daemon's.
    pub env: BTreeMap<String, String>,
    /// The user that it runs as.
    pub user: Option<String>,
    /// Its working folder.
    pub cwd: Option<PathBuf>,
    /// The file that its output is appended to.
    pub log: PathBuf,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The file for its output cannot be opened.
    #[error("cannot write the output file `{}`", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its working folder is not there.
    #[error("the working folder `{}` is not there", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// Its user is not known.
    #[error(transparent)]
    User(#[from] UserError),
    /// The system refused.
    #[error("cannot run `{}`", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was started, cannot be watched, and was killed again.
    #[error("cannot watch the process of `{}`", program.display())]
    Unwatched {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LaunchError {
    /// Whether trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Folder { .. } | Self::User(_) => true,
            Self::Refused { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::InvalidInput
                ) || source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
            }
            Self::Log { .. } | Self::Unwatched { .. } => false,
        }
    }
}

/// A process that the daemon watches; a cheap clone.
#[derive(Debug, Clone)]
pub struct Process {
    pid: Pid,
    /// `None` when it was gone before it could be looked at.
    id: Option<ProcessId>,
    pidfd: Arc<OwnedFd>,
}

/// Starts a process. Blocks for the time that the system needs.
///
/// # Errors
/// [`LaunchError`]; no process is left.
pub fn launch(launch: &Launch) -> Result<Process, LaunchError> {
    let mut command = command(launch)?;
    let refused = |source| LaunchError::Refused {
        program: launch.program.clone(),
        source,
    };
    let mut child = command.spawn().map_err(refused)?;
    let watched = watch_new(child.id());
    watched.map_err(|source| {
        // It was not waited for, so the pid is still its own. What fails here is already reported.
        drop(child.kill());
        drop(child.wait());
        LaunchError::Unwatched {
            program: launch.program.clone(),
            source,
        }
    })
}

fn command(launch: &Launch) -> Result<Command, LaunchError> {
    let broken_log = |source| LaunchError::Log {
        path: launch.log.clone(),
        source,
    };
    let output = append_to(&launch.log).map_err(broken_log)?;
    let errors = output.try_clone().map_err(broken_log)?;
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    if let Some(user) = &launch.user {
        let account = Account::find(user)?;
        command.uid(account.uid).gid(account.gid);
        command.envs(account.variables());
    }
    command.envs(&launch.env);
    if let Some(folder) = &launch.cwd {
        if !folder.is_dir() {
            return Err(LaunchError::Folder {
                path: folder.clone(),
            });
        }
        command.current_dir(folder);
    }
    Ok(command)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A child that was not waited for keeps its pid, so there is no race between these steps.
fn watch_new(pid: u32) -> io::Result<Process> {
    let id = ProcessId::of(pid)?;
    let pid = pid_of(pid)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Process {
        pid,
        id,
        pidfd: Arc::new(pidfd),
    })
}

/// Watches a process that an earlier daemon started; `None` when it is gone, a zombie, or when its
/// pid belongs to another now.
///
/// # Errors
/// When the system does not let us look or watch.
pub fn adopt(id: &ProcessId) -> io::Result<Option<Process>> {
    // A number that no process can have is nobody's.
    let Ok(pid) = pid_of(id.pid) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Looked at after it was opened: the pidfd can only be that of the process that is seen now.
    if !id.is_alive()? {
        return Ok(None);
    }
    Ok(Some(Process {
        pid,
        id: Some(id.clone()),
        pidfd: Arc::new(pidfd),
    }))
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no such pid: {pid}")))
}

impl Process {
    /// Which process it is; `None` when it ended before it could be looked at.
    pub fn id(&self) -> Option<&ProcessId> {
        self.id.as_ref()
    }

    /// Waits until the process is gone, ends what it left of its group, and reaps it.
    ///
    /// # Cancel safety
    /// Dropping the future forgets nothing: another call waits anew.
    pub async fn exited(&self) -> Exit {
        loop {
            if let Err(error) = self.readable().await {
                tracing::warn!(pid = self.pid.as_raw_nonzero(), %error, "cannot wait for a child");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            if let Some(exit) = self.reap() {
                return exit;
            }
        }
    }

    async fn readable(&self) -> io::Result<()> {
        let pidfd = register(Arc::clone(&self.pidfd))?;
        pidfd.readable().await?.retain_ready();
        Ok(())
    }

    /// How it ended, when it has; it is reaped then.
    fn reap(&self) -> Option<Exit> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let pidfd = || WaitId::PidFd(rustix::fd::AsFd::as_fd(&*self.pidfd));
        match waitid(pidfd(), look | WaitIdOptions::NOWAIT) {
            Ok(None) => None,
            Ok(Some(status)) => {
                // Until it is reaped nobody else can have its pid, so the group is its own.
                let _ = kill_process_group(self.pid, Signal::KILL);
                let _ = waitid(pidfd(), look);
                Some(exit_of(&status))
            }
            // Not our own child: somebody else reaps it.
            Err(_) => {
                let lives = self.id.as_ref().map(ProcessId::is_alive);
                if matches!(lives, Some(Ok(true))) {
                    return None;
                }
                self.end_orphaned_group();
                Some(Exit::Unknown)
            }
        }
    }

    /// Sends SIGTERM to the group; false when the process is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn terminate(&self) -> io::Result<bool> {
        self.signal(Signal::TERM)
    }

    /// Sends SIGKILL to the group; false when the process is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> io::Result<bool> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(id) = &self.id else {
            return Ok(false);
        };
        if !id.is_alive()? {
            return Ok(false);
        }
        match kill_process_group(self.pid, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of an adopted child may belong to strangers by now, so only a group that carries
    /// the child's mark is ended.
    fn end_orphaned_group(&self) {
        let group = self.pid.as_raw_nonzero().get();
        let is_ours = |seen: &Seen| seen.group == group && seen.mark.is_some();
        // Without a look nobody is ended: they may be strangers.
        if look_at_all().is_ok_and(|all| all.iter().any(is_ours)) {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

/// A pidfd is readable once its process is gone.
#[expect(
    unsafe_code,
    reason = "tokio cannot check that a file descriptor stays open while it is registered"
)]
fn register(pidfd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the registration owns a share of the `OwnedFd`, which keeps the same file open until
    // the registration is dropped and is never replaced.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    status
        .exit_status()
        .map(Exit::Code)
        .or_else(|| status.terminating_signal().map(Exit::Signal))
        .unwrap_or(Exit::Unknown)
}

/// Living leaders of process groups that carry the mark of a child, by the child's id.
///
/// It finds children that a daemon started just before it was killed, when it had no time to note
/// their pids. Of several the oldest counts. Reads all of `/proc`: blocks for milliseconds.
///
/// # Errors
/// When the system does not let us look; processes of other users are passed over.
pub fn find_marked() -> io::Result<HashMap<InstanceId, ProcessId>> {
    let mut found: HashMap<InstanceId, ProcessId> = HashMap::new();
    for seen in look_at_all()? {
        let (Some(mark), Ok(pid)) = (seen.mark, u32::try_from(seen.pid)) else {
            continue;
        };
        if seen.group != seen.pid {
            continue;
        }
        let Some(id) = ProcessId::of(pid)? else {
            continue;
        };
        let older = found
            .get(&mark)
            .is_none_or(|known| id.process_start < known.process_start);
        if older {
            found.insert(mark, id);
        }
    }
    Ok(found)
}

/// What `/proc` tells of a process.
struct Seen {
    pid: i32,
    group: i32,
    mark: Option<InstanceId>,
}

fn look_at_all() -> io::Result<Vec<Seen>> {
    let mut all = Vec::new();
    for process in procfs::process::all_processes().map_err(refusal)? {
        let Some(process) = readable(process)? else {
            continue;
        };
        let Some(stat) = readable(process.stat())? else {
            continue;
        };
        let mark = readable(process.environ())?
            .as_ref()
            .and_then(|environment| environment.get(std::ffi::OsStr::new(UUID_VARIABLE)))
            .and_then(|value| value.to_str()?.parse().ok());
        all.push(Seen {
            pid: stat.pid,
            group: stat.pgrp,
            mark,
        });
    }
    Ok(all)
}

/// `None` when the process is gone, or when it is another user's and so not ours.
fn readable<T>(read: procfs::ProcResult<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ProcError::NotFound(_) | ProcError::PermissionDenied(_) | ProcError::Incomplete(_)) => {
            Ok(None)
        }
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: ProcError) -> io::Error {
    match error {
        ProcError::Io(error, _) => error,
        other => io::Error::other(other),
    }
}

/// How long a process has run, to a hundredth of a second; `None` when that cannot be told.
pub fn age(id: &ProcessId) -> Option<Duration> {
    let started = Duration::from_millis(
        id.process_start
            .checked_mul(1000)?
            .checked_div(procfs::ticks_per_second())?,
    );
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let uptime = Duration::try_from(uptime).ok()?;
    uptime.checked_sub(started)
}

#[cfg(test)]
mod tests;
