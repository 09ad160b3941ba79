//! The one table of what queries are made of: fields, flags, operators, listings and verbs.
//!
//! Invariants: every surface (parser, completion, help, output columns) reads names, aliases, JSON
//! names and help from here, so that no second list exists; [`FIELDS`] is in the order of [`Field`];
//! an alias or a whole name always wins over a prefix. Knows neither instances nor values.

use std::fmt;

mod names;

pub use names::{Flag, Grammar, Listing, Op, Verb};

/// Something of an instance that a query can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The instance's id.
    Uuid,
    /// The service's name.
    Service,
    /// The service's version.
    Version,
    /// The region of the host.
    Region,
    /// The host's name or address.
    Host,
    /// Where the instance answers, `ip:port`.
    Address,
    /// The port of the address.
    Port,
    /// Where the instance answers `Admin` requests, `ip:port`.
    AdminAddress,
    /// Whether clients may choose it.
    Registered,
    /// What it is doing.
    State,
    /// Its process id.
    Pid,
    /// Why it is in its state.
    Reason,
    /// Its free words.
    Tag,
    /// Connections that it serves now.
    Clients,
    /// Requests that run now.
    Inflight,
    /// Requests served since the start.
    Requests,
    /// Requests per second.
    Rps,
    /// Mean response time.
    Avg,
    /// Median response time.
    P50,
    /// 99th percentile of the response time.
    P99,
    /// Time since the start.
    Uptime,
    /// Time since the last request.
    Last,
}

/// What values a field has, and so which operators and units it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A uuid, asked for by a prefix of at least four hex digits.
    Uuid,
    /// Text without an order.
    Text,
    /// Text that is ordered part by part, numbers as numbers.
    Version,
    /// `yes` or `no`.
    Bool,
    /// One of the words of [`crate::instance::State`].
    State,
    /// A whole number.
    Integer,
    /// A number with the units `k`, `M`, `G`.
    Number,
    /// A duration; a bare number is milliseconds.
    Latency,
    /// A duration; a bare number is refused.
    Age,
}

/// One row of the table.
#[derive(Debug)]
pub struct FieldSpec {
    /// The field.
    pub field: Field,
    /// Its name, as it is printed.
    pub name: &'static str,
    /// Other names; they win over prefixes of names.
    pub aliases: &'static [&'static str],
    /// What values it has.
    pub kind: Kind,
    /// Its name in JSON.
    pub json: &'static str,
    /// Whether it is asked from hosts, and so may be unknown.
    pub measured: bool,
    /// What it is, for help and completion.
    pub help: &'static str,
    /// Values to show where live ones make no sense.
    pub examples: &'static [&'static str],
}

/// Writes one row; the table would be three times as long with the names of the columns.
const fn row(
    field: Field,
    names: &'static [&'static str],
    kind: Kind,
    json: &'static str,
    help: &'static str,
    examples: &'static [&'static str],
) -> FieldSpec {
    let Some((name, aliases)) = names.split_first() else {
        unreachable!();
    };
    let measured = matches!(
        field,
        Field::Clients
            | Field::Inflight
            | Field::Requests
            | Field::Rps
            | Field::Avg
            | Field::P50
            | Field::P99
            | Field::Last
    );
    FieldSpec {
        field,
        name,
        aliases,
        kind,
        json,
        measured,
        help,
        examples,
    }
}

const COUNTS: &[&str] = &["0", "10", "1k", "1M"];
const LATENCIES: &[&str] = &["500us", "50ms", "200ms", "1s"];
const AGES: &[&str] = &["30s", "5m", "1h", "1d"];

