//! Tests on a small cluster: completion, selection, group rows, and why nothing is left.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::instance::{Host, ProcessId};
use crate::query::complete::MOST;
use crate::query::schema::FIELDS;
use crate::registry::snapshot::Snapshot;

fn host(name: &str, region: &str, ip: &str) -> Host {
    Host {
        name: name.into(),
        region: region.into(),
        address: address(&format!("{ip}:9000")),
        process: ProcessId {
            boot_id: "b".into(),
            pid: 1,
            process_start: 1,
        },
        started: now(),
        mod_revision: 1,
    }
}

/// Two services on three hosts in two regions, and a host without instances in a third.
fn snapshot() -> Snapshot {
    let place = [
        ("h1", "east", "10.0.0.1"),
        ("h2", "east", "10.0.0.2"),
        ("h3", "west", "10.0.0.3"),
    ];
    let mut instances = Vec::new();
    for number in 0..12_u16 {
        let (host, region, ip) = place[usize::from(number) % 3];
        let (service, version) = match number {
            0..4 => ("payments", "1.4.10"),
            4..8 => ("payments", "1.4.9"),
            8..11 => ("payments-audit", "0.9"),
            _ => ("web", "2"),
        };
        let mut instance = row().instance;
        instance.identity = Identity {
            service: service.into(),
            version: version.into(),
            region: region.into(),
            host: host.into(),
            id: InstanceId::from_u128(
                0x1000_0000_0000_0000_0000_0000_0000_0000 * u128::from(number % 3 + 1)
                    + u128::from(number),
            ),
        };
        instance.address = Some(address(&format!("{ip}:{}", 9000 + number)));
        instance.registered = number != 0;
        instance.state = if number == 11 {
            State::Stopped
        } else {
            State::Ready
        };
        instances.push(instance);
    }
    let mut hosts: Vec<Host> = place
        .map(|(name, region, ip)| host(name, region, ip))
        .into();
    hosts.push(host("h4", "north", "10.0.0.4"));
    Snapshot::of(instances, hosts)
}

fn stats(snapshot: &Snapshot) -> StatsTable {
    let measured = snapshot
        .instances()
        .filter(|instance| &**instance.service() == "payments");
    let stats = |requests: i64| InstanceStats {
        clients: 2,
        requests,
        avg_us: 1000 * requests,
        ..Default::default()
    };
    measured
        .zip(1..)
        .map(|(instance, requests)| (instance.id(), stats(requests)))
        .collect()
}

/// The candidates at `|`, each as what the source would become.
fn completed(source: &str, grammar: Grammar) -> Vec<String> {
    let cursor = source.find('|').unwrap();
    let source = source.replacen('|', "", 1);
    let found = complete(&source, cursor, &snapshot(), grammar);
    let whole = |candidate: Candidate| {
        let mut text = source.clone();
        text.replace_range(candidate.span.start..candidate.span.end, &candidate.text);
        format!("{text}  — {}", candidate.description)
    };
    found.into_iter().map(whole).collect()
}

macro_rules! check {
    ($source:expr, @$expected:literal) => {
        insta::assert_snapshot!(completed($source, Grammar::Statement).join("\n"), @$expected);
    };
}

