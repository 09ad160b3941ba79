//! The rows of listings and their columns.
//!
//! Invariants: the columns of instances are those that the query language names; statistics that
//! were not asked for, or did not come, are null.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;
use skynet::instance::Instance;
use skynet::query::rows::GroupRow;
use skynet::query::schema::Named;
use skynet::query::{Field, Listing};
use skynet::stats::InstanceStats;

use crate::output::column::{Column, Value};

/// An instance and what its host says of it.
#[derive(Debug, Clone)]
pub struct InstanceRow {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its statistics, if they were asked for and came.
    pub stats: Option<InstanceStats>,
}

impl InstanceRow {
    fn count(&self, get: fn(&InstanceStats) -> i64) -> Value {
        Value::or_null(self.stats.as_ref().map(get), Value::Count)
    }

    fn micros(&self, get: fn(&InstanceStats) -> i64) -> Value {
        Value::or_null(self.stats.as_ref().map(get), Value::Micros)
    }

    fn last(&self) -> Option<Timestamp> {
        self.stats.as_ref()?.last.parse().ok()
    }

    /// Its name for `-o name`.
    pub fn name(&self) -> String {
        format!("instance/{}", self.instance.id())
    }
}

fn shared(text: &Arc<str>) -> Value {
    Value::Text(Arc::clone(text))
}

fn counted(count: usize) -> Value {
    Value::Count(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The columns of instances, in the order of JSON and of tables.
pub const INSTANCE: &[Column<InstanceRow>] = &[
    Column::hidden("uuid", |row| Value::text(&row.instance.id().to_string())),
    Column::new("service", "SERVICE", |row| shared(row.instance.service())),
    Column::new("version", "VERSION", |row| {
        Value::Version(Arc::clone(row.instance.version()))
    }),
    Column::new("region", "REGION", |row| shared(row.instance.region())),
    Column::new("host", "HOST", |row| shared(row.instance.host())),
    Column::new("address", "ADDRESS", |row| {
        Value::or_null(row.instance.address, |address| {
            Value::text(&address.to_string())
        })
    }),
    Column::hidden("port", |row| {
        Value::or_null(row.instance.address, |address| {
            Value::Int(address.port().into())
        })
    }),
    Column::hidden("admin_address", |row| {
        Value::or_null(row.instance.admin_address, |address| {
            Value::text(&address.to_string())
        })
    }),
    Column::new("registered", "REG", |row| {
        Value::Bool(row.instance.registered)
    }),
    Column::new("state", "STATE", |row| {
        Value::text(row.instance.state.as_str())
    }),
    Column::hidden("pid", |row| {
        Value::or_null(row.instance.pid(), |pid| Value::Int(pid.into()))
    }),
    Column::measured("clients", "CLIENTS", |row| row.count(|stats| stats.clients)),
    Column::measured("inflight", "INFLIGHT", |row| {
        row.count(|stats| stats.inflight)
    }),
    Column::measured("requests", "REQUESTS", |row| {
        row.count(|stats| stats.requests)
    }),
    Column::measured("avg_us", "AVG", |row| row.micros(|stats| stats.avg_us)),
    Column::new("started", "UPTIME", |row| Value::Time(row.instance.started)),
    Column::measured("last", "LAST", |row| {
        Value::or_null(row.last(), Value::Time)
    }),
    Column::hidden("p50_us", |row| row.micros(|stats| stats.p50_us)),
    Column::hidden("p99_us", |row| row.micros(|stats| stats.p99_us)),
    Column::hidden("reason", |row| {
        Value::or_null(row.instance.reason.as_ref(), shared)
    }),
    Column::shown("UUID", |row| {
        Value::text(row.instance.id().to_string().get(..8).unwrap_or_default())
    }),
];

type Group = Column<GroupRow>;

fn key_part(part: Option<&Arc<str>>) -> Value {
    Value::or_null(part, shared)
}

const REGION: Group = Column::new("region", "REGION", |row| key_part(row.key.region.as_ref()));
const HOST: Group = Column::new("host", "HOST", |row| key_part(row.key.host.as_ref()));
const SERVICE: Group = Column::new("service", "SERVICE", |row| {
    key_part(row.key.service.as_ref())
});
const VERSION: Group = Column::new("version", "VERSION", |row| {
    Value::or_null(row.key.version.as_ref(), |version| {
        Value::Version(Arc::clone(version))
    })
});
const ADDRESS: Group = Column::new("address", "ADDRESS", |row| {
    Value::or_null(row.address, |address| Value::text(&address.to_string()))
});
const REGIONS: Group = Column::new("regions", "REGIONS", |row| counted(row.regions));
const HOSTS: Group = Column::new("hosts", "HOSTS", |row| counted(row.hosts));
const SERVICES: Group = Column::new("services", "SERVICES", |row| counted(row.services));
const VERSIONS: Group = Column::new("versions", "VERSIONS", |row| {
    Value::List(row.versions.clone())
});
const INSTANCES: Group = Column::new("instances", "INSTANCES", |row| counted(row.total));
const REGISTERED: Group = Column::new("registered", "REGISTERED", |row| counted(row.registered));
const READY: Group = Column::new("ready", "READY", |row| counted(row.ready));
const CLIENTS: Group = Column::measured("clients", "CLIENTS", |row| {
    Value::or_null(row.clients, Value::Count)
});
const REQUESTS: Group = Column::measured("requests", "REQUESTS", |row| {
    Value::or_null(row.requests, Value::Count)
});
const AVG: Group = Column::measured("avg_us", "AVG", |row| {
    Value::or_null(row.avg_us, Value::Micros)
});
const WORST: Group = Column::measured("worst_us", "WORST", |row| {
    Value::or_null(row.worst_us, Value::Micros)
});

const REGION_ROWS: &[Group] = &[
    REGION, HOSTS, SERVICES, INSTANCES, REGISTERED, READY, CLIENTS, REQUESTS, AVG, WORST,
];
const HOST_ROWS: &[Group] = &[
    HOST, REGION, ADDRESS, SERVICES, INSTANCES, REGISTERED, READY, CLIENTS, REQUESTS, AVG, WORST,
];
const SERVICE_ROWS: &[Group] = &[
    SERVICE, REGIONS, HOSTS, INSTANCES, REGISTERED, READY, CLIENTS, REQUESTS, AVG, WORST, VERSIONS,
];
const VERSION_ROWS: &[Group] = &[
    SERVICE, VERSION, REGIONS, HOSTS, INSTANCES, REGISTERED, READY, CLIENTS, REQUESTS, AVG, WORST,
];

/// The columns of a listing of groups.
pub fn group_columns(listing: Listing) -> &'static [Group] {
    match listing {
        Listing::Regions => REGION_ROWS,
        Listing::Hosts => HOST_ROWS,
        Listing::Services => SERVICE_ROWS,
        Listing::Versions | Listing::Instances | Listing::Topology => VERSION_ROWS,
    }
}

/// The name of a group for `-o name`.
pub fn group_name(listing: Listing, row: &GroupRow) -> String {
    let [region, host, service, version] = [
        &row.key.region,
        &row.key.host,
        &row.key.service,
        &row.key.version,
    ]
    .map(|part| part.as_deref().unwrap_or_default());
    match listing {
        Listing::Regions => format!("region/{region}"),
        Listing::Hosts => format!("host/{host}"),
        Listing::Services => format!("service/{service}"),
        Listing::Versions | Listing::Instances | Listing::Topology => {
            format!("version/{service}:{version}")
        }
    }
}

/// What to sort by: a column, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The column's name.
    pub key: &'static str,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// Whether the column is measured.
    pub measured: bool,
}

