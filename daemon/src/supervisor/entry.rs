//! One child as the supervisor keeps it: its machine, its notes, its process, what is seen of it.
//!
//! Invariant: what runs beside the supervisor for a process (its watch, its questions) ends with
//! that process's run.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use skynet::instance::{Instance, InstanceId, ProcessId};
use skynet::registry::value::ChildValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::command::DeployError;
use super::{ChildContext, Happened, What};
use crate::admin::AdminLink;
use crate::liveness::Liveness;
use crate::process::Process;
use crate::store::{ChildRecord, Generation};
use crate::supervise::{Child, Event, Phase, Policy, Shown};

/// A child as the supervisor keeps it.
#[derive(Debug)]
pub(super) struct ChildEntry {
    id: InstanceId,
    pub(super) machine: Child,
    pub(super) record: ChildRecord,
    /// Numbers the processes of this child, so that late news of an earlier one is passed over.
    pub(super) run: u64,
    /// The notes with which it first stood on the disk; its process is not started before.
    pub(super) noted_at: Generation,
    /// What others were last told of it.
    pub(super) told: Option<Shown>,
    /// It is forgotten once it is at rest.
    pub(super) is_retired: bool,
    /// Who waits for its first start.
    pub(super) deploy_reply: Option<oneshot::Sender<Result<(), DeployError>>>,
    process: Option<Process>,
    watch: Option<AbortHandle>,
    /// The registry's entry of its present process.
    seen: Option<Arc<Instance>>,
    /// The last process that is known to be gone.
    pub(super) gone: Option<ProcessId>,
    /// The revision at which an entry of a gone process was last marked dead.
    pub(super) marked_at: i64,
    liveness: Option<Liveness>,
}

impl ChildEntry {
    pub(super) fn new(id: InstanceId, record: ChildRecord, policy: Policy) -> Self {
        let policy = Policy {
            exit: record.spec.restart,
            ..policy
        };
        let machine = Child::new(policy, record.wish, fastrand::u64(..))
            .with_past(record.restarts, record.reason.clone());
        Self {
            id,
            machine,
            record,
            run: 0,
            noted_at: 0,
            told: None,
            is_retired: false,
            deploy_reply: None,
            process: None,
            watch: None,
            seen: None,
            gone: None,
            marked_at: 0,
            liveness: None,
        }
    }

    /// The process of the present run.
    pub(super) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The registry's entry of the present process.
    pub(super) fn seen(&self) -> Option<&Arc<Instance>> {
        self.seen.as_ref()
    }

    /// Where the present process can be asked.
    pub(super) fn admin(&self) -> Option<&AdminLink> {
        self.liveness.as_ref().map(Liveness::link)
    }

    /// Whether the registry shows the present process.
    pub(super) fn is_seen(&self) -> bool {
        self.seen.is_some() && self.process.is_some()
    }

