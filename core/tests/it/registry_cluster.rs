//! Three real etcd nodes under faults, forty instances in processes of their own, steady load with a
//! ledger: no call fails, no instance is lost, nothing is executed twice.
//!
//! The faults, in this order: the leader is killed and started again; the leader is frozen and goes
//! on, again and again; a follower is cut off from its peers while its clients still reach it; two of
//! three nodes are down for longer than the TTL; all nodes are killed and started; all data are
//! lost. After each, the script waits until everything is whole, checks, and prints a line of
//! figures.
//!
//! Every run of the tests does it with short times. At full length, which takes a quarter of an hour
//! for each etcd, one command runs it and prints the figures:
//!
//! ```text
//! cargo test --release -p skynet --test it three_nodes -- --ignored --nocapture
//! ```

use std::time::Duration;

use skynet::testing::{EtcdCluster, Traffic};
use tokio::time::{Instant, sleep};

use script::{Script, Times};

mod load;
mod script;
mod views;

/// Only one script runs at a time, so that the figures are its own.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_shortened_on_etcd_3_4() {
    let _alone = ALONE.lock().await;
    if let Some(cluster) = EtcdCluster::etcd().await.unwrap() {
        Script::start(cluster, Times::SHORT).await.run().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_shortened_on_etcd_3_5() {
    let _alone = ALONE.lock().await;
    if let Some(cluster) = EtcdCluster::etcd_3_5().await.unwrap() {
        Script::start(cluster, Times::SHORT).await.run().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour; the file's head has the command"]
async fn three_nodes_in_full_on_etcd_3_4() {
    let _alone = ALONE.lock().await;
    if let Some(cluster) = EtcdCluster::etcd().await.unwrap() {
        Script::start(cluster, Times::FULL).await.run().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour; the file's head has the command"]
async fn three_nodes_in_full_on_etcd_3_5() {
    let _alone = ALONE.lock().await;
    if let Some(cluster) = EtcdCluster::etcd_3_5().await.unwrap() {
        Script::start(cluster, Times::FULL).await.run().await;
    }
}

#[tokio::test]
async fn a_node_that_is_cut_off_loses_its_leader_and_the_others_do_not() {
    for traffic in [Traffic::Stall, Traffic::Cut] {
        let Some(mut cluster) = EtcdCluster::etcd().await.unwrap() else {
            return;
        };
        let leader = cluster.leader().await.unwrap();
        cluster.set_peer_traffic(leader, traffic).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It answers its clients all the same, and tells them that it is alone.
            let statuses = cluster.statuses().await;
            let alone = statuses
                .iter()
                .any(|status| status.node == leader && status.leader == 0);
            let led = cluster.leader().await.is_some_and(|now| now != leader);
            if alone && led {
                break;
            }
            assert!(Instant::now() < deadline, "{traffic:?}: {statuses:?}");
            sleep(Duration::from_millis(20)).await;
        }
        cluster
            .set_peer_traffic(leader, Traffic::Forward)
            .await
            .unwrap();
        cluster.until_healthy().await.unwrap();
    }
}

#[tokio::test]
async fn a_wiped_cluster_is_empty_and_another_one() {
    let Some(mut cluster) = EtcdCluster::etcd().await.unwrap() else {
        return;
    };
    let urls = cluster.urls();
    let before = cluster.statuses().await;
    let mut client = etcd_client::Client::connect(&urls, None).await.unwrap();
    client.put("key", "value", None).await.unwrap();
    cluster.kill_all();
    cluster.start_all().unwrap();
    cluster.until_healthy().await.unwrap();
    assert_eq!(cluster.revision().await, 2, "a restart keeps the data");
    cluster.wipe().unwrap();
    cluster.until_healthy().await.unwrap();
    let after = cluster.statuses().await;
    assert_eq!(cluster.revision().await, 1);
    assert_eq!(cluster.urls(), urls);
    assert_ne!(after[0].cluster_id, before[0].cluster_id);
}
