//! Changes: what they hit, and what keeps them from being done.

use std::time::Duration;

use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;

use super::Console;
use crate::tui::action::Action;
use crate::tui::effect::{Effect, Outcome, TargetOutcome, Ticket};

fn changes(console: &Console) -> Vec<(Ticket, String, usize)> {
    console
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Change { ticket, plan } => {
                Some((*ticket, plan.verb.to_string(), plan.targets.len()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn one_instance_is_stopped_after_a_yes() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jxs");
    assert_eq!(changes(&console), []);
    console.press("y");
    let done = changes(&console);
    assert_eq!((done[0].1.as_str(), done[0].2), ("stop", 1));
    assert!(console.screen().contains("stop 1"));
    let results = vec![TargetOutcome {
        target: "x".to_owned(),
        outcome: Ok(()),
    }];
    console.act(Action::Finished(done[0].0, Outcome::Done(results)));
    assert_eq!(console.toasts(), ["stopped 1 of 1"]);
    assert!(console.state.running.is_empty());
}

#[test]
fn enter_and_everything_but_yes_leave_all_as_it_is() {
    for keys in ["<Enter>", "n", "<Esc>", "q", "<Ctrl-c>"] {
        let mut console = Console::showing(120, 36, 60);
        console.press("jxs");
        console.press(keys);
        assert_eq!(changes(&console), [], "{keys}");
        assert!(console.state.layers.is_empty());
        assert_eq!(console.toasts(), ["nothing was done"], "{keys}");
    }
}

#[test]
fn a_large_change_wants_its_name_or_count_typed() {
    for wrong in ["<Enter>", "y<Enter>", "1<Enter>"] {
        let mut console = Console::showing(120, 36, 60);
        console.press("3Gxs");
        console.press(wrong);
        assert_eq!(changes(&console), [], "{wrong}");
    }
    let mut console = Console::showing(120, 36, 60);
    console.press("3Gxssearch<Enter>");
    assert_eq!(changes(&console).len(), 1);
}

#[test]
fn the_set_is_that_of_the_key_press() {
    let mut console = Console::showing(120, 36, 60);
    console.press("3jxR");
    let more = super::cluster::of(120);
    console.wait(Duration::from_secs(3));
    console.live(more);
    let asked = match console.state.layers.last() {
        Some(crate::tui::state::layer::Layer::Confirm(confirm)) => confirm.demand.clone(),
        other => panic!("no question: {other:?}"),
    };
    let skynet::session::plan::Demand::Count(count) = asked else {
        panic!("no count is asked for: {asked:?}");
    };
    console.press(&format!("{count}<Enter>"));
    assert_eq!(changes(&console)[0].2, count);
}

#[test]
fn nothing_is_done_while_the_link_is_lost() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jxs");
    let since = console.state.now.mono;
    console.act(Action::Link(Link::Lost {
        since,
        retry_at: since,
    }));
    console.press("y");
    assert_eq!(changes(&console), []);
    console.press("<Esc>x");
    assert!(console.state.layers.is_empty());
}

#[test]
fn a_ghost_cannot_be_acted_on() {
    let mut console = Console::showing(120, 36, 2);
    console.press("j");
    let first = console.state.snapshot.instances().next().cloned().unwrap();
    console.wait(Duration::from_secs(3));
    console.live(Snapshot::of([(*first).clone()], []));
    console.press("x");
    assert!(console.state.layers.is_empty());
    assert!(console.toasts()[0].contains("gone"));
}

#[test]
fn what_needs_no_change_is_left_out() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jxr");
    assert!(
        console.toasts()[0].starts_with("nothing to register"),
        "{:?}",
        console.toasts()
    );
    console.press(":start state=crashloop<Enter>");
    console.press("y");
    assert_eq!(changes(&console)[0].2, 1);
}

#[test]
fn failures_are_told_and_never_as_success() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jxuy");
    let ticket = changes(&console)[0].0;
    let results = vec![
        TargetOutcome {
            target: "a".to_owned(),
            outcome: Ok(()),
        },
        TargetOutcome {
            target: "b".to_owned(),
            outcome: Err("it is gone".to_owned()),
        },
    ];
    console.act(Action::Finished(ticket, Outcome::Done(results)));
    assert_eq!(
        console.toasts(),
        ["b: it is gone", "unregistered 1 of 2, 1 failed"]
    );
}

#[test]
fn a_program_is_deployed_to_the_hosts_of_the_row() {
    let mut console = Console::showing(120, 36, 60);
    console.press("1xd");
    console.press("<Enter>");
    assert!(console.screen().contains("name a program"));
    console.press("/usr/bin/payments --fast<Enter>");
    assert!(
        console
            .screen()
            .contains("program  /usr/bin/payments --fast")
    );
    console.press("y");
    let deployed = console.effects.iter().find_map(|effect| match effect {
        Effect::Deploy { plan, .. } => Some((plan.hosts.len(), plan.args.clone())),
        _ => None,
    });
    assert_eq!(deployed, Some((4, "--fast".to_owned())));
}

#[test]
fn ctrl_c_breaks_a_running_change_off() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jxRy<Ctrl-c>");
    assert!(matches!(console.effects.last(), Some(Effect::Cancel(_))));
    assert!(console.state.running.is_empty());
}
