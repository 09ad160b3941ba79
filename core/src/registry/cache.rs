//! What the disk remembers of the cluster, for a process that starts while the registry is away.
//!
//! One file of JSON, which all processes of a host that follow the same prefix may share: it is
//! replaced as a whole, so a reader finds one of them or another, never a half. Invariants: only
//! what a registry that is believed has told is written, and never a suspect; what cannot be used is
//! passed over with a warning, and what is not certainly ours is not overwritten either; nothing
//! here holds up whoever follows the registry. It does not know when what it remembers is shown.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use super::key::Key;
use super::names::Names;
use super::read;
use super::snapshot::{Change, Snapshot};
use super::value::{HostValue, InstanceValue, OtherFields};
use crate::instance::{Host, Instance, State};

/// The environment's variable for [`RegistryConfig::cache`](super::RegistryConfig::cache).
pub const CACHE_VARIABLE: &str = "SKYNET_REGISTRY_CACHE";

/// The format of the file.
const FORMAT: u32 = 1;
/// How every file of ours begins, in whatever format.
const BEGINNING: &[u8] = b"{\"format\":";
/// What is older is of another cluster, for all that can be said.
const OLDEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// No registry that anybody runs has so much to say; in bytes.
const LARGEST: u64 = 512 * 1024 * 1024;
/// At most one write in so long.
const EVERY: Duration = Duration::from_secs(5);
/// A write waits for up to so long, by chance: a burst is one write, and of the processes that share
/// the file and hear of the same change, the first writes for all.
const COLLECT: Duration = Duration::from_millis(500);
/// How much later than the news a file of another process may be for it to tell them.
const SAME_NEWS: SignedDuration = SignedDuration::from_secs(10);

