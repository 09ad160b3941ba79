//! One picture in text for each view and state.

use std::time::Duration;

use insta::assert_snapshot;
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;

use super::Console;
use crate::traffic::TrafficCounters;
use crate::tui::action::Action;

#[test]
fn connecting_says_what_it_tries() {
    let mut console = Console::opened(80, 24);
    console.wait(Duration::from_secs(3));
    assert_snapshot!(console.screen());
}

#[test]
fn an_empty_registry_says_what_to_do() {
    let mut console = Console::opened(80, 24);
    console.live(Snapshot::default());
    assert_snapshot!(console.screen());
}

#[test]
fn instances_at_120x36() {
    assert_snapshot!(Console::showing(120, 36, 400).screen());
}

#[test]
fn instances_at_160x40() {
    assert_snapshot!(Console::showing(160, 40, 400).screen());
}

#[test]
fn instances_at_80x24() {
    assert_snapshot!(Console::showing(80, 24, 400).screen());
}

#[test]
fn instances_at_60x20() {
    assert_snapshot!(Console::showing(60, 20, 400).screen());
}

#[test]
fn instances_at_46x20() {
    assert_snapshot!(Console::showing(46, 20, 400).screen());
}

#[test]
fn too_small_says_so() {
    assert_snapshot!(Console::showing(30, 7, 400).screen());
}

#[test]
fn one_view_each() {
    let mut console = Console::showing(120, 24, 60);
    let mut screens = Vec::new();
    for key in ["1", "2", "3", "4"] {
        console.press(key);
        console.wait(Duration::from_secs(1));
        console.answer_stats();
        screens.push(console.screen());
    }
    assert_snapshot!(screens.join("\n"));
}

#[test]
fn a_drill_down() {
    let mut console = Console::showing(120, 36, 60);
    console.press("3G<Enter>j<Enter>");
    console.wait(Duration::from_secs(1));
    console.answer_stats();
    assert_snapshot!(console.screen());
}

#[test]
fn a_filter_with_a_fault() {
    let mut console = Console::showing(120, 24, 60);
    console.press("/service=payments avg>5x");
    console.press("<Esc>");
    assert_snapshot!(console.screen());
}

#[test]
fn completions() {
    let mut console = Console::showing(120, 24, 60);
    console.press("/service=<↓>");
    assert_snapshot!(console.screen());
}

#[test]
fn nothing_matches() {
    let mut console = Console::showing(80, 24, 60);
    console.press("/service=payments region=nowhere<Enter>");
    assert_snapshot!(console.screen());
}

#[test]
fn a_statement_and_what_could_be_typed() {
    let mut console = Console::showing(80, 24, 60);
    console.press(":st");
    assert_snapshot!(console.screen());
}

#[test]
fn the_menu_of_actions() {
    let mut console = Console::showing(80, 24, 60);
    console.press("jx");
    assert_snapshot!(console.screen());
}

#[test]
fn a_confirmation() {
    let mut console = Console::showing(120, 36, 60);
    console.press("3jxs");
    assert_snapshot!(console.screen());
}

#[test]
fn a_small_confirmation() {
    let mut console = Console::showing(60, 20, 60);
    console.press("jxs");
    assert_snapshot!(console.screen());
}

#[test]
fn the_columns_to_sort_by() {
    let mut console = Console::showing(80, 24, 60);
    console.press("s");
    assert_snapshot!(console.screen());
}

#[test]
fn help() {
    let mut console = Console::showing(80, 24, 60);
    console.press("?");
    assert_snapshot!(console.screen());
}

#[test]
fn the_topology() {
    let mut console = Console::showing(80, 24, 60);
    console.press(":topology region=us-east-1<Enter>");
    assert_snapshot!(console.screen());
}

#[test]
fn a_lost_link_dates_the_data() {
    let mut console = Console::showing(120, 24, 60);
    let since = console.state.now.mono;
    console.act(Action::Link(Link::Lost {
        since,
        retry_at: since + Duration::from_secs(16),
    }));
    console.wait(Duration::from_secs(12));
    console.press("x");
    assert_snapshot!(console.screen());
}

#[test]
fn traffic_is_told_at_the_foot() {
    let mut console = Console::showing(80, 24, 60);
    console.act(Action::Traffic(TrafficCounters {
        sent: 12_345,
        ok: 12_340,
        failed: 5,
        last_error: Some("Sleeper at 127.0.1.1:9000: connection closed".to_owned()),
    }));
    assert_snapshot!(console.screen());
}

#[test]
fn what_vanishes_lingers_as_gone() {
    let mut console = Console::showing(80, 24, 60);
    console.press("jj");
    let gone = console.state.table().cursor.clone();
    let mut instances: Vec<_> = console.state.snapshot.instances().cloned().collect();
    instances.remove(2);
    instances.remove(4);
    let rest = instances.iter().map(|instance| (**instance).clone());
    let hosts = console.state.snapshot.hosts().map(|host| (**host).clone());
    let snapshot = Snapshot::of(rest, hosts);
    console.wait(Duration::from_secs(3));
    console.live(snapshot);
    assert_eq!(console.state.table().cursor, gone);
    assert_snapshot!(console.screen());
}
