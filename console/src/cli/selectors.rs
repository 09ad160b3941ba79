//! Flags that select, as they are typed.
//!
//! Invariants: what they mean is decided by [`skynet::query::Selectors`] (names are exact, a `*` or
//! `?` makes a glob, values of one flag are any-of, flags are all-of); a list of names that turns
//! out empty selects nothing, never everything.

use std::io::BufRead;

use clap::Args;
use skynet::query::{self, Query};

use crate::report::Failure;

/// Flags that select instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Selectors")]
pub struct Selectors {
    /// In one of these regions
    #[arg(long, alias = "regions", value_delimiter = ',', value_name = "NAME")]
    pub region: Vec<String>,
    /// On one of these hosts, by name or address
    #[arg(long, alias = "hosts", value_delimiter = ',', value_name = "NAME")]
    pub host: Vec<String>,
    /// Of one of these services
    #[arg(
        long,
        alias = "services",
        value_delimiter = ',',
        value_name = "NAME[:VERSION]"
    )]
    pub service: Vec<String>,
    /// Of one of these versions
    #[arg(
        long,
        alias = "versions",
        value_delimiter = ',',
        value_name = "VERSION"
    )]
    pub version: Vec<String>,
    /// With one of these ids; `-` reads lines of `-o name` from standard input
    #[arg(long, alias = "instances", value_delimiter = ',', value_name = "UUID")]
    pub instance: Vec<String>,
    /// On one of these ports
    #[arg(long, alias = "ports", value_delimiter = ',', value_name = "PORT")]
    pub port: Vec<u16>,
    /// Those that clients may choose; `=no` for the others
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true,
          default_missing_value = "yes", hide_possible_values = true, value_parser = clap::builder::BoolishValueParser::new())]
    pub registered: Option<bool>,
    /// Those that a filter selects, as `region=east avg>50ms`
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true)]
    pub filter: Vec<String>,
}

impl Selectors {
    /// The query; `-` among the instances reads names from `stdin`.
    ///
    /// # Errors
    /// When a value or a filter cannot be read.
    pub fn query(&self, stdin: impl FnOnce() -> Box<dyn BufRead>) -> Result<Query, Failure> {
        let (dashes, instances): (Vec<String>, Vec<String>) = self
            .instance
            .iter()
            .cloned()
            .partition(|value| value == "-");
        let mut selectors = query::Selectors {
            regions: self.region.clone(),
            hosts: self.host.clone(),
            services: self.service.clone(),
            versions: self.version.clone(),
            instances: instances
                .iter()
                .map(|value| bare_id(value).to_owned())
                .collect(),
            registered: self.registered,
            filters: self.filter.clone(),
        };
        if !self.port.is_empty() {
            let ports: Vec<String> = self.port.iter().map(u16::to_string).collect();
            selectors.filters.push(format!("port={}", ports.join(",")));
        }
        let query = selectors.query()?;
        if dashes.is_empty() {
            return Ok(query);
        }
        let read = named_on_lines(stdin())?;
        if instances.is_empty() {
            return Ok(query.and(read));
        }
        Err(
            Failure::usage("`--instance -` and other instances cannot be combined")
                .hint("put all of them on standard input"),
        )
    }
}

/// What lines such as `instance/UUID` name, any of them.
fn named_on_lines(lines: Box<dyn BufRead>) -> Result<Query, Failure> {
    let mut terms = Vec::new();
    for line in lines.lines() {
        let line = line.map_err(|error| {
            Failure::new(crate::report::Exit::Failed, error).hint("standard input must be text")
        })?;
        let line = line.trim();
        if !line.is_empty() {
            terms.push(format!("({})", named(line)?));
        }
    }
    if terms.is_empty() {
        return Ok(Query::none());
    }
    Ok(terms.join(" or ").parse::<Query>()?)
}

/// The filter for a line of `-o name`, or for a bare id.
fn named(line: &str) -> Result<String, Failure> {
    let (kind, name) = line.split_once('/').unwrap_or(("instance", line));
    let one = |name: &str| vec![name.to_owned()];
    let mut selectors = query::Selectors::default();
    match kind {
        "instance" => selectors.instances = one(name),
        "service" | "version" => selectors.services = one(name),
        "host" => selectors.hosts = one(name),
        "region" => selectors.regions = one(name),
        _ => {
            return Err(
                Failure::usage(format!("`{line}` names nothing that can be selected"))
                    .hint("lines are like `instance/UUID`, as `sky instances -o name` writes them"),
            );
        }
    }
    Ok(selectors.query()?.to_string())
}

fn bare_id(value: &str) -> &str {
    value.strip_prefix("instance/").unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        selectors: Selectors,
    }

    fn query_of(line: &str, stdin: &'static str) -> Result<Query, Failure> {
        let words = std::iter::once("sky").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).unwrap();
        line.selectors.query(|| Box::new(stdin.as_bytes()))
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(query_of(line, "").unwrap().to_string(), expected, "{line}");
    }

    #[test]
    fn selectors_become_queries() {
        check("", "");
        check("--service a,b --region r", "region=r service=a,b");
        check("--service a:1.*", "service=a:1.*");
        check(
            "--services pay* --hosts h --hosts 10.0.0.1",
            "host=h,10.0.0.1 service=pay*",
        );
        check("--registered --port 9000,9001", "registered port=9000,9001");
        check("--registered=no --version 2", "version=2 unregistered");
        check("--where avg>5 --service x", "service=x avg>5");
        check("--instance instance/0011aabb", "uuid=0011aabb");
    }

    #[test]
    fn names_from_standard_input_select_what_they_name() {
        let query = query_of(
            "--instance -",
            "instance/0011aabb\n\nservice/x\nversion/y:2\n",
        );
        insta::assert_snapshot!(query.unwrap(), @"uuid=0011aabb or service=x or service=y:2");
    }

    #[test]
    fn no_names_on_standard_input_select_nothing() {
        assert_eq!(query_of("--instance -", "\n").unwrap(), Query::none());
        assert!(query_of("--instance -", "pod/x\n").is_err());
        assert!(query_of("--instance zz", "").is_err());
        assert!(query_of("--instance - --instance 0011aabb", "").is_err());
    }

    #[test]
    fn an_empty_value_is_no_selector() {
        let empty = Selectors {
            service: vec![String::new()],
            ..Selectors::default()
        };
        assert!(empty.query(|| Box::new(std::io::empty())).is_err());
    }
}
