//! `sky cli`: the interactive shell, and the runner of lines from a file or a pipe.
//!
//! Invariants: the shell and its line editor talk by channels, one question at a time; Ctrl-C ends
//! what runs and never the shell; SIGTERM and SIGHUP end the shell with the terminal restored.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use skynet::query::Query;
use skynet::session::Session;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::{self, Exit, Failure};
use cluster::Cluster;
use editor::{Editor, Reply};
use run::{After, Conversation};
use style::Signs;

mod cluster;
mod completer;
mod editor;
mod filters;
mod highlighter;
mod prompt;
mod run;
mod style;
mod validator;
mod words;

/// How long the first prompt waits for the first view of the cluster.
const FIRST_VIEW: Duration = Duration::from_millis(500);

/// Runs the shell: with a line editor on a terminal, else line by line from standard input.
///
/// # Errors
/// When the terminal cannot be used; without a terminal, when a line failed.
///
/// # Cancel safety
/// A change that was begun is left to the daemons.
pub async fn run(session: Session, filter: &Query) -> Result<(), Failure> {
    let cluster = Arc::new(Cluster::new(session.view()));
    let conversation = Conversation::new(session.clone(), Arc::clone(&cluster), filter);
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        Interactive {
            session,
            cluster,
            conversation,
            signals: Signals::listen()?,
        }
        .run()
        .await
    } else {
        run_lines(&session, &cluster, conversation).await
    }
}

/// Runs the lines of standard input; all of them, whatever fails.
async fn run_lines(
    session: &Session,
    cluster: &Cluster,
    mut conversation: Conversation,
) -> Result<(), Failure> {
    if tokio::time::timeout(FIRST_VIEW, cluster.view().ready())
        .await
        .is_err()
    {
        // Says who does not answer, or that it only took its time.
        session.snapshot().await?;
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut failed = None;
    loop {
        let line = lines
            .next_line()
            .await
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let Some(line) = line else { break };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match conversation.run(line, None).await {
            Ok(After::Next) => {}
            Ok(After::Leave) => break,
            Ok(After::Console) => {
                let failure = Failure::usage("the console needs a terminal");
                report::failure(&failure, false);
                failed.get_or_insert(failure.exit());
            }
            Err(failure) if failure.exit() == Exit::Done => return Err(failure),
            Err(failure) => {
                report::failure(&failure, false);
                failed.get_or_insert(failure.exit());
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(exit) => Err(Failure::silent(exit)),
    }
}

/// A conversation on a terminal.
struct Interactive {
    session: Session,
    cluster: Arc<Cluster>,
    conversation: Conversation,
    signals: Signals,
}

impl Interactive {
    async fn run(mut self) -> Result<(), Failure> {
        report::note("`help` lists the words, Tab completes, Ctrl-D leaves.");
        // The first prompt should have its counts; a registry that is away must not hold it up.
        drop(tokio::time::timeout(FIRST_VIEW, self.cluster.view().ready()).await);
        loop {
            let signs = Signs::from_env(|name| std::env::var(name).ok());
            let mut editor = Editor::start(Arc::clone(&self.cluster), signs)
                .map_err(|error| Failure::new(Exit::Failed, error))?;
            let after = self.talk(&mut editor).await?;
            // One reader of the terminal at a time.
            drop(editor);
            if after == After::Leave {
                return Ok(());
            }
            self.console().await?;
        }
    }

    /// Reads and runs lines until one of them leaves the shell or opens the console.
    async fn talk(&mut self, editor: &mut Editor) -> Result<After, Failure> {
        loop {
            let reply = tokio::select! {
                reply = editor.line() => reply,
                exit = self.signals.next() => return Err(Failure::silent(exit)),
            };
            let line = match reply {
                Reply::Line(line) if line.trim().is_empty() => continue,
                Reply::Line(line) => line,
                Reply::Cancelled => continue,
                Reply::End => return Ok(After::Leave),
                Reply::Broken(error) => return Err(Failure::new(Exit::Failed, error)),
            };
            let done = tokio::select! {
                done = self.conversation.run(&line, Some(&mut *editor)) => done,
                exit = self.signals.next() => match exit {
                    Exit::Interrupted => Err(interrupted()),
                    exit => return Err(Failure::silent(exit)),
                },
            };
            match done {
                Ok(After::Next) => {}
                Ok(after) => return Ok(after),
                Err(failure) if failure.exit() == Exit::Done => return Err(failure),
                Err(failure) => report::failure(&failure, false),
            }
        }
    }

    /// Opens the console and comes back with the filter that it was left with.
    async fn console(&mut self) -> Result<(), Failure> {
        let filter = self.conversation.filter().to_string();
        let left_with = crate::mode::console(self.session.clone(), filter).await?;
        self.conversation.replace_filter(&left_with);
        Ok(())
    }
}

/// The signals that the shell answers to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal, and tells what ends with it.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.hangup.recv() => Exit::Terminated,
        }
    }
}

/// What Ctrl-C says of a line that was running.
fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
        .hint("what had been sent may still be done; `instances` shows what is")
}
