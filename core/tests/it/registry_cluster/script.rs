//! The faults in their order, what is checked after each, and the line of figures.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use skynet::client::{Client, Place as ClientPlace};
use skynet::instance::{InstanceId, State};
use skynet::registry::snapshot::Snapshot;
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::{EtcdCluster, Traffic};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::PATIENCE;
use super::load::Load;
use super::views::{Watched, connections_to};
use crate::instance_process::{Instance, Place, SERVICE, executions};

/// How many instances there are.
const INSTANCES: u32 = 40;
/// How many hosts they say that they are on.
const HOSTS: u32 = 8;
/// How many clients call them, each with a view of its own and another endpoint first.
const CLIENTS: usize = 3;
const PREFIX: &str = "/three-nodes";
/// Between two looks at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Within what time everything is whole again after a fault, by the invariant of the design, when
/// nothing else keeps the machine busy.
const WHOLE_WITHIN: Duration = Duration::from_secs(15);

/// For how long a client may not know of an instance that it can reach, likewise.
const NOT_CHOSEN_FOR: Duration = Duration::from_secs(2);

/// How long the faults last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    ttl: Duration,
    calls_per_second: u32,
    frozen: Duration,
    freezes: u32,
    cut_off: Duration,
    without_quorum: Duration,
    /// After everything is whole, so that what comes late counts to the fault that caused it.
    settle: Duration,
    /// Whether figures that depend on the machine's load are held against their bounds.
    strict: bool,
}

impl Times {
    /// Every fault, in seconds. The TTL is the shortest that is allowed, so that a loss of quorum
    /// outlives it soon.
    pub(super) const SHORT: Self = Self {
        ttl: Duration::from_secs(5),
        calls_per_second: 100,
        frozen: Duration::from_secs(3),
        freezes: 1,
        cut_off: Duration::from_secs(4),
        without_quorum: Duration::from_secs(7),
        settle: Duration::from_millis(500),
        strict: false,
    };

    /// As the design asks for it.
    pub(super) const FULL: Self = Self {
        ttl: Duration::from_secs(10),
        calls_per_second: 200,
        frozen: Duration::from_secs(15),
        freezes: 10,
        cut_off: Duration::from_secs(30),
        without_quorum: Duration::from_mins(5),
        settle: Duration::from_secs(12),
        strict: true,
    };
}

/// The cluster, the instances, the clients and the load.
pub(super) struct Script {
    times: Times,
    cluster: EtcdCluster,
    clients: Vec<Watched>,
    load: Load,
    ids: Vec<InstanceId>,
    instances: Vec<Instance>,
    folder: TempDir,
    /// What was not as it must be; told at the end, so that one fault hides no other.
    misses: Vec<String>,
}

/// What stood before a fault.
struct Mark {
    what: String,
    began: Instant,
    revision: i64,
    leases: HashMap<InstanceId, i64>,
}

