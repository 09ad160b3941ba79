//! A cheap handle by which others ask the supervisor.
//!
//! Invariant: a supervisor that has ended answers like one that has no children.

use skynet::instance::InstanceId;
use tokio::sync::{mpsc, oneshot};

use super::command::{Answer, ChildSummary, CloseMode, Command, DeployError, Known, Verb};
use crate::spec::ChildSpec;

/// A cheap handle on a supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorHandle {
    commands: mpsc::Sender<Command>,
}

impl SupervisorHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    async fn ask<T: Default>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return T::default();
        }
        answer.await.unwrap_or_default()
    }

    /// Takes a new child in and waits until its process was started.
    ///
    /// # Errors
    /// [`DeployError`]; then there is no such child.
    ///
    /// # Cancel safety
    /// Once it was taken in, the child stays although nobody waits any longer.
    pub async fn deploy(&self, id: InstanceId, spec: ChildSpec) -> Result<(), DeployError> {
        let (reply, answer) = oneshot::channel();
        let host = || std::sync::Arc::from("this host");
        let command = Command::Deploy {
            id,
            spec: Box::new(spec),
            reply,
        };
        if self.commands.send(command).await.is_err() {
            return Err(DeployError::Closing { host: host() });
        }
        answer
            .await
            .unwrap_or_else(|_closed| Err(DeployError::Closing { host: host() }))
    }

    /// Starts a child that does not run.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn start(&self, id: InstanceId) -> Answer {
        self.one(id, Verb::Start).await
    }

    /// Stops a child; the answer does not wait for its end.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn stop(&self, id: InstanceId) -> Answer {
        self.one(id, Verb::Stop).await
    }

    /// Stops a child and starts it again.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn restart(&self, id: InstanceId) -> Answer {
        self.one(id, Verb::Restart).await
    }

    async fn one(&self, id: InstanceId, verb: Verb) -> Answer {
        self.ask(|reply| Command::One { id, verb, reply }).await
    }

    /// Starts every child that does not run.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn start_all(&self) -> Vec<(InstanceId, Answer)> {
        self.all(Verb::Start).await
    }

    /// Stops every child.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn stop_all(&self) -> Vec<(InstanceId, Answer)> {
        self.all(Verb::Stop).await
    }

    /// Stops every child and starts it again.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn restart_all(&self) -> Vec<(InstanceId, Answer)> {
        self.all(Verb::Restart).await
    }

    async fn all(&self, verb: Verb) -> Vec<(InstanceId, Answer)> {
        self.ask(|reply| Command::All { verb, reply }).await
    }

    /// Every child.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list(&self) -> Vec<ChildSummary> {
        self.ask(|reply| Command::List { reply }).await
    }

    /// The children whose process lives.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn known(&self) -> Vec<Known> {
        self.ask(|reply| Command::Known { reply }).await
    }

    /// Ends the supervisor; its task tells when that is done.
    ///
    /// # Cancel safety
    /// It is asked for or not.
    pub async fn close(&self, mode: CloseMode) {
        // It has ended already when nobody takes the request.
        let _ = self.commands.send(Command::Close { mode }).await;
    }
}
