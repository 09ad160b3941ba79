//! Three real etcd nodes on this machine, which a test may kill, freeze, cut off and wipe.
//!
//! Invariants: the nodes have etcd's own default timing (heartbeats of 100 ms, elections after
//! 1000 ms); peers speak to each other only through proxies of the harness, so any node can be cut
//! off from its peers while its clients still reach it, without root; client addresses stay the same
//! over restarts and wipes; dropping the cluster kills its processes, frozen ones too, and removes
//! its files. It knows nothing of what is stored.

mod node;

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, GetOptions, StatusResponse};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use self::node::Node;
pub use super::proxy::Traffic;
use super::{TestRegistryError, etcd::EtcdVersion, missing};

/// How many nodes there are: the fewest of which one may fail.
pub const NODES: usize = 3;
/// How long a whole cluster may take to stand on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long one node may take to answer before it counts as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often a first start is tried: somebody may take one of the ports meanwhile.
const STARTS: usize = 5;

/// What one node says of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStatus {
    /// Which node was asked.
    pub node: usize,
    /// Its own member id.
    pub member: u64,
    /// Which member it takes for the leader; 0 if it knows none.
    pub leader: u64,
    /// The election term that it is in.
    pub term: u64,
    /// The revision that it has reached.
    pub revision: i64,
    /// The cluster's id.
    pub cluster_id: u64,
}

impl NodeStatus {
    fn of(node: usize, status: &StatusResponse) -> Self {
        let header = status.header();
        Self {
            node,
            member: header.map_or(0, etcd_client::ResponseHeader::member_id),
            leader: status.leader(),
            term: status.raft_term(),
            revision: header.map_or(0, etcd_client::ResponseHeader::revision),
            cluster_id: header.map_or(0, etcd_client::ResponseHeader::cluster_id),
        }
    }
}

/// A cluster that belongs to one test.
#[derive(Debug)]
pub struct EtcdCluster {
    nodes: Vec<Node>,
    version: EtcdVersion,
    /// How often it was wiped; part of what its id is made of.
    generation: u32,
    /// Holds the data and the logs; goes last.
    folder: TempDir,
}

impl EtcdCluster {
    /// Three nodes of etcd 3.4 (the one on the PATH), or `None` (and a loud word on stderr) where
    /// there is none.
    ///
    /// # Errors
    ///
    /// As for [`TestRegistry::etcd`](super::TestRegistry::etcd).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the processes are killed.
    pub async fn etcd() -> Result<Option<Self>, TestRegistryError> {
        Self::start(EtcdVersion::V3_4).await
    }

    /// Three nodes of etcd 3.5 (from the folder that `SKYNET_ETCD_3_5` names), or `None` (and a loud
    /// word on stderr) where there is none.
    ///
    /// # Errors
    ///
    /// As for [`TestRegistry::etcd`](super::TestRegistry::etcd).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the processes are killed.
    pub async fn etcd_3_5() -> Result<Option<Self>, TestRegistryError> {
        Self::start(EtcdVersion::V3_5).await
    }

    async fn start(version: EtcdVersion) -> Result<Option<Self>, TestRegistryError> {
        let Some(program) = version.program("etcd") else {
            return missing(version);
        };
        let mut attempts = 0;
        loop {
            let folder = TempDir::new()?;
            let nodes = (0..NODES)
                .map(|index| Node::new(index, &program, folder.path()))
                .collect::<Result<Vec<_>, _>>()?;
            let mut cluster = Self {
                nodes,
                version,
                generation: 0,
                folder,
            };
            match cluster.start_all() {
                Err(TestRegistryError::Io(error))
                    if error.kind() == std::io::ErrorKind::NotFound =>
                {
                    return missing(version);
                }
                started => started?,
            }
            attempts += 1;
            match cluster.until_healthy().await {
                Ok(()) => return Ok(Some(cluster)),
                Err(error) if attempts == STARTS => return Err(error),
                Err(_port_taken) => {}
            }
        }
    }

