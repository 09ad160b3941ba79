//! Children are deployed from a file, registered, restarted, and told of when they fail.

use skynet::instance::State;

use crate::host::{Host, send, until};

#[tokio::test]
async fn a_file_is_deployed_and_its_services_register() {
    let mut host = Host::new().await;
    host.start_with_fixtures(2);
    for instance in host.until_ready(2).await {
        assert_eq!(&**instance.version(), "7");
        assert_eq!(&**instance.region(), "east");
        assert_eq!(&**instance.host(), "h1");
        assert!(instance.registered);
    }
    let address = host.daemon_address().await;
    until("the daemon is an instance", async || {
        let snapshot = host.registry.snapshot().await.unwrap();
        let daemon = snapshot.of_service("SkynetDaemon").next()?;
        assert_eq!(&**daemon.version(), "1");
        assert_eq!(daemon.address, Some(address));
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_child_leaves_the_registry_and_comes_back_with_its_id() {
    let mut host = Host::new().await;
    host.start_with_fixtures(1);
    let first = host.until_ready(1).await.remove(0);
    send("KILL", first.pid().unwrap());
    until("its entry is gone or another process's", async || {
        let shown = host.shown(first.id());
        shown
            .is_none_or(|shown| shown.pid() != first.pid())
            .then_some(())
    })
    .await;
    let second = until("another process of it is ready", async || {
        let ready = host.ready();
        ready.into_iter().find(|ready| ready.pid() != first.pid())
    })
    .await;
    assert_eq!(second.identity, first.identity);
}

#[tokio::test]
async fn what_fails_is_told_with_the_reason_until_it_registers() {
    let mut host = Host::new().await;
    let gate = host.folder.path().join("gate");
    let fixture = crate::child::described(1);
    // The fixture behind a gate: until the gate is open the child fails.
    let behind_the_gate = fixture
        .replace("path = '", "path = 'sh'\nignored = '")
        .lines()
        .filter(|line| !line.starts_with("ignored") && !line.starts_with("args"))
        .collect::<Vec<_>>()
        .join("\n");
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "test -e {} || exit 3; exec {} --exact child::serves --nocapture",
        gate.display(),
        program.display()
    );
    let file = host.file(&format!(
        "{behind_the_gate}\nargs = ['-c', \"{script}\"]\nname = 'Gated'\nversion = 4\n\n\
         [[service]]\npath = '/no/such/program'\n"
    ));
    let mut command = host.command();
    command.arg(file);
    host.start(command);

    let failed = until("what cannot start is told", async || {
        let told = host.told();
        told.into_iter().find(|child| child.state == State::Failed)
    })
    .await;
    assert_eq!(&**failed.service(), "program");
    assert_eq!(&**failed.version(), "unknown");
    assert_eq!(
        failed.reason.as_deref(),
        Some("cannot find the program `/no/such/program`")
    );

    let waiting = until("what ends at once is told", async || {
        let told = host.told();
        told.into_iter().find(|child| child.state == State::Backoff)
    })
    .await;
    assert_eq!(&**waiting.service(), "Gated");
    assert_eq!(&**waiting.version(), "4");
    assert_eq!(waiting.reason.as_deref(), Some("exit code 3"));

    std::fs::write(&gate, "").unwrap();
    let ready = host.until_ready(1).await.remove(0);
    assert_eq!(ready.id(), waiting.id());
    until("it is not told any longer", async || {
        let told = host.told();
        told.iter()
            .all(|child| child.id() != ready.id())
            .then_some(())
    })
    .await;
}
