//! What keys and events mean: [`Action`]s, and the [`Command`]s that keys name.
//!
//! Invariants: the key map, the hints at the foot of the screen and the help page are all made from
//! [`BINDINGS`]; no command changes the cluster by itself: changes go through the action menu and
//! a confirmation.

mod bindings;

use std::sync::Arc;

use skynet::query::Verb;
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;

use super::effect::{Outcome, Ticket};
use super::key::Key;
use super::state::{Moment, ViewKind};
use crate::traffic::TrafficCounters;

pub use bindings::BINDINGS;

/// Something that [`update`](super::update::update) does to the state.
#[derive(Debug)]
pub enum Action {
    /// A key's command.
    Run(Command),
    /// The first keys of a longer command.
    Pending(Key),
    /// A key that means nothing here.
    Unbound,
    /// A character for the line that is edited.
    Type(char),
    /// Pasted text for the line that is edited.
    Paste(String),
    /// The terminal has another size: columns and rows.
    Resize(u16, u16),
    /// The terminal's window is looked at, or no longer.
    Focus(bool),
    /// The cluster changed.
    Data(Arc<Snapshot>),
    /// The link to the registry changed.
    Link(Link),
    /// The demo's traffic went on.
    Traffic(TrafficCounters),
    /// An effect came to its end.
    Finished(Ticket, Outcome),
    /// Time passed: it is now this moment.
    Clock(Moment),
    /// The console is to end.
    Stop,
}

/// What a key can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Show a view.
    View(ViewKind),
    /// Move the cursor or the page.
    Move(Motion),
    /// Narrow to the row under the cursor.
    DrillIn,
    /// Take the last narrowing back.
    DrillOut,
    /// Edit the filter.
    Filter,
    /// Type a statement.
    Statement,
    /// Choose the column to sort by.
    Sort,
    /// Turn the order round.
    InvertSort,
    /// Show or hide the pane of details.
    Preview,
    /// Choose what to do with the row under the cursor.
    Actions,
    /// Change what the row under the cursor stands for.
    Change(Verb),
    /// Start a program on the hosts of the row under the cursor.
    Deploy,
    /// Read the registry again.
    Resync,
    /// Draw everything again.
    Repaint,
    /// Show the keys.
    Help,
    /// Take what is typed or chosen.
    Accept,
    /// Answer yes.
    Yes,
    /// Take the completion that is offered.
    Complete,
    /// Move within the line that is edited, or delete.
    Edit(Edit),
    /// Peel one layer off.
    Back,
    /// End, after asking once.
    Quit,
    /// Break off what runs; twice ends.
    Interrupt,
}

/// Where the cursor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// One row down.
    Down,
    /// One row up.
    Up,
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Half a page down.
    HalfDown,
    /// Half a page up.
    HalfUp,
    /// A page down.
    PageDown,
    /// A page up.
    PageUp,
}

/// What happens to the line that is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// Delete the character before the cursor.
    Backspace,
    /// Delete the character at the cursor.
    Delete,
    /// Delete the word before the cursor.
    DeleteWord,
    /// Delete all before the cursor.
    DeleteToStart,
    /// Delete all after the cursor.
    DeleteToEnd,
    /// One character to the left.
    Left,
    /// One character to the right.
    Right,
    /// To the beginning.
    Start,
    /// To the end.
    End,
}

/// Which keys count: what lies on top of the screen decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The table.
    Table,
    /// A line of text: filter, statement, or an answer that is typed.
    Line,
    /// A list to choose from.
    List,
    /// An answer that is typed; other keys count as in a line.
    Answer,
    /// The menu of actions.
    Menu,
    /// A question that `y` answers.
    Question,
    /// Text to scroll.
    Text,
}

impl Mode {
    /// What the help page calls the mode.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Table => "Table",
            Self::Line => "Filter and statement",
            Self::Answer => "Typed answers",
            Self::List => "Lists",
            Self::Menu => "Actions (after x)",
            Self::Question => "Questions",
            Self::Text => "Help and texts",
        }
    }

    /// The mode whose keys count where this one has none of its own.
    pub const fn otherwise(self) -> Option<Self> {
        match self {
            Self::Answer => Some(Self::Line),
            _ => None,
        }
    }

    /// Every mode, as the help page lists them.
    pub const ALL: [Self; 7] = [
        Self::Table,
        Self::Menu,
        Self::Question,
        Self::Answer,
        Self::Line,
        Self::List,
        Self::Text,
    ];
}

/// Keys, their command, and what the help page says of it.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Where it counts.
    pub mode: Mode,
    /// The keys, separated by spaces when several follow each other; each alternative by itself.
    pub keys: &'static [&'static str],
    /// What they do.
    pub command: Command,
    /// One line for the help page.
    pub help: &'static str,
    /// A word for the foot of the screen, where it is shown there.
    pub hint: Option<&'static str>,
}
