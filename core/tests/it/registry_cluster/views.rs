//! What clients see: for how long an instance was missing from a view, or could not be chosen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skynet::client::{Client, ServiceClient};
use skynet::instance::{InstanceId, State};
use skynet::registry::snapshot::Snapshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// How often a client is asked whom it can choose.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The longest times that were seen, over all instances and clients.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figures {
    /// No trace of an instance in the view.
    pub(crate) missing: Duration,
    /// In the view as suspect: called only on the connection that stands.
    pub(crate) suspect: Duration,
    /// Fewer instances than there are could be chosen for a call.
    pub(crate) not_chosen: Duration,
    /// When a client first saw that its link to the registry was not live.
    pub(crate) noticed: Option<Instant>,
    /// How often a view went back in revision.
    pub(crate) went_back: u32,
}

/// How long something has held, and the longest that it ever did.
#[derive(Debug, Default)]
struct Span {
    since: Option<Instant>,
    longest: Duration,
}

impl Span {
    fn note(&mut self, holds: bool, now: Instant) {
        if let Some(since) = self.since {
            self.longest = self.longest.max(now - since);
        }
        self.since = holds.then(|| self.since.unwrap_or(now));
    }

    fn take(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }
}

#[derive(Debug, Default)]
struct Record {
    missing: HashMap<InstanceId, Span>,
    suspect: HashMap<InstanceId, Span>,
    not_chosen: Span,
    noticed: Option<Instant>,
    went_back: u32,
    revision: i64,
}

/// A recorder of one client's view.
pub(crate) struct Watched {
    pub(crate) client: Client,
    pub(crate) service: ServiceClient,
    record: Arc<Mutex<Record>>,
    recorder: JoinHandle<()>,
}

impl Watched {
    /// Begins to record, when all the instances are there.
    pub(crate) fn start(client: Client, service: ServiceClient, ids: Vec<InstanceId>) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let recording = follow(client.clone(), service.clone(), ids, Arc::clone(&record));
        Self {
            client,
            service,
            record,
            recorder: tokio::spawn(recording),
        }
    }

    /// What was seen since the last time.
    pub(crate) fn take_figures(&self) -> Figures {
        let mut record = self.record.lock().unwrap();
        let longest = |spans: &mut HashMap<InstanceId, Span>| {
            spans.values_mut().map(Span::take).max().unwrap_or_default()
        };
        Figures {
            missing: longest(&mut record.missing),
            suspect: longest(&mut record.suspect),
            not_chosen: record.not_chosen.take(),
            noticed: record.noticed.take(),
            went_back: std::mem::take(&mut record.went_back),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.recorder.abort();
    }
}

async fn follow(
    client: Client,
    service: ServiceClient,
    ids: Vec<InstanceId>,
    record: Arc<Mutex<Record>>,
) {
    let mut changes = client.view().changes();
    let mut link = client.view().link();
    let mut asks = interval(ASK_EVERY);
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = link.changed() => if changed.is_err() { return },
            _ = asks.tick() => {}
        }
        let snapshot = Arc::clone(&changes.borrow_and_update());
        let is_live = link.borrow_and_update().is_live();
        let known = service.known();
        let now = Instant::now();
        let mut record = record.lock().unwrap();
        record.note(&snapshot, &ids, now);
        record.not_chosen.note(known < ids.len(), now);
        if !is_live {
            record.noticed.get_or_insert(now);
        }
    }
}

impl Record {
    fn note(&mut self, snapshot: &Snapshot, ids: &[InstanceId], now: Instant) {
        for id in ids {
            let state = snapshot.instance(*id).map(|instance| instance.state);
            let is_suspect = state == Some(State::Suspect);
            self.missing
                .entry(*id)
                .or_default()
                .note(state.is_none(), now);
            self.suspect.entry(*id).or_default().note(is_suspect, now);
        }
        self.went_back += u32::from(snapshot.revision() < self.revision);
        self.revision = snapshot.revision();
    }
}

/// How many connections this process has to a node: so many of its clients are there, and no fewer
/// than one watches through it.
pub(crate) fn connections_to(url: &str) -> usize {
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    let ours: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    // `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`, state 1 stands.
    let remote = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() > 9 && row[2].ends_with(&remote) && row[3] == "01")
        .filter(|row| ours.iter().any(|inode| inode == row[9]))
        .count()
}
