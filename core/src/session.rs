//! One executor of statements behind console, shell and commands.
//!
//! A [`Session`] lists, measures and changes. What a change hits is frozen in a
//! [`plan::ChangePlan`] first; nothing else is ever acted on.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;

use crate::daemon_api::{ChildDone, ChildRequest, ChildUuid, DeployRequest, Empty, StatsRequest};
use crate::hint::chain;
use crate::instance::{Host, Instance, InstanceId, State};
use crate::query::Verb;
use crate::registry::snapshot::Snapshot;
use crate::registry::{self, Registry, View};
use crate::rpc::admin::StopRequest;
use crate::stats::{DaemonStats, HostStats, InstanceStats};
use daemons::{AskError, Daemons, ask_admin};
use plan::{ChangePlan, Target};

mod daemons;
pub mod plan;

/// How long one change of one target may take; a stop waits for its drain.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(40);
/// How long is waited for an instance that was started to register.
const STARTED_WITHIN: Duration = Duration::from_secs(3);
/// How long the word of a daemon on a child that has stopped may take.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// How many targets are changed at the same time.
const AT_ONCE: usize = 16;
/// How many hosts are asked for statistics at the same time.
const HOSTS_AT_ONCE: usize = 64;

/// What became of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetResult {
    /// The target.
    pub target: Target,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of one part of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not touched, because it is no longer what was shown.
    Skipped(String),
    /// It was tried and failed.
    Failed(String),
}

impl Outcome {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => formatter.write_str("done"),
            Self::Skipped(why) => write!(formatter, "skipped: {why}"),
            Self::Failed(why) => write!(formatter, "failed: {why}"),
        }
    }
}

/// A program that is to be started on hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct DeployPlan {
    /// The hosts, in the order of the listing.
    pub hosts: Vec<Arc<Host>>,
    /// The program, as the hosts' daemons find it.
    pub path: String,
    /// Its arguments, quoted as for a shell.
    pub args: String,
    /// How many on each host.
    pub per_host: u32,
}

impl DeployPlan {
    /// The plan for people, the same on every surface.
    pub fn lines(&self) -> Vec<String> {
        let args = if self.args.is_empty() {
            String::new()
        } else {
            format!(" {}", self.args)
        };
        let mut lines = vec![format!("program  {}{args}", self.path)];
        lines.extend(self.hosts.iter().map(|host| {
            format!(
                "{} × {}  {}  {}",
                self.per_host, host.name, host.region, host.address
            )
        }));
        lines
    }

    /// How many instances it starts.
    pub fn count(&self) -> usize {
        self.hosts
            .len()
            .saturating_mul(usize::try_from(self.per_host).unwrap_or(usize::MAX))
    }
}

/// What became of one start of a [`DeployPlan`].
#[derive(Debug, Clone, PartialEq)]
pub struct DeployResult {
    /// The host.
    pub host: Arc<Host>,
    /// The new instance's id, or why there is none.
    pub outcome: Result<String, String>,
}

/// Measurements that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Of the instances that answered.
    pub instances: HashMap<InstanceId, InstanceStats>,
    /// Of the hosts whose daemons answered.
    pub hosts: HashMap<Arc<str>, HostStats>,
}

/// Lists, measures and changes a cluster. Clones are cheap and share connections.
#[derive(Clone)]
pub struct Session {
    registry: Registry,
    daemons: Arc<Daemons>,
}

