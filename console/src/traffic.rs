//! What steady traffic has counted so far: shared by the demo, which drives it, and the console,
//! which shows it.

use serde::Serialize;

/// The counters of steady traffic since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TrafficCounters {
    /// Calls that were sent.
    pub sent: u64,
    /// Calls that were answered.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// What the last failed call said.
    pub last_error: Option<String>,
}
