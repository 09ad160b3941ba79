//! What the daemon notes of its children, so that the next one finds them.
//!
//! Invariants: the file on the disk is always a whole one (written beside, synced, renamed); one that
//! does not read is reported and set aside under another name, never overwritten; one of a newer
//! daemon is left as it is, and no older one starts on it. Knows nothing of processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skynet::hint::Hint;
use skynet::instance::{InstanceId, ProcessId};

use crate::spec::{ChildSpec, Origin};
use crate::supervise::Wish;

mod worker;

pub use worker::{Generation, StoreWorker, Written};

/// The format that this daemon writes.
const FORMAT: u32 = 1;

/// A child as it is noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildRecord {
    /// What it is to be.
    pub spec: ChildSpec,
    /// Where it came from.
    #[serde(default)]
    pub origin: Origin,
    /// Whether it is to run.
    pub wish: Wish,
    /// Its process, as far as one was seen alive.
    #[serde(default)]
    pub process: Option<ProcessId>,
    /// When it last started.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// The service's name under which it last registered.
    #[serde(default)]
    pub service: Option<Arc<str>>,
    /// The version under which it last registered.
    #[serde(default)]
    pub version: Option<Arc<str>>,
    /// How often it was started again without being asked to.
    #[serde(default)]
    pub restarts: u64,
    /// Why it last ended or could not start.
    #[serde(default)]
    pub reason: Option<String>,
}

impl ChildRecord {
    /// A child that is to run and never did.
    pub fn new(spec: ChildSpec, origin: Origin) -> Self {
        Self {
            spec,
            origin,
            wish: Wish::Running,
            process: None,
            started: None,
            service: None,
            version: None,
            restarts: 0,
            reason: None,
        }
    }
}

/// Everything that is noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    format: u32,
    /// The daemon's own id as an instance of `SkynetDaemon`.
    pub daemon: InstanceId,
    /// Every child.
    pub children: BTreeMap<InstanceId, Arc<ChildRecord>>,
}

impl Default for Noted {
    fn default() -> Self {
        Self::new(InstanceId::new_v4(), BTreeMap::new())
    }
}

impl Noted {
    /// The notes of the daemon with the id `daemon`.
    pub fn new(daemon: InstanceId, children: BTreeMap<InstanceId, Arc<ChildRecord>>) -> Self {
        Self {
            format: FORMAT,
            daemon,
            children,
        }
    }
}

/// What was found in the state folder.
#[derive(Debug)]
pub struct Loaded {
    /// What was noted, or nothing.
    pub noted: Noted,
    /// Why what stands there does not read: it is to be set aside before anything is noted.
    pub broken: Option<String>,
}

/// The notes cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refuses.
    #[error("cannot {action} `{}`", path.display())]
    Disk {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon's version wrote them.
    #[error(
        "the notes `{}` have format {found}, and this daemon knows format {FORMAT} only",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Their format.
        found: u64,
    },
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk { .. } => None,
            Self::Format { .. } => {
                Some("start the version that wrote them: it adopts the children".to_owned())
            }
        }
    }
}

/// Of whatever version the notes are, this much of them reads.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// Reads the notes; none where the file is missing. Blocks.
///
/// # Errors
/// When the file is there and cannot be read at all, or has another format.
pub fn load(path: &Path) -> Result<Loaded, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Loaded {
                noted: Noted::default(),
                broken: None,
            });
        }
        Err(source) => {
            return Err(StoreError::Disk {
                action: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    if let Ok(Format { format: found }) = serde_json::from_slice(&bytes)
        && found != u64::from(FORMAT)
    {
        return Err(StoreError::Format {
            path: path.to_owned(),
            found,
        });
    }
    Ok(match serde_json::from_slice::<Noted>(&bytes) {
        Ok(noted) => Loaded {
            noted,
            broken: None,
        },
        Err(error) => Loaded {
            noted: Noted::default(),
            broken: Some(error.to_string()),
        },
    })
}

/// Gives notes that do not read a name that nothing has, and returns it. Blocks.
///
/// # Errors
/// When the disk refuses.
pub fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = free_name(path);
    std::fs::rename(path, &aside).map_err(|source| StoreError::Disk {
        action: "set aside",
        path: path.to_owned(),
        source,
    })?;
    Ok(aside)
}

/// The first name beside `path` that nothing has.
fn free_name(path: &Path) -> PathBuf {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".broken-{number}"));
        PathBuf::from(name)
    };
    (1..u32::MAX)
        .map(named)
        .find(|name| !name.exists())
        .unwrap_or_else(|| named(0))
}