/// Every field, in the order of [`Field`], which is the order of help texts.
#[rustfmt::skip]
pub const FIELDS: [FieldSpec; 22] = [
    row(Field::Uuid, &["uuid", "instance", "i", "id"], Kind::Uuid, "uuid", "the instance's id, or at least its first 4 hex digits", &["6f1c9b2e"]),
    row(Field::Service, &["service", "s", "svc"], Kind::Text, "service", "the service's name; `service:name:version` asks for both", &["payments"]),
    row(Field::Version, &["version", "v"], Kind::Version, "version", "the service's version; ordered part by part", &["1.4.2", "1.4*"]),
    row(Field::Region, &["region", "r"], Kind::Text, "region", "the region of the host", &["us-east-1"]),
    row(Field::Host, &["host", "h"], Kind::Text, "host", "the host's name or address", &["host-0017", "10.0.17.4"]),
    row(Field::Address, &["address", "addr"], Kind::Text, "address", "where the instance answers, `ip:port`", &["10.0.17.4:9004"]),
    row(Field::Port, &["port"], Kind::Integer, "port", "the port of the address", &["9004", "9000..9099"]),
    row(Field::AdminAddress, &["admin_address"], Kind::Text, "admin_address", "where the instance answers `Admin` requests, `ip:port`", &["10.0.17.4:9005"]),
    row(Field::Registered, &["registered", "reg"], Kind::Bool, "registered", "whether clients may choose the instance", &["yes", "no"]),
    row(Field::State, &["state"], Kind::State, "state", "what the instance is doing", &["ready"]),
    row(Field::Pid, &["pid"], Kind::Integer, "pid", "the process id", &["1234"]),
    row(Field::Reason, &["reason"], Kind::Text, "reason", "why the instance is in its state", &["exit"]),
    row(Field::Tag, &["tag"], Kind::Text, "tag", "one of the instance's free words", &["canary"]),
    row(Field::Clients, &["clients", "c"], Kind::Number, "clients", "connections that are served now", COUNTS),
    row(Field::Inflight, &["inflight"], Kind::Number, "inflight", "requests that run now", COUNTS),
    row(Field::Requests, &["requests", "req"], Kind::Number, "requests", "requests served since the start", COUNTS),
    row(Field::Rps, &["rps"], Kind::Number, "rps", "requests per second", COUNTS),
    row(Field::Avg, &["avg"], Kind::Latency, "avg_us", "mean response time since the start", LATENCIES),
    row(Field::P50, &["p50"], Kind::Latency, "p50_us", "median response time of late", LATENCIES),
    row(Field::P99, &["p99"], Kind::Latency, "p99_us", "99th percentile of the response time of late", LATENCIES),
    row(Field::Uptime, &["uptime", "up"], Kind::Age, "started", "time since the process started", AGES),
    row(Field::Last, &["last", "idle"], Kind::Age, "last", "time since the last request, or since the start when none came", AGES),
];

/// What a typed field name may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Exactly this one.
    Field(Field),
    /// The start of several.
    Ambiguous(Vec<Field>),
    /// None; the second is what may have been meant.
    Unknown(Option<Field>),
}

// === impl Field ===

impl Field {
    /// The field's row in the table.
    pub fn spec(self) -> &'static FieldSpec {
        &FIELDS[self as usize]
    }

    /// The field's whole name.
    pub fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// What values the field has.
    pub fn kind(self) -> Kind {
        self.spec().kind
    }

    /// Whether the value is asked from hosts, and so may be unknown.
    pub fn is_measured(self) -> bool {
        self.spec().measured
    }

    /// Reads a name, an alias, or the unambiguous start of one; case does not matter.
    pub fn named(word: &str) -> Named {
        let word = word.to_lowercase();
        let names = || {
            FIELDS
                .iter()
                .flat_map(|spec| spec.names().map(move |name| (spec.field, name)))
        };
        if let Some((field, _)) = names().find(|(_, name)| *name == word) {
            return Named::Field(field);
        }
        let mut starts: Vec<Self> = names()
            .filter(|(_, name)| !word.is_empty() && name.starts_with(&word))
            .map(|(field, _)| field)
            .collect();
        starts.dedup();
        match *starts.as_slice() {
            [field] => Named::Field(field),
            [] => {
                let nearest = nearest(&word, names().map(|(_, name)| name));
                Named::Unknown(nearest.and_then(|name| {
                    names()
                        .find(|(_, other)| *other == name)
                        .map(|(field, _)| field)
                }))
            }
            _ => Named::Ambiguous(starts),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

// === impl FieldSpec ===

impl FieldSpec {
    /// The name and then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

// === impl Kind ===

impl Kind {
    /// The operators that such a field takes, the usual one first.
    pub fn operators(self) -> &'static [Op] {
        use Op::{AtLeast, AtMost, Has, Is, IsNot, Less, Like, More, NotLike};
        match self {
            Self::Uuid | Self::Bool | Self::State => &[Has, Is, IsNot],
            Self::Text => &[Has, Is, IsNot, Like, NotLike],
            Self::Version => &[Has, Is, IsNot, Like, NotLike, Less, AtMost, More, AtLeast],
            Self::Integer => &[Has, Is, IsNot, Less, AtMost, More, AtLeast],
            Self::Number | Self::Latency | Self::Age => {
                &[More, AtLeast, Less, AtMost, Has, Is, IsNot]
            }
        }
    }

    /// The units that its numbers take.
    pub fn units(self) -> &'static [&'static str] {
        match self {
            Self::Number => &["k", "M", "G"],
            Self::Latency => &["us", "ms", "s"],
            Self::Age => &["s", "m", "h", "d"],
            _ => &[],
        }
    }

    /// The kind in a word or two, for completion.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uuid => "uuid prefix",
            Self::Text => "text",
            Self::Version => "version",
            Self::Bool => "yes or no",
            Self::State => "state",
            Self::Integer => "whole number",
            Self::Number => "number",
            Self::Latency | Self::Age => "duration",
        }
    }
}

