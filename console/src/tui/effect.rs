//! What the console asks of the world, as data, and what comes back.
//!
//! Invariants: an effect that has a result carries a [`Ticket`], which only grows; a result whose
//! ticket is not the newest of its kind is dropped by whoever receives it.

use std::sync::Arc;

use skynet::instance::Instance;
use skynet::query::rows::StatsTable;
use skynet::session::DeployPlan;
use skynet::session::plan::ChangePlan;

/// The number of a request; later requests have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something for [`run`](super::run) to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask hosts for the measurements of these instances.
    Stats {
        /// Whose answer this will be.
        ticket: Ticket,
        /// Which instances.
        instances: Vec<Arc<Instance>>,
    },
    /// Carry out a confirmed change.
    Change {
        /// Whose answer this will be.
        ticket: Ticket,
        /// What was confirmed.
        plan: Arc<ChangePlan>,
    },
    /// Carry out a confirmed deployment.
    Deploy {
        /// Whose answer this will be.
        ticket: Ticket,
        /// What was confirmed.
        plan: Arc<DeployPlan>,
    },
    /// Break off a change or deployment.
    Cancel(Ticket),
    /// Read the registry again, or try a lost one now.
    Resync,
    /// Draw everything, whatever the terminal is thought to show.
    Repaint,
    /// End the console.
    Quit,
}

/// What came of an effect.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Measurements; who did not answer is not in it.
    Stats(StatsTable),
    /// What came of a change or deployment, target by target.
    Done(Vec<TargetOutcome>),
    /// Nothing was done, and why.
    Refused(String),
}

/// What came of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetOutcome {
    /// The target, for people.
    pub target: String,
    /// Nothing, or why it failed.
    pub outcome: Result<(), String>,
}