/// Writes the notes beside the file, syncs, and renames. Blocks.
///
/// # Errors
/// When the disk refuses; the file is as it was then.
pub fn save(path: &Path, noted: &Noted) -> Result<(), StoreError> {
    let failed = |source| StoreError::Disk {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let bytes = serde_json::to_vec_pretty(noted)
        .map_err(io::Error::from)
        .map_err(failed)?;
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    if let Some(folder) = path.parent() {
        let folder = File::open(folder).map_err(failed)?;
        folder.sync_all().map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted() -> Noted {
        let mut noted = Noted::default();
        let spec = ChildSpec {
            path: "sleep".to_owned(),
            args: vec!["1000".to_owned()],
            ..ChildSpec::default()
        };
        let mut record = ChildRecord::new(spec, Origin::File);
        record.process = Some(ProcessId::own().unwrap());
        record.service = Some("Sleeper".into());
        noted
            .children
            .insert(InstanceId::new_v4(), Arc::new(record));
        noted
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("children.json");
        assert!(load(&path).unwrap().noted.children.is_empty());
        let noted = noted();
        save(&path, &noted).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.noted, noted);
        assert!(loaded.broken.is_none());
    }

    #[test]
    fn what_does_not_read_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("children.json");
        let whole = serde_json::to_vec(&noted()).unwrap();
        let torn = whole[..whole.len() / 2].to_vec();
        for (number, broken) in [torn, Vec::new(), vec![0xff; 64]].into_iter().enumerate() {
            std::fs::write(&path, &broken).unwrap();
            let loaded = load(&path).unwrap();
            assert!(loaded.noted.children.is_empty());
            assert!(loaded.broken.is_some());
            assert!(path.exists());
            let aside = set_aside(&path).unwrap();
            assert!(aside.ends_with(format!("children.json.broken-{}", number + 1)));
            assert_eq!(std::fs::read(&aside).unwrap(), broken);
            assert!(!path.exists());
        }
    }

    #[test]
    fn notes_of_another_format_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("children.json");
        let whole = String::from_utf8(serde_json::to_vec(&noted()).unwrap()).unwrap();
        let newer = whole.replace("\"format\":1", "\"format\":2");
        for newer in [newer.as_str(), r#"{"format":2,"all":"is different"}"#] {
            std::fs::write(&path, newer).unwrap();
            let refused = load(&path).unwrap_err();
            assert!(matches!(refused, StoreError::Format { found: 2, .. }));
            assert!(refused.hint().is_some());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
        }
    }

    #[test]
    fn fields_of_a_newer_daemon_do_not_keep_it_from_being_read() {
        let text = r#"{"format":1,"daemon":"6f1c9b2e-0000-4000-8000-000000000000","children":{
            "6f1c9b2e-0000-4000-8000-000000000001":
            {"spec":{"path":"x","later":1},"wish":"stopped","later":{}}},"later":[]}"#;
        let noted: Noted = serde_json::from_str(text).unwrap();
        let record = noted.children.values().next().unwrap();
        assert_eq!(record.wish, Wish::Stopped);
        assert_eq!(record.spec.path, "x");
    }

    #[test]
    fn a_disk_that_refuses_leaves_the_old_notes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/children.json");
        let error = save(&path, &noted()).unwrap_err();
        assert!(error.to_string().starts_with("cannot write"));
    }
}
