//! Scripts of keys, and what they lead to.

use std::time::Duration;

use super::Console;
use crate::tui::action::{BINDINGS, Mode};
use crate::tui::effect::Effect;
use crate::tui::state::ViewKind;
use crate::tui::view::help::{HelpLine, lines};

#[test]
fn the_filter_narrows_at_every_key_and_esc_keeps_it() {
    let mut console = Console::showing(120, 36, 60);
    let all = console.state.rows.matched;
    console.press("/service=payments");
    let some = console.state.rows.matched;
    assert!(some > 0 && some < all);
    console.press("<Enter>");
    assert!(console.state.layers.is_empty());
    assert_eq!(console.state.rows.matched, some);
    console.press("<Esc>");
    assert_eq!(console.state.rows.matched, all);
}

#[test]
fn a_broken_filter_keeps_the_last_good_rows() {
    let mut console = Console::showing(120, 36, 60);
    console.press("/service=payments");
    let some = console.state.rows.matched;
    console.press(" avg>5x");
    assert!(console.state.filter.is_broken());
    assert!(console.state.rows.matched <= some);
    console.press("<Enter>x");
    assert!(console.state.layers.is_empty(), "nothing is acted on");
    assert!(console.toasts()[0].contains("does not parse"));
}

#[test]
fn drilling_goes_down_and_back_to_the_same_row() {
    let mut console = Console::showing(120, 36, 60);
    console.press("1j");
    let region = console.state.table().cursor.clone();
    console.press("<Enter>");
    assert_eq!(console.state.view, ViewKind::Hosts);
    assert_eq!(console.state.rows.list.len(), 4);
    console.press("j<Enter>");
    assert_eq!(console.state.view, ViewKind::Instances);
    assert_eq!(console.state.filter.terms().len(), 2);
    console.press("hh");
    assert_eq!(console.state.view, ViewKind::Regions);
    assert_eq!(console.state.table().cursor, region);
    assert!(console.state.filter.query().is_all());
}

#[test]
fn clearing_the_text_keeps_the_steps() {
    let mut console = Console::showing(120, 36, 60);
    console.press("3<Enter>/version=1<Enter>");
    let terms = console.state.filter.terms().len();
    console.press("<Esc>");
    assert_eq!(console.state.filter.line().text(), "");
    assert_eq!(console.state.filter.terms().len(), terms);
    console.press("<Esc>");
    assert_eq!(console.state.filter.terms().len(), 0);
}

#[test]
fn the_cursor_returns_when_a_filter_is_undone() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jjj");
    let before = console.state.table().cursor.clone();
    console.press("/service=search");
    assert_ne!(console.state.table().cursor, before);
    console.press("<Ctrl-u>");
    assert_eq!(console.state.table().cursor, before);
}

#[test]
fn moves_keep_to_the_rows() {
    let mut console = Console::showing(120, 36, 400);
    console.press("G");
    assert_eq!(console.state.table().selected, Some(399));
    console.press("j<Ctrl-d><PgDn><End>");
    assert_eq!(console.state.table().selected, Some(399));
    console.press("gg");
    assert_eq!(console.state.table().selected, Some(0));
    console.press("<Ctrl-d>");
    let half = console.state.table().selected.unwrap();
    assert!(half > 5 && half < 20);
    console.press("<Ctrl-u>k<PgUp>");
    assert_eq!(console.state.table().selected, Some(0));
}

#[test]
fn q_asks_once() {
    let mut console = Console::showing(120, 36, 10);
    console.press("q");
    assert!(console.screen().contains("q again to quit"));
    assert!(!quits(&console));
    console.wait(Duration::from_secs(2));
    console.press("q");
    assert!(!quits(&console));
    console.press("q");
    assert!(quits(&console));
}

#[test]
fn ctrl_c_twice_quits_and_colon_q_at_once() {
    let mut console = Console::showing(120, 36, 10);
    console.press("<Ctrl-c>");
    assert!(!quits(&console));
    console.press("<Ctrl-c>");
    assert!(quits(&console));
    let mut console = Console::showing(120, 36, 10);
    console.press(":q<Enter>");
    assert!(quits(&console));
}

#[test]
fn esc_never_quits() {
    let mut console = Console::showing(120, 36, 10);
    console.press("?<Esc>s<Esc>x<Esc>/a<Esc><Esc><Esc><Esc><Esc>");
    assert!(!quits(&console));
    assert!(console.state.layers.is_empty());
}

