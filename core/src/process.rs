//! Which process is meant: pid, start time and boot id together, read from `/proc`.
//!
//! Invariants: a reused pid is never taken for the process that had it before; a zombie counts as
//! dead. Knows nothing of signals, of children, or of the registry.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::instance::ProcessId;

/// Where the kernel tells the id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which numbering of pids this process sees, as in `pid:[4026531836]`.
const PID_NAMESPACE: &str = "/proc/self/ns/pid";

/// The number of the namespace that every machine starts with (`PROC_PID_INIT_INO` of Linux).
const MACHINES_OWN: &str = "4026531836";

/// Stands between boot and namespace.
const NAMESPACE_MARK: char = '/';

/// The number of the field `state` in `/proc/PID/stat`, the first one behind the name.
const STATE_FIELD: usize = 3;

/// The number of the field `ppid`, the next one.
const PARENT_FIELD: usize = STATE_FIELD + 1;

/// The number of the field `starttime`.
const START_FIELD: usize = 22;

impl ProcessId {
    /// The process that asks.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or does not read as Linux writes it.
    pub fn own() -> io::Result<Self> {
        let pid = std::process::id();
        Self::of(pid)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("`/proc/{pid}/stat` of the own process is missing"),
            )
        })
    }

    /// The process that has `pid` now; `None` when there is none or only a zombie.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or does not read as Linux writes it.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let path = format!("/proc/{pid}/stat");
        let stat = match std::fs::read(Path::new(&path)) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unreadable = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{path}` does not read as a process's state"),
            )
        };
        let Stat { state, start, .. } = Stat::read(&stat).ok_or_else(unreadable)?;
        if matches!(state, b'Z' | b'X' | b'x') {
            return Ok(None);
        }
        Ok(Some(Self {
            boot_id: boot_id()?,
            pid,
            process_start: start,
        }))
    }

    /// The processes whose parent is `parent` now, zombies left out.
    ///
    /// # Errors
    /// When `/proc` cannot be read; processes that end meanwhile are left out.
    pub fn children_of(parent: u32) -> io::Result<Vec<u32>> {
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_child = Stat::read(&stat)
                .is_some_and(|stat| stat.parent == parent && !matches!(stat.state, b'Z' | b'X'));
            if is_child {
                children.push(pid);
            }
        }
        Ok(children)
    }

    /// Whether both run, or ran, in the same boot of the same machine, be it in another container.
    #[must_use]
    pub fn is_of_same_boot(&self, other: &Self) -> bool {
        boot_of(&self.boot_id) == boot_of(&other.boot_id)
    }

    /// Whether this very process still runs: same boot, same pid, same start.
    ///
    /// # Errors
    /// As [`ProcessId::of`].
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(Self::of(self.pid)?.is_some_and(|now| now == *self))
    }
}

/// The id of this boot of the kernel, as far as pids are valid: containers that number processes of
/// their own share the kernel's boot id, and must not judge by their `/proc` who lives in another.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<Arc<str>> {
    static KNOWN: OnceLock<Arc<str>> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(Arc::clone(known));
    }
    let boot = std::fs::read_to_string(BOOT_ID)?;
    // A kernel without such namespaces has no such link.
    let namespace = std::fs::read_link(PID_NAMESPACE).unwrap_or_default();
    let id = named(boot.trim(), &namespace.to_string_lossy());
    Ok(Arc::clone(KNOWN.get_or_init(|| id)))
}

/// The boot's id, followed by the pid namespace where that is not the machine's own.
fn named(boot: &str, namespace: &str) -> Arc<str> {
    let number = namespace
        .strip_prefix("pid:[")
        .and_then(|rest| rest.strip_suffix(']'));
    match number {
        None | Some(MACHINES_OWN) => boot.into(),
        Some(number) => format!("{boot}{NAMESPACE_MARK}{number}").into(),
    }
}

/// The boot's id without the namespace.
fn boot_of(id: &str) -> &str {
    id.split_once(NAMESPACE_MARK).map_or(id, |(boot, _)| boot)
}

/// Linux answers a read of a vanished process with ESRCH where the file was already open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// What of `/proc/PID/stat` tells processes apart.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    parent: u32,
    start: u64,
}

impl Stat {
    /// The name stands in parentheses and may hold any byte, so reading starts behind the last one.
    fn read(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(START_FIELD - PARENT_FIELD - 1)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_behind_a_name_that_holds_parentheses() {
        let stat = b"42 (a) Z 1 (b\n) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21\n";
        let read = Stat::read(stat).unwrap();
        assert_eq!(
            read,
            Stat {
                state: b'S',
                parent: 1,
                start: 777
            }
        );
        for broken in [&b""[..], b"42", b"42 (x", b"42 (x) S 1 2"] {
            assert_eq!(Stat::read(broken), None);
        }
    }

    #[test]
    fn the_own_process_lives_and_another_start_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.is_alive().unwrap());
        let other = ProcessId {
            process_start: own.process_start + 1,
            ..own
        };
        assert!(!other.is_alive().unwrap());
    }

    #[test]
    fn containers_of_one_machine_share_its_boot_and_not_its_pids() {
        let process = |namespace: &str| ProcessId {
            boot_id: named("b-1", namespace),
            pid: 1,
            process_start: 7,
        };
        let (machine, one, two) = ("pid:[4026531836]", "pid:[4026532570]", "pid:[4026532571]");
        assert_eq!(&*process(machine).boot_id, "b-1");
        assert_eq!(&*process("unreadable").boot_id, "b-1");
        assert_ne!(process(one), process(two));
        assert_ne!(process(one), process(machine));
        assert!(process(one).is_of_same_boot(&process(two)));
        assert!(process(one).is_of_same_boot(&process(machine)));
        let other = ProcessId {
            boot_id: "b-2".into(),
            ..process(machine)
        };
        assert!(!process(one).is_of_same_boot(&other));
    }

    #[test]
    fn a_child_is_among_the_children_of_its_parent() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let children = ProcessId::children_of(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(children.contains(&child.id()));
        let children = ProcessId::children_of(std::process::id()).unwrap();
        assert!(!children.contains(&child.id()));
    }

    #[test]
    fn a_zombie_and_a_missing_process_are_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // Not waited for, so it stays a zombie once it has ended.
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while ProcessId::of(pid).unwrap().is_some() {
            assert!(tokio::time::Instant::now() < deadline, "`true` still runs");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(ProcessId::of(pid).unwrap(), None);
    }
}