/// The file that is set in the environment, if one is.
pub(super) fn from_env() -> Option<PathBuf> {
    std::env::var_os(CACHE_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// A cache that is read once and written from then on.
#[derive(Debug)]
pub(super) struct Cache {
    place: Arc<Place>,
    noted: watch::Sender<Option<Noted>>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    prefix: Arc<str>,
}

/// What is to be written.
#[derive(Debug, Clone)]
struct Noted {
    snapshot: Arc<Snapshot>,
    cluster: Option<Uuid>,
    at: Timestamp,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Cached {
    /// Its revision is 0: revisions are counted by what a registry says.
    pub(super) snapshot: Snapshot,
    pub(super) names: Names,
    /// The id of the registry that told it.
    pub(super) cluster: Option<Uuid>,
    /// When it was true.
    pub(super) written: Timestamp,
}

/// Why a file is passed over.
#[derive(Debug, thiserror::Error)]
enum Passed {
    #[error("it cannot be read")]
    Unreadable(#[from] io::Error),
    #[error("something else wrote it")]
    Strange,
    #[error("it is damaged")]
    Damaged(#[from] serde_json::Error),
    #[error("its format {found} is not known here")]
    Format { found: u32 },
    #[error("it is of the prefix `{found}`")]
    Foreign { found: String },
    #[error("it was written at {written}, more than seven days ago")]
    TooOld { written: Timestamp },
}

impl Passed {
    /// Whether it may be of use to somebody else, and is not to be overwritten.
    fn is_not_ours(&self) -> bool {
        match self {
            Self::Unreadable(_) | Self::Strange | Self::Format { .. } | Self::Foreign { .. } => {
                true
            }
            Self::Damaged(_) | Self::TooOld { .. } => false,
        }
    }
}

impl Cache {
    /// A cache in this file. Writing begins with the first note and ends with the cache.
    ///
    /// Call it on a tokio runtime.
    pub(super) fn new(path: PathBuf, prefix: Arc<str>) -> Self {
        let place = Arc::new(Place { path, prefix });
        let (noted, news) = watch::channel(None);
        tokio::spawn(keep(Arc::clone(&place), news));
        Self { place, noted }
    }

    /// What the file remembers, and whether it is ours to write from now on.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(super) async fn read(&self) -> (Option<Cached>, bool) {
        let place = Arc::clone(&self.place);
        let read = spawn_blocking(move || read_file(&place.path, &place.prefix, Timestamp::now()));
        match read.await {
            Ok(Ok(cached)) => (cached, true),
            Ok(Err(passed)) => {
                let not_ours = passed.is_not_ours();
                let path = self.place.path.display();
                let error: &dyn std::error::Error = &passed;
                tracing::warn!(
                    error,
                    overwritten = !not_ours,
                    "the cache `{path}` is passed over"
                );
                (None, !not_ours)
            }
            // The runtime ends, or reading failed in a way that a file must not make it fail.
            Err(_not_run) => (None, false),
        }
    }

    /// Remembers what a registry that is believed tells; it is written later. While most of a
    /// service is missed, what was written before is the better memory.
    pub(super) fn note(&self, snapshot: &Arc<Snapshot>, cluster: Option<Uuid>) {
        if snapshot.alarms().is_empty() {
            self.noted.send_replace(Some(Noted {
                snapshot: Arc::clone(snapshot),
                cluster,
                at: Timestamp::now(),
            }));
        }
    }
}

/// Writes what is noted; ends when nobody can note anything any more.
async fn keep(place: Arc<Place>, mut news: watch::Receiver<Option<Noted>>) {
    let mut failing = false;
    while news.changed().await.is_ok() {
        sleep(COLLECT.mul_f64(fastrand::f64())).await;
        let Some(noted) = news.borrow_and_update().clone() else {
            continue;
        };
        let here = Arc::clone(&place);
        let written = spawn_blocking(move || {
            if is_told(&here.path, noted.at) {
                return Ok(());
            }
            write_file(&here.path, &here.prefix, &noted)
        });
        match written.await {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) if !failing => {
                failing = true;
                let path = place.path.display();
                tracing::warn!(%error, "the cache `{path}` cannot be written");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(EVERY).await;
    }
}

/// Whether another process has written the file since `noted`, so that it tells the same.
fn is_told(path: &Path, noted: Timestamp) -> bool {
    let modified = fs::metadata(path).and_then(|file| file.modified());
    modified
        .ok()
        .and_then(|at| Timestamp::try_from(at).ok())
        .is_some_and(|at| at > noted && at.duration_since(noted) < SAME_NEWS)
}

/// What stands in the file.
#[derive(Serialize)]
struct Writing<'a> {
    /// First, so that every program can read it.
    format: u32,
    prefix: &'a str,
    cluster: Option<Uuid>,
    written: Timestamp,
    rows: WritingRows<'a>,
}

struct WritingRows<'a> {
    prefix: &'a str,
    snapshot: &'a Snapshot,
}

/// A key and its value, as they stand in the registry.
struct WritingRow<V> {
    key: String,
    value: V,
    mod_revision: i64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Instance(InstanceValue),
    Host(HostValue),
}

impl<V: Serialize> Serialize for WritingRow<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(Some(3))?;
        row.serialize_entry("key", &self.key)?;
        row.serialize_entry("mod_revision", &self.mod_revision)?;
        row.serialize_entry("value", &self.value)?;
        row.end()
    }
}

impl Serialize for WritingRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { prefix, snapshot } = *self;
        let instances = snapshot.registered().filter_map(|instance| {
            Some(WritingRow {
                key: Key::Instance(instance.identity.clone()).path(prefix),
                value: Value::Instance(value_of(instance)?),
                mod_revision: instance.mod_revision,
            })
        });
        let hosts = snapshot.hosts().map(|host| WritingRow {
            key: Key::Host(Arc::clone(&host.name)).path(prefix),
            value: Value::Host(value_of_host(host)),
            mod_revision: host.mod_revision,
        });
        serializer.collect_seq(instances.chain(hosts))
    }
}

