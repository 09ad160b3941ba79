//! A query compiled: what is compared is prepared once, and cheap tests come first.
//!
//! Invariants: a plan holds exactly when its tree does, for the order of tests does not change what
//! holds in a logic with unknowns; compiling never fails, because trees are valid by construction.

use std::net::IpAddr;

use crate::instance::State;

use super::ast::{Comparison, Expr, Quantity, Value, Word, WordKind};
use super::parse::bare_factor;
use super::schema::{Field, Flag, Kind, Op};
use super::text::{Glob, Needle};

/// What is evaluated.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// All of these.
    And(Box<[Self]>),
    /// One of these.
    Or(Box<[Self]>),
    /// Not this.
    Not(Box<Self>),
    Flag(Flag),
    /// A field that is text: service, version, region, reason, tag and the addresses.
    Text(Field, Wanted<TextTest>),
    /// The host by name and, where the second says so, by address.
    Host(Wanted<TextTest>, bool),
    /// The order of versions.
    VersionOrder(Op, Box<[Box<str>]>),
    /// Services and versions together.
    ServiceVersion(Wanted<(Option<TextTest>, TextTest)>),
    Uuid(Wanted<UuidTest>),
    Registered(Wanted<bool>),
    State(Wanted<State>),
    Number(Field, Wanted<Interval>),
    Word(WordKind, Needle, Reach),
}

/// Any of some tests, or none of them.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<T> {
    pub(crate) any: Box<[T]>,
    pub(crate) negative: bool,
}

/// A test of a text.
#[derive(Debug, Clone)]
pub(crate) enum TextTest {
    /// Equal; also equal as an address, when it is one.
    Exact(Box<str>, Option<IpAddr>),
    /// Equal to one of many, which are sorted.
    OneOf(Box<[Box<str>]>),
    Contains(Needle),
    Glob(Glob),
    Regex(regex::Regex),
}

/// A test of a uuid.
#[derive(Debug, Clone)]
pub(crate) enum UuidTest {
    /// The bits of `mask` are those of the value.
    Prefix { value: u128, mask: u128 },
    /// One of many whole ones, which are sorted.
    OneOf(Box<[u128]>),
}

/// From `low` to `high`; the ends belong to it unless it is open there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) open: bool,
}

/// Whether a word may stand in an address or a uuid at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) address: bool,
    pub(crate) uuid: bool,
}

impl Plan {
    /// Compiles a tree.
    pub(crate) fn of(expr: &Expr) -> Self {
        match expr {
            Expr::And(parts) => Self::And(cheapest_first(parts)),
            Expr::Or(parts) => Self::Or(cheapest_first(parts)),
            Expr::Not(part) => Self::Not(Box::new(Self::of(part))),
            Expr::Flag(flag) => Self::Flag(*flag),
            Expr::Word(word) => Self::of_word(word),
            Expr::Compare(comparison) => Self::of_comparison(comparison),
        }
    }

    fn of_word(word: &Word) -> Self {
        let needle = Needle::smart(&word.text);
        let reach = Reach {
            address: needle
                .consists_of(|letter| letter.is_ascii_hexdigit() || ".:[]".contains(letter)),
            uuid: needle.consists_of(|letter| letter.is_ascii_hexdigit() || letter == '-'),
        };
        Self::Word(word.kind, needle, reach)
    }

    fn of_comparison(comparison: &Comparison) -> Self {
        let Comparison { field, op, values } = comparison;
        match field.kind() {
            Kind::Text | Kind::Version => Self::of_text(*field, *op, values),
            Kind::Uuid => {
                let prefixes = values.iter().filter_map(|value| match value {
                    Value::Uuid(text) => Some(prefix(text)),
                    _ => None,
                });
                Self::Uuid(wanted(*op, uuids(prefixes.collect())))
            }
            Kind::Bool => Self::Registered(wanted(
                *op,
                values.iter().filter_map(|value| match value {
                    Value::Bool(yes) => Some(*yes),
                    _ => None,
                }),
            )),
            Kind::State => Self::State(wanted(
                *op,
                values.iter().filter_map(|value| match value {
                    Value::State(state) => Some(*state),
                    _ => None,
                }),
            )),
            Kind::Integer | Kind::Number | Kind::Latency | Kind::Age => {
                let bare = bare_factor(field.kind());
                let intervals = values.iter().filter_map(|value| interval(*op, value, bare));
                Self::Number(*field, wanted(*op, intervals))
            }
        }
    }

