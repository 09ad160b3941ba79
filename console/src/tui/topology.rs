//! The cluster as a tree of regions, hosts and services, in lines of text. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use skynet::instance::Instance;

use super::format::{clean, plural};

/// The tree of these instances, one line for each region, host, and service and version.
pub(super) fn lines<'a>(instances: impl Iterator<Item = &'a Arc<Instance>>) -> Vec<String> {
    type Services<'a> = BTreeMap<(&'a str, &'a str), usize>;
    let mut regions: BTreeMap<&str, BTreeMap<&str, Services<'_>>> = BTreeMap::new();
    for instance in instances {
        *regions
            .entry(instance.region())
            .or_default()
            .entry(instance.host())
            .or_default()
            .entry((instance.service(), instance.version()))
            .or_default() += 1;
    }
    let mut lines = Vec::new();
    for (region, hosts) in regions {
        lines.push(format!(
            "{}  {}",
            clean(region),
            plural(hosts.len(), "host", "hosts")
        ));
        for (host, services) in hosts {
            let count = services.values().sum();
            lines.push(format!(
                "  {}  {}",
                clean(host),
                plural(count, "instance", "instances")
            ));
            for ((service, version), count) in services {
                lines.push(format!(
                    "    {} {}  × {count}",
                    clean(service),
                    clean(version)
                ));
            }
        }
    }
    lines
}
