//! The instances, what stands before them, and what befalls them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use skynet::client::{Client, Place as ClientPlace, ServiceClient};
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::{Proxy, TestRegistry, Traffic, free_address};
use tempfile::TempDir;

use super::load::DEADLINE;
use crate::instance_process::{Instance, Place, SERVICE, Setup, executions};
use crate::rpc_support::PATIENCE;

const PREFIX: &str = "/ledger";
/// The shortest TTL that is allowed.
const TTL: Duration = Duration::from_secs(5);
const INSTANCES: u32 = 5;
/// So few calls at once that some are refused when others are away.
const ROOM: usize = 10;

/// What befalls an instance. All but a kill last until they are healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`; it is started again at once.
    Kill,
    /// It stands still.
    Freeze,
    /// Its connections are reset, and stand again at once.
    Reset,
    /// Its connections are closed, and every new one.
    Cut,
    /// Nothing passes, and nothing is said.
    Stall,
    /// Requests pass, and answers do not.
    HoldAnswers,
    /// The connections of all are closed, and every new one, for longer than a call waits.
    CutAll,
}

struct Member {
    number: u32,
    process: Instance,
    proxy: Proxy,
    target: SocketAddr,
    frozen: bool,
}

impl Member {
    fn start(number: u32, place: &Place<'_>) -> Self {
        let target = free_address().unwrap();
        let proxy = Proxy::start(free_address().unwrap(), target).unwrap();
        Self {
            number,
            process: launch(number, target, &proxy, place),
            proxy,
            target,
            frozen: false,
        }
    }

    fn heal(&mut self) {
        if std::mem::take(&mut self.frozen) {
            self.process.thaw();
        }
        self.proxy.set(Traffic::Forward);
    }
}

fn launch(number: u32, target: SocketAddr, proxy: &Proxy, place: &Place<'_>) -> Instance {
    let setup = Setup {
        room: Some(ROOM),
        port: Some(target.port()),
        announced: Some(proxy.address()),
    };
    Instance::start_at(number, "host", place, setup)
}

/// Everything that runs.
pub(crate) struct Cluster {
    server: TestRegistry,
    client: Client,
    members: Vec<Member>,
    folder: TempDir,
}

fn place<'a>(server: &TestRegistry, folder: &'a TempDir) -> Place<'a> {
    Place {
        endpoints: vec![server.url()],
        prefix: PREFIX,
        ttl: TTL,
        folder: folder.path(),
    }
}

impl Cluster {
    /// Waits until all of them can be called.
    pub(crate) async fn start() -> Self {
        let server = TestRegistry::embedded().await.unwrap();
        let folder = TempDir::new().unwrap();
        let place = place(&server, &folder);
        let members = (0..INSTANCES)
            .map(|number| Member::start(number, &place))
            .collect();
        let config = RegistryConfig::at(&server.url()).with_prefix(PREFIX);
        let registry = Registry::new(&config).unwrap();
        let cluster = Self {
            client: Client::connect_from(&registry, ClientPlace::default()),
            server,
            members,
            folder,
        };
        let view = cluster.client.view();
        let mut changes = view.changes();
        let all = changes.wait_for(|snapshot| snapshot.len() == INSTANCES as usize);
        let all = tokio::time::timeout(PATIENCE, all).await;
        drop(all.expect("not all came").unwrap());
        cluster
    }

    pub(crate) fn client(&self) -> ServiceClient {
        let query = format!("service={SERVICE}");
        self.client.service(query.parse().unwrap())
    }

    pub(crate) async fn inflict(&mut self, fault: Fault, index: usize) {
        let place = place(&self.server, &self.folder);
        let member = &mut self.members[index];
        member.heal();
        match fault {
            Fault::Kill => {
                member.process.kill();
                member.process = launch(member.number, member.target, &member.proxy, &place);
            }
            Fault::Freeze => {
                member.process.freeze().await;
                member.frozen = true;
            }
            Fault::Reset => {
                member.proxy.set(Traffic::Reset);
                // The proxy sees the rules of a moment only if it looks at them.
                tokio::time::sleep(Duration::from_millis(50)).await;
                member.proxy.set(Traffic::Forward);
            }
            Fault::Cut => member.proxy.set(Traffic::Cut),
            Fault::Stall => member.proxy.set(Traffic::Stall),
            Fault::HoldAnswers => member.proxy.set(Traffic::HoldAnswers),
            Fault::CutAll => {
                for member in &mut self.members {
                    member.heal();
                    member.proxy.set(Traffic::Cut);
                }
                tokio::time::sleep(DEADLINE * 3 / 2).await;
                self.heal_all();
            }
        }
    }

    /// What befell this one is over.
    pub(crate) fn heal(&mut self, index: usize) {
        self.members[index].heal();
    }

    /// Everything goes on.
    pub(crate) fn heal_all(&mut self) {
        for member in &mut self.members {
            member.heal();
        }
    }

    /// Ends every process in good order, so that whatever was sent is executed or never will be, and
    /// tells how often each request was executed.
    pub(crate) async fn end(self) -> HashMap<String, u32> {
        for member in self.members {
            assert!(member.process.finish().await, "an instance ended badly");
        }
        executions(self.folder.path())
    }
}
