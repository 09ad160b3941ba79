//! The registry dies and comes back; the daemon supervises and adopts all the while.

use skynet::instance::ProcessId;
use skynet::testing::TestRegistry;

use crate::host::{Host, is_alive, processes, send, until};

#[tokio::test]
async fn nothing_waits_for_the_embedded_registry() {
    nothing_waits_for(TestRegistry::embedded().await.unwrap()).await;
}

#[tokio::test]
async fn nothing_waits_for_etcd() {
    if let Some(etcd) = TestRegistry::etcd().await.unwrap() {
        nothing_waits_for(etcd).await;
    }
}

async fn nothing_waits_for(mut registry: TestRegistry) {
    let mut host = Host::at(&registry.url());
    host.start_with_fixtures(2);
    let before = processes(&host.until_ready(2).await);
    registry.kill().await;

    send("KILL", before[0].pid);
    let after = until("the killed child runs again", async || {
        let noted = noted(&host);
        let is_new = noted.len() == 2 && !noted.contains(&before[0]);
        is_new.then_some(noted)
    })
    .await;
    assert!(after.contains(&before[1]));

    host.end_daemon("KILL").await;
    host.start_with_fixtures(2);
    until("the next daemon adopts both", async || {
        let log = std::fs::read_to_string(host.folder.path().join("daemon.log")).unwrap();
        (log.matches("adopted").count() == 2).then_some(())
    })
    .await;
    assert!(after.iter().all(is_alive));

    registry.restart().await.unwrap();
    until("the registry shows both as they are", async || {
        (processes(&host.ready()) == after).then_some(())
    })
    .await;
    assert!(host.end_daemon("INT").await.success());
    assert!(!after.iter().any(is_alive));
}

/// The living processes that the daemon has noted.
fn noted(host: &Host) -> Vec<ProcessId> {
    let notes = skynet_daemon::store::load(&host.state().join("children.json")).unwrap();
    let children = notes.noted.children.values();
    let mut noted: Vec<ProcessId> = children
        .filter_map(|child| child.process.clone())
        .filter(is_alive)
        .collect();
    noted.sort_by_key(|process| process.pid);
    noted
}
