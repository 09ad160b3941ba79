//! The one table of keys, commands and help texts.
//!
//! Invariants: the key map, the hints at the foot of the screen and the help page are all made from
//! it; in a mode no keys stand twice (the key map's test holds that).

use super::Command as C;
use super::Mode as M;
use super::{Binding, Command, Edit, Mode, Motion};
use crate::tui::state::ViewKind;
use skynet::query::Verb;

const fn bind(
    mode: Mode,
    keys: &'static [&'static str],
    command: Command,
    help: &'static str,
) -> Binding {
    Binding {
        mode,
        keys,
        command,
        help,
        hint: None,
    }
}

const fn hinted(binding: Binding, hint: &'static str) -> Binding {
    Binding {
        hint: Some(hint),
        ..binding
    }
}

/// Every key of the console.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    hinted(bind(M::Table, &["x"], C::Actions, "actions on the row: register, stop, deploy, …"), "actions"),
    hinted(bind(M::Table, &["/"], C::Filter, "edit the filter"), "filter"),
    hinted(bind(M::Table, &[":"], C::Statement, "type a statement: `hosts region=east`, `stop service=x`, `q`"), "statement"),
    hinted(bind(M::Table, &["Enter", "l", "→"], C::DrillIn, "drill into the row: adds a term to the filter"), "drill in"),
    hinted(bind(M::Table, &["h", "←", "Backspace"], C::DrillOut, "back: takes the last term away"), "back"),
    bind(M::Table, &["1"], C::View(ViewKind::Regions), "regions"),
    bind(M::Table, &["2"], C::View(ViewKind::Hosts), "hosts"),
    bind(M::Table, &["3"], C::View(ViewKind::Services), "services"),
    bind(M::Table, &["4"], C::View(ViewKind::Versions), "versions"),
    bind(M::Table, &["5"], C::View(ViewKind::Instances), "instances"),
    bind(M::Table, &["j", "↓"], C::Move(Motion::Down), "down"),
    bind(M::Table, &["k", "↑"], C::Move(Motion::Up), "up"),
    bind(M::Table, &["g g", "Home"], C::Move(Motion::First), "first row"),
    bind(M::Table, &["G", "End"], C::Move(Motion::Last), "last row"),
    bind(M::Table, &["Ctrl-d"], C::Move(Motion::HalfDown), "half a page down"),
    bind(M::Table, &["Ctrl-u"], C::Move(Motion::HalfUp), "half a page up"),
    bind(M::Table, &["PgDn"], C::Move(Motion::PageDown), "a page down"),
    bind(M::Table, &["PgUp"], C::Move(Motion::PageUp), "a page up"),
    hinted(bind(M::Table, &["s"], C::Sort, "choose the column to sort by"), "sort"),
    bind(M::Table, &["S"], C::InvertSort, "turn the order round"),
    hinted(bind(M::Table, &["p"], C::Preview, "show or hide the pane of details"), "details"),
    hinted(bind(M::Table, &["r"], C::Resync, "read the registry again now, and believe an alarm"), "resync"),
    bind(M::Table, &["Ctrl-l"], C::Repaint, "draw everything again"),
    bind(M::Table, &["Esc"], C::Back, "peel one layer: overlay, input, filter text, then drill-down"),
    hinted(bind(M::Table, &["?"], C::Help, "this page"), "help"),
    hinted(bind(M::Table, &["q"], C::Quit, "back one level; at the root, quit (asks once)"), "quit"),
    bind(M::Table, &["Ctrl-c"], C::Interrupt, "break off a running change; twice quits"),
    bind(M::Menu, &["r"], C::Change(Verb::Register), "register: clients may choose it"),
    bind(M::Menu, &["u"], C::Change(Verb::Unregister), "unregister: no new clients"),
    bind(M::Menu, &["R"], C::Change(Verb::Restart), "restart"),
    bind(M::Menu, &["s"], C::Change(Verb::Stop), "stop"),
    bind(M::Menu, &["S"], C::Change(Verb::Start), "start what is stopped"),
    bind(M::Menu, &["d"], C::Deploy, "deploy a program to the hosts"),
    bind(M::Menu, &["j", "↓"], C::Move(Motion::Down), "next"),
    bind(M::Menu, &["k", "↑"], C::Move(Motion::Up), "previous"),
    hinted(bind(M::Menu, &["Enter"], C::Accept, "choose"), "choose"),
    hinted(bind(M::Menu, &["Esc", "q", "x"], C::Back, "close"), "close"),
    bind(M::Menu, &["Ctrl-c"], C::Interrupt, "close"),
    hinted(bind(M::Question, &["y"], C::Yes, "yes, do it"), "yes"),
    hinted(bind(M::Question, &["n", "Esc", "Enter", "q"], C::Back, "no, nothing is done"), "no"),
    bind(M::Question, &["j", "↓"], C::Move(Motion::Down), "scroll down"),
    bind(M::Question, &["k", "↑"], C::Move(Motion::Up), "scroll up"),
    bind(M::Question, &["Ctrl-c"], C::Interrupt, "no, nothing is done"),
    hinted(bind(M::Answer, &["Enter"], C::Accept, "take the answer"), "take the answer"),
    hinted(bind(M::Answer, &["Esc"], C::Back, "no, nothing is done"), "leave all as it is"),
    bind(M::Answer, &["↓", "PgDn"], C::Move(Motion::Down), "scroll down"),
    bind(M::Answer, &["↑", "PgUp"], C::Move(Motion::Up), "scroll up"),
    bind(M::Answer, &["Ctrl-c"], C::Interrupt, "no, nothing is done"),
    hinted(bind(M::Line, &["Enter"], C::Accept, "take the chosen completion, else the line"), "keep"),
    hinted(bind(M::Line, &["Tab"], C::Complete, "take the completion"), "complete"),
    hinted(bind(M::Line, &["↓", "Ctrl-n"], C::Move(Motion::Down), "next completion"), "choose"),
    bind(M::Line, &["↑", "Ctrl-p", "Shift-Tab"], C::Move(Motion::Up), "previous completion"),
    hinted(bind(M::Line, &["Esc"], C::Back, "close the completions, then leave the line"), "leave"),
    bind(M::Line, &["←", "Ctrl-b"], C::Edit(Edit::Left), "left"),
    bind(M::Line, &["→", "Ctrl-f"], C::Edit(Edit::Right), "right"),
    bind(M::Line, &["Home", "Ctrl-a"], C::Edit(Edit::Start), "to the beginning"),
    bind(M::Line, &["End", "Ctrl-e"], C::Edit(Edit::End), "to the end"),
    bind(M::Line, &["Backspace", "Ctrl-h"], C::Edit(Edit::Backspace), "delete backwards"),
    bind(M::Line, &["Del", "Ctrl-d"], C::Edit(Edit::Delete), "delete"),
    bind(M::Line, &["Ctrl-w", "Alt-Backspace"], C::Edit(Edit::DeleteWord), "delete the word before"),
    bind(M::Line, &["Ctrl-u"], C::Edit(Edit::DeleteToStart), "delete to the beginning"),
    bind(M::Line, &["Ctrl-k"], C::Edit(Edit::DeleteToEnd), "delete to the end"),
    bind(M::Line, &["Ctrl-l"], C::Repaint, "draw everything again"),
    bind(M::Line, &["Ctrl-c"], C::Interrupt, "leave the line"),
    hinted(bind(M::List, &["j", "↓", "Tab"], C::Move(Motion::Down), "next"), "next"),
    hinted(bind(M::List, &["k", "↑", "Shift-Tab"], C::Move(Motion::Up), "previous"), "previous"),
    bind(M::List, &["g", "Home"], C::Move(Motion::First), "first"),
    bind(M::List, &["G", "End"], C::Move(Motion::Last), "last"),
    hinted(bind(M::List, &["Enter", "l", "→"], C::Accept, "choose"), "choose"),
    bind(M::List, &["S"], C::InvertSort, "turn the order round"),
    hinted(bind(M::List, &["Esc", "q", "h", "←", "s"], C::Back, "close"), "close"),
    bind(M::List, &["Ctrl-c"], C::Interrupt, "close"),
    hinted(bind(M::Text, &["j", "↓"], C::Move(Motion::Down), "down"), "down"),
    hinted(bind(M::Text, &["k", "↑"], C::Move(Motion::Up), "up"), "up"),
    bind(M::Text, &["g", "Home"], C::Move(Motion::First), "to the beginning"),
    bind(M::Text, &["G", "End"], C::Move(Motion::Last), "to the end"),
    bind(M::Text, &["Ctrl-d"], C::Move(Motion::HalfDown), "half a page down"),
    bind(M::Text, &["Ctrl-u"], C::Move(Motion::HalfUp), "half a page up"),
    bind(M::Text, &["PgDn", "Space"], C::Move(Motion::PageDown), "a page down"),
    bind(M::Text, &["PgUp"], C::Move(Motion::PageUp), "a page up"),
    hinted(bind(M::Text, &["Esc", "q", "?", "Enter", "h", "←"], C::Back, "close"), "close"),
    bind(M::Text, &["Ctrl-l"], C::Repaint, "draw everything again"),
    bind(M::Text, &["Ctrl-c"], C::Interrupt, "close"),
];
