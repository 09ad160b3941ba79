//! The ways in which a daemon ends, and the one in which it does not begin.

use skynet::daemon_api::{Done, Empty};

use crate::host::{Host, is_alive, processes, until};

#[tokio::test]
async fn sigterm_leaves_the_children_and_takes_the_host_away() {
    let mut host = Host::new().await;
    host.start_with_fixtures(2);
    let before = processes(&host.until_ready(2).await);
    host.daemon_address().await;
    assert!(host.end_daemon("TERM").await.success());
    assert!(before.iter().all(is_alive));
    until("the host is gone from the registry", async || {
        let snapshot = host.registry.snapshot().await.unwrap();
        snapshot.hosts().next().is_none().then_some(())
    })
    .await;
    assert_eq!(processes(&host.ready()), before);
    host.start_with_fixtures(2);
    host.daemon_address().await;
    assert_eq!(processes(&host.until_ready(2).await), before);
}

#[tokio::test]
async fn sigint_stops_the_children_and_they_run_again_with_the_next_daemon() {
    let mut host = Host::new().await;
    host.start_with_fixtures(2);
    let before = host.until_ready(2).await;
    assert!(host.end_daemon("INT").await.success());
    assert!(!processes(&before).iter().any(is_alive));
    let snapshot = host.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.len(), 0, "nothing is left in the registry");

    host.start_with_fixtures(2);
    let after = until("the same children run again", async || {
        let ready = host.ready();
        let are_new = ready
            .iter()
            .all(|now| before.iter().all(|it| it.pid() != now.pid()));
        (ready.len() == 2 && are_new).then_some(ready)
    })
    .await;
    let ids = |instances: &[std::sync::Arc<skynet::instance::Instance>]| {
        let mut ids: Vec<_> = instances.iter().map(|instance| instance.id()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&after), ids(&before));
}

#[tokio::test]
async fn a_request_to_stop_is_answered_and_stops_everything() {
    let mut host = Host::new().await;
    host.start_with_fixtures(2);
    let before = processes(&host.until_ready(2).await);
    let done: Done = host.get("Stop", &Empty {}).await;
    assert!(done.ok);
    assert!(host.daemon_ended().await.success());
    assert!(!before.iter().any(is_alive));
}

#[tokio::test]
async fn a_second_daemon_is_refused_with_the_folder_and_the_first_ones_pid() {
    let mut host = Host::new().await;
    let command = host.command();
    host.start(command);
    host.daemon_address().await;
    let refused = host.command().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    let state = host.state().canonicalize().unwrap();
    let expected = format!(
        "error: the state folder `{}` is in use by another daemon, pid {}\nhint: ",
        state.display(),
        host.daemon_pid()
    );
    assert!(said.contains(&expected), "{said}");
}

#[tokio::test]
async fn what_was_typed_wrong_is_said_before_anything_starts() {
    let host = Host::new().await;
    let file = host.file("[[service]]\npath = 'x'\ncuont = 1\n");
    for (more, expected) in [
        (vec![file.to_str().unwrap()], "unknown field `cuont`"),
        (vec!["--bind", "0.0.0.0"], "it is no loopback address"),
        (
            vec!["--registry", "nowhere"],
            "`nowhere` is not the address of a registry",
        ),
    ] {
        let mut command = host.command();
        if more.first() == Some(&"--registry") {
            command = std::process::Command::new(env!("CARGO_BIN_EXE_skydaemon"));
            command.arg("--state").arg(host.state());
        }
        let refused = command.args(more).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("hint: "), "{said}");
    }
}