/// The word among `known` that `word` was probably meant to be: at most a third of its letters,
/// and at least one, may be wrong, missing, surplus or swapped with their neighbor.
pub(crate) fn nearest(
    word: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let letters: Vec<char> = word.chars().take(32).flat_map(char::to_lowercase).collect();
    let allowed = (letters.len() / 3).max(1);
    known
        .filter(|name| name.len() > 2)
        .map(|name| (distance(&letters, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Optimal string alignment distance: a swap of neighbors counts once.
fn distance(word: &[char], name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=name.len()).collect();
    for (row, letter) in word.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, other) in name.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != other);
            let mut best = replaced.min(above[column + 1] + 1).min(line[column] + 1);
            let swapped =
                row > 0 && column > 0 && word[row - 1] == *other && *letter == name[column - 1];
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or(word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_fields() {
        for (position, spec) in FIELDS.iter().enumerate() {
            assert_eq!(spec.field as usize, position, "{}", spec.name);
            assert_eq!(spec.field.spec().name, spec.name);
        }
    }

    #[test]
    fn the_page_tells_of_every_field() {
        let page = include_str!("../../../docs/query.md");
        for spec in &FIELDS {
            let aliases = spec.aliases.iter().map(|alias| format!("`{alias}`"));
            let aliases = aliases.collect::<Vec<_>>().join(" ");
            let (name, kind, json) = (spec.name, spec.kind.as_str(), spec.json);
            let line = format!(
                "| `{name}` | {aliases} | {kind} | `{json}` | {} |\n",
                spec.help
            );
            assert!(
                page.contains(&line),
                "docs/query.md lacks this line:\n{line}"
            );
        }
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names: Vec<&str> = FIELDS.iter().flat_map(FieldSpec::names).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[track_caller]
    fn check(word: &str, expected: &Named) {
        assert_eq!(&Field::named(word), expected, "{word}");
    }

    #[test]
    fn names_may_be_cut() {
        use Field::*;
        for (word, field) in [
            ("serv", Service),
            ("SERVICE", Service),
            ("s", Service),
            ("st", State),
            ("r", Region),
            ("reg", Registered),
            ("rea", Reason),
            ("req", Requests),
            ("inst", Uuid),
            ("i", Uuid),
            ("l", Last),
            ("up", Uptime),
            ("add", Address),
            ("adm", AdminAddress),
            ("idl", Last),
        ] {
            check(word, &Named::Field(field));
        }
        check(
            "re",
            &Named::Ambiguous(vec![Region, Registered, Reason, Requests]),
        );
        check("ad", &Named::Ambiguous(vec![Address, AdminAddress]));
        check("in", &Named::Ambiguous(vec![Uuid, Inflight]));
    }

    #[test]
    fn unknown_names_bring_the_nearest() {
        check("regoin", &Named::Unknown(Some(Field::Region)));
        check("servce", &Named::Unknown(Some(Field::Service)));
        check("adress", &Named::Unknown(Some(Field::Address)));
        check("color", &Named::Unknown(None));
        check("zz", &Named::Unknown(None));
    }
}
