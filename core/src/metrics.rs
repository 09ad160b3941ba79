//! What services and clients measure of themselves, as one typed picture.
//!
//! | asked in process | asked from outside | tells |
//! | --- | --- | --- |
//! | [`Service::metrics`](crate::service::Service::metrics) | `Admin.Metrics` | [`Metrics`]: the service, and every client of its process |
//! | [`Client::metrics`](crate::client::Client::metrics) | the same, of a service beside it | [`ClientMetrics`]: its service clients, and the instances that it knows |
//! | [`ServiceClient::metrics`](crate::client::ServiceClient::metrics) | the same | [`ServiceClientMetrics`]: the calls of one query |
//!
//! A composite service needs to do nothing for it: clients and services that were made from one
//! [`Registry`](crate::registry::Registry) handle, or from clones of it, know of each other.
//!
//! ```
//! # use skynet::{client::Client, query::Query, registry::{Registry, RegistryConfig}};
//! # #[tokio::main]
//! # async fn main() -> anyhow::Result<()> {
//! # let registry = Registry::new(&RegistryConfig::default())?;
//! let client = Client::connect(&registry);
//! let upcase = client.service("service=Upcase".parse()?);
//! let metrics = upcase.metrics();
//! assert_eq!((metrics.calls, metrics.in_flight), (0, 0));
//! println!("99 of 100 calls took at most {} µs", metrics.latency.p99_us);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//!
//! - Counts are since the start of the service or client, and never go down. Percentiles are of the
//!   last 30 to 60 seconds, to an eighth of their value. Times are in microseconds.
//! - The unit stands at the end of a name (`_us`), and names and order are those of the wire: an
//!   `Admin.Metrics` without a parameter answers [`Metrics`] as one document, every integer as
//!   int64. Readers pass over names that they do not know: more may come.
//! - A call costs a handful of atomic additions: no lock, no allocation. So the numbers of one
//!   picture may be a few calls apart from each other.
//!
//! # Why no crate
//!
//! `hdrhistogram` needs a `&mut` to count, or a channel for each thread and a refresh (its
//! `SyncHistogram`); `metrics` is a facade over a recorder of the whole process, so that two services
//! in one process would have to be told apart by labels, and it cannot be read without an exporter.
//! What is here is an array of atomics, and an exporter to either is a loop over the picture.

mod clients;
mod latency;
mod recorder;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use clients::{Clients, Source};
pub use latency::{Bucket, Latency};
pub(crate) use latency::{Counts, Histogram};
pub(crate) use recorder::Recorder;

/// All that a service's process measures: the answer to `Admin.Metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// The service that was asked.
    pub service: ServiceMetrics,
    /// The clients of the same process that share the service's registry handle, in the order in
    /// which they were made.
    pub clients: Vec<ClientMetrics>,
}

/// What a service measures of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMetrics {
    /// The service's name.
    pub service: String,
    /// Its version.
    pub version: String,
    /// Its region.
    pub region: String,
    /// Its host.
    pub host: String,
    /// The instance's id.
    pub uuid: String,
    /// Where it answers, `ip:port`.
    pub address: String,
    /// When the instance started (RFC 3339).
    pub started: String,
    /// Connections that are served now.
    pub connections: i64,
    /// Requests that were not begun, by the word that their answer carried: those of
    /// [`Code`](crate::rpc::Code), such as `overloaded`. Words that never occurred are left out.
    pub refused: BTreeMap<String, i64>,
    /// Each method, by name; also those that were never called.
    pub methods: Vec<MethodMetrics>,
}

/// What a service measures of one method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MethodMetrics {
    /// The method's name.
    pub method: String,
    /// Calls that reached it.
    pub calls: i64,
    /// Calls that run now.
    pub in_flight: i64,
    /// Calls that ended with a result.
    pub succeeded: i64,
    /// Calls that ended with the method's own error.
    pub failed: i64,
    /// Calls that ended in a panic.
    pub panicked: i64,
    /// Calls that were given up: their caller had gone, or the service ended before they did.
    pub cancelled: i64,
    /// From reading a request to the end of its method, however that came about.
    pub latency: Latency,
}

/// What a client measures of its calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientMetrics {
    /// Its region; empty when it takes every region for its own.
    pub region: String,
    /// Its host; empty when it has none.
    pub host: String,
    /// Connections that were opened.
    pub connected: i64,
    /// Attempts to connect that failed.
    pub connect_failures: i64,
    /// How often an instance was left alone for failing.
    pub ejections: i64,
    /// Its calls, by query.
    pub services: Vec<ServiceClientMetrics>,
    /// The instances that it may call or has called, as long as they are known.
    pub instances: Vec<InstanceMetrics>,
}

/// What a client measures of the calls of one query. Service clients of one
/// [`Client`](crate::client::Client) with the same query share it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceClientMetrics {
    /// The query that chooses the instances.
    pub query: String,
    /// Calls that were begun.
    pub calls: i64,
    /// Calls that wait for their end now.
    pub in_flight: i64,
    /// Calls that ended with a result.
    pub succeeded: i64,
    /// Calls whose method ran and failed; see [`Outcome::Failed`](crate::rpc::Outcome).
    pub failed: i64,
    /// Calls that were never sent, for want of an instance or of a parameter that fits.
    pub not_sent: i64,
    /// Calls whose method certainly did not run.
    pub not_executed: i64,
    /// Calls that may have run.
    pub unknown: i64,
    /// Calls whose caller waited no more: it dropped them.
    pub abandoned: i64,
    /// Attempts after the first.
    pub retries: i64,
    /// Second requests beside a first one that took long.
    pub hedges: i64,
    /// Retries and second requests that were not made, because the retry budget was used up.
    pub budget_refused: i64,
    /// Retries and second requests that the budget has left.
    pub budget_left: i64,
    /// From the beginning of a call to its end, retries and waiting for an instance included, of
    /// all calls but those that were abandoned.
    pub latency: Latency,
}

/// What a client knows of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceMetrics {
    /// The service's name.
    pub service: String,
    /// The instance's id.
    pub uuid: String,
    /// Where it answers, `ip:port`.
    pub address: String,
    /// Requests that were sent to it, or were about to be.
    pub attempts: i64,
    /// Requests that wait for its answer now.
    pub in_flight: i64,
    /// How often it was left alone for failing.
    pub ejections: i64,
    /// Whether it is left alone now.
    pub ejected: bool,
    /// Whether a connection to it stands.
    pub connected: bool,
    /// How long the client expects it to take, in microseconds: what the choice goes by.
    pub expected_us: i64,
}

/// Counts as they stand on the wire.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
