//! The methods of `SkynetDaemon`, in the words of the original and of its later version.
//!
//! Invariants: the error texts are those that clients of 2012 know; a reply stands beside an error
//! as far as it was filled in. Decides nothing: the supervisor does.

use std::future::{Ready, ready};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skynet::daemon_api::{
    ChildDone, ChildInfo, ChildList, ChildRequest, ChildUuid, DeployRequest, Done, Empty,
    LogLevelReply, LogLevelRequest, RestartAllReply, StartAllReply, StatsRequest, StopAllReply,
};
use skynet::instance::InstanceId;
use skynet::registry::Registry;
use skynet::service::{Builder, Context, ServiceError};
use skynet::stats::DaemonStats;
use tokio::sync::mpsc;

use crate::figures::Figures;
use crate::logging::LogLevel;
use crate::program;
use crate::spec::ChildSpec;
use crate::supervisor::{Answer, CloseMode, SupervisorHandle};

/// The original's words for a daemon without children.
const NONE_DEPLOYED: &str = "No services deployed";

/// What the methods work with.
#[derive(Debug, Clone)]
pub struct Methods {
    /// Who owns the children.
    pub supervisor: SupervisorHandle,
    /// Who gathers their figures.
    pub figures: Figures,
    /// Where their wishes stand.
    pub registry: Registry,
    /// What is logged.
    pub log: LogLevel,
    /// Who ends the daemon.
    pub end: mpsc::Sender<CloseMode>,
}

type Outcome<O> = Result<O, ServiceError>;

impl Methods {
    /// Adds every method to a service.
    pub fn add_to(self, builder: Builder) -> Builder {
        let methods = &Arc::new(self);
        let builder = add(builder, "Deploy", methods, Self::deploy);
        let builder = add(builder, "ListSubServices", methods, Self::list);
        let builder = add(builder, "StopSubService", methods, Self::stop_one);
        let builder = add(builder, "StartSubService", methods, Self::start_one);
        let builder = add(builder, "RestartSubService", methods, Self::restart_one);
        let builder = add(builder, "StopAllSubServices", methods, Self::stop_all);
        let builder = add(builder, "StartAllSubServices", methods, Self::start_all);
        let builder = add(builder, "RestartAllSubServices", methods, Self::restart_all);
        let builder = add(builder, "RegisterSubService", methods, Self::register);
        let builder = add(builder, "UnregisterSubService", methods, Self::unregister);
        let builder = add(
            builder,
            "SubServiceLogLevel",
            methods,
            Self::child_log_level,
        );
        let builder = add(builder, "LogLevel", methods, Self::log_level);
        let builder = add(builder, "Stats", methods, Self::stats);
        add(builder, "Stop", methods, Self::stop)
    }

    async fn deploy(self: Arc<Self>, _: Context, request: DeployRequest) -> Outcome<ChildUuid> {
        let id = InstanceId::new_v4();
        let reply = ChildUuid {
            uuid: id.to_string(),
        };
        match self
            .start_new(id, &request.servicepath, &request.args, None)
            .await
        {
            Ok(()) => Ok(reply),
            Err(reason) => Err(beside(reason, &reply)),
        }
    }

