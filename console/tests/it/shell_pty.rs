//! The shell in a terminal.

use std::collections::HashMap;

use crate::support::{Cluster, Terminal};

/// A shell on the cluster, in a terminal of this size, with a history of its own.
struct Shell {
    cluster: Cluster,
    terminal: Terminal,
    state: tempfile::TempDir,
}

impl Shell {
    async fn start(size: (u16, u16)) -> Self {
        let cluster = Cluster::start().await;
        let state = tempfile::tempdir().unwrap();
        let terminal = Self::open(&cluster, &state, size);
        terminal.until("sky all · 3/3 ❯");
        Self {
            cluster,
            terminal,
            state,
        }
    }

    fn open(cluster: &Cluster, state: &tempfile::TempDir, size: (u16, u16)) -> Terminal {
        let env = HashMap::from([
            ("SKYNET_REGISTRY", cluster.server.url()),
            ("XDG_STATE_HOME", state.path().display().to_string()),
        ]);
        Terminal::start(&["cli"], size, &env)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_shows_what_the_filter_selects() {
    let Shell {
        terminal,
        cluster: _cluster,
        state: _state,
    } = Shell::start((100, 30)).await;
    terminal.send("region west\r");
    terminal.until("sky region=west · 2/3 ❯");
    terminal.send("where version=2\r");
    terminal.until("sky region=west version=2 · 1/3 ❯");
    terminal.send("instances\r");
    let screen = terminal.until("b2000000");
    assert!(!screen.contains("a1000000"), "{screen}");
    terminal.send("undo\r");
    terminal.until("sky region=west · 2/3 ❯");
    terminal.send("undo\r");
    terminal.until("sky all · 3/3 ❯");
    terminal.send("exit\r");
    assert_eq!(terminal.end(), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn tab_opens_a_menu_of_live_values() {
    let Shell {
        terminal,
        cluster: _cluster,
        state: _state,
    } = Shell::start((100, 30)).await;
    terminal.send("host \t");
    let screen = terminal.until("host-b");
    assert!(
        screen.contains("╭") && screen.contains("instance"),
        "{screen}"
    );
    terminal.send("\t\r");
    terminal.send("\r");
    terminal.until("sky host=host-");
    terminal.send("\u{4}");
    assert_eq!(terminal.end(), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_terminal_gets_a_menu_of_columns() {
    let Shell {
        terminal,
        cluster: _cluster,
        state: _state,
    } = Shell::start((60, 20)).await;
    terminal.send("version \t");
    let screen = terminal.until("2 instances");
    assert!(!screen.contains("╭"), "{screen}");
    terminal.send("\r");
    terminal.until("❯ version 1");
    terminal.send("\r");
    terminal.until("sky version=1 · 2/3 ❯");
    terminal.send("exit\r");
    assert_eq!(terminal.end(), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_only_when_it_is_confirmed() {
    let Shell {
        cluster,
        terminal,
        state: _state,
    } = Shell::start((100, 30)).await;
    terminal.send("unregister host=host-a\r");
    terminal.until("Type TestService to unregister:");
    terminal.send("y\r");
    terminal.until("nothing was changed");
    assert!(
        cluster
            .registry
            .snapshot()
            .await
            .unwrap()
            .instances()
            .all(|found| found.registered)
    );
    terminal.send("unregister version=2\r");
    terminal.until("Type 1 to unregister:");
    terminal.send("1\r");
    terminal.until("done");
    cluster
        .until(|snapshot| {
            snapshot
                .instances()
                .filter(|found| !found.registered)
                .count()
                == 1
        })
        .await;
    terminal.send("exit\r");
    assert_eq!(terminal.end(), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_opens_and_comes_back() {
    let Shell {
        terminal,
        cluster: _cluster,
        state: _state,
    } = Shell::start((100, 30)).await;
    terminal.send("region west\r");
    terminal.until("sky region=west · 2/3 ❯");
    terminal.send("top\r");
    terminal.until("Instances");
    terminal.send(":q\r");
    terminal.until("sky region=west · 2/3 ❯");
    terminal.send("exit\r");
    assert_eq!(terminal.end(), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_restores_the_terminal() {
    let Shell {
        terminal,
        cluster: _cluster,
        state: _state,
    } = Shell::start((100, 30)).await;
    terminal.send("instances where a half-typed li");
    terminal.until("half-typed");
    terminal.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.end(), (143, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_remembered_but_not_those_behind_a_space() {
    let Shell {
        cluster,
        terminal,
        state,
    } = Shell::start((100, 30)).await;
    terminal.send(" region secret\r");
    terminal.until("sky region=secret");
    terminal.send("reset\r");
    terminal.until("sky all");
    terminal.send("exit\r");
    assert_eq!(terminal.end(), (0, true));
    let kept = std::fs::read_to_string(state.path().join("sky/history")).unwrap();
    assert_eq!(kept, "reset\nexit\n");
    let again = Shell::open(&cluster, &state, (100, 30));
    again.until("sky all · 3/3 ❯");
    again.send("\u{1b}[A\u{1b}[A");
    again.until("❯ reset");
    again.send("\u{15}exit\r");
    assert_eq!(again.end(), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_terminal_asks_before_it_changes() {
    let cluster = Cluster::start().await;
    let env = HashMap::from([("SKYNET_REGISTRY", cluster.server.url())]);
    let line = ["unregister", "--service", "TestService"];
    let declined = Terminal::start(&line, (80, 24), &env);
    declined.until("Type TestService to unregister:");
    declined.send("\r");
    assert_eq!(declined.end(), (6, true));
    let confirmed = Terminal::start(&line, (80, 24), &env);
    confirmed.until("Type TestService to unregister:");
    confirmed.send("TestService\r");
    assert_eq!(confirmed.end(), (0, true));
    cluster
        .until(|snapshot| snapshot.instances().all(|found| !found.registered))
        .await;
}