#[test]
fn values_are_live_and_counted() {
    check!("service:pay|", @r#"
    service:payments  — 8 instances · 2 regions · 1.4.9 … 1.4.10
    service:payments-audit  — 3 instances · 2 regions · 0.9
    "#);
    check!("service=|", @r#"
    service=payments  — 8 instances · 2 regions · 1.4.9 … 1.4.10
    service=payments-audit  — 3 instances · 2 regions · 0.9
    service=web  — 1 instance · 1 region · 2
    "#);
    check!("instances region=west service=pay|", @r#"
    instances region=west service=payments  — 2 instances · 1 region · 1.4.9 … 1.4.10
    instances region=west service=payments-audit  — 1 instance · 1 region · 0.9
    "#);
    check!("region:e|,west registered", @r#"
    region:east,west registered  — 7 instances · 2 services
    region:west,west registered  — 4 instances · 3 services
    "#);
    check!("service:payments:|", @r#"
    service:payments:1.4.9  — 4 instances · 2 regions
    service:payments:1.4.10  — 4 instances · 2 regions
    "#);
    check!("host = |", @r#"
    host = h1  — 4 instances · 2 services
    host = h2  — 4 instances · 2 services
    host = h3  — 4 instances · 3 services
    "#);
    check!("state=r|", @r#"
    state=ready  — 11 instances
    state=crashloop  — 0 instances
    state=draining  — 0 instances
    state=pressured  — 0 instances
    state=starting  — 0 instances
    "#);
    check!("reg:|", @r#"
    reg:no  — 1 instance
    reg:yes  — 11 instances
    "#);
    check!("uuid:1|", @r#"
    uuid:10000000-0000-0000-0000-000000000000  — payments 1.4.10 · h1
    uuid:10000000-0000-0000-0000-000000000003  — payments 1.4.10 · h1
    uuid:10000000-0000-0000-0000-000000000006  — payments 1.4.9 · h1
    uuid:10000000-0000-0000-0000-000000000009  — payments-audit 0.9 · h1
    "#);
    check!("port:901|", @r#"
    port:9010  — 1 instance
    port:9011  — 1 instance
    "#);
}

#[test]
fn numbers_come_with_units() {
    check!("avg>|", @r#"
    avg>500us  — mean response time since the start
    avg>50ms  — mean response time since the start
    avg>200ms  — mean response time since the start
    avg>1s  — mean response time since the start
    "#);
    check!("avg>=5|", @r#"
    avg>=5us  — mean response time since the start
    avg>=5ms  — mean response time since the start
    avg>=5s  — mean response time since the start
    "#);
    check!("uptime>|", @r#"
    uptime>30s  — time since the process started
    uptime>5m  — time since the process started
    uptime>1h  — time since the process started
    uptime>1d  — time since the process started
    "#);
}

#[test]
fn words_of_the_grammar() {
    check!("se|", @r#"
    services  — list services
    service  — text · the service's name; `service:name:version` asks for both
    state  — state · what the instance is doing
    suspect  — vanished without a word
    register  — let clients choose instances
    registered  — yes or no · whether clients may choose the instance
    registered  — clients may choose it
    unregister  — keep clients from choosing instances
    unregistered  — clients may not choose it
    instances  — list instances
    "#);
    check!("regi|", @r#"
    regions  — list regions
    register  — let clients choose instances
    region  — text · the region of the host
    registered  — yes or no · whether clients may choose the instance
    registered  — clients may choose it
    unregister  — keep clients from choosing instances
    unregistered  — clients may not choose it
    "#);
    check!("version|", @r#"
    version:  — contains, or matches a glob
    version=  — is exactly
    version!=  — is none of
    version~  — matches a regex
    version!~  — does not match a regex
    version<  — less than
    version<=  — at most
    version>  — more than
    version>=  — at least
    versions  — list services by version
    version  — version · the service's version; ordered part by part
    "#);
    check!("gone a|", @r#"
    gone address  — text · where the instance answers, `ip:port`
    gone admin_address  — text · where the instance answers `Admin` requests, `ip:port`
    gone avg  — duration · mean response time since the start
    gone and  — both sides
    gone state  — state · what the instance is doing
    gone reason  — text · why the instance is in its state
    gone tag  — text · one of the instance's free words
    gone last  — duration · time since the last request, or since the start when none came
    gone marked  — is marked
    gone service=payments-audit  — 3 instances · 2 regions · 0.9
    gone service=payments  — 8 instances · 2 regions · 1.4.9 … 1.4.10
    gone region=east  — 8 instances · 2 services
    gone tag=canary  — 12 instances · 3 services
    "#);
    check!("idl|", @r#"
    last  — duration · time since the last request, or since the start when none came
    "#);
    check!("serv|=x", @r#"
    service=x  — text · the service's name; `service:name:version` asks for both
    "#);
}

#[test]
fn nothing_is_said_where_nothing_fits() {
    for source in [
        "\"abc\"|",
        "10.0|",
        "'pay|",
        "a)|",
        "region=a, |",
        "service: |",
        "regoin=|",
        "@x|",
        "service:nosuch:|",
    ] {
        assert_eq!(
            completed(source, Grammar::Query),
            Vec::<String>::new(),
            "{source}"
        );
    }
}

#[test]
fn statements_begin_with_orders_and_queries_do_not() {
    let offers = |source: &str, grammar| {
        completed(source, grammar)
            .iter()
            .any(|text| text.starts_with("stop "))
    };
    assert!(offers("st|", Grammar::Statement));
    assert!(offers("|", Grammar::Statement));
    assert!(!offers("st|", Grammar::Query));
    assert!(
        !completed("stop |", Grammar::Statement)
            .iter()
            .any(|text| text.contains("stop stop"))
    );
}

#[test]
fn completion_is_narrowed_by_the_filter() {
    let (snapshot, stats) = (snapshot(), StatsTable::new());
    let filter: Query = "region=west".parse().unwrap();
    let known = Known::new(&snapshot, &stats, now());
    let completer = Completer::new(known).within(&filter);
    let told = |candidates: Vec<Candidate>| -> Vec<String> {
        candidates
            .into_iter()
            .map(|found| format!("{} {}", found.text, found.description))
            .collect()
    };
    let values = completer.values(Field::Service, "pay", Span::new(0, 3));
    assert_eq!(
        told(values),
        [
            "payments 2 instances · 1 region · 1.4.9 … 1.4.10",
            "payments-audit 1 instance · 1 region · 0.9",
        ]
    );
    // What leaves nothing does not narrow.
    let nothing = Query::none();
    let values = completer
        .within(&nothing)
        .values(Field::Region, "", Span::new(0, 0));
    assert_eq!(
        told(values),
        [
            "east 8 instances · 2 services",
            "west 4 instances · 3 services"
        ]
    );
}

#[test]
fn candidates_are_never_too_many_and_always_fit() {
    let many = (0..300_u128).map(|number| {
        let mut instance = row().instance;
        instance.identity.service = format!("service {number}*").into();
        instance.identity.id = InstanceId::from_u128(number);
        instance
    });
    let snapshot = Snapshot::of(many, []);
    for spec in &FIELDS {
        let source = format!("{}:", spec.name);
        let found = complete(&source, source.len(), &snapshot, Grammar::Query);
        assert!(
            found.len() <= MOST && !found.is_empty() || spec.name == "reason",
            "{source}"
        );
        for candidate in found {
            let completed = format!("{source}{}", candidate.text);
            assert!(parse_query(&completed).statement.is_some(), "{completed}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn completion_says_something_sensible_of_any_source(source in properties::source()) {
        let snapshot = snapshot();
        for cursor in 0..=source.len() + 1 {
            for grammar in [Grammar::Statement, Grammar::Query] {
                for found in complete(&source, cursor, &snapshot, grammar) {
                    proptest::prop_assert!(source.get(found.span.start..found.span.end).is_some());
                    proptest::prop_assert!(found.span.start <= cursor && !found.text.is_empty());
                }
            }
        }
    }
}

#[test]
fn selection_reads_only_what_it_must_and_keeps_the_order() {
    let (snapshot, stats) = (snapshot(), StatsTable::new());
    let known = Known::new(&snapshot, &stats, now());
    let ids: Vec<String> = snapshot
        .instances()
        .rev()
        .map(|instance| instance.id().to_string())
        .collect();
    for source in [
        "service=web,payments",
        "service=payments registered",
        "service=payments host:h1",
        "service=x",
        "service=payments or service=web",
        "!service=web",
        "service!=web",
        &format!("uuid={}", ids.join(",")),
        &format!("uuid={} registered", ids[3]),
        "uuid=1000",
        "host=10.0.0.2",
        "host=10.0.0.4",
    ] {
        let query: Query = source.parse().unwrap();
        let expected: Vec<_> = snapshot
            .instances()
            .filter(|instance| query.matches(instance, &known.facts(&query, instance)))
            .map(|instance| instance.id())
            .collect();
        let found: Vec<_> = select(&query, &snapshot, &stats, now())
            .iter()
            .map(|found| found.id())
            .collect();
        assert_eq!(found, expected, "{source}");
        assert_eq!(known.count(&query), expected.len());
    }
}

#[test]
fn rates_and_marks_are_known_when_given() {
    let (snapshot, stats) = (snapshot(), StatsTable::new());
    let first = snapshot.instances().next().unwrap().id();
    let marked = HashSet::from([first]);
    let rps = HashMap::from([(first, 7.0)]);
    let known = Known {
        marked: Some(&marked),
        rps: Some(&rps),
        ..Known::new(&snapshot, &stats, now())
    };
    for (source, count) in [
        ("marked", 1),
        ("!marked", 11),
        ("new", 0),
        ("rps>5", 1),
        ("!rps>5", 0),
    ] {
        assert_eq!(known.count(&source.parse().unwrap()), count, "{source}");
    }
}

fn grouped(listing: Listing, source: &str) -> String {
    let snapshot = snapshot();
    let stats = stats(&snapshot);
    let known = Known::new(&snapshot, &stats, now());
    let rows = known.group(listing, &source.parse().unwrap());
    let told = |row: &GroupRow| {
        let shown =
            |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        format!(
            "{} total {} up {} reg {} ready {} regions {} hosts {} services {} [{}] clients {} requests {} avg {} worst {} {:?}",
            row.key,
            row.total,
            row.up,
            row.registered,
            row.ready,
            row.regions,
            row.hosts,
            row.services,
            row.versions.join(" "),
            shown(row.clients),
            shown(row.requests),
            shown(row.avg_us),
            shown(row.worst_us),
            row.address,
        )
    };
    rows.iter().map(told).collect::<Vec<_>>().join("\n")
}

#[test]
fn groups_have_totals() {
    insta::assert_snapshot!(grouped(Listing::Services, ""), @r#"
    payments total 8 up 8 reg 7 ready 8 regions 2 hosts 3 services 1 [1.4.9 1.4.10] clients 16 requests 36 avg 5666 worst 8000 None
    payments-audit total 3 up 3 reg 3 ready 3 regions 2 hosts 3 services 1 [0.9] clients - requests - avg - worst - None
    web total 1 up 0 reg 0 ready 0 regions 1 hosts 1 services 1 [2] clients - requests - avg - worst - None
    "#);
    insta::assert_snapshot!(grouped(Listing::Versions, "service:pay"), @r#"
    payments/1.4.9 total 4 up 4 reg 4 ready 4 regions 2 hosts 3 services 1 [1.4.9] clients 8 requests 26 avg 6692 worst 8000 None
    payments/1.4.10 total 4 up 4 reg 3 ready 4 regions 2 hosts 3 services 1 [1.4.10] clients 8 requests 10 avg 3000 worst 4000 None
    payments-audit/0.9 total 3 up 3 reg 3 ready 3 regions 2 hosts 3 services 1 [0.9] clients - requests - avg - worst - None
    "#);
    insta::assert_snapshot!(grouped(Listing::Topology, "service=payments region=west or service=web"), @r#"
    west/h3/payments/1.4.9 total 1 up 1 reg 1 ready 1 regions 1 hosts 1 services 1 [1.4.9] clients 2 requests 8 avg 8000 worst 8000 None
    west/h3/payments/1.4.10 total 1 up 1 reg 1 ready 1 regions 1 hosts 1 services 1 [1.4.10] clients 2 requests 4 avg 4000 worst 4000 None
    west/h3/web/2 total 1 up 0 reg 0 ready 0 regions 1 hosts 1 services 1 [2] clients - requests - avg - worst - None
    "#);
}

#[test]
fn hosts_and_regions_show_without_instances_while_nothing_else_is_asked() {
    insta::assert_snapshot!(grouped(Listing::Hosts, ""), @r#"
    east/h1 total 4 up 4 reg 3 ready 4 regions 1 hosts 1 services 2 [0.9 1.4.9 1.4.10] clients 6 requests 8 avg 3750 worst 5000 Some(10.0.0.1)
    east/h2 total 4 up 4 reg 4 ready 4 regions 1 hosts 1 services 2 [0.9 1.4.9 1.4.10] clients 6 requests 16 avg 5875 worst 7000 Some(10.0.0.2)
    north/h4 total 0 up 0 reg 0 ready 0 regions 1 hosts 1 services 0 [] clients - requests - avg - worst - Some(10.0.0.4)
    west/h3 total 4 up 3 reg 3 ready 3 regions 1 hosts 1 services 3 [0.9 1.4.9 1.4.10 2] clients 4 requests 12 avg 6666 worst 8000 Some(10.0.0.3)
    "#);
    insta::assert_snapshot!(grouped(Listing::Regions, "region=north or host=10.0.0.1"), @r#"
    east total 4 up 4 reg 3 ready 4 regions 1 hosts 1 services 2 [0.9 1.4.9 1.4.10] clients 6 requests 8 avg 3750 worst 5000 None
    north total 0 up 0 reg 0 ready 0 regions 1 hosts 1 services 0 [] clients - requests - avg - worst - None
    "#);
    insta::assert_snapshot!(grouped(Listing::Regions, "registered service=web"), @r#"
    west total 1 up 0 reg 0 ready 0 regions 1 hosts 1 services 1 [2] clients - requests - avg - worst - None
    "#);
    insta::assert_snapshot!(grouped(Listing::Hosts, "host=10.0.0.4"), @r#"
    north/h4 total 0 up 0 reg 0 ready 0 regions 1 hosts 1 services 0 [] clients - requests - avg - worst - Some(10.0.0.4)
    "#);
}

#[test]
fn a_group_is_selected_by_its_query() {
    let (snapshot, stats) = (snapshot(), StatsTable::new());
    let known = Known::new(&snapshot, &stats, now());
    for listing in Listing::ALL {
        for row in known.group(listing, &Query::all()) {
            assert_eq!(
                known.count(&row.key.query()),
                row.total,
                "{listing} {}",
                row.key
            );
        }
    }
}

#[test]
fn the_term_that_took_the_last_row_is_named() {
    let snapshot = snapshot();
    let stats = stats(&snapshot);
    let known = Known::new(&snapshot, &stats, now());
    for (source, expected) in [
        ("service=payments avg>50ms", "without `avg>50ms`: 8"),
        ("avg>50ms service=payments", "without `avg>50ms`: 8"),
        (
            "service=payments host=h1 region=west",
            "without `region=west`: 3",
        ),
        ("gone", "without `gone`: 12"),
        ("service=web registered gone", "without `gone`: 1"),
        ("gone suspect", "-"),
        ("service=web", "-"),
        ("", "-"),
    ] {
        let blame = known.blame(&source.parse().unwrap());
        assert_eq!(
            blame.map_or("-".to_owned(), |blame| blame.to_string()),
            expected,
            "{source}"
        );
    }
}