#[test]
fn q_goes_back_and_quits_only_at_the_root_when_asked_twice() {
    let mut console = Console::showing(120, 36, 10);
    console.press("3<Enter>");
    assert!(!console.state.filter.terms().is_empty());
    console.press("q");
    assert!(console.state.filter.terms().is_empty() && !quits(&console));
    console.press("q");
    assert!(!quits(&console));
    console.press("q");
    assert!(quits(&console));
}

fn quits(console: &Console) -> bool {
    console
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Quit))
}

#[test]
fn a_statement_shows_its_view_and_filters() {
    let mut console = Console::showing(120, 36, 60);
    console.press("3<Enter>:hosts region=us-east-1<Enter>");
    assert_eq!(console.state.view, ViewKind::Hosts);
    assert_eq!(console.state.filter.text(), "region=us-east-1");
    assert_eq!(console.state.rows.list.len(), 4);
    console.press(":instances<Enter>");
    assert_eq!(console.state.view, ViewKind::Instances);
    assert_eq!(console.state.filter.text(), "region=us-east-1");
    console.press(":service=billing<Enter>");
    assert_eq!(console.state.filter.text(), "service=billing");
}

#[test]
fn a_faulty_statement_stays_and_does_nothing() {
    let mut console = Console::showing(120, 36, 60);
    console.press(":stop nosuchfield=1<Enter>");
    assert_eq!(console.state.layers.len(), 1);
    assert!(console.screen().contains('^'));
}

#[test]
fn completions_are_taken_with_tab_and_chosen_with_arrows() {
    let mut console = Console::showing(120, 36, 60);
    console.press("/serv<Tab>");
    let text = console.state.filter.line().text().to_owned();
    assert!(text.starts_with("service"), "{text}");
    console.press("<Ctrl-u>service=bil<↓><Enter>");
    assert_eq!(
        console.state.filter.line().text().trim_end(),
        "service=billing"
    );
    assert_eq!(
        console.state.layers.len(),
        1,
        "Enter took the completion only"
    );
    console.press("<Enter>");
    assert!(console.state.layers.is_empty());
}

#[test]
fn sorting_orders_and_turns_round() {
    let mut console = Console::showing(160, 36, 60);
    console.press("sG<Enter>");
    assert_eq!(
        console.state.table().sort.column.title(ViewKind::Instances),
        "LAST"
    );
    console.press("sg<Enter>");
    let first = console.state.rows.list[0].key();
    console.press("S");
    assert!(console.state.table().sort.descending);
    assert_ne!(console.state.rows.list[0].key(), first);
}

#[test]
fn every_binding_is_on_the_help_page() {
    let page = lines();
    for mode in Mode::ALL {
        assert!(page.contains(&HelpLine::Title(mode.title())));
    }
    let keys = page
        .iter()
        .filter(|line| matches!(line, HelpLine::Keys(..)))
        .count();
    assert_eq!(keys, BINDINGS.len());
}

#[test]
fn an_unfinished_command_is_shown_and_forgotten() {
    let mut console = Console::showing(120, 36, 60);
    console.press("jjg");
    assert!(console.screen().contains("g…"));
    console.press("j");
    assert!(console.state.pending.is_empty());
    assert_eq!(console.state.table().selected, Some(3));
}

#[test]
fn statistics_are_asked_for_what_is_seen_only() {
    let mut console = Console::showing(120, 36, 400);
    let asked = |console: &Console| {
        console
            .effects
            .iter()
            .rev()
            .find_map(|effect| match effect {
                Effect::Stats { instances, .. } => Some(instances.len()),
                _ => None,
            })
    };
    assert!(asked(&console).unwrap() < 40);
    console.effects.clear();
    console.press("q");
    console.wait(Duration::from_millis(500));
    assert_eq!(asked(&console), None, "a second has not passed");
    console.act(crate::tui::action::Action::Resize(30, 7));
    console.wait(Duration::from_secs(5));
    assert_eq!(asked(&console), None, "nothing shows them");
}

#[test]
fn an_idle_console_without_measurements_sleeps_to_the_minute() {
    let mut console = Console::showing(120, 36, 3);
    console.press("p");
    console.act(crate::tui::action::Action::Resize(60, 15));
    console.press("q");
    console.wait(Duration::from_secs(30));
    console.answer_stats();
    assert!(crate::tui::update::timers::next_wake(&console.state).is_some());
}