    async fn start_new(
        &self,
        id: InstanceId,
        path: &str,
        args: &str,
        registered: Option<bool>,
    ) -> Result<(), String> {
        let args = shell_words::split(args).map_err(|_open| unterminated(args).to_owned())?;
        let wanted = path.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            program::find(&wanted, std::env::var_os("PATH").as_deref())
        });
        found
            .await
            .map_err(|error| format!("the search for the program broke off: {error}"))?
            .map_err(|error| error.to_string())?;
        let spec = ChildSpec {
            path: path.to_owned(),
            args,
            registered,
            ..ChildSpec::default()
        };
        let deployed = self.supervisor.deploy(id, spec).await;
        deployed.map_err(|error| error.to_string())
    }

    async fn list(self: Arc<Self>, _: Context, _: Empty) -> Outcome<ChildList> {
        let children = self.supervisor.list().await;
        if children.is_empty() {
            return Err(beside(NONE_DEPLOYED.to_owned(), &ChildList::default()));
        }
        let services = children.into_iter().map(|child| {
            let uuid = child.id.to_string();
            let info = ChildInfo {
                uuid: uuid.clone(),
                args: child.spec.quoted_args(),
                servicepath: child.spec.path,
                running: child.running,
            };
            (uuid, info)
        });
        Ok(ChildList {
            services: services.collect(),
        })
    }

    async fn stop_one(self: Arc<Self>, _: Context, request: ChildRequest) -> Outcome<ChildDone> {
        let id = known_id(&request)?;
        done(id, self.supervisor.stop(id).await)
    }

    /// skynet1's message names a child, skynet2's a program.
    async fn start_one(self: Arc<Self>, _: Context, request: ChildRequest) -> Outcome<ChildDone> {
        if request.binaryname.is_empty() {
            let id = known_id(&request)?;
            return done(id, self.supervisor.start(id).await);
        }
        let id = InstanceId::new_v4();
        let started = self
            .start_new(id, &request.binaryname, &request.args, request.registered)
            .await;
        let reply = ChildDone {
            ok: started.is_ok(),
            uuid: id.to_string(),
        };
        match started {
            Ok(()) => Ok(reply),
            Err(reason) => Err(beside(reason, &reply)),
        }
    }

    async fn restart_one(self: Arc<Self>, _: Context, request: ChildRequest) -> Outcome<ChildUuid> {
        let id = known_id(&request)?;
        match self.supervisor.restart(id).await {
            Answer::NoSuchChild => Err(no_such_child(&request.uuid)),
            Answer::Done | Answer::Nothing => Ok(ChildUuid {
                uuid: id.to_string(),
            }),
        }
    }

    async fn stop_all(self: Arc<Self>, _: Context, _: Empty) -> Outcome<StopAllReply> {
        let stops = each(self.supervisor.stop_all().await);
        Ok(StopAllReply {
            count: count(stops.iter().filter(|stop| stop.ok)),
            stops,
        })
    }

    async fn start_all(self: Arc<Self>, _: Context, _: Empty) -> Outcome<StartAllReply> {
        let starts = each(self.supervisor.start_all().await);
        Ok(StartAllReply {
            count: count(starts.iter().filter(|start| start.ok)),
            starts,
        })
    }

    async fn restart_all(self: Arc<Self>, _: Context, _: Empty) -> Outcome<RestartAllReply> {
        let answers = each(self.supervisor.restart_all().await);
        if answers.is_empty() {
            return Err(beside(
                NONE_DEPLOYED.to_owned(),
                &RestartAllReply::default(),
            ));
        }
        let restarts: Vec<ChildUuid> = answers
            .into_iter()
            .filter(|restart| restart.ok)
            .map(|restart| ChildUuid { uuid: restart.uuid })
            .collect();
        Ok(RestartAllReply {
            count: count(restarts.iter()),
            restarts,
        })
    }

    async fn register(self: Arc<Self>, _: Context, request: ChildRequest) -> Outcome<ChildDone> {
        self.wish(&request, true).await
    }

    async fn unregister(self: Arc<Self>, _: Context, request: ChildRequest) -> Outcome<ChildDone> {
        self.wish(&request, false).await
    }

    async fn wish(&self, request: &ChildRequest, registered: bool) -> Outcome<ChildDone> {
        let id = known_id(request)?;
        if !self
            .supervisor
            .list()
            .await
            .iter()
            .any(|child| child.id == id)
        {
            return Err(no_such_child(&request.uuid));
        }
        let known = self.supervisor.known().await;
        let identity = known
            .into_iter()
            .find(|known| known.id == id)
            .and_then(|known| known.identity);
        let mut reply = ChildDone {
            ok: false,
            uuid: id.to_string(),
        };
        // A child that has no entry in the registry cannot be wished into or out of the choice.
        if let Some(identity) = identity {
            let written = self.registry.set_registered(&identity, registered).await;
            written.map_err(|error| beside(error.to_string(), &reply))?;
            reply.ok = true;
        }
        Ok(reply)
    }

    /// Services of ours take no level from outside, so this is never done.
    async fn child_log_level(
        self: Arc<Self>,
        _: Context,
        request: LogLevelRequest,
    ) -> Outcome<LogLevelReply> {
        let id: Option<InstanceId> = request.uuid.parse().ok();
        let children = self.supervisor.list().await;
        if !children.iter().any(|child| Some(child.id) == id) {
            return Err(no_such_child(&request.uuid));
        }
        Ok(LogLevelReply {
            ok: false,
            uuid: request.uuid,
            level: request.level,
        })
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "methods are called with their own share of a context"
    )]
    fn log_level(
        self: Arc<Self>,
        context: Context,
        request: LogLevelRequest,
    ) -> Ready<Outcome<LogLevelReply>> {
        let mut reply = LogLevelReply {
            ok: false,
            uuid: String::new(),
            level: request.level,
        };
        ready(match self.log.set(&reply.level) {
            Ok(()) => {
                let client = context.client();
                tracing::info!(level = reply.level, %client, "log level changed");
                reply.ok = true;
                Ok(reply)
            }
            Err(error) => Err(beside(error.to_string(), &reply)),
        })
    }

    async fn stats(
        self: Arc<Self>,
        context: Context,
        request: StatsRequest,
    ) -> Outcome<DaemonStats> {
        let ids: Vec<InstanceId> = request
            .uuids
            .iter()
            .filter_map(|uuid| uuid.parse().ok())
            .collect();
        // Ids that are none are nobody's, and not everybody's.
        if ids.is_empty() && !request.uuids.is_empty() {
            return Ok(DaemonStats::default());
        }
        Ok(self.figures.gather(&ids, context.deadline()).await)
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "methods are called with their own share of a context"
    )]
    fn stop(self: Arc<Self>, context: Context, _: Empty) -> Ready<Outcome<Done>> {
        tracing::info!(client = %context.client(), "asked to stop with all children");
        // A full queue means that it was asked before.
        let _ = self.end.try_send(CloseMode::StopChildren);
        ready(Ok(Done { ok: true }))
    }
}

