//! A query as a tree, and its text.
//!
//! Invariants: the text of a tree parses to the same tree; no `And` stands directly in an `And`, no
//! `Or` in an `Or`, and neither has fewer than two parts; a fuzzy word directly under `Not` is a
//! substring, because what is *not* like a few letters says nothing. Trees hold no spans.

use std::fmt;

use crate::instance::State;

use super::schema::{Field, Flag, Listing, Op, Verb};
use super::token::{ends_word, quote};

/// What a query asks of an instance.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All of these; two or more.
    And(Vec<Self>),
    /// One of these; two or more.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A field compared with values.
    Compare(Comparison),
    /// A flag.
    Flag(Flag),
    /// A bare word.
    Word(Word),
}

/// A field compared with values, of which any may hold (or, for `!=` and `!~`, none).
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The field.
    pub field: Field,
    /// How it is compared.
    pub op: Op,
    /// With what; one or more.
    pub values: Vec<Value>,
}

/// A value of a comparison, read according to the field's kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text as it stands.
    Text(String),
    /// Text with `*` for any letters and `?` for one.
    Glob(String),
    /// A regex, checked and compiled.
    Regex(Pattern),
    /// A service and its version, each text or glob.
    ServiceVersion(Box<Self>, Box<Self>),
    /// The start of a uuid, as it was typed.
    Uuid(String),
    /// Yes or no.
    Bool(bool),
    /// A state.
    State(State),
    /// A number or a duration.
    Quantity(Quantity),
    /// From the first to the second, both included.
    Range(Quantity, Quantity),
}

/// A compiled regex that is equal to others of the same text.
#[derive(Debug, Clone)]
pub struct Pattern(pub(crate) regex::Regex, pub(crate) String);

/// A number and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    /// The number as typed; finite and not negative.
    pub number: f64,
    /// Its unit, when one was typed.
    pub unit: Option<Unit>,
}

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousands.
    Kilo,
    /// Millions.
    Mega,
    /// Thousands of millions.
    Giga,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Days.
    Days,
}

/// A bare word: what it looks for in service, version, host, region, address and uuid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// How it is looked for.
    pub kind: WordKind,
    /// What is looked for, without signs; never empty.
    pub text: String,
}

/// How a bare word is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordKind {
    /// Its letters in this order, others between them.
    Fuzzy,
    /// `'x` and `"x"`: as it stands, anywhere.
    Substring,
    /// `^x`.
    Prefix,
    /// `x$`.
    Suffix,
    /// `^x$`.
    Whole,
}

/// What was asked or ordered.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// A listing of what matches.
    Listing {
        /// Of what.
        listing: Listing,
        /// Which.
        query: super::Query,
    },
    /// A change of what matches.
    Change {
        /// Which change.
        verb: Verb,
        /// To what; with [`super::Query::is_all`] the surface decides, see the marks and the cursor.
        query: super::Query,
    },
    /// A query alone.
    Query(super::Query),
}

// === impl Expr ===

impl Expr {
    /// All of `parts`, which are one or more; nested conjunctions are flattened.
    pub(crate) fn and(parts: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        one_or(flat, Self::And)
    }

    /// Any of `parts`, which are one or more; nested alternatives are flattened.
    pub(crate) fn or(parts: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        one_or(flat, Self::Or)
    }

    /// Not `part`.
    pub(crate) fn not(part: Self) -> Self {
        Self::Not(Box::new(match part {
            Self::Word(Word {
                kind: WordKind::Fuzzy,
                text,
            }) => Self::Word(Word {
                kind: WordKind::Substring,
                text,
            }),
            other => other,
        }))
    }

    /// The parts of which all must hold; for anything but a conjunction, itself.
    pub fn conjuncts(&self) -> &[Self] {
        match self {
            Self::And(parts) => parts,
            other => std::slice::from_ref(other),
        }
    }

    /// Whether `holds` says so of every comparison, flag and word.
    pub(crate) fn all_terms(&self, holds: &mut impl FnMut(&Self) -> bool) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.all_terms(holds)),
            Self::Not(part) => part.all_terms(holds),
            term => holds(term),
        }
    }
}

fn one_or(mut parts: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            several(parts)
        }
        None => several(parts),
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Or(parts) => separated(formatter, parts, " or ", |_| false),
            Self::And(parts) => {
                separated(formatter, parts, " ", |part| matches!(part, Self::Or(_)))
            }
            Self::Not(part) if matches!(**part, Self::And(_) | Self::Or(_)) => {
                write!(formatter, "!({part})")
            }
            Self::Not(part) => write!(formatter, "!{part}"),
            Self::Compare(comparison) => comparison.fmt(formatter),
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Word(word) => word.fmt(formatter),
        }
    }
}

fn separated(
    formatter: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    separator: &str,
    in_parentheses: fn(&Expr) -> bool,
) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            formatter.write_str(separator)?;
        }
        if in_parentheses(part) {
            write!(formatter, "({part})")?;
        } else {
            write!(formatter, "{part}")?;
        }
    }
    Ok(())
}