    /// Whether nothing of it runs and nothing is awaited.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(
            self.machine.phase(),
            Phase::Pending | Phase::Failed | Phase::Done | Phase::Stopped
        )
    }

    /// Begins to watch a process that was just started.
    pub(super) fn begin(&mut self, process: Process, happened: mpsc::Sender<Happened>) -> Event {
        self.record.started = Some(Timestamp::now());
        self.watch(process, happened);
        Event::Spawned
    }

    /// Watches a process of this child until it is gone.
    pub(super) fn watch(&mut self, process: Process, happened: mpsc::Sender<Happened>) {
        let (id, run, watched) = (self.id, self.run, process.clone());
        let task = tokio::spawn(async move {
            let exit = watched.exited().await;
            let what = What::Event(Event::Exited(exit));
            // The supervisor is gone only when the daemon ends.
            let _ = happened.send(Happened { id, run, what }).await;
        });
        self.watch = Some(task.abort_handle());
        self.process = Some(process);
    }

    /// The process of this run is gone.
    pub(super) fn end(&mut self) {
        self.gone = self
            .process
            .take()
            .and_then(|process| process.id().cloned());
        self.watch = None;
        self.liveness = None;
    }

    /// A new run begins.
    pub(super) fn next_run(&mut self) {
        self.run += 1;
        self.seen = None;
    }

    /// Takes what the registry shows of the present process; asks whether it lives where it can be
    /// asked.
    pub(super) fn see(&mut self, seen: Option<Arc<Instance>>, happened: &mpsc::Sender<Happened>) {
        if let Some(seen) = &seen {
            self.record.service = Some(Arc::clone(seen.service()));
            self.record.version = Some(Arc::clone(seen.version()));
            self.ask_at(seen.admin_address, happened);
        }
        self.seen = seen;
    }

    fn ask_at(&mut self, address: Option<SocketAddr>, happened: &mpsc::Sender<Happened>) {
        if self.admin().map(AdminLink::address) == address {
            return;
        }
        let (id, run, happened) = (self.id, self.run, happened.clone());
        let tell = move |answered| {
            let what = What::Event(Event::Liveness { answered });
            let happened = happened.clone();
            async move { happened.send(Happened { id, run, what }).await.is_ok() }
        };
        self.liveness = address.map(|address| Liveness::start(AdminLink::new(address), tell));
    }

    /// Brings the notes up to date; the wish only where it is the operator's.
    pub(super) fn bring_up_to_date(&mut self, takes_wish: bool) {
        if takes_wish {
            self.record.wish = self.machine.wish();
        }
        self.record.process = self
            .process
            .as_ref()
            .and_then(|process| process.id().cloned());
        self.record.restarts = self.machine.restarts();
        self.record.reason = self.machine.reason().map(str::to_owned);
    }

    /// The name that views show.
    pub(super) fn service(&self) -> Arc<str> {
        self.record
            .service
            .clone()
            .unwrap_or_else(|| self.record.spec.shown_name().into())
    }

    /// What the registry is told of it.
    pub(super) fn child_value(&self, context: &ChildContext, shown: &Shown) -> ChildValue {
        let now = Timestamp::now();
        let version = self.record.version.clone();
        ChildValue {
            service: self.service(),
            version: version.unwrap_or_else(|| self.record.spec.shown_version().into()),
            region: Arc::clone(&context.region),
            state: shown.state,
            reason: shown.reason.as_deref().map(Arc::from),
            started: self.record.started.unwrap_or(now),
            next_try: shown.next_try.and_then(|at| {
                let wait = at.saturating_duration_since(Instant::now());
                now.checked_add(wait).ok()
            }),
            other: serde_json::Map::new(),
        }
    }

    pub(super) fn log_change(&self, before: &Phase) {
        let child = self.id;
        let service = self.service();
        let reason = self.machine.reason().unwrap_or_default();
        match self.machine.phase() {
            Phase::Exited { .. } if matches!(before, Phase::Draining { .. }) => {
                tracing::info!(%child, %service, reason, "stopped");
            }
            Phase::Exited { .. } => tracing::warn!(%child, %service, reason, "died"),
            Phase::CrashLoop { .. } => {
                tracing::error!(%child, %service, reason, "fails again and again");
            }
            Phase::Failed => tracing::error!(%child, %service, reason, "cannot be started"),
            Phase::Ready { .. } => tracing::info!(%child, %service, "ready"),
            Phase::Running => {
                let pid = self.process().and_then(Process::id).map(|id| id.pid);
                tracing::info!(%child, %service, pid, "started");
            }
            Phase::Adopted => tracing::info!(%child, %service, "adopted"),
            Phase::Draining { .. } => tracing::info!(%child, %service, "asked to stop"),
            phase => tracing::debug!(%child, %service, ?phase, "changed"),
        }
    }
}

impl Drop for ChildEntry {
    fn drop(&mut self) {
        // Only the watch ends, and never a process: the next daemon finds it.
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}
