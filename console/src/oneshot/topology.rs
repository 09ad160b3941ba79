//! `sky topology`: regions, their hosts, the services there, their versions, and the addresses.
//!
//! Invariants: pure; a level is written once for all that stand under it.

use std::sync::Arc;

use skynet::instance::Instance;
use skynet::query::rows::Known;

use super::listing::{Request, Written};
use super::row::InstanceRow;
use crate::cli::args::Format;
use crate::output::column::{Column, Value};
use crate::output::table::cut;
use crate::output::{Output, json};
use crate::report::plain;

/// The instances of one service and version on one host.
struct Branch {
    names: [Arc<str>; 4],
    instances: Vec<Arc<Instance>>,
}

const COLUMNS: &[Column<Branch>] = &[
    Column::new("region", "REGION", |branch| name(branch, 0)),
    Column::new("host", "HOST", |branch| name(branch, 1)),
    Column::new("service", "SERVICE", |branch| name(branch, 2)),
    Column::new("version", "VERSION", |branch| name(branch, 3)),
    Column::new("addresses", "ADDRESSES", |branch| {
        let addresses = branch
            .instances
            .iter()
            .filter_map(|instance| instance.address);
        Value::List(
            addresses
                .map(|address| Arc::from(address.to_string()))
                .collect(),
        )
    }),
];

fn name(branch: &Branch, level: usize) -> Value {
    Value::or_null(branch.names.get(level), |name| {
        Value::Text(Arc::clone(name))
    })
}

/// Writes the topology of what the request selects.
pub(super) fn write(request: &Request, known: &Known<'_>, output: Output) -> Written {
    let mut instances = known.select(&request.query);
    instances.sort_by(|left, right| levels(left).cmp(&levels(right)));
    instances.truncate(request.limit.unwrap_or(usize::MAX));
    let count = instances.len();
    let branches = branches(&instances);
    let text = match request.format {
        Format::Table => tree(&branches, output.width),
        Format::Json => json::object(&branches, COLUMNS, known.now),
        Format::Jsonl => json::lines(&branches, COLUMNS),
        Format::Name => instances
            .into_iter()
            .map(|instance| {
                InstanceRow {
                    instance,
                    stats: None,
                }
                .name()
                    + "\n"
            })
            .collect(),
    };
    Written { text, rows: count }
}

fn levels(instance: &Arc<Instance>) -> [&Arc<str>; 4] {
    [
        instance.region(),
        instance.host(),
        instance.service(),
        instance.version(),
    ]
}

fn branches(instances: &[Arc<Instance>]) -> Vec<Branch> {
    let mut branches: Vec<Branch> = Vec::new();
    for instance in instances {
        let names = levels(instance).map(Arc::clone);
        match branches.last_mut() {
            Some(branch) if branch.names == names => branch.instances.push(Arc::clone(instance)),
            _ => branches.push(Branch {
                names,
                instances: vec![Arc::clone(instance)],
            }),
        }
    }
    branches
}

fn tree(branches: &[Branch], width: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |depth: usize, content: &str| {
        let content = format!("{}{}", "  ".repeat(depth), plain(content));
        text.push_str(&cut(&content, width));
        text.push('\n');
    };
    let mut above: Option<&Branch> = None;
    for branch in branches {
        let same = above.map_or(0, |above| {
            above
                .names
                .iter()
                .zip(&branch.names)
                .take_while(|(left, right)| left == right)
                .count()
        });
        for (depth, name) in branch.names.iter().enumerate().skip(same) {
            line(depth, name);
        }
        for instance in &branch.instances {
            match instance.address {
                Some(address) if instance.registered => line(4, &address.to_string()),
                Some(address) => line(4, &format!("{address} (not registered)")),
                None => line(4, &format!("{} ({})", instance.id(), instance.state)),
            }
        }
        above = Some(branch);
    }
    text
}
