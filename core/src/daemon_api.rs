//! Requests and replies of `SkynetDaemon`, shared by the daemon and by `sky`.
//!
//! Field names and their order are those of the wire (`protocol.md` section 10); what the original
//! did not have stands behind a default, so that its clients are still understood.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::instance::DAEMON_SERVICE;

/// The daemon's version as a service.
pub const DAEMON_VERSION: &str = "1";

/// `Deploy`: start a program as a child.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeployRequest {
    /// The program: a path, or a name that is looked up on the daemon's PATH.
    pub servicepath: String,
    /// Its arguments, quoted as for a shell.
    pub args: String,
}

/// The answer to `Deploy`, `RestartSubService`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildUuid {
    /// The child's id.
    pub uuid: String,
}

/// `StopSubService`, `RestartSubService`, `StartSubService`, `RegisterSubService`,
/// `UnregisterSubService` name a child; `StartSubService` of skynet2 names a program instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildRequest {
    /// The child's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// skynet2's way to start: the program's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub binaryname: String,
    /// skynet2's way to start: its arguments.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub args: String,
    /// skynet2's way to start: whether clients may choose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<bool>,
}

/// Whether it was done, and to which child.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildDone {
    /// Whether it was done.
    pub ok: bool,
    /// The child's id; empty when there is no such child.
    pub uuid: String,
}

/// A child as `ListSubServices` tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildInfo {
    /// The child's id.
    pub uuid: String,
    /// The program.
    pub servicepath: String,
    /// Its arguments, quoted as for a shell.
    pub args: String,
    /// Whether its process runs.
    pub running: bool,
}

/// The answer to `ListSubServices`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildList {
    /// Every child by its id.
    pub services: BTreeMap<String, ChildInfo>,
}

/// The answer to `StopAllSubServices`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopAllReply {
    /// How many were stopped.
    pub count: i32,
    /// Each child.
    pub stops: Vec<ChildDone>,
}

/// The answer to `StartAllSubServices`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartAllReply {
    /// How many were started.
    pub count: i32,
    /// Each child.
    pub starts: Vec<ChildDone>,
}

/// The answer to `RestartAllSubServices`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartAllReply {
    /// How many were restarted.
    pub count: i32,
    /// Each child.
    pub restarts: Vec<ChildUuid>,
}

/// `Stats`: which children; none means all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsRequest {
    /// The ids of the children that are asked for; empty for all.
    pub uuids: Vec<String>,
}

/// A request or an answer without fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The answer to `Stop`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// Whether it was done.
    pub ok: bool,
}

/// `LogLevel`, `SubServiceLogLevel`: what is to be logged from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLevelRequest {
    /// The child's id; empty for the daemon itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The level: `trace`, `debug`, `info`, `warn`, `error` or `off`.
    pub level: String,
}

/// The answer to `LogLevel`, `SubServiceLogLevel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLevelReply {
    /// Whether it was done.
    pub ok: bool,
    /// The child's id; empty for the daemon itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The level that was asked for.
    pub level: String,
}
