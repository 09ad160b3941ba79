//! What others ask of the supervisor, and what they get. Plain data.

use std::sync::Arc;

use skynet::instance::{Identity, InstanceId, ProcessId};
use tokio::sync::oneshot;

use super::Supervisor;
use super::entry::ChildEntry;
use crate::admin::AdminLink;
use crate::spec::{ChildSpec, Origin};
use crate::store::ChildRecord;
use crate::supervise::{Effect, Event, Wish};

/// How the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseMode {
    /// The children live on and wait for the next daemon.
    Leave,
    /// The children are stopped first.
    StopChildren,
}

/// A child could not be deployed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// Its process did not start. The text is the original's.
    #[error("Service failed to start: {reason}")]
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The daemon ends.
    #[error("the daemon of `{host}` is stopping")]
    Closing {
        /// Its host.
        host: Arc<str>,
    },
}

/// What became of a request about one child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// It is being done.
    Done,
    /// There was nothing to do.
    Nothing,
    /// There is no such child.
    #[default]
    NoSuchChild,
}

/// A child as lists tell it.
#[derive(Debug, Clone)]
pub struct ChildSummary {
    /// The child's id.
    pub id: InstanceId,
    /// What it is to be.
    pub spec: ChildSpec,
    /// Whether a process of it runs.
    pub running: bool,
}

/// What is known of a child whose process lives.
#[derive(Debug, Clone)]
pub struct Known {
    /// The child's id.
    pub id: InstanceId,
    /// Its process.
    pub process: Option<ProcessId>,
    /// Where it answers `Admin` requests.
    pub admin: Option<AdminLink>,
    /// The names under which it is registered.
    pub identity: Option<Identity>,
}

/// What can be done with one child.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
}

#[derive(Debug)]
pub(super) enum Command {
    Deploy {
        id: InstanceId,
        spec: Box<ChildSpec>,
        reply: oneshot::Sender<Result<(), DeployError>>,
    },
    One {
        id: InstanceId,
        verb: Verb,
        reply: oneshot::Sender<Answer>,
    },
    All {
        verb: Verb,
        reply: oneshot::Sender<Vec<(InstanceId, Answer)>>,
    },
    List {
        reply: oneshot::Sender<Vec<ChildSummary>>,
    },
    Known {
        reply: oneshot::Sender<Vec<Known>>,
    },
    Close {
        mode: CloseMode,
    },
}

impl Supervisor {
    pub(super) fn command(&mut self, command: Command) {
        // Whoever has given up waiting for a reply does not need it: sending may fail.
        match command {
            Command::Deploy { id, spec, reply } => self.deploy(id, *spec, reply),
            Command::One { id, verb, reply } => {
                let answer = self.one(id, verb);
                let _ = reply.send(answer);
            }
            Command::All { verb, reply } => {
                let ids: Vec<InstanceId> = self.children.keys().copied().collect();
                let answers = ids.into_iter().map(|id| (id, self.one(id, verb)));
                let _ = reply.send(answers.collect());
            }
            Command::List { reply } => {
                let list = self.children.iter().map(|(id, entry)| entry.summary(*id));
                let _ = reply.send(list.collect());
            }
            Command::Known { reply } => {
                let known = self
                    .children
                    .iter()
                    .filter_map(|(id, entry)| entry.known(*id));
                let _ = reply.send(known.collect());
            }
            Command::Close { mode } => self.close(mode),
        }
    }

    fn deploy(
        &mut self,
        id: InstanceId,
        mut spec: ChildSpec,
        reply: oneshot::Sender<Result<(), DeployError>>,
    ) {
        if self.closing.is_some() {
            let host = Arc::clone(&self.context.host);
            let _ = reply.send(Err(DeployError::Closing { host }));
            return;
        }
        spec.settle();
        self.add(id, ChildRecord::new(spec, Origin::Request));
        if let Some(entry) = self.children.get_mut(&id) {
            entry.deploy_reply = Some(reply);
        }
    }

    /// Tells who deployed a child what became of its first start; one that cannot start is not kept.
    pub(super) fn answer_deploy(&mut self, id: InstanceId, event: &Event) {
        let reply = self
            .children
            .get_mut(&id)
            .and_then(|entry| entry.deploy_reply.take());
        let Some(reply) = reply else {
            return;
        };
        let answer = match event {
            Event::SpawnFailed { reason, .. } => {
                self.retire(id);
                Err(DeployError::NotStarted {
                    reason: reason.clone(),
                })
            }
            _ => Ok(()),
        };
        let _ = reply.send(answer);
    }

    fn one(&mut self, id: InstanceId, verb: Verb) -> Answer {
        let Some(entry) = self.children.get(&id) else {
            return Answer::NoSuchChild;
        };
        let has_process = entry.machine.phase().has_process();
        let is_wanted = entry.machine.wish() == Wish::Running;
        if self.closing.is_some() && !matches!(verb, Verb::Stop) {
            return Answer::Nothing;
        }
        let (event, is_due) = match verb {
            Verb::Start => (Event::Start, !has_process || !is_wanted),
            Verb::Stop => (Event::Stop, is_wanted),
            Verb::Restart => (Event::Restart, true),
        };
        if !is_due {
            return Answer::Nothing;
        }
        self.apply(id, event);
        Answer::Done
    }

    fn close(&mut self, mode: CloseMode) {
        if self.closing == Some(CloseMode::StopChildren) {
            // A request to stop the children is not taken back; a second one means at once.
            if mode == CloseMode::StopChildren {
                self.kill_all();
            }
            return;
        }
        self.closing = Some(mode);
        if mode == CloseMode::StopChildren {
            let ids: Vec<InstanceId> = self.children.keys().copied().collect();
            for id in ids {
                self.apply(id, Event::Stop);
            }
        }
    }

    /// Ends what still lives without asking it.
    fn kill_all(&mut self) {
        let alive: Vec<InstanceId> = self
            .children
            .iter()
            .filter(|(_, entry)| entry.process().is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in alive {
            self.carry_out(id, Effect::Kill);
        }
    }
}

impl ChildEntry {
    fn summary(&self, id: InstanceId) -> ChildSummary {
        ChildSummary {
            id,
            spec: self.record.spec.clone(),
            running: self.machine.phase().has_process(),
        }
    }

    fn known(&self, id: InstanceId) -> Option<Known> {
        let process = self.process()?.id().cloned();
        let seen = self.seen();
        Some(Known {
            id,
            process,
            admin: self.admin().cloned(),
            identity: seen.map(|seen| seen.identity.clone()),
        })
    }
}
