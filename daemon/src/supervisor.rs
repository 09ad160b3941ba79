//! Owns the children: feeds their state machines, carries out what these ask for, notes it.
//!
//! Invariants: one task owns all state and never waits for a disk, a socket or a process; whatever
//! takes time runs beside it and comes back as an event of the run (the life of one process) that it
//! belongs to; a child is on the disk before its process is started. Knows the registry only as
//! advice: when it is away, children are supervised as ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use skynet::instance::InstanceId;
use skynet::registry::snapshot::Snapshot;
use skynet::registry::{Registry, View};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::spec::{ChildSpec, Origin};
use crate::state_folder::StateFolder;
use crate::status::StatusWorker;
use crate::store::{ChildRecord, Noted, StoreWorker};
use crate::supervise::{Event, Policy, Wish, step};

mod adopt;
mod command;
mod effects;
mod entry;
mod handle;
mod sight;

pub use adopt::AdoptError;
pub use command::{Answer, ChildSummary, CloseMode, DeployError, Known};
pub use handle::SupervisorHandle;

use command::Command;
use entry::ChildEntry;

/// How many requests may wait.
const COMMANDS: usize = 64;

/// How many events may wait.
const EVENTS: usize = 1024;

/// How many processes are started at the same time.
const LAUNCHES: usize = 8;

/// What children are given, and how they are treated.
#[derive(Debug, Clone)]
pub struct ChildContext {
    /// The host's name.
    pub host: Arc<str>,
    /// The host's region.
    pub region: Arc<str>,
    /// How children are started again and stopped.
    pub policy: Policy,
    /// What every child's environment has.
    pub env: BTreeMap<String, String>,
}

/// What happened to a child, with the run that it belongs to.
#[derive(Debug)]
struct Happened {
    id: InstanceId,
    run: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A start came to this.
    Launched(Result<crate::process::Process, Refusal>),
    /// Something else.
    Event(Event),
}

/// Why a start failed.
#[derive(Debug)]
struct Refusal {
    reason: String,
    permanent: bool,
}

/// The owner of the children.
pub struct Supervisor {
    context: Arc<ChildContext>,
    folder: Arc<StateFolder>,
    registry: Registry,
    daemon: InstanceId,
    children: BTreeMap<InstanceId, ChildEntry>,
    noted: BTreeMap<InstanceId, Arc<ChildRecord>>,
    store: StoreWorker,
    status: StatusWorker,
    launches: Arc<Semaphore>,
    happened: mpsc::Sender<Happened>,
    closing: Option<CloseMode>,
}

/// What a supervisor listens to.
struct Sources {
    commands: mpsc::Receiver<Command>,
    happened: mpsc::Receiver<Happened>,
    /// Keeps the watcher alive.
    _view: Arc<View>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// A supervisor and what it was left by the daemon before it.
pub struct Start {
    /// What children are given, and how they are treated.
    pub context: ChildContext,
    /// The state folder.
    pub folder: Arc<StateFolder>,
    /// The registry.
    pub registry: Registry,
    /// The notes of the daemon before this one.
    pub noted: Noted,
    /// What the file of services wants, when one was given.
    pub file: Option<Vec<ChildSpec>>,
}

impl Supervisor {
    /// A supervisor and the handle to ask it. The future adopts what lives, starts what is to run,
    /// and goes on until it is closed; then the notes are on the disk. It is an [`AdoptError`], and
    /// nothing has been started or noted, when it cannot be told what lives.
    pub fn prepare(
        start: Start,
    ) -> (
        SupervisorHandle,
        impl Future<Output = Result<(), AdoptError>> + Send,
    ) {
        let (commands, queue) = mpsc::channel(COMMANDS);
        (SupervisorHandle::new(commands), Self::live(start, queue))
    }

    async fn live(start: Start, commands: mpsc::Receiver<Command>) -> Result<(), AdoptError> {
        let found = adopt::search(&start.noted.children).await?;
        let (happened, event_queue) = mpsc::channel(EVENTS);
        let view = start.registry.view();
        let sources = Sources {
            commands,
            happened: event_queue,
            snapshots: view.changes(),
            _view: Arc::clone(&view),
        };
        let context = Arc::new(start.context);
        let host = Arc::clone(&context.host);
        let mut supervisor = Self {
            store: StoreWorker::start(start.folder.children(), start.noted.clone()),
            status: StatusWorker::start(start.registry.clone(), host, view.link()),
            context,
            folder: start.folder,
            registry: start.registry,
            daemon: start.noted.daemon,
            children: BTreeMap::new(),
            noted: BTreeMap::new(),
            launches: Arc::new(Semaphore::new(LAUNCHES)),
            happened,
            closing: None,
        };
        supervisor.take_over(start.noted.children, found);
        if let Some(specs) = start.file {
            supervisor.follow_file(specs);
        }
        supervisor.put_notes();
        supervisor.status.complete();
        supervisor.run(sources).await;
        Ok(())
    }

