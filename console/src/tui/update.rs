//! From an action to a new state and effects: sync, total, without I/O and without a clock.
//!
//! Invariants: every action is handled by name, so that a new one does not compile until it is;
//! what a change hits is frozen when the key is pressed; nothing is changed while the link to the
//! registry is lost. This file only dispatches.

mod answer;
mod change;
mod data;
mod deploy;
mod leave;
mod line;
mod list;
pub mod timers;

use super::action::{Action, Command, Mode};
use super::effect::Effect;
use super::state::State;
use super::state::layer::Layer;

pub use change::{Entry, MENU};
pub use list::sortable;

/// Applies one action. The moment is that of the last [`Action::Clock`].
pub fn update(state: &mut State, action: Action) -> Vec<Effect> {
    let mut effects = match action {
        Action::Run(command) => {
            state.pending.clear();
            run(state, command)
        }
        Action::Pending(key) => {
            state.pending.push(key);
            Vec::new()
        }
        Action::Unbound => {
            state.pending.clear();
            Vec::new()
        }
        Action::Type(character) => line::insert(state, &character.to_string()),
        Action::Paste(text) => line::insert(state, &text),
        Action::Resize(width, height) => data::resize(state, width, height),
        Action::Focus(focused) => {
            state.focused = focused;
            Vec::new()
        }
        Action::Data(snapshot) => data::snapshot(state, snapshot),
        Action::Link(link) => data::link(state, link),
        Action::Traffic(counters) => {
            state.traffic = Some(counters);
            Vec::new()
        }
        Action::Finished(ticket, outcome) => data::finished(state, ticket, outcome),
        Action::Clock(moment) => data::clock(state, moment),
        Action::Stop => vec![Effect::Quit],
    };
    effects.extend(data::ask(state));
    effects
}

/// Which keys count now.
pub fn mode(state: &State) -> Mode {
    state.layers.last().map_or(Mode::Table, Layer::mode)
}

fn run(state: &mut State, command: Command) -> Vec<Effect> {
    if command != Command::Quit {
        state.quit_until = None;
    }
    state.table_mut().touched = true;
    match command {
        Command::View(view) => list::show(state, view),
        Command::Move(motion) => list::go(state, motion),
        Command::DrillIn => list::drill_in(state),
        Command::DrillOut => list::drill_out(state),
        Command::Filter => line::edit_filter(state),
        Command::Statement => line::edit_statement(state),
        Command::Sort => list::choose_sort(state),
        Command::InvertSort => list::invert_sort(state),
        Command::Preview => list::toggle_preview(state),
        Command::Actions => change::open_menu(state),
        Command::Change(verb) => change::under_cursor(state, verb),
        Command::Deploy => deploy::ask_program(state),
        Command::Resync => data::resync(state),
        Command::Repaint => vec![Effect::Repaint],
        Command::Help => list::help(state),
        Command::Accept => accept(state),
        Command::Yes => answer::answer(state, "y"),
        Command::Complete => line::complete(state),
        Command::Edit(edit) => line::edit(state, edit),
        Command::Back => leave::back(state),
        Command::Quit => leave::quit(state),
        Command::Interrupt => leave::interrupt(state),
    }
}

/// Enter, in whatever lies on top.
fn accept(state: &mut State) -> Vec<Effect> {
    match state.layers.last() {
        Some(Layer::Filter(_) | Layer::Statement(_)) => line::accept(state),
        Some(Layer::Sort(_)) => list::accept_sort(state),
        Some(Layer::Menu(_)) => change::choose(state),
        Some(Layer::Confirm(_)) => answer::answer_typed(state),
        Some(Layer::Deploy(_)) => deploy::accept_program(state),
        Some(Layer::Help(_) | Layer::Reading(_)) | None => Vec::new(),
    }
}