    fn of_text(field: Field, op: Op, values: &[Value]) -> Self {
        if op.is_order() {
            let texts = values.iter().filter_map(|value| match value {
                Value::Text(text) => Some(text.as_str().into()),
                _ => None,
            });
            return Self::VersionOrder(op, texts.collect());
        }
        let versioned = values
            .iter()
            .any(|value| matches!(value, Value::ServiceVersion(..)));
        if versioned {
            let pairs = values.iter().filter_map(|value| match value {
                Value::ServiceVersion(service, version) => {
                    Some((text_test(op, version), text_test(op, service)?))
                }
                other => Some((None, text_test(op, other)?)),
            });
            return Self::ServiceVersion(wanted(op, pairs));
        }
        let tests = one_of(
            values
                .iter()
                .filter_map(|value| text_test(op, value))
                .collect(),
        );
        if field == Field::Host {
            Self::Host(wanted(op, tests), values.iter().any(may_be_address))
        } else {
            Self::Text(field, wanted(op, tests))
        }
    }

    /// How dear it is beside others, in no unit.
    fn cost(&self) -> usize {
        match self {
            Self::Flag(_) | Self::Registered(_) | Self::State(_) => 1,
            Self::Number(field, _) if field.is_measured() => 5,
            Self::Uuid(_) | Self::Number(..) => 2,
            Self::Text(field, wanted) => {
                let written = matches!(field, Field::Address | Field::AdminAddress);
                text_cost(&wanted.any) + if written { 20 } else { 0 }
            }
            Self::Host(wanted, addresses) => {
                text_cost(&wanted.any) + if *addresses { 20 } else { 0 }
            }
            Self::ServiceVersion(wanted) => 8 * wanted.any.len(),
            Self::VersionOrder(_, versions) => 10 * versions.len(),
            Self::Word(..) => 100,
            Self::Not(part) => part.cost(),
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::cost).sum(),
        }
    }

    /// The services of which alone it can hold, sorted; `None` when it may hold of any.
    pub(crate) fn services(&self) -> Option<Vec<&str>> {
        match self {
            Self::And(parts) => parts.iter().find_map(Self::services),
            Self::Text(
                Field::Service,
                Wanted {
                    any,
                    negative: false,
                },
            ) => {
                let mut services = Vec::new();
                for test in any {
                    match test {
                        TextTest::Exact(text, _) => services.push(&**text),
                        TextTest::OneOf(texts) => services.extend(texts.iter().map(|text| &**text)),
                        _ => return None,
                    }
                }
                services.sort_unstable();
                services.dedup();
                Some(services)
            }
            _ => None,
        }
    }

    /// The ids of which alone it can hold, sorted; `None` when it may hold of any.
    pub(crate) fn ids(&self) -> Option<Vec<u128>> {
        match self {
            Self::And(parts) => parts.iter().find_map(Self::ids),
            Self::Uuid(Wanted {
                any,
                negative: false,
            }) => {
                let mut ids = Vec::new();
                for test in any {
                    match test {
                        UuidTest::Prefix {
                            value,
                            mask: u128::MAX,
                        } => ids.push(*value),
                        UuidTest::Prefix { .. } => return None,
                        UuidTest::OneOf(many) => ids.extend(many),
                    }
                }
                ids.sort_unstable();
                ids.dedup();
                Some(ids)
            }
            _ => None,
        }
    }
}

/// Whether the address of a host could fit: names have other letters, mostly.
pub(crate) fn may_be_address(value: &Value) -> bool {
    let may_stand = |letter: char| letter.is_ascii_hexdigit() || ".:*?".contains(letter);
    match value {
        Value::Text(text) | Value::Glob(text) => text.chars().all(may_stand),
        _ => true,
    }
}