impl Session {
    /// A session on this registry; nothing is connected yet.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            daemons: Arc::default(),
        }
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Lists the cluster once.
    ///
    /// # Errors
    /// When the registry does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn snapshot(&self) -> Result<Snapshot, registry::Error> {
        self.registry.snapshot().await
    }

    /// The live view.
    ///
    /// Call it on a tokio runtime.
    pub fn view(&self) -> Arc<View> {
        self.registry.view()
    }

    /// Measurements of these instances: their hosts' daemons are asked, and those without a daemon
    /// themselves. What does not answer within the time is missing in the result.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn measure(
        &self,
        instances: &[Arc<Instance>],
        snapshot: &Snapshot,
        within: Duration,
    ) -> Measured {
        let mut by_host: HashMap<&Arc<str>, Vec<&Arc<Instance>>> = HashMap::new();
        for instance in instances {
            by_host.entry(instance.host()).or_default().push(instance);
        }
        // Collected and boxed: a closure over references would keep the future from being `Send`.
        let asked: Vec<_> = by_host
            .into_iter()
            .map(|(name, instances)| {
                let host = snapshot.host(name).cloned();
                async move {
                    match host {
                        Some(host) => self.measure_host(&host, &instances, within).await,
                        None => self.measure_alone(&instances, within).await,
                    }
                }
                .boxed()
            })
            .collect();
        let mut answers = stream::iter(asked).buffer_unordered(HOSTS_AT_ONCE);
        let mut measured = Measured::default();
        let collect = async {
            while let Some(answer) = answers.next().await {
                measured.instances.extend(answer.instances);
                measured.hosts.extend(answer.hosts);
            }
        };
        let _late = tokio::time::timeout(within, collect).await;
        measured
    }

    async fn measure_host(
        &self,
        host: &Arc<Host>,
        instances: &[&Arc<Instance>],
        within: Duration,
    ) -> Measured {
        let request = StatsRequest {
            uuids: instances
                .iter()
                .map(|instance| instance.id().to_string())
                .collect(),
        };
        let asked = self
            .daemons
            .ask(host.address, "Stats", &request, within)
            .await;
        let answer: DaemonStats = match asked {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(host = %host.name, %error, "no statistics");
                return Measured::default();
            }
        };
        let mut measured = Measured {
            instances: answer
                .by_id()
                .map(|(id, stats)| (id, stats.clone()))
                .collect(),
            hosts: HashMap::from([(Arc::clone(&host.name), answer.host)]),
        };
        // Started by hand, and not by the daemon: such instances answer for themselves.
        let missing: Vec<&Arc<Instance>> = instances
            .iter()
            .copied()
            .filter(|instance| !measured.instances.contains_key(&instance.id()))
            .collect();
        measured
            .instances
            .extend(self.measure_alone(&missing, within).await.instances);
        measured
    }

    async fn measure_alone(&self, instances: &[&Arc<Instance>], within: Duration) -> Measured {
        let asked: Vec<_> = instances
            .iter()
            .filter_map(|instance| {
                let address = instance.admin_address?;
                let id = instance.id();
                let answer = async move {
                    let answer = ask_admin(address, "Admin.Stats", &Empty {}, within).await;
                    answer.ok().map(|stats: InstanceStats| (id, stats))
                };
                Some(answer.boxed())
            })
            .collect();
        let answers: Vec<_> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        Measured {
            instances: answers.into_iter().flatten().collect(),
            ..Measured::default()
        }
    }

    /// Makes a change, sixteen targets at a time; the results are in the order of the plan.
    ///
    /// Targets that are no longer what the plan froze are skipped and reported.
    ///
    /// # Errors
    /// When the registry does not answer; then nothing was changed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what was begun to the daemons.
    pub async fn execute(&self, plan: &ChangePlan) -> Result<Vec<TargetResult>, registry::Error> {
        let snapshot = self.registry.snapshot().await?;
        let changes: Vec<_> = plan
            .targets
            .iter()
            .map(|target| {
                let snapshot = &snapshot;
                async move {
                    let outcome = match changed_since(target, snapshot) {
                        Some(why) => Outcome::Skipped(why),
                        None => match self.change(plan.verb, target, snapshot).await {
                            Ok(()) => {
                                self.settle(plan.verb, target, snapshot).await;
                                Outcome::Done
                            }
                            Err(why) => Outcome::Failed(why),
                        },
                    };
                    TargetResult {
                        target: target.clone(),
                        outcome,
                    }
                }
                .boxed()
            })
            .collect();
        Ok(stream::iter(changes).buffered(AT_ONCE).collect().await)
    }

    /// Waits until the cluster shows what a daemon has accepted, so that the next command finds it
    /// done. What takes longer than its time goes on by itself.
    async fn settle(&self, verb: Verb, target: &Target, before: &Snapshot) {
        let by_a_daemon = before.host(&target.identity.host).is_some();
        let within = match verb {
            Verb::Stop => CHANGE_TIMEOUT,
            Verb::Restart if target.state == State::Ready => CHANGE_TIMEOUT,
            // What never registers cannot be seen to be back.
            Verb::Start | Verb::Restart => STARTED_WITHIN,
            Verb::Register | Verb::Unregister => return,
        };
        if !by_a_daemon {
            return;
        }
        let view = self.registry.view();
        let mut changes = view.changes();
        let id = target.identity.id;
        let done = changes.wait_for(|now| {
            let is_listed = now.revision() > 0;
            is_listed
                && match (verb, now.instance(id)) {
                    (Verb::Restart, Some(now)) => {
                        now.started != target.started && now.state != State::Starting
                    }
                    (Verb::Start, Some(now)) => !now.state.is_child_only(),
                    (_, Some(now)) => now.state.is_child_only(),
                    (Verb::Restart | Verb::Start, None) => false,
                    (_, None) => true,
                }
        });
        drop(tokio::time::timeout(within, done).await);
        if verb == Verb::Stop {
            // Its daemon's word on it comes right behind its leave.
            let told = changes.wait_for(|now| {
                now.instance(id)
                    .is_some_and(|now| now.state.is_child_only())
            });
            drop(tokio::time::timeout(TOLD_WITHIN, told).await);
        }
    }

    async fn change(&self, verb: Verb, target: &Target, snapshot: &Snapshot) -> Result<(), String> {
        let method = match verb {
            Verb::Register | Verb::Unregister => {
                let wish = verb == Verb::Register;
                let written = self.registry.set_registered(&target.identity, wish).await;
                return written.map_err(|error| chain(&error));
            }
            Verb::Start => "StartSubService",
            Verb::Stop => "StopSubService",
            Verb::Restart => "RestartSubService",
        };
        let request = ChildRequest {
            uuid: target.identity.id.to_string(),
            ..ChildRequest::default()
        };
        let Some(host) = snapshot.host(&target.identity.host) else {
            return self
                .stop_alone(verb, target, "its host has no daemon")
                .await;
        };
        let asked = if verb == Verb::Restart {
            self.daemons
                .ask(host.address, method, &request, CHANGE_TIMEOUT)
                .await
                .map(|done: ChildUuid| !done.uuid.is_empty())
        } else {
            self.daemons
                .ask(host.address, method, &request, CHANGE_TIMEOUT)
                .await
                .map(|done: ChildDone| done.ok)
        };
        match asked {
            Ok(true) => Ok(()),
            Ok(false) => Err(match verb {
                Verb::Start => "it runs already".to_owned(),
                _ => "it does not run".to_owned(),
            }),
            Err(AskError::Refused(message)) if message.starts_with("No such service UUID") => {
                self.stop_alone(verb, target, "its daemon did not start it")
                    .await
            }
            Err(error) => Err(chain(&error)),
        }
    }

    /// What no daemon has started can be stopped by its own admin port, and nothing else.
    async fn stop_alone(&self, verb: Verb, target: &Target, why: &str) -> Result<(), String> {
        let Some(address) = target.admin_address.filter(|_| verb == Verb::Stop) else {
            return Err(format!("{why}, so nobody can {} it", verb.as_str()));
        };
        let stop = StopRequest {
            waitforclients: true,
        };
        let _stopped: Empty = ask_admin(address, "Admin.Stop", &stop, CHANGE_TIMEOUT)
            .await
            .map_err(|error| chain(&error))?;
        Ok(())
    }

    /// Starts a program on every host of the plan; the results are in the order of the hosts.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what was begun to the daemons.
    pub async fn deploy(&self, plan: &DeployPlan) -> Vec<DeployResult> {
        let starts = plan
            .hosts
            .iter()
            .flat_map(|host| (0..plan.per_host).map(move |_| host));
        let request = DeployRequest {
            servicepath: plan.path.clone(),
            args: plan.args.clone(),
        };
        let started: Vec<_> = starts
            .map(|host| {
                let request = &request;
                async move {
                    let asked = self
                        .daemons
                        .ask(host.address, "Deploy", request, CHANGE_TIMEOUT)
                        .await;
                    let outcome = match asked {
                        Ok(ChildUuid { uuid }) => Ok(uuid),
                        Err(error) => Err(chain(&error)),
                    };
                    DeployResult {
                        host: Arc::clone(host),
                        outcome,
                    }
                }
                .boxed()
            })
            .collect();
        stream::iter(started).buffered(AT_ONCE).collect().await
    }

    /// Asks a daemon to stop its children and then itself.
    ///
    /// # Errors
    /// When it does not answer within the time.
    ///
    /// # Cancel safety
    /// The daemon may stop all the same.
    pub async fn stop_daemon(&self, host: &Host, within: Duration) -> Result<(), AskError> {
        let _done: crate::daemon_api::Done = self
            .daemons
            .ask(host.address, "Stop", &Empty {}, within)
            .await?;
        Ok(())
    }
}

pub use daemons::AskError as DaemonError;

/// Why a target is no longer what the plan froze.
fn changed_since(target: &Target, snapshot: &Snapshot) -> Option<String> {
    match snapshot.instance(target.identity.id) {
        None => Some("it is gone".to_owned()),
        Some(now) if now.started != target.started => {
            Some(format!("it was started again at {}", seconds(now.started)))
        }
        Some(_same) => None,
    }
}

/// A time without the fractions that nobody reads.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
