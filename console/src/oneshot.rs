//! Commands that do one thing and end.
//!
//! Invariants: what is wrong with the arguments is found before anything is asked of the cluster;
//! data go to standard output, everything else to standard error.

use std::io::{self, BufRead, BufReader};
use std::time::Duration;

pub mod call;
pub mod caveats;
pub mod change;
pub mod daemon;
pub mod deploy;
pub mod help;
pub mod listing;
pub mod registry;
pub mod row;
pub mod topology;

/// How long hosts may take to answer with statistics.
pub const STATS_DEADLINE: Duration = Duration::from_millis(150);

/// Standard input, for names and parameters that are read from it.
pub fn stdin() -> Box<dyn BufRead> {
    Box::new(BufReader::new(io::stdin()))
}
