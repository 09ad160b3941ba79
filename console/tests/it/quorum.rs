//! `sky` beside a registry of three nodes that has lost its quorum.

use skynet::demo::test_service;
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::EtcdCluster;

use crate::support::{PATIENCE, run};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_listings_tell_what_is_known_and_changes_are_refused() {
    for mut cluster in [
        EtcdCluster::etcd().await.unwrap(),
        EtcdCluster::etcd_3_5().await.unwrap(),
    ]
    .into_iter()
    .flatten()
    {
        let endpoints = cluster.urls().join(",");
        let registry = Registry::new(&RegistryConfig::at(&endpoints)).unwrap();
        let service = test_service::builder().start(&registry).await.unwrap();
        let view = registry.view();
        let mut changes = view.changes();
        let there = changes.wait_for(|snapshot| snapshot.len() == 1);
        tokio::time::timeout(PATIENCE, there)
            .await
            .unwrap()
            .unwrap();
        let env = [("SKYNET_REGISTRY", endpoints.as_str())];
        let names = ["instances", "-o", "name"];
        let fresh = run(&names, &env, "").await;
        assert_eq!((fresh.code, fresh.stderr.as_str()), (0, ""));

        let leader = cluster.leader().await.unwrap();
        cluster.kill(leader);
        cluster.kill((leader + 1) % skynet::testing::NODES);
        let stale = run(&names, &env, "").await;
        assert_eq!((stale.code, &stale.stdout), (0, &fresh.stdout), "{stale:?}");
        assert!(stale.stderr.contains("No quorum"), "{stale:?}");
        let refused = run(
            &["unregister", "--yes", "--service", "TestService"],
            &env,
            "",
        )
        .await;
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("did not answer"), "{refused:?}");
        drop(service);
    }
}
