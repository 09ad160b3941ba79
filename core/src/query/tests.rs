//! Tests of the whole: sources, what they say and what they select.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::*;
use crate::instance::{Identity, Instance, InstanceId, ProcessId, State};
use crate::stats::InstanceStats;

mod properties;

/// One instance with its facts, to be changed by a test.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) instance: Instance,
    pub(super) stats: Option<InstanceStats>,
    pub(super) rps: Option<f64>,
    pub(super) marked: bool,
    pub(super) new: bool,
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn now() -> jiff::Timestamp {
    "2026-08-01T12:00:00Z".parse().unwrap()
}

pub(super) fn row() -> Row {
    Row {
        instance: Instance {
            identity: Identity {
                service: "payments".into(),
                version: "1.4.2".into(),
                region: "us-east-1".into(),
                host: "host-0017".into(),
                id: InstanceId::from_u128(0x6f1c_9b2e_0b1d_4c58_9a8e_5f0d_2a71_c0aa),
            },
            address: Some(address("10.0.17.4:9004")),
            admin_address: Some(address("10.0.17.4:9005")),
            registered: true,
            state: State::Ready,
            reason: None,
            process: Some(ProcessId {
                boot_id: "b".into(),
                pid: 1234,
                process_start: 1,
            }),
            started: "2026-08-01T10:00:00Z".parse().unwrap(),
            deployment: None,
            weight: 100,
            lease: 7,
            tags: vec!["canary".into(), "Blue".into()],
            mod_revision: 1,
        },
        stats: Some(InstanceStats {
            clients: 31,
            inflight: 2,
            requests: 9_810_000,
            avg_us: 214_000,
            p50_us: 180_000,
            p99_us: 900_000,
            started: "2026-08-01T10:00:00Z".to_owned(),
            last: "2026-08-01T11:54:00Z".to_owned(),
            ..InstanceStats::default()
        }),
        rps: Some(812.0),
        marked: false,
        new: false,
    }
}

impl Row {
    pub(super) fn matches(&self, query: &Query) -> bool {
        query.matches(&self.instance, &self.facts())
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            stats: self.stats.as_ref(),
            rps: self.rps,
            marked: self.marked,
            new: self.new,
            ..Facts::at(now())
        }
    }
}

#[track_caller]
fn selects(row: &Row, source: &str, expected: bool) {
    let query: Query = source
        .parse()
        .unwrap_or_else(|error: QueryError| panic!("{}", error.caret()));
    assert_eq!(row.matches(&query), expected, "{source}");
}

#[test]
fn text_is_compared_as_the_operator_says() {
    for (source, expected) in [
        ("service:pay", true),
        ("service:PAY", true),
        ("service:pay*", true),
        ("service:*ment?", true),
        ("service:ay*", false),
        ("service=pay", false),
        ("service=payments", true),
        ("service=Payments", false),
        ("service=pay*", true),
        ("service=Pay*", false),
        ("service=\"pay*\"", false),
        ("service!=payments", false),
        ("service!=a,b", true),
        ("service=a,payments", true),
        ("service!=a,payments", false),
        ("service~^pay", true),
        ("service~PAY", false),
        ("service~\"pay|x\"", true),
        ("service!~x", true),
        ("service ~x", false),
        ("s:pay", true),
        ("svc = payments", true),
        ("service:payments:1.4*", true),
        ("service:payments:1.5*", false),
        ("service=payments:1.4.2", true),
        ("service=payments:1.4", false),
        ("service!=payments:1.4.2", false),
        ("service!=payments:1", true),
        ("service:x,payments:1.4", true),
        ("region:EAST", true),
        ("tag=canary", true),
        ("tag:blue", true),
        ("tag!=canary", false),
        ("tag=red", false),
    ] {
        if source == "service ~x" {
            assert!(source.parse::<Query>().is_err());
            continue;
        }
        selects(&row(), source, expected);
    }
}

#[test]
fn versions_are_ordered_part_by_part() {
    for (source, expected) in [
        ("version>=1.4.2", true),
        ("version>1.4.2", false),
        ("version<1.10", true),
        ("version>1.4", true),
        ("version<=1.4", false),
        ("version:1.4", true),
        ("v=1.4.2", true),
    ] {
        selects(&row(), source, expected);
    }
}