    /// `etcd-3.4` or `etcd-3.5`, for messages.
    pub fn name(&self) -> &'static str {
        self.version.name()
    }

    /// The client address of every node, as clients take it.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// What each node says of the cluster; nodes that do not answer are left out.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    pub async fn statuses(&self) -> Vec<NodeStatus> {
        let asked = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| async move {
                let status = async { client(&node.url()).await?.status().await };
                let status = timeout(ANSWER_WITHIN, status).await.ok()?.ok()?;
                Some(NodeStatus::of(index, &status))
            });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Which node leads, by the word of who is in the newest term; `None` while nobody does.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    pub async fn leader(&self) -> Option<usize> {
        let statuses = self.statuses().await;
        let newest = statuses.iter().max_by_key(|status| status.term)?;
        let leader = statuses
            .iter()
            .find(|status| newest.leader != 0 && status.member == newest.leader)?;
        Some(leader.node)
    }

    /// The newest revision that any node tells: what was written is the difference of two.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    pub async fn revision(&self) -> i64 {
        let statuses = self.statuses().await;
        statuses
            .iter()
            .map(|status| status.revision)
            .max()
            .unwrap_or(0)
    }

    /// Waits until every node runs, knows the leader and answers what needs a quorum.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::EtcdUnhealthy`] if one has ended, or it takes more than a minute.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    pub async fn until_healthy(&mut self) -> Result<(), TestRegistryError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut sick = None;
            for node in &mut self.nodes {
                let ended = !node.is_running()?;
                if ended || !answers(&node.url()).await {
                    sick = Some((node.unhealthy(PATIENCE), ended));
                    break;
                }
            }
            match sick {
                None => return Ok(()),
                Some((error, ended)) if ended || Instant::now() >= deadline => return Err(error),
                Some(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Ends a node like `kill -9`.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Ends all nodes like `kill -9`.
    pub fn kill_all(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }

    /// Freezes a node's process: its connections stand, and nothing is said on them.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::Io`] if it does not run.
    pub fn freeze(&mut self, node: usize) -> Result<(), TestRegistryError> {
        self.nodes[node].signal(rustix::process::Signal::STOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::Io`] if it does not run.
    pub fn thaw(&mut self, node: usize) -> Result<(), TestRegistryError> {
        self.nodes[node].signal(rustix::process::Signal::CONT)
    }

    /// Starts a node again with its data; kills it before if it runs. It does not wait until it
    /// answers: that may need the others.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::Io`] if it cannot be started.
    pub fn restart(&mut self, node: usize) -> Result<(), TestRegistryError> {
        let (peers, token) = (self.peers(), self.token());
        self.nodes[node].start(&peers, &token)
    }

    /// Starts all nodes, those that run after they were killed.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::Io`] if one cannot be started.
    pub fn start_all(&mut self) -> Result<(), TestRegistryError> {
        self.kill_all();
        (0..NODES).try_for_each(|node| self.restart(node))
    }

    /// Replaces it by an empty cluster with another id at the same addresses.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::Io`] if a file cannot be removed or a node not started.
    pub fn wipe(&mut self) -> Result<(), TestRegistryError> {
        self.kill_all();
        for node in &self.nodes {
            node.remove_data()?;
        }
        self.generation += 1;
        self.start_all()
    }

    /// Says what happens to the traffic between a node and its peers, in both directions; its
    /// clients are not concerned.
    ///
    /// # Errors
    ///
    /// [`TestRegistryError::EtcdUnhealthy`] if the node does not tell its member id.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed if the future is dropped.
    pub async fn set_peer_traffic(
        &mut self,
        node: usize,
        traffic: Traffic,
    ) -> Result<(), TestRegistryError> {
        let statuses = self.statuses().await;
        let Some(member) = statuses.iter().find(|status| status.node == node) else {
            return Err(self.nodes[node].unhealthy(ANSWER_WITHIN));
        };
        for (index, other) in self.nodes.iter().enumerate() {
            if index == node {
                other.proxy().set(traffic);
            } else {
                other.proxy().set_from(member.member, traffic);
            }
        }
        Ok(())
    }

    /// What the nodes have written into their logs, the end of each.
    pub fn logs(&self) -> String {
        let logs: Vec<String> = self.nodes.iter().map(Node::log_tail).collect();
        logs.join("\n")
    }

    /// The folder that holds data and logs.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn peers(&self) -> String {
        let peers: Vec<String> = self.nodes.iter().map(Node::peer).collect();
        peers.join(",")
    }

    /// A cluster's id is made of this and of its members' names and addresses.
    fn token(&self) -> String {
        format!("test-{}", self.generation)
    }
}

async fn client(url: &str) -> Result<Client, etcd_client::Error> {
    let options = ConnectOptions::new().with_connect_timeout(ANSWER_WITHIN);
    Client::connect([url], Some(options)).await
}

/// Whether a node knows a leader and answers what needs a quorum.
async fn answers(url: &str) -> bool {
    let ask = async {
        let mut client = client(url).await?;
        let known = client.status().await?.leader() != 0;
        client
            .get(
                "",
                Some(GetOptions::new().with_all_keys().with_count_only()),
            )
            .await?;
        Ok::<_, etcd_client::Error>(known)
    };
    matches!(timeout(ANSWER_WITHIN, ask).await, Ok(Ok(true)))
}
