//! Carries out what a child's machine asks for, beside the supervisor where it takes time.

use std::collections::BTreeMap;
use std::sync::Arc;

use skynet::instance::{Instance, InstanceId};
use skynet::registry::Registry;

use super::{Happened, Refusal, Supervisor, What};
use crate::process::{self, Launch, LaunchError, Process, UUID_VARIABLE};
use crate::program;
use crate::supervise::{Effect, Event};

/// The flag by which the original's programs are told their id.
const UUID_FLAG: &str = "-uuid";

/// The variable that tells a child whether clients may choose it from the start.
const REGISTERED_VARIABLE: &str = "SKYNET_REGISTERED";

impl Supervisor {
    pub(super) fn carry_out(&mut self, id: InstanceId, effect: Effect) {
        match effect {
            Effect::Spawn => self.spawn(id),
            Effect::AskStop => self.ask_stop(id),
            Effect::Terminate => self.signal(id, "SIGTERM", Process::terminate),
            Effect::Kill => self.signal(id, "SIGKILL", Process::kill),
            Effect::Clear { reason } => self.clear(id, reason),
        }
    }

    /// Runs `work` beside the supervisor; what it comes to belongs to the present run.
    fn beside(&self, id: InstanceId, work: impl Future<Output = What> + Send + 'static) {
        let Some(run) = self.children.get(&id).map(|entry| entry.run) else {
            return;
        };
        let happened = self.happened.clone();
        tokio::spawn(async move {
            let what = work.await;
            // The supervisor is gone only when the daemon ends.
            let _ = happened.send(Happened { id, run, what }).await;
        });
    }

    fn spawn(&mut self, id: InstanceId) {
        let Some(entry) = self.children.get_mut(&id) else {
            return;
        };
        entry.next_run();
        let spec = entry.record.spec.clone();
        let noted_at = entry.noted_at;
        let mut args = spec.args;
        if spec.uuid_flag {
            args.splice(0..0, [UUID_FLAG.to_owned(), id.to_string()]);
        }
        let mut launch = Launch {
            program: spec.path.into(),
            args,
            env: environment(&self.context.env, spec.env, spec.registered, id),
            user: spec.user,
            cwd: spec.cwd,
            log: self.folder.log(id),
        };
        let mut written = self.store.written();
        let launches = Arc::clone(&self.launches);
        self.beside(id, async move {
            written.wait(noted_at).await;
            // The semaphore is never closed; without a permit the start is only less orderly.
            let _permit = launches.acquire_owned().await;
            let started = tokio::task::spawn_blocking(move || start(&mut launch)).await;
            What::Launched(started.unwrap_or_else(|error| {
                Err(Refusal {
                    reason: format!("the start broke off: {error}"),
                    permanent: false,
                })
            }))
        });
    }

    fn ask_stop(&mut self, id: InstanceId) {
        let link = self
            .children
            .get(&id)
            .and_then(|entry| entry.admin().cloned());
        let limit = self.context.policy.longest_stop();
        self.beside(id, async move {
            let taken = match link {
                Some(link) => link.stop(limit).await,
                None => false,
            };
            What::Event(Event::StopAsked { taken })
        });
    }

    fn signal(
        &mut self,
        id: InstanceId,
        name: &'static str,
        send: impl FnOnce(&Process) -> std::io::Result<bool>,
    ) {
        let Some(process) = self.children.get(&id).and_then(|entry| entry.process()) else {
            return;
        };
        match send(process) {
            Ok(sent) => tracing::info!(child = %id, signal = name, sent, "signalled"),
            Err(error) => {
                tracing::error!(child = %id, signal = name, %error, "cannot signal a child");
            }
        }
    }

    fn clear(&mut self, id: InstanceId, reason: String) {
        let seen = self.children.get_mut(&id).and_then(|entry| {
            let seen = entry.seen().cloned()?;
            entry.marked_at = seen.mod_revision;
            Some(seen)
        });
        let registry = self.registry.clone();
        self.beside(id, async move {
            if let Some(seen) = seen {
                mark_dead(&registry, &seen, &reason).await;
            }
            What::Event(Event::Cleared)
        });
    }
}

/// Marks an entry of a process that is gone as dead, and revokes its lease.
pub(super) async fn mark_dead(registry: &Registry, entry: &Instance, reason: &str) {
    let Some(pid) = entry.pid() else {
        return;
    };
    if let Err(error) = registry.mark_dead(&entry.identity, pid, reason).await {
        tracing::warn!(
            child = %entry.id(),
            error = &error as &dyn std::error::Error,
            "the registry does not know of a death: the entry ends with its lease"
        );
    }
}

fn environment(
    usual: &BTreeMap<String, String>,
    own: BTreeMap<String, String>,
    registered: Option<bool>,
    id: InstanceId,
) -> BTreeMap<String, String> {
    let mut env = usual.clone();
    if let Some(registered) = registered {
        env.insert(REGISTERED_VARIABLE.to_owned(), registered.to_string());
    }
    env.extend(own);
    env.insert(UUID_VARIABLE.to_owned(), id.to_string());
    env
}

fn start(launch: &mut Launch) -> Result<Process, Refusal> {
    let asked = launch.program.to_string_lossy().into_owned();
    let search = std::env::var_os("PATH");
    launch.program = program::find(&asked, search.as_deref()).map_err(|error| Refusal {
        reason: error.to_string(),
        permanent: true,
    })?;
    process::launch(launch).map_err(|error| Refusal {
        permanent: error.is_permanent(),
        reason: in_one_line(&error),
    })
}

/// The whole chain of an error, for people.
fn in_one_line(error: &LaunchError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_own_environment_wins_but_for_its_id() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let id = InstanceId::nil();
        let env = environment(
            &pairs(&[("SKYNET_REGION", "east"), ("SKYNET_HOST", "h1")]),
            pairs(&[("SKYNET_REGION", "west"), (UUID_VARIABLE, "x")]),
            Some(false),
            id,
        );
        assert_eq!(env["SKYNET_REGION"], "west");
        assert_eq!(env["SKYNET_HOST"], "h1");
        assert_eq!(env[REGISTERED_VARIABLE], "false");
        assert_eq!(env[UUID_VARIABLE], id.to_string());
    }
}