#[test]
fn hosts_have_names_and_addresses() {
    for (source, expected) in [
        ("host:0017", true),
        ("host=10.0.17.4", true),
        ("host:10.0.17", true),
        ("host=10.0.17.*", true),
        ("host!=10.0.17.4", false),
        ("host!=10.0.17.5", true),
        ("host~^10", true),
        ("address:9004", true),
        ("address=10.0.17.4:9004", true),
        ("addr:10.0.17.4:90*", true),
        ("admin_address:9005", true),
        ("port=9004", true),
        ("port:9000..9099", true),
        ("port:9005..9099", false),
        ("port!=9000..9010", false),
        ("port>9003", true),
        ("pid=1234", true),
    ] {
        selects(&row(), source, expected);
    }
    let mut stopped = row();
    stopped.instance.address = None;
    let query: Query = "host=10.9.9.9".parse().unwrap();
    assert!(!stopped.matches(&query));
    let facts = Facts {
        host_address: Some("10.9.9.9".parse().unwrap()),
        ..stopped.facts()
    };
    assert!(query.matches(&stopped.instance, &facts));
}

#[test]
fn numbers_have_units() {
    for (source, expected) in [
        ("clients=31", true),
        ("clients>31", false),
        ("clients:30..31", true),
        ("c>=31", true),
        ("requests>9M", true),
        ("requests>9.9M", false),
        ("req<10000k", true),
        ("rps>0.8k", true),
        ("avg>50ms", true),
        ("avg>213.9", true),
        ("avg>214", false),
        ("avg<1s", true),
        ("p50:100..200", true),
        ("p99>=900000us", true),
        ("uptime>1h", true),
        ("uptime>2h", false),
        ("up<=2h", true),
        ("last>5m", true),
        ("idle>6m", false),
        ("inflight=1,2", true),
        ("avg > 50ms", true),
        ("uptime>0", true),
    ] {
        selects(&row(), source, expected);
    }
}

#[test]
fn words_search_names_addresses_and_ids() {
    for (source, expected) in [
        ("pay", true),
        ("pmts", true),
        ("stp", false),
        ("'pay", true),
        ("'pmts", false),
        ("^pay", true),
        ("^ment", false),
        ("ments$", true),
        ("^payments$", true),
        ("^pay$", false),
        ("!pay", false),
        ("!pmts", true),
        ("not pay", false),
        ("PAY", false),
        ("use1", true),
        ("\"host-0017\"", true),
        ("10.0.17.4:9004", true),
        ("1049004", false),
        ("6f1c9b2e", true),
        ("^6f1c", true),
        ("fcb", false),
        ("\"cpu:1\"", false),
    ] {
        selects(&row(), source, expected);
    }
}

#[test]
fn flags_and_states() {
    for (source, expected) in [
        ("registered", true),
        ("unreg", false),
        ("reg:yes", true),
        ("reg=no", false),
        ("registered!=false", true),
        ("state=ready", true),
        ("state:ready,dead", true),
        ("state!=dead", true),
        ("suspect", false),
        ("gone", false),
        ("new", false),
        ("uuid:6f1c", true),
        ("uuid=6F1C9B2E-0b1d", true),
        ("id:6f1d", false),
        ("uuid!=6f1c", false),
        ("instance=6f1c9b2e-0b1d-4c58-9a8e-5f0d2a71c0aa", true),
    ] {
        selects(&row(), source, expected);
    }
    selects(
        &Row {
            marked: true,
            ..row()
        },
        "marked !new",
        true,
    );
    selects(&Row { new: true, ..row() }, "new", true);
    let mut gone = row();
    gone.instance.state = State::Gone;
    selects(&gone, "gone", true);
}

#[test]
fn signs_bind_as_written() {
    for (source, expected) in [
        ("", true),
        ("  ", true),
        ("service=x or registered", true),
        ("service=x registered or registered", true),
        ("service=x (registered or registered)", false),
        ("service=x & registered | gone", false),
        ("!gone and !new", true),
        ("!(registered gone)", true),
        ("not not registered", true),
        ("service=payments|gone", true),
        ("AND OR", true),
    ] {
        if source == "AND OR" {
            assert!(source.parse::<Query>().is_err());
            continue;
        }
        selects(&row(), source, expected);
    }
}

