//! Which hosts the demo has and what runs on them: pure.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// The demo never shows fewer instances than this.
const LEAST_INSTANCES: usize = 20;
/// The names of regions; more than these are numbered.
const REGIONS: [&str; 6] = ["east", "west", "north", "south", "central", "island"];

/// One host of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DemoHost {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) address: IpAddr,
}

/// `hosts` hosts, dealt to `regions` regions in turn, on 127.0.1.1, 127.0.2.1 and so on.
pub(super) fn hosts(regions: u8, hosts: u8) -> Vec<DemoHost> {
    (1..=hosts)
        .map(|number| {
            let region = usize::from((number - 1) % regions.max(1));
            DemoHost {
                name: format!("host-{number}"),
                region: REGIONS
                    .get(region)
                    .map_or_else(|| format!("region-{}", region + 1), ToString::to_string),
                address: IpAddr::V4(Ipv4Addr::new(127, 0, number, 1)),
            }
        })
        .collect()
}

/// One program of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) count: usize,
}

/// What each of `hosts` hosts runs: enough for twenty instances together.
pub(super) fn programs(hosts: usize) -> Vec<Program> {
    let program = |service, version, count| Program {
        service,
        version,
        count,
    };
    let mut programs = vec![
        program("TestService", "1", 2),
        program("TestService", "2", 1),
        program("Fibonacci", "1", 2),
        program("Sleeper", "1", 1),
    ];
    let per_host: usize = programs.iter().map(|program| program.count).sum();
    let missing = LEAST_INSTANCES
        .div_ceil(hosts.max(1))
        .saturating_sub(per_host);
    programs[0].count += missing;
    programs
}

/// How many instances run when all are up, daemons left out.
pub(super) fn instances(hosts: usize) -> usize {
    programs(hosts)
        .iter()
        .map(|program| program.count)
        .sum::<usize>()
        * hosts
}

/// The daemon's file for one host: this same program with a hidden command.
pub(super) fn deploy_file(executable: &Path, hosts: usize) -> String {
    let mut file = String::new();
    for Program {
        service,
        version,
        count,
    } in programs(hosts)
    {
        let path = toml::Value::String(executable.display().to_string());
        // Writing to a string cannot fail.
        let _ = write!(
            file,
            "[[service]]\npath = {path}\nargs = [\"example\", \"{service}\", \"--version\", \
             \"{version}\"]\ncount = {count}\n\n"
        );
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_dealt_to_regions_and_have_addresses_of_their_own() {
        let hosts = hosts(2, 4);
        let told: Vec<String> = hosts
            .iter()
            .map(|host| format!("{} {} {}", host.name, host.region, host.address))
            .collect();
        assert_eq!(
            told,
            [
                "host-1 east 127.0.1.1",
                "host-2 west 127.0.2.1",
                "host-3 east 127.0.3.1",
                "host-4 west 127.0.4.1"
            ]
        );
    }

    #[test]
    fn there_are_always_twenty_instances() {
        for count in 1..=9 {
            assert!(instances(count) >= LEAST_INSTANCES, "{count} hosts");
        }
    }

    #[test]
    fn the_file_reads_as_toml() {
        let file = deploy_file(Path::new("/a \"b\"/sky"), 4);
        let table: toml::Table = file.parse().unwrap();
        let services = table["service"].as_array().unwrap();
        assert_eq!(services.len(), 4);
        assert_eq!(services[0]["path"].as_str(), Some("/a \"b\"/sky"));
    }
}