fn cheapest_first(parts: &[Expr]) -> Box<[Plan]> {
    let mut plans: Vec<Plan> = parts.iter().map(Plan::of).collect();
    plans.sort_by_cached_key(Plan::cost);
    plans.into()
}

fn wanted<T>(op: Op, any: impl IntoIterator<Item = T>) -> Wanted<T> {
    Wanted {
        any: any.into_iter().collect(),
        negative: op.is_negative(),
    }
}

fn text_test(op: Op, value: &Value) -> Option<TextTest> {
    match value {
        Value::Text(text) if op == Op::Has => Some(TextTest::Contains(Needle::insensitive(text))),
        Value::Text(text) => Some(TextTest::Exact(text.as_str().into(), text.parse().ok())),
        Value::Glob(glob) => Some(TextTest::Glob(Glob::new(glob, op != Op::Has))),
        Value::Regex(pattern) => Some(TextTest::Regex(pattern.0.clone())),
        _ => None,
    }
}

/// Many exact texts are found by bisection.
fn one_of(tests: Vec<TextTest>) -> Vec<TextTest> {
    const FEW: usize = 8;
    let plain = |test: &TextTest| matches!(test, TextTest::Exact(_, None));
    if tests.iter().filter(|test| plain(test)).count() <= FEW {
        return tests;
    }
    let mut texts = Vec::new();
    let mut others = Vec::new();
    for test in tests {
        match test {
            TextTest::Exact(text, None) => texts.push(text),
            other => others.push(other),
        }
    }
    texts.sort_unstable();
    texts.dedup();
    others.insert(0, TextTest::OneOf(texts.into()));
    others
}

fn text_cost(tests: &[TextTest]) -> usize {
    let one = |test: &TextTest| match test {
        TextTest::Exact(..) => 3,
        TextTest::OneOf(_) => 6,
        TextTest::Contains(_) => 12,
        TextTest::Glob(_) => 14,
        TextTest::Regex(_) => 40,
    };
    tests.iter().map(one).sum()
}

/// The value and the mask of a uuid's first digits.
fn prefix(text: &str) -> (u128, u128) {
    let mut value = 0_u128;
    let mut digits = 0;
    for digit in text
        .chars()
        .filter_map(|letter| letter.to_digit(16))
        .take(32)
    {
        value = (value << 4) | u128::from(digit);
        digits += 4;
    }
    let missing = 128 - digits;
    let mask = u128::MAX.checked_shl(missing).unwrap_or(0);
    (value.checked_shl(missing).unwrap_or(0), mask)
}

/// Many whole uuids are found by bisection.
fn uuids(prefixes: Vec<(u128, u128)>) -> Vec<UuidTest> {
    const FEW: usize = 8;
    let (mut whole, others): (Vec<_>, Vec<_>) = prefixes
        .into_iter()
        .partition(|(_, mask)| *mask == u128::MAX);
    let mut tests: Vec<UuidTest> = Vec::new();
    if whole.len() > FEW {
        whole.sort_unstable();
        whole.dedup();
        tests.push(UuidTest::OneOf(
            whole.drain(..).map(|(value, _)| value).collect(),
        ));
    }
    let singles = whole.into_iter().chain(others);
    tests.extend(singles.map(|(value, mask)| UuidTest::Prefix { value, mask }));
    tests
}

fn interval(op: Op, value: &Value, bare: f64) -> Option<Interval> {
    let scaled = |quantity: &Quantity| quantity.scaled(bare);
    let (low, high) = match value {
        Value::Quantity(quantity) => (scaled(quantity), scaled(quantity)),
        Value::Range(low, high) => (scaled(low), scaled(high)),
        _ => return None,
    };
    let (least, most) = (f64::NEG_INFINITY, f64::INFINITY);
    let (low, high, open) = match op {
        Op::Less => (least, low, true),
        Op::AtMost => (least, low, false),
        Op::More => (high, most, true),
        Op::AtLeast => (high, most, false),
        Op::Has | Op::Is | Op::IsNot | Op::Like | Op::NotLike => (low, high, false),
    };
    Some(Interval { low, high, open })
}
