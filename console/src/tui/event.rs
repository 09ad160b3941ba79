//! What comes in, and what it means in the state of the moment.
//!
//! Invariants: [`action_for`] changes nothing and knows every event; moves of the mouse are not
//! events (they are not asked for).

use std::sync::Arc;

use crossterm::event::Event as Input;
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;

use super::action::{Action, Mode};
use super::effect::{Outcome, Ticket};
use super::key::Key;
use super::keymap::{Keymap, Resolved};
use super::state::{Moment, State};
use super::update::mode;
use crate::traffic::TrafficCounters;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The terminal says something.
    Input(Input),
    /// The cluster changed.
    Snapshot(Arc<Snapshot>),
    /// The link to the registry changed.
    Link(Link),
    /// The demo's traffic went on.
    Traffic(TrafficCounters),
    /// An effect came to its end.
    Done(Ticket, Outcome),
    /// Time passed.
    Tick(Moment),
    /// The console is to end.
    Stop,
}

/// What an event means; `None` when it means nothing here.
pub fn action_for(event: Event, state: &State, keymap: &Keymap) -> Option<Action> {
    match event {
        Event::Input(Input::Key(event)) => key(Key::pressed(&event)?, state, keymap),
        Event::Input(Input::Paste(text)) => Some(Action::Paste(text)),
        Event::Input(Input::Resize(width, height)) => Some(Action::Resize(width, height)),
        Event::Input(Input::FocusGained) => Some(Action::Focus(true)),
        Event::Input(Input::FocusLost) => Some(Action::Focus(false)),
        Event::Input(Input::Mouse(_)) => None,
        Event::Snapshot(snapshot) => Some(Action::Data(snapshot)),
        Event::Link(link) => Some(Action::Link(link)),
        Event::Traffic(counters) => Some(Action::Traffic(counters)),
        Event::Done(ticket, outcome) => Some(Action::Finished(ticket, outcome)),
        Event::Tick(moment) => Some(Action::Clock(moment)),
        Event::Stop => Some(Action::Stop),
    }
}

fn key(key: Key, state: &State, keymap: &Keymap) -> Option<Action> {
    let mode = mode(state);
    let mut keys = state.pending.clone();
    keys.push(key);
    match keymap.resolve(mode, &keys) {
        Resolved::Command(command) => return Some(Action::Run(command)),
        Resolved::Prefix => return Some(Action::Pending(key)),
        Resolved::Unbound => {}
    }
    if matches!(mode, Mode::Line | Mode::Answer)
        && let Some(character) = key.typed()
    {
        return Some(Action::Type(character));
    }
    // A key after an unfinished command means what it means by itself.
    if state.pending.is_empty() {
        return None;
    }
    match keymap.resolve(mode, &[key]) {
        Resolved::Command(command) => Some(Action::Run(command)),
        Resolved::Prefix | Resolved::Unbound => Some(Action::Unbound),
    }
}
