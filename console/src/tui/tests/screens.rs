//! One picture in text for each view and state.

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use skynet::registry::link::{Doubt, Link};
use skynet::registry::snapshot::{Alarm, Snapshot};

use super::Console;
use crate::theme::{Glyphs, Theme};
use crate::traffic::TrafficCounters;
use crate::tui::action::Action;
use crate::tui::effect::Effect;
use crate::tui::view::snapshot_frame;

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

/// The same on the usual, a small and the smallest screen with columns.
#[track_caller]
fn at_each_size(change: impl Fn(&mut Console)) -> String {
    let screens = [(120, 36), (80, 24), (60, 20)].map(|(width, height)| {
        let mut console = Console::showing(width, height, 60);
        change(&mut console);
        console.screen()
    });
    screens.join("\n")
}

/// Raises an alarm for each: the service, how many vanished, and how many there were.
fn alarm(console: &mut Console, alarms: &[(&str, usize, usize)]) {
    let since = console.state.now.mono;
    let mut snapshot = Snapshot::clone(&console.state.snapshot);
    let alarms = alarms.iter().map(|(service, vanished, of)| {
        let (vanished, of) = (*vanished, *of);
        let alarm = Alarm {
            vanished,
            of,
            since,
        };
        (Arc::from(*service), alarm)
    });
    snapshot.set_alarms(alarms.collect());
    console.live(snapshot);
    console.wait(Duration::from_secs(12));
}

#[test]
fn what_the_disk_remembers_is_dated() {
    assert_snapshot!(at_each_size(|console| {
        let since = console.state.now.mono;
        let written = console.state.now.wall - Duration::from_mins(62);
        console.act(Action::Link(Link::Cached { since, written }));
        console.wait(Duration::from_secs(3));
    }));
}

#[test]
fn a_protected_view_says_why_and_for_how_long() {
    assert_snapshot!(at_each_size(|console| {
        let since = console.state.now.mono;
        let link = Link::Protected {
            since,
            until: since + Duration::from_secs(20),
            heard: since,
            why: Doubt::AnotherRegistry,
        };
        console.act(Action::Link(link));
        console.wait(Duration::from_secs(3));
    }));
}

fn in_another_format(console: &mut Console) {
    let since = console.state.now.mono;
    let link = Link::Unknown {
        since,
        retry_at: since + Duration::from_secs(8),
        format: 9,
    };
    console.act(Action::Link(link));
    console.wait(Duration::from_secs(3));
}

#[test]
fn a_format_that_is_not_known_is_named() {
    assert_snapshot!(at_each_size(in_another_format));
}

#[test]
fn a_format_that_was_never_known_says_what_to_do() {
    let mut console = Console::opened(80, 24);
    in_another_format(&mut console);
    assert_snapshot!(console.screen());
}

#[test]
fn an_alarm_stands_at_the_foot() {
    assert_snapshot!(at_each_size(|console| alarm(
        console,
        &[("payments", 7, 9)]
    )));
}

#[test]
fn of_three_alarms_the_worst_is_told() {
    assert_snapshot!(at_each_size(|console| {
        let alarms = [("billing", 3, 4), ("payments", 27, 30), ("search", 3, 3)];
        alarm(console, &alarms);
        let mut snapshot = Snapshot::clone(&console.state.snapshot);
        snapshot.set_unreadable(2);
        console.live(snapshot);
    }));
}

#[test]
fn an_alarm_loses_its_name_before_its_numbers() {
    let name = "a-service-with-a-name-that-does-not-fit-beside-anything-else-on-a-screen";
    let foot = |width, theme: Theme| {
        let mut console = Console::showing(width, 20, 60);
        alarm(&mut console, &[(name, 17, 19), ("b", 3, 3)]);
        let screen = snapshot_frame(&console.state, &theme);
        screen.lines().nth(18).unwrap().to_owned()
    };
    let mut ascii = Theme::terminal();
    ascii.glyphs = Glyphs::Ascii;
    let lines = [
        foot(120, Theme::terminal()),
        foot(60, ascii),
        foot(40, Theme::terminal()),
        foot(24, Theme::terminal()),
    ];
    assert_snapshot!(lines.join("\n"), @r"
    ▲ a-service-with-a-name-that-does-not-f…: 17 of 19 vanished at once at 13:02:12Z, kept 10m at most (r: believe it)  +1
    ! a-service-with-a…: 17 of 19 vanished (r: believe it)  +1
    ▲ a-service-with-a-name…: 17 of 19  +1
    ▲ a-ser…: 17 of 19  +1
    ");
}

#[test]
fn an_alarm_is_seen_on_any_screen() {
    let mut console = Console::showing(30, 7, 60);
    alarm(&mut console, &[("payments", 7, 9)]);
    assert!(
        console.screen().starts_with("▲ sky"),
        "{}",
        console.screen()
    );
}

#[test]
fn nobody_is_asked_to_believe_a_registry_that_does_not_answer() {
    let mut console = Console::showing(80, 24, 60);
    alarm(&mut console, &[("payments", 7, 9)]);
    assert!(console.screen().contains("(r: believe it)"));
    let since = console.state.now.mono;
    let retry_at = since + Duration::from_secs(9);
    console.act(Action::Link(Link::Lost { since, retry_at }));
    assert!(console.screen().contains("7 of 9 vanished"));
    assert!(!console.screen().contains("believe"));
}

#[test]
fn a_resync_says_that_an_alarm_is_believed() {
    let mut console = Console::showing(80, 24, 60);
    alarm(&mut console, &[("payments", 7, 9)]);
    console.press("r");
    assert!(matches!(console.effects.last(), Some(Effect::Resync)));
    assert!(console.toasts()[0].contains("believed"));
    // The message leaves the alarm in sight.
    assert!(console.screen().contains("7 of 9 vanished"));
}
