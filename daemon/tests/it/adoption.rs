//! A daemon that was killed is followed by one that adopts its children.

use crate::host::{Host, is_alive, processes, send, until};

#[tokio::test]
async fn the_next_daemon_adopts_what_lives_and_restarts_what_died() {
    let mut host = Host::new().await;
    host.start_with_fixtures(3);
    let before = processes(&host.until_ready(3).await);
    host.end_daemon("KILL").await;
    assert!(before.iter().all(is_alive));

    host.start_with_fixtures(3);
    host.daemon_address().await;
    let list: skynet::daemon_api::ChildList = host
        .get("ListSubServices", &skynet::daemon_api::Empty {})
        .await;
    assert_eq!(list.services.len(), 3);
    assert!(list.services.values().all(|child| child.running));
    assert_eq!(processes(&host.until_ready(3).await), before);

    send("KILL", before[0].pid);
    until("an adopted child is restarted", async || {
        let now = processes(&host.ready());
        (now.len() == 3 && !now.contains(&before[0])).then_some(())
    })
    .await;

    host.end_daemon("KILL").await;
    send("KILL", before[1].pid);
    host.start_with_fixtures(3);
    until("a child that died meanwhile is restarted", async || {
        let now = processes(&host.ready());
        (now.len() == 3 && !now.contains(&before[1])).then_some(())
    })
    .await;
    assert!(processes(&host.ready()).contains(&before[2]));
    host.end_daemon("INT").await;
    assert!(!before.iter().any(is_alive));
}

#[tokio::test]
async fn torn_notes_are_set_aside_and_said() {
    let mut host = Host::new().await;
    let state = host.state();
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("children.json"), "{\"format\":1,").unwrap();
    let command = host.command();
    host.start(command);
    host.daemon_address().await;
    assert!(state.join("children.json.broken-1").exists());
    let log = std::fs::read_to_string(host.folder.path().join("daemon.log")).unwrap();
    assert!(log.contains("children.json.broken-1"), "{log}");
}

#[tokio::test]
async fn torn_notes_start_no_twins_of_what_lives() {
    let mut host = Host::new().await;
    host.start_with_fixtures(2);
    let living = processes(&host.until_ready(2).await);
    host.end_daemon("KILL").await;
    let notes = host.state().join("children.json");
    let whole = std::fs::read(&notes).unwrap();
    let torn = &whole[..whole.len() / 2];
    std::fs::write(&notes, torn).unwrap();

    host.start_with_fixtures(2);
    assert!(!host.daemon_ended().await.success());
    let log = std::fs::read_to_string(host.folder.path().join("daemon.log")).unwrap();
    for process in &living {
        assert!(is_alive(process));
        assert!(log.contains(&process.pid.to_string()), "{log}");
    }
    assert_eq!(std::fs::read(&notes).unwrap(), torn);

    // With the notes put back everything goes on as it was.
    std::fs::write(&notes, whole).unwrap();
    host.start_with_fixtures(2);
    host.daemon_address().await;
    assert_eq!(processes(&host.until_ready(2).await), living);
    assert!(host.end_daemon("INT").await.success());
}
