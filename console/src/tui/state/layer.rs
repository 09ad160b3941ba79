//! What lies over the table: the line that is edited, lists, questions, texts.
//!
//! Invariants: layers are a stack, and keys go to the top one; a confirmation holds the plan as it
//! was frozen, and nothing on the screen can change it.

use std::sync::Arc;

use skynet::instance::Host;
use skynet::query::complete::Candidate;
use skynet::query::{Parsed, parse};
use skynet::session::DeployPlan;
use skynet::session::plan::{ChangePlan, Demand};

use super::line::Line;
use crate::tui::action::Mode;

/// Completions under a line.
#[derive(Debug, Clone, Default)]
pub struct Completions {
    /// What is offered, the best first.
    pub candidates: Vec<Candidate>,
    /// Which one is chosen.
    pub chosen: Option<usize>,
}

/// A line of its own with completions: a statement.
#[derive(Debug, Clone)]
pub struct StatementLine {
    /// The text.
    pub line: Line,
    /// Its parse.
    pub parsed: Parsed,
    /// What is offered.
    pub completions: Completions,
    /// Whether Enter has met a text that is no statement; then its faults are shown.
    pub refused: bool,
}

impl Default for StatementLine {
    fn default() -> Self {
        Self {
            line: Line::default(),
            parsed: parse(""),
            completions: Completions::default(),
            refused: false,
        }
    }
}

/// What a confirmation is about.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Instances are changed.
    Change(Arc<ChangePlan>),
    /// A program is started on hosts.
    Deploy(Arc<DeployPlan>),
}

/// A question before something is changed.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// What is done on a yes, frozen.
    pub plan: Plan,
    /// The title: verb and count.
    pub title: String,
    /// What the question tells, line by line.
    pub lines: Vec<String>,
    /// What must be typed.
    pub demand: Demand,
    /// What has been typed.
    pub typed: Line,
    /// The first line that is shown.
    pub offset: usize,
}

/// The question for a program to deploy.
#[derive(Debug, Clone)]
pub struct DeployPrompt {
    /// The hosts on which it will start.
    pub hosts: Vec<Arc<Host>>,
    /// The program and its arguments.
    pub line: Line,
    /// Why the last Enter was refused.
    pub problem: Option<String>,
}

/// Text to read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// What it is.
    pub title: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// The first line that is shown.
    pub offset: usize,
}

/// One layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// The filter is edited; its text is in the state.
    Filter(Completions),
    /// A statement is typed.
    Statement(Box<StatementLine>),
    /// The keys, from this line on.
    Help(usize),
    /// Text to read.
    Reading(Box<Reading>),
    /// The columns to sort by, with the chosen one.
    Sort(usize),
    /// What can be done, with the chosen one.
    Menu(usize),
    /// A question before something is changed.
    Confirm(Box<Confirm>),
    /// The question for a program to deploy.
    Deploy(Box<DeployPrompt>),
}

impl Layer {
    /// Which keys count while the layer is on top.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Filter(_) | Self::Statement(_) => Mode::Line,
            Self::Deploy(_) => Mode::Answer,
            Self::Help(_) | Self::Reading(_) => Mode::Text,
            Self::Sort(_) => Mode::List,
            Self::Menu(_) => Mode::Menu,
            Self::Confirm(confirm) => match confirm.demand {
                Demand::Yes => Mode::Question,
                Demand::Count(_) | Demand::Name(_) => Mode::Answer,
            },
        }
    }
}
