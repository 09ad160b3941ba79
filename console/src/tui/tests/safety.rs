//! What must hold whatever happens: any size, any change of the cluster, any text in the filter.

use std::time::Duration;

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skynet::instance::Instance;
use skynet::registry::snapshot::Snapshot;

use super::Console;
use super::cluster::instance;
use crate::theme::Theme;
use crate::tui::action::Action;
use crate::tui::state::row::Lingering;
use crate::tui::view::view;

/// Every state that draws something of its own.
const SCRIPTS: [&str; 12] = [
    "",
    "jx",
    "jxs",
    "3jxs",
    "1xd",
    "?",
    "s",
    "/service=pay",
    "/avg>5x",
    ":st",
    ":topology<Enter>",
    "3<Enter><Enter>",
];

#[test]
fn every_size_is_drawn() {
    let mut consoles: Vec<Console> = SCRIPTS
        .iter()
        .map(|script| {
            let mut console = Console::showing(120, 36, 40);
            console.press(script);
            console
        })
        .collect();
    let theme = Theme::terminal();
    let count = consoles.len();
    for width in 0..=300_u16 {
        for height in 0..=100_u16 {
            // Without optimization every size takes minutes: then the large ones are sampled.
            let turn = usize::from(width) * 7 + usize::from(height);
            let tiny = width <= 26 && height <= 10;
            let edge = width < 90 && height < 36;
            let sampled = turn.is_multiple_of(23) || !cfg!(debug_assertions);
            for (index, console) in consoles.iter_mut().enumerate() {
                let in_turn = turn % count == index;
                if tiny || (in_turn && (edge || sampled)) {
                    console.act(Action::Resize(width, height));
                    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                    view(&console.state, &theme, &mut buffer);
                }
            }
        }
    }
}

#[test]
fn hostile_names_do_no_harm() {
    let mut console = Console::opened(120, 36);
    let hostile = "\u{1b}]0;owned\u{7}\u{202e}日本語\u{200d}é\n\t\u{9b}31m";
    let mut evil = instance(1);
    evil.identity.service = hostile.into();
    evil.identity.version = hostile.into();
    evil.identity.host = hostile.into();
    evil.identity.region = hostile.into();
    evil.reason = Some(hostile.into());
    console.live(Snapshot::of([evil], []));
    for keys in [
        "",
        "1",
        "2",
        "3",
        "4",
        "5x",
        "s",
        "y",
        "<Esc>3<Enter>/serv<Tab>=<Tab>",
    ] {
        console.press(keys);
        let screen = console.screen();
        assert!(
            !screen
                .chars()
                .any(|it| it != '\n' && (it.is_control() || it == '\u{202e}')),
            "{keys}: {screen:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// The cursor stays on its instance, at its place on the screen, until it is moved.
    #[test]
    fn the_cursor_keeps_its_identity(
        start in prop::collection::btree_set(0..200_u32, 1..80),
        changes in prop::collection::vec(prop::collection::btree_set(0..200_u32, 0..80), 1..6),
        downs in 0..60_usize,
        sort in 0..12_usize,
    ) {
        let mut console = Console::opened(120, 36);
        console.live(Snapshot::of(start.iter().map(|number| instance(*number)), []));
        console.press("s");
        console.press(&"j".repeat(sort));
        console.press("<Enter>");
        console.press(&"j".repeat(downs));
        let cursor = console.state.table().cursor.clone().unwrap();
        for present in changes {
            console.wait(Duration::from_secs(2));
            let instances: Vec<Instance> = present.iter().map(|number| instance(*number)).collect();
            let there = instances.iter().any(|it| {
                cursor == crate::tui::state::row::RowKey::Instance(it.id())
            });
            console.live(Snapshot::of(instances, []));
            console.wait(Duration::from_secs(2));
            prop_assert_eq!(console.state.table().cursor.as_ref(), Some(&cursor));
            let table = console.state.table();
            let index = table.selected.unwrap();
            prop_assert!(console.state.rows.list[index].is(&cursor));
            prop_assert!(index >= table.offset);
            if !there {
                prop_assert_eq!(console.state.rows.lingering(&cursor), Some(Lingering::Gone));
            }
        }
    }

    /// Rows are exactly what the query selects, whatever was typed on the way.
    #[test]
    fn a_broken_filter_never_widens(
        good in prop::sample::select(vec!["service=payments", "region=us-east-1", "pay", "version>=1.4.5"]),
        junk in "[a-z0-9=<>!:~()\"'&| ,.*?-]{0,12}",
    ) {
        let mut console = Console::showing(120, 36, 60);
        console.press("/");
        console.act(Action::Paste(good.to_owned()));
        let mut selected = console.state.rows.matched;
        for character in format!(" {junk}").chars() {
            console.act(Action::Type(character));
            let rows = console.state.rows.matched;
            if console.state.filter.is_broken() || console.state.filter.is_waiting() {
                prop_assert_eq!(rows, selected, "{}", console.state.filter.line().text());
            }
            selected = rows;
        }
    }

    /// No sequence of keys panics or loses the cursor.
    #[test]
    fn any_keys_may_be_pressed(keys in "[jklhgGxsSqpr/:?123450yuRda =<>]{0,40}") {
        let mut console = Console::showing(100, 30, 30);
        for (index, key) in keys.chars().enumerate() {
            if key == '<' {
                console.press(["<Esc>", "<Enter>", "<Tab>", "<↓>", "<Backspace>"][index % 5]);
            } else {
                console.press(&key.to_string());
            }
            console.screen();
        }
    }
}