impl Sort {
    /// Reads `field`, `field:asc` or `field:desc`: a column's name, or a name of the field in the
    /// query language.
    pub fn read<R>(text: &str, columns: &[Column<R>]) -> Option<Self> {
        let (name, direction) = text.split_once(':').unwrap_or((text, "asc"));
        let descending = match direction {
            "asc" => false,
            "desc" => true,
            _ => return None,
        };
        let named = |key| columns.iter().find(|column| column.key == Some(key));
        let (column, reversed) = match (named(name), Field::named(name)) {
            (Some(column), _) => (column, false),
            // The older the start, the longer the time since.
            (None, Named::Field(field)) => (
                named(field.spec().json)?,
                matches!(field, Field::Uptime | Field::Last),
            ),
            _ => return None,
        };
        let key = column.key?;
        let measured = column.measured || matches!(key, "p50_us" | "p99_us");
        Some(Self {
            key,
            descending: descending != reversed,
            measured,
        })
    }

    /// Sorts rows; those whose value is not known come last, equal ones keep their order.
    pub fn apply<R>(self, rows: &mut [R], columns: &[Column<R>]) {
        let Some(column) = columns.iter().find(|column| column.key == Some(self.key)) else {
            return;
        };
        let descending = self.descending;
        rows.sort_by_cached_key(|row| SortKey {
            value: (column.get)(row),
            descending,
        });
    }
}

struct SortKey {
    value: Value,
    descending: bool,
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let unknown = |key: &Self| key.value == Value::Null;
        unknown(self).cmp(&unknown(other)).then_with(|| {
            let order = self.value.order(&other.value);
            if self.descending {
                order.reverse()
            } else {
                order
            }
        })
    }
}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SortKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SortKey {}