// === impl Comparison ===

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.field, self.op)?;
        for (position, value) in self.values.iter().enumerate() {
            if position > 0 {
                formatter.write_str(",")?;
            }
            value.write(formatter, self.field)?;
        }
        Ok(())
    }
}

impl Value {
    fn write(&self, formatter: &mut fmt::Formatter<'_>, field: Field) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(&as_value(text, field)),
            Self::Glob(text) | Self::Uuid(text) => formatter.write_str(text),
            Self::Regex(pattern) if is_bare(pattern.as_str()) => {
                formatter.write_str(pattern.as_str())
            }
            Self::Regex(pattern) => formatter.write_str(&quote(pattern.as_str())),
            Self::ServiceVersion(service, version) => {
                service.write(formatter, field)?;
                formatter.write_str(":")?;
                version.write(formatter, Field::Version)
            }
            Self::Bool(yes) => formatter.write_str(if *yes { "yes" } else { "no" }),
            Self::State(state) => write!(formatter, "{state}"),
            Self::Quantity(quantity) => write!(formatter, "{quantity}"),
            Self::Range(low, high) => write!(formatter, "{low}..{high}"),
        }
    }
}

/// `text` as a value of `field`: in quotes where it would not be read as it stands.
pub(crate) fn as_value(text: &str, field: Field) -> String {
    let special = text.contains(['*', '?']) || (field == Field::Service && text.contains(':'));
    if is_bare(text) && !special {
        text.to_owned()
    } else {
        quote(text)
    }
}

/// Whether `text` can stand behind an operator without quotes.
fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(ends_word)
        && !text.starts_with(['=', '~', '<', '>', '!', ':'])
}

// === impl Pattern ===

impl Pattern {
    /// The regex's text, as it was typed.
    pub fn as_str(&self) -> &str {
        &self.1
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

// === impl Quantity ===

impl Quantity {
    /// The number itself, or the duration in microseconds; a bare number counts as `bare`.
    pub(crate) fn scaled(self, bare: f64) -> f64 {
        self.number * self.unit.map_or(bare, Unit::factor)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}{}",
            self.number,
            self.unit.map_or("", Unit::as_str)
        )
    }
}

impl Unit {
    const ALL: [Self; 9] = [
        Self::Kilo,
        Self::Mega,
        Self::Giga,
        Self::Micros,
        Self::Millis,
        Self::Seconds,
        Self::Minutes,
        Self::Hours,
        Self::Days,
    ];

    /// The unit's letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kilo => "k",
            Self::Mega => "M",
            Self::Giga => "G",
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::Minutes => "m",
            Self::Hours => "h",
            Self::Days => "d",
        }
    }

    /// Reads a unit.
    pub(crate) fn named(letters: &str) -> Option<Self> {
        match letters {
            "K" => Some(Self::Kilo),
            "\u{b5}s" | "\u{3bc}s" => Some(Self::Micros),
            _ => Self::ALL.into_iter().find(|unit| unit.as_str() == letters),
        }
    }

    /// Whether it counts time.
    pub(crate) const fn is_time(self) -> bool {
        !matches!(self, Self::Kilo | Self::Mega | Self::Giga)
    }

    /// How much one of it is: of one, or in microseconds.
    pub(crate) const fn factor(self) -> f64 {
        match self {
            Self::Kilo | Self::Millis => 1e3,
            Self::Mega | Self::Seconds => 1e6,
            Self::Giga => 1e9,
            Self::Micros => 1.0,
            Self::Minutes => 60e6,
            Self::Hours => 3_600e6,
            Self::Days => 86_400e6,
        }
    }
}

// === impl Word ===

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.kind {
            WordKind::Fuzzy => formatter.write_str(text),
            WordKind::Substring if text.contains(ends_word) || text.contains(['\\', '\'']) => {
                formatter.write_str(&quote(text))
            }
            WordKind::Substring => write!(formatter, "'{text}"),
            WordKind::Prefix => write!(formatter, "^{text}"),
            WordKind::Suffix => write!(formatter, "{text}$"),
            WordKind::Whole => write!(formatter, "^{text}$"),
        }
    }
}

// === impl Statement ===

impl fmt::Display for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listing { listing, query } if query.is_all() => listing.fmt(formatter),
            Self::Listing { listing, query } => write!(formatter, "{listing} {query}"),
            Self::Change { verb, query } if query.is_all() => verb.fmt(formatter),
            Self::Change { verb, query } => write!(formatter, "{verb} {query}"),
            Self::Query(query) => {
                let text = query.to_string();
                let first = text.split(ends_word).next().unwrap_or_default();
                let taken = Listing::ALL.iter().any(|listing| listing.as_str() == first)
                    || Verb::ALL.iter().any(|verb| verb.as_str() == first);
                // A query that begins with the word `stop` must not become an order.
                if taken {
                    write!(formatter, "({text})")
                } else {
                    formatter.write_str(&text)
                }
            }
        }
    }
}