fn add<I, O, R>(
    builder: Builder,
    name: &str,
    methods: &Arc<Methods>,
    call: impl Fn(Arc<Methods>, Context, I) -> R + Send + Sync + 'static,
) -> Builder
where
    I: DeserializeOwned + 'static,
    O: Serialize + 'static,
    R: Future<Output = Outcome<O>> + Send + 'static,
{
    let methods = Arc::clone(methods);
    builder.method(name, move |context, input| {
        call(Arc::clone(&methods), context, input)
    })
}

/// An error with what of the reply was filled in.
fn beside(reason: String, reply: &impl Serialize) -> ServiceError {
    let error = ServiceError::new(reason);
    // Without its reply the error says the same.
    error.clone().with_output(reply).unwrap_or(error)
}

fn no_such_child(uuid: &str) -> ServiceError {
    let reason = format!("No such service UUID \"{uuid}\"");
    beside(reason, &ChildDone::default())
}

fn known_id(request: &ChildRequest) -> Result<InstanceId, ServiceError> {
    let id = request.uuid.parse();
    id.map_err(|_malformed| no_such_child(&request.uuid))
}

fn done(id: InstanceId, answer: Answer) -> Outcome<ChildDone> {
    match answer {
        Answer::NoSuchChild => Err(no_such_child(&id.to_string())),
        Answer::Done | Answer::Nothing => Ok(ChildDone {
            ok: answer == Answer::Done,
            uuid: id.to_string(),
        }),
    }
}

fn each(answers: Vec<(InstanceId, Answer)>) -> Vec<ChildDone> {
    answers
        .into_iter()
        .map(|(id, answer)| ChildDone {
            ok: answer == Answer::Done,
            uuid: id.to_string(),
        })
        .collect()
}

fn count<T>(of: impl Iterator<Item = T>) -> i32 {
    i32::try_from(of.count()).unwrap_or(i32::MAX)
}

/// The original's words for an argument line that ends inside quotes.
fn unterminated(args: &str) -> &'static str {
    let mut open = None;
    let mut is_escaped = false;
    for letter in args.chars() {
        match (open, letter) {
            _ if is_escaped => is_escaped = false,
            (None | Some('"'), '\\') => is_escaped = true,
            (None, '"' | '\'') => open = Some(letter),
            (Some(quote), _) if quote == letter => open = None,
            _ => {}
        }
    }
    match open {
        Some('\'') => "Unterminated single-quoted string",
        _ => "Unterminated double-quoted string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_quotes_are_named_as_the_original_does() {
        for (args, kind) in [
            ("-x \"a", "double"),
            ("-x 'a", "single"),
            ("'\"' \"b", "double"),
            ("\"it's\" 'b", "single"),
            ("\\' \"", "double"),
        ] {
            assert_eq!(
                unterminated(args),
                format!("Unterminated {kind}-quoted string")
            );
            assert!(shell_words::split(args).is_err(), "{args}");
        }
    }
}