impl Script {
    /// Starts everything, and waits until it is whole.
    pub(super) async fn start(cluster: EtcdCluster, times: Times) -> Self {
        let folder = TempDir::new().unwrap();
        let urls = cluster.urls();
        let endpoints_from = |first: usize| {
            let mut endpoints = urls.clone();
            endpoints.rotate_left(first % urls.len());
            endpoints
        };
        let instances: Vec<Instance> = (0..INSTANCES)
            .map(|number| {
                let place = Place {
                    endpoints: endpoints_from(number as usize),
                    prefix: PREFIX,
                    ttl: times.ttl,
                    folder: folder.path(),
                };
                Instance::start(number, &format!("host-{}", number % HOSTS), &place)
            })
            .collect();
        let ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id).collect();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let config = RegistryConfig {
                endpoints: endpoints_from(number),
                prefix: PREFIX.to_owned(),
                ..RegistryConfig::default()
            };
            let registry = Registry::new(&config).unwrap();
            let client = Client::connect_from(&registry, ClientPlace::default());
            let service = client.service(format!("service={SERVICE}").parse().unwrap());
            let mut changes = client.view().changes();
            let all_there = changes.wait_for(|snapshot| all_ready(snapshot, &ids));
            let all_there = tokio::time::timeout(PATIENCE, all_there).await;
            assert!(all_there.is_ok(), "not all instances came");
            clients.push(Watched::start(client, service, ids.clone()));
        }
        let services = clients.iter().map(|client| client.service.clone());
        let load = Load::start(services.collect(), times.calls_per_second);
        Self {
            times,
            cluster,
            clients,
            load,
            ids,
            instances,
            folder,
            misses: Vec::new(),
        }
    }

    /// All faults, one after the other.
    pub(super) async fn run(mut self) {
        print(&format!(
            "{}: {INSTANCES} instances, {CLIENTS} clients, {} calls/s, TTL {:?}",
            self.cluster.name(),
            self.times.calls_per_second,
            self.times.ttl
        ));
        let mark = self.mark("nothing").await;
        sleep(self.times.settle).await;
        self.check(mark, Instant::now()).await;
        self.leader_killed().await;
        for round in 1..=self.times.freezes {
            self.leader_frozen(round).await;
        }
        self.follower_cut_off().await;
        self.quorum_lost().await;
        self.all_restarted().await;
        self.wiped().await;
        self.end().await;
    }

    async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.cluster.leader().await {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads");
            sleep(LOOK_EVERY).await;
        }
    }

    async fn leader_killed(&mut self) {
        let leader = self.leader().await;
        let mark = self.mark("leader killed and restarted").await;
        self.cluster.kill(leader);
        sleep(self.times.frozen.min(Duration::from_secs(5))).await;
        self.cluster.restart(leader).unwrap();
        self.check(mark, Instant::now()).await;
    }

    async fn leader_frozen(&mut self, round: u32) {
        let leader = self.leader().await;
        let what = format!("leader frozen for {:?}, {round}", self.times.frozen);
        let mark = self.mark(&what).await;
        self.cluster.freeze(leader).unwrap();
        sleep(self.times.frozen).await;
        self.cluster.thaw(leader).unwrap();
        self.check(mark, Instant::now()).await;
    }

    async fn follower_cut_off(&mut self) {
        let leader = self.leader().await;
        let urls = self.cluster.urls();
        let follower = (0..skynet::testing::NODES)
            .filter(|node| *node != leader)
            .max_by_key(|node| connections_to(&urls[*node]))
            .unwrap();
        let what = format!("follower cut off for {:?}", self.times.cut_off);
        let mark = self.mark(&what).await;
        let cut = self.cluster.set_peer_traffic(follower, Traffic::Stall);
        cut.await.unwrap();
        sleep(self.times.cut_off).await;
        let joined = self.cluster.set_peer_traffic(follower, Traffic::Forward);
        joined.await.unwrap();
        self.check(mark, Instant::now()).await;
    }

    async fn quorum_lost(&mut self) {
        let leader = self.leader().await;
        let what = format!("quorum lost for {:?}", self.times.without_quorum);
        let mark = self.mark(&what).await;
        let follower = (leader + 1) % skynet::testing::NODES;
        self.cluster.kill(leader);
        self.cluster.kill(follower);
        sleep(self.times.without_quorum).await;
        self.cluster.restart(leader).unwrap();
        self.cluster.restart(follower).unwrap();
        self.check(mark, Instant::now()).await;
    }

    async fn all_restarted(&mut self) {
        let mark = self.mark("all killed and restarted").await;
        self.cluster.kill_all();
        sleep(self.times.settle).await;
        self.cluster.start_all().unwrap();
        self.check(mark, Instant::now()).await;
    }

    async fn wiped(&mut self) {
        let mut mark = self.mark("wiped, restored empty").await;
        self.cluster.wipe().unwrap();
        // The new one counts from the start.
        mark.revision = 1;
        self.check(mark, Instant::now()).await;
    }

    /// Notes how everything stands before a fault, and begins to count anew.
    async fn mark(&mut self, what: &str) -> Mark {
        let listing = self.listing().await.expect("nothing is listed");
        let leases = listing
            .instances()
            .map(|instance| (instance.id(), instance.lease))
            .collect();
        for client in &self.clients {
            client.take_figures();
        }
        Mark {
            what: what.to_owned(),
            revision: self.cluster.revision().await,
            leases,
            began: Instant::now(),
        }
    }

    /// Waits until everything is whole, which it must be soon after `over`, and checks what the
    /// fault has done.
    async fn check(&mut self, mark: Mark, over: Instant) {
        if let Err(error) = self.cluster.until_healthy().await {
            panic!("{}: {error}\n{}", mark.what, self.cluster.logs());
        }
        let healthy = Instant::now();
        self.until_whole(&mark).await;
        let whole = Instant::now();
        sleep(self.times.settle).await;
        self.until_whole(&mark).await;

        let revision = self.cluster.revision().await;
        let listing = self.listing().await.expect("nothing is listed");
        let regranted = listing
            .instances()
            .filter(|now| mark.leases.get(&now.id()) != Some(&now.lease))
            .count();
        let seen: Vec<_> = self.clients.iter().map(Watched::take_figures).collect();
        let noticed = seen.iter().filter_map(|seen| seen.noticed).min();
        let missing = seen.iter().map(|seen| seen.missing).max().unwrap();
        let suspect = seen.iter().map(|seen| seen.suspect).max().unwrap();
        let not_chosen = seen.iter().map(|seen| seen.not_chosen).max().unwrap();
        let went_back: u32 = seen.iter().map(|seen| seen.went_back).sum();
        let calls = self.load.take_figures();
        print(&format!(
            "{}: noticed {}, etcd healthy {} after its end, all whole {} after its end; calls {} ok, {} failed, \
             slowest {}; longest missing {}, suspect {}, not chosen {}; {} writes, {regranted} leases anew",
            mark.what,
            noticed.map_or_else(|| "by nobody".to_owned(), |at| seconds(at - mark.began)),
            seconds(healthy - over),
            seconds(whole - over),
            calls.ok,
            calls.failed.len(),
            seconds(calls.slowest),
            seconds(missing),
            seconds(suspect),
            seconds(not_chosen),
            revision - mark.revision,
        ));
        let mut miss = |holds: bool, what: String| {
            if !holds {
                print(&format!("  !!! {what}"));
                self.misses.push(format!("{}: {what}", mark.what));
            }
        };
        let failed: Vec<_> = calls.failed.iter().take(5).collect();
        miss(failed.is_empty(), format!("calls failed: {failed:#?}"));
        miss(calls.ok > 0, "nothing was called".to_owned());
        miss(
            missing.is_zero(),
            format!("an instance was missing for {missing:?}"),
        );
        let may_go_back = mark.what.starts_with("wiped");
        miss(may_go_back || went_back == 0, "a view went back".to_owned());
        if self.times.strict {
            let late = whole - healthy;
            miss(late < WHOLE_WITHIN, format!("whole {late:?} after etcd"));
            miss(
                not_chosen < NOT_CHOSEN_FOR,
                format!("not chosen for {not_chosen:?}"),
            );
        }
    }

    /// Waits until a fresh listing and every client's view have all instances ready, and every
    /// client can choose among all of them.
    async fn until_whole(&self, mark: &Mark) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let listed = self.listing().await;
            let n_whole = self
                .clients
                .iter()
                .filter(|watched| {
                    let view = watched.client.view();
                    all_ready(&view.snapshot(), &self.ids)
                        // After a wipe the view stays protected for a while, and is whole before.
                        && view.link().borrow().is_connected()
                        && watched.service.known() == self.ids.len()
                })
                .count();
            let is_listed = listed.as_ref().is_some_and(|all| all_ready(all, &self.ids));
            if is_listed && n_whole == CLIENTS {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{}: not whole again: listed {is_listed}, {n_whole} of {CLIENTS} clients; {:?}",
                mark.what,
                listed.map(|listed| listed
                    .instances()
                    .filter(|instance| instance.state != State::Ready)
                    .count())
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// What the registry holds now, asked by one who knows nothing yet.
    async fn listing(&self) -> Option<Snapshot> {
        let config = RegistryConfig {
            endpoints: self.cluster.urls(),
            prefix: PREFIX.to_owned(),
            ..RegistryConfig::default()
        };
        Registry::new(&config).unwrap().snapshot().await.ok()
    }

    /// Ends the load and compares the two halves of the ledger.
    async fn end(self) {
        let asked = self.load.stop().await;
        drop(self.clients);
        drop(self.instances);
        let executed = executions(self.folder.path());
        let twice: Vec<_> = executed.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "executed more than once: {twice:?}");
        let unasked: HashSet<_> = executed
            .keys()
            .filter(|id| !asked.contains_key(*id))
            .collect();
        assert!(unasked.is_empty(), "executed and never asked: {unasked:?}");
        let lost: Vec<_> = asked
            .iter()
            .filter(|(id, answered)| **answered == Some(true) && !executed.contains_key(*id))
            .collect();
        assert!(lost.is_empty(), "answered and never executed: {lost:?}");
        let n_answered = asked
            .values()
            .filter(|answered| **answered == Some(true))
            .count();
        assert_eq!(n_answered, asked.len(), "not every call was answered");
        assert!(self.misses.is_empty(), "{:#?}", self.misses);
        print(&format!(
            "ledger: {} calls asked, {n_answered} answered, {} executed, none twice",
            asked.len(),
            executed.len()
        ));
    }
}

fn all_ready(snapshot: &Snapshot, ids: &[InstanceId]) -> bool {
    ids.iter().all(|id| {
        snapshot
            .instance(*id)
            .is_some_and(|instance| instance.state == State::Ready)
    })
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// One line for who runs it with `--nocapture`.
#[expect(
    clippy::print_stdout,
    reason = "figures are for people; tests capture this"
)]
fn print(line: &str) {
    println!("{line}");
}