#[test]
fn unknown_values_satisfy_neither_a_comparison_nor_its_negation() {
    let bare = Row {
        stats: None,
        rps: None,
        ..row()
    };
    for source in [
        "avg>50ms",
        "!avg>50ms",
        "avg!=50ms",
        "last>5m",
        "!last>5m",
        "rps<1",
        "!(avg>1 or rps>1)",
        "!(avg>1 registered)",
        "reason:x",
        "!reason:x",
        "reason!=x",
    ] {
        selects(&bare, source, false);
    }
    for source in [
        "avg>50ms or registered",
        "!(avg>50ms gone)",
        "!(gone avg>50ms)",
    ] {
        selects(&bare, source, true);
    }
    let mut stopped = row();
    stopped.instance.address = None;
    stopped.instance.process = None;
    stopped.instance.state = State::Stopped;
    for source in [
        "port=9004",
        "!port=9004",
        "pid!=1",
        "uptime>0",
        "!uptime>0",
        "address!=x",
    ] {
        selects(&stopped, source, false);
    }
    selects(&stopped, "tag!=x", true);
}

#[test]
fn what_never_had_a_request_is_idle_since_its_start() {
    let mut idle = row();
    if let Some(stats) = &mut idle.stats {
        stats.last.clear();
    }
    selects(&idle, "last>1h", true);
    selects(&idle, "last>3h", false);
}

#[test]
fn exact_queries_are_exact() {
    let row = row();
    assert!(row.matches(&Query::exact(Field::Service, &["payments"])));
    assert!(!row.matches(&Query::exact(Field::Service, &["pay*"])));
    assert!(!row.matches(&Query::exact(Field::Service, &["pay"])));
    assert!(row.matches(&Query::exact(
        Field::Uuid,
        &["6f1c9b2e-0b1d-4c58-9a8e-5f0d2a71c0aa"]
    )));
    assert!(row.matches(&Query::exact(Field::Port, &["x", "9004"])));
    for query in [
        Query::exact(Field::Uuid, &["zz"]),
        Query::exact(Field::Region, &[]),
        Query::none(),
    ] {
        assert!(!row.matches(&query));
        assert_eq!(query.to_string().parse(), Ok(query));
    }
    assert_eq!(
        Query::exact(Field::Service, &["a:b", "c d"]).to_string(),
        r#"service="a:b","c d""#
    );
}

#[test]
fn queries_know_what_they_ask_for() {
    let of = |source: &str| source.parse::<Query>().unwrap();
    assert!(of("registered or avg>1ms").needs_stats());
    assert!(!of("uptime>1h port=1").needs_stats());
    assert!(of("a").has_fuzzy() && of("!(gone 'b)").has_fuzzy() && !of("service:a").has_fuzzy());
    assert!(
        of("").hosts_and_regions_only() && of("host:a !(region=b or r:c)").hosts_and_regions_only()
    );
    assert!(!of("host:a a").hosts_and_regions_only());
    assert_eq!(of("a or b").and(of("c d")).to_string(), "(a or b) c d");
    assert_eq!(Query::all().and(of("c")), of("c").and(Query::all()));
    assert!(Query::default().is_all());
}

#[test]
fn many_values_are_found_as_few_are() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(!row().matches(&Query::exact(Field::Service, &names)));
    names.push("payments");
    assert!(row().matches(&Query::exact(Field::Service, &names)));
    let mut ids: Vec<String> = (0..20)
        .map(|id| InstanceId::from_u128(id).to_string())
        .collect();
    ids.push(row().instance.id().to_string());
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(row().matches(&Query::exact(Field::Uuid, &ids)));
    assert!(!row().matches(&Query::exact(Field::Uuid, &ids[..20])));
}

/// The statement as text, or every mistake with its caret and hint.
fn told(parsed: &Parsed) -> String {
    if let Some(statement) = &parsed.statement {
        return format!("ok {statement}");
    }
    let mut text = String::new();
    for found in &parsed.diagnostics {
        let more = if found.incomplete {
            " (incomplete)"
        } else {
            ""
        };
        let hint = found.hint.as_deref().unwrap_or("-");
        writeln!(text, "{}{more}\nhint: {hint}", found.caret(&parsed.source)).unwrap();
    }
    text
}

#[test]
fn statements() {
    for (source, expected) in [
        ("", "ok "),
        ("instances", "ok instances"),
        (" services  s:pay ", "ok services service:pay"),
        ("stop host=a or host=b", "ok stop host=a or host=b"),
        ("register", "ok register"),
        ("stops", "ok stops"),
        ("(stop)", "ok (stop)"),
        ("'stop", "ok 'stop"),
        ("avg>1500.50 !!gone", "ok avg>1500.5 !!gone"),
    ] {
        assert_eq!(told(&parse(source)), expected, "{source}");
    }
    assert_eq!(told(&parse_query("stop")), "ok (stop)");
}

mod cluster;
mod diagnostics;
