//! The full-screen console.
//!
//! One loop owns the state: event → action → [`update::update`] → effects; [`view::view`] draws what
//! the state says. Invariants: `update` is sync and does no I/O; drawing changes nothing; time is
//! data; the terminal is restored on every way out. Only this folder and the shell know crossterm.

pub mod action;
pub mod cells;
pub mod columns;
pub mod effect;
pub mod event;
pub mod format;
pub mod key;
pub mod keymap;
pub mod layout;
pub mod rows;
mod run;
pub mod screen;
pub mod state;
mod terminal;
mod topology;
pub mod update;
pub mod view;

#[cfg(test)]
mod tests;

pub use run::{Ending, TuiConfig, TuiOutcome, run_tui, snapshot};
pub use state::{Place, State, ViewKind};
pub use view::snapshot_frame;
