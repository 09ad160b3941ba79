//! Measurements of an instance and of a host: pulled from where they arise, never stored in the
//! registry. Shapes of `Admin.Stats` and `SkynetDaemon.Stats`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::instance::InstanceId;

/// What an instance says of itself (`Admin.Stats`), and what its daemon adds.
///
/// Names and order are those of the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceStats {
    /// Connections that are served now.
    pub clients: i64,
    /// Requests that run now.
    pub inflight: i64,
    /// Requests served since the start.
    pub requests: i64,
    /// Mean response time since the start, in microseconds.
    pub avg_us: i64,
    /// Median response time of the recent past, in microseconds.
    pub p50_us: i64,
    /// 99th percentile of the recent past, in microseconds.
    pub p99_us: i64,
    /// When the instance started (RFC 3339).
    pub started: String,
    /// When the last request came (RFC 3339), empty when none came.
    pub last: String,
    /// Share of one core, in percent; only the daemon knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_pct: Option<f64>,
    /// Resident memory in bytes; only the daemon knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<i64>,
}

/// What a daemon measures of its host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostStats {
    /// Use of all cores, in percent of all of them.
    pub cpu_pct: f64,
    /// Memory in use, in bytes.
    pub mem_bytes: i64,
    /// The load average of the last minute.
    pub load: f64,
}

/// The answer to `SkynetDaemon.Stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonStats {
    /// The host's own figures.
    pub host: HostStats,
    /// The figures of each child that answered, by id.
    pub instances: BTreeMap<String, InstanceStats>,
}

impl DaemonStats {
    /// The instances' figures with their ids read; ids that are none are left out.
    pub fn by_id(&self) -> impl Iterator<Item = (InstanceId, &InstanceStats)> {
        self.instances
            .iter()
            .filter_map(|(id, stats)| Some((id.parse().ok()?, stats)))
    }
}