    async fn run(mut self, mut sources: Sources) {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                command = sources.commands.recv() => match command {
                    Some(command) => self.command(command),
                    // Every handle is gone: leave the children to the next daemon.
                    None => self.closing = Some(CloseMode::Leave),
                },
                Some(happened) = sources.happened.recv() => self.take(happened),
                Ok(()) = sources.snapshots.changed() => {
                    let snapshot = Arc::clone(&sources.snapshots.borrow_and_update());
                    self.look(&snapshot);
                }
                () = sleep_until(deadline), if deadline.is_some() => self.tick(),
            }
            if self.is_closed() {
                break;
            }
        }
        if self.closing == Some(CloseMode::StopChildren) {
            self.status.clear();
        }
        self.status.finish().await;
        self.store.finish().await;
    }

    fn is_closed(&self) -> bool {
        match self.closing {
            None => false,
            Some(CloseMode::Leave) => true,
            Some(CloseMode::StopChildren) => self.children.values().all(ChildEntry::is_at_rest),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.children
            .values()
            .filter_map(|entry| entry.machine.deadline())
            .min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let due: Vec<InstanceId> = self
            .children
            .iter()
            .filter(|(_, entry)| entry.machine.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.apply(id, Event::Tick);
        }
    }

    fn take(&mut self, happened: Happened) {
        let Happened { id, run, what } = happened;
        let Some(entry) = self.children.get_mut(&id).filter(|entry| entry.run == run) else {
            return;
        };
        match what {
            What::Launched(result) => {
                let event = match result {
                    Ok(process) => entry.begin(process, self.happened.clone()),
                    Err(refusal) => Event::SpawnFailed {
                        reason: refusal.reason,
                        permanent: refusal.permanent,
                    },
                };
                self.answer_deploy(id, &event);
                self.apply(id, event);
            }
            What::Event(event) => self.apply(id, event),
        }
    }

    /// Feeds one event to a child's machine, notes and tells what changed, and carries out what is
    /// to be done.
    fn apply(&mut self, id: InstanceId, event: Event) {
        let now = Instant::now();
        let Some(entry) = self.children.get_mut(&id) else {
            return;
        };
        let is_exit = matches!(event, Event::Exited(_));
        let before = entry.machine.phase().clone();
        let (machine, effects) = step(entry.machine.clone(), event, now);
        entry.machine = machine;
        if is_exit {
            entry.end();
        }
        if *entry.machine.phase() != before {
            entry.log_change(&before);
        }
        self.note(id);
        self.tell(id);
        for effect in effects {
            self.carry_out(id, effect);
        }
        self.forget_retired(id);
    }

    /// Notes what the next daemon has to know.
    fn note(&mut self, id: InstanceId) {
        let Some(entry) = self.children.get_mut(&id) else {
            return;
        };
        // Children that are stopped because the daemon ends are wanted again when it comes back.
        entry.bring_up_to_date(self.closing.is_none());
        if self.noted.get(&id).map(|noted| &**noted) == Some(&entry.record) {
            return;
        }
        self.noted.insert(id, Arc::new(entry.record.clone()));
        self.put_notes();
    }

    fn put_notes(&self) -> crate::store::Generation {
        self.store.put(Noted::new(self.daemon, self.noted.clone()))
    }

    /// Tells others of a child that is not registered.
    fn tell(&mut self, id: InstanceId) {
        let Some(entry) = self.children.get_mut(&id) else {
            return;
        };
        let shown = entry.machine.shown();
        if entry.is_seen() {
            if entry.told.take().is_some() {
                self.status.remove(id);
            }
        } else if shown.is_some()
            && shown != entry.told
            && !entry.is_retired
            && self.closing.is_none()
        {
            if let Some(shown) = &shown {
                self.status.put(id, entry.child_value(&self.context, shown));
            }
            entry.told = shown;
        }
    }

    /// Takes a new child in; it is started when it is to run.
    fn add(&mut self, id: InstanceId, record: ChildRecord) {
        let wish = record.wish;
        let entry = ChildEntry::new(id, record, self.context.policy);
        self.children.insert(id, entry);
        self.note(id);
        let generation = self.put_notes();
        if let Some(entry) = self.children.get_mut(&id) {
            entry.noted_at = generation;
        }
        self.tell(id);
        if wish == Wish::Running {
            self.apply(id, Event::Start);
        }
    }

    fn forget_retired(&mut self, id: InstanceId) {
        let is_over = self
            .children
            .get(&id)
            .is_some_and(|entry| entry.is_retired && entry.is_at_rest());
        if is_over {
            self.children.remove(&id);
            self.noted.remove(&id);
            self.put_notes();
            self.status.remove(id);
        }
    }

    /// Makes the children that came from the file be those that the file describes now.
    fn follow_file(&mut self, specs: Vec<ChildSpec>) {
        let mut present: HashMap<ChildSpec, Vec<InstanceId>> = HashMap::new();
        for (id, entry) in &self.children {
            if entry.record.origin == Origin::File {
                present
                    .entry(entry.record.spec.clone())
                    .or_default()
                    .push(*id);
            }
        }
        for mut spec in specs {
            spec.settle();
            let is_there = present.get_mut(&spec).and_then(Vec::pop).is_some();
            if !is_there {
                self.add(InstanceId::new_v4(), ChildRecord::new(spec, Origin::File));
            }
        }
        for id in present.into_values().flatten() {
            tracing::info!(child = %id, "the file does not name this child any longer: it is stopped");
            self.retire(id);
        }
    }

    fn retire(&mut self, id: InstanceId) {
        if let Some(entry) = self.children.get_mut(&id) {
            entry.is_retired = true;
            self.apply(id, Event::Stop);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
