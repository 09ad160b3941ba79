//! One machine in one process: the registry inside the daemon.

use std::process::Command;

use crate::host::{Host, is_alive, processes};

#[tokio::test]
async fn the_registry_inside_the_daemon_survives_its_kill_and_the_children_are_adopted() {
    let address = skynet::testing::free_address().unwrap();
    let mut host = Host::at(&format!("http://{address}"));
    let file = host.file(&crate::child::described(2));
    let command = |host: &Host| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skydaemon"));
        command
            .arg(format!("--registry=embedded={address}"))
            .args(["--host", "h1", "--drain", "5s", "--state"])
            .arg(host.state())
            .arg(&file);
        command
    };
    let start = command(&host);
    host.start(start);
    let before = processes(&host.until_ready(2).await);
    host.end_daemon("KILL").await;
    assert!(before.iter().all(is_alive));
    let start = command(&host);
    host.start(start);
    host.daemon_address().await;
    assert_eq!(processes(&host.until_ready(2).await), before);
    assert!(host.end_daemon("INT").await.success());
    assert!(!before.iter().any(is_alive));
}