/// The value that reads as this instance; none for a suspect, of which it is not known whether it
/// lives.
fn value_of(instance: &Instance) -> Option<InstanceValue> {
    if instance.state == State::Suspect {
        return None;
    }
    Some(InstanceValue {
        address: instance.address?,
        admin_address: instance.admin_address,
        process: instance.process.clone()?,
        started: instance.started,
        registered: instance.registered,
        state: instance.state,
        reason: instance.reason.clone(),
        deployment: instance.deployment.clone(),
        weight: instance.weight,
        lease: instance.lease,
        protocol: 0,
        tags: instance.tags.clone(),
        other: OtherFields::new(),
    })
}

fn value_of_host(host: &Host) -> HostValue {
    HostValue {
        region: Arc::clone(&host.region),
        address: host.address,
        process: host.process.clone(),
        started: host.started,
        version: String::new(),
        other: OtherFields::new(),
    }
}

/// Replaces the file as a whole; only its owner can read it.
fn write_file(path: &Path, prefix: &str, noted: &Noted) -> io::Result<()> {
    // Two handles of one process have no other difference.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    let count = WRITES.fetch_add(1, Ordering::Relaxed);
    beside.push(format!(".{}-{count}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = write_new(&beside, prefix, noted).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Whether this works changes nothing in what is told.
        drop(fs::remove_file(&beside));
    }
    written
}

fn write_new(path: &Path, prefix: &str, noted: &Noted) -> io::Result<()> {
    match fs::remove_file(path) {
        // An earlier process of the same number may have been killed while it wrote.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut file = BufWriter::new(file);
    let snapshot = &noted.snapshot;
    let contents = Writing {
        format: FORMAT,
        prefix,
        cluster: noted.cluster,
        written: noted.at,
        rows: WritingRows { prefix, snapshot },
    };
    serde_json::to_writer(&mut file, &contents)?;
    file.flush()?;
    // A rename that outlives a power loss must not name an empty file.
    file.get_ref().sync_data()
}

/// What the file remembers of this prefix; `None` when there is no file.
fn read_file(path: &Path, prefix: &str, now: Timestamp) -> Result<Option<Cached>, Passed> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(file, LARGEST), &mut bytes)?;
    if read == 0 {
        // As `mktemp` makes them.
        return Ok(None);
    }
    read_bytes(&bytes, prefix, now).map(Some)
}

fn read_bytes(bytes: &[u8], prefix: &str, now: Timestamp) -> Result<Cached, Passed> {
    // Only the format is certain to read the same in every format.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    #[derive(Deserialize)]
    struct Contents {
        prefix: String,
        cluster: Option<Uuid>,
        written: Timestamp,
        rows: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        key: String,
        mod_revision: i64,
        value: serde_json::Value,
    }
    if !bytes.starts_with(BEGINNING) {
        return Err(Passed::Strange);
    }
    let Head { format } = serde_json::from_slice(bytes)?;
    if format != FORMAT {
        return Err(Passed::Format { found: format });
    }
    let contents: Contents = serde_json::from_slice(bytes)?;
    if contents.prefix != prefix {
        let found = contents.prefix;
        return Err(Passed::Foreign { found });
    }
    let written = contents.written;
    if now.duration_since(written) > OLDEST {
        return Err(Passed::TooOld { written });
    }
    let (mut names, mut snapshot) = (Names::default(), Snapshot::default());
    for row in contents.rows {
        let value = serde_json::to_vec(&row.value)?;
        let change = read::change(
            &mut names,
            prefix,
            row.key.as_bytes(),
            &value,
            row.mod_revision,
        )?;
        match change {
            // Nothing would ever give it up.
            Some(Change::PutInstance(instance)) if instance.state == State::Suspect => {}
            Some(change) => snapshot.apply(change),
            None => {}
        }
    }
    Ok(Cached {
        snapshot,
        names,
        cluster: contents.cluster,
        written,
    })
}

#[cfg(test)]
mod tests;
