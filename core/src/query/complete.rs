//! What could stand at the cursor: words of the grammar, fields, operators, and live values.
//!
//! Invariants: pure and from the snapshot only; at most [`MOST`] candidates; every candidate, put in
//! place of its span, leaves the rest of the source as it is; values are narrowed by the rest of the
//! query and the filter, unless that leaves nothing. Knows no menu and no keys.

use super::ast::as_value;
use super::classify::Role;
use super::fuzzy::{Fuzzy, Scorer};
use super::parse::parse_query;
use super::rows::{Known, StatsTable};
use super::schema::{FIELDS, Field, Flag, Grammar, Kind, Listing, Named, Op, Verb};
use super::token::{Span, Token, TokenKind, lex, unquote};
use super::{Query, version};
use crate::registry::snapshot::Snapshot;

mod values;

/// The most candidates that are offered.
pub const MOST: usize = 100;

/// Something that could stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it replaces.
    pub span: Span,
    /// What to put there.
    pub text: String,
    /// What it is, or how many instances it would leave.
    pub description: String,
    /// How to draw it.
    pub role: Role,
}

/// Completes sources from what is known.
#[derive(Debug, Clone, Copy)]
pub struct Completer<'a> {
    known: Known<'a>,
    filter: Option<&'a Query>,
}

/// Completes `source` at the byte `cursor` from a snapshot alone.
pub fn complete(
    source: &str,
    cursor: usize,
    snapshot: &Snapshot,
    grammar: Grammar,
) -> Vec<Candidate> {
    let stats = StatsTable::new();
    let known = Known::new(snapshot, &stats, jiff::Timestamp::UNIX_EPOCH);
    Completer::new(known).complete(source, cursor, grammar)
}

/// What the cursor is in.
enum Place {
    /// A term: what was typed of it, and whether a whole term stands before it.
    Term {
        span: Span,
        joined: bool,
        first: bool,
    },
    /// A value of the comparison whose field is at `start`.
    Value {
        start: usize,
        field: Field,
        op: Op,
        span: Span,
    },
    /// Where nothing can be said.
    Nothing,
}

impl<'a> Completer<'a> {
    /// Completes from what is known, narrowed by no filter.
    pub fn new(known: Known<'a>) -> Self {
        Self {
            known,
            filter: None,
        }
    }

    /// Narrows live values by the filter that holds around the source.
    #[must_use]
    pub fn within(self, filter: &'a Query) -> Self {
        Self {
            filter: Some(filter),
            ..self
        }
    }

    /// What could stand in `source` at the byte `cursor`, the best first.
    pub fn complete(&self, source: &str, cursor: usize, grammar: Grammar) -> Vec<Candidate> {
        let cursor = (0..=cursor.min(source.len()))
            .rev()
            .find(|at| source.is_char_boundary(*at))
            .unwrap_or(0);
        let tokens = lex(source, grammar);
        match place(source, cursor, grammar) {
            Place::Nothing => Vec::new(),
            Place::Term {
                span,
                joined,
                first,
            } => {
                let typed = span.of(source);
                let span = whole(&tokens, span);
                let statement = first && grammar == Grammar::Statement;
                let compared = tokens.contains(&Token {
                    span,
                    kind: TokenKind::Field,
                });
                let around = around(source, span, grammar);
                self.terms(
                    typed,
                    span,
                    Expected {
                        joined,
                        statement,
                        compared,
                    },
                    around.as_ref(),
                )
            }
            Place::Value {
                start,
                field,
                op,
                span,
            } => {
                let typed = span.of(source);
                let typed = if typed.starts_with('"') {
                    unquote(typed)
                } else {
                    typed.to_owned()
                };
                let span = whole(&tokens, span);
                let around = around(
                    source,
                    Span::new(start, end_of_list(&tokens, span)),
                    grammar,
                );
                self.values_at(field, op, &typed, span, around.as_ref())
            }
        }
    }

    /// Values of `field` that fit what was typed, for commands that take values alone.
    pub fn values(&self, field: Field, typed: &str, span: Span) -> Vec<Candidate> {
        self.values_at(field, Op::Is, typed, span, None)
    }

    /// Scores words and puts the best first; of equal ones the earlier.
    fn terms(
        &self,
        typed: &str,
        span: Span,
        expected: Expected,
        around: Option<&Query>,
    ) -> Vec<Candidate> {
        let mut scorer = Scorer::new(typed);
        let mut places = Vec::new();
        let mut scored: Vec<(u16, Candidate)> = Vec::new();
        for (names, description, role) in words(expected) {
            places.clear();
            // Aliases are too short to be found by letters in between.
            let fitting = names.iter().enumerate();
            let fitting = fitting.filter(|(at, name)| *at == 0 || name.starts_with(typed));
            let score = fitting
                .filter_map(|(_, name)| scorer.score(name, &mut places))
                .max();
            if let (Some(score), Some(name)) = (score, names.first()) {
                let text = (*name).to_owned();
                scored.push((
                    score,
                    Candidate {
                        span,
                        text,
                        description,
                        role,
                    },
                ));
            }
        }
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let words = scored.into_iter().map(|(_, candidate)| candidate);
        if expected.compared {
            return words.collect();
        }
        let mut candidates: Vec<Candidate> = operators(typed, span).chain(words).collect();
        if !typed.is_empty() {
            candidates.extend(self.terms_at(typed, span, around));
        }
        candidates.truncate(MOST);
        candidates
    }
}

/// The query without what stands in `hole`, as far as it can be read.
fn around(source: &str, hole: Span, grammar: Grammar) -> Option<Query> {
    let (before, rest) = source.split_at_checked(hole.start)?;
    let after = rest.get(hole.end - hole.start..).unwrap_or_default();
    let read = |text: &str| {
        let parsed = match grammar {
            Grammar::Statement => super::parse(text),
            Grammar::Query => parse_query(text),
        };
        parsed.query().filter(|query| !query.is_all()).cloned()
    };
    read(&format!("{before} {after}")).or_else(|| read(before))
}

/// What may stand where a term is expected.
#[derive(Clone, Copy)]
struct Expected {
    /// `and` and `or`, for a whole term stands before.
    joined: bool,
    /// A listing or a verb.
    statement: bool,
    /// Only a field, for an operator stands behind.
    compared: bool,
}

/// The words of the grammar that may stand there, each with all its names.
fn words(expected: Expected) -> Vec<(Vec<&'static str>, String, Role)> {
    let mut words = Vec::new();
    let mut offer = |names: Vec<&'static str>, help: String, role| words.push((names, help, role));
    if expected.statement && !expected.compared {
        for listing in Listing::ALL {
            offer(
                vec![listing.as_str()],
                listing.help().to_owned(),
                Role::Command,
            );
        }
        for verb in Verb::ALL {
            offer(vec![verb.as_str()], verb.help().to_owned(), Role::Command);
        }
    }
    for spec in &FIELDS {
        let help = format!("{} · {}", spec.kind.as_str(), spec.help);
        offer(spec.names().collect(), help, Role::Field);
    }
    if expected.compared {
        return words;
    }
    for flag in Flag::ALL {
        offer(vec![flag.as_str()], flag.help().to_owned(), Role::Flag);
    }
    if expected.joined {
        offer(vec!["and"], "both sides".to_owned(), Role::Keyword);
        offer(vec!["or"], "either side".to_owned(), Role::Keyword);
    }
    offer(vec!["not"], "not what follows".to_owned(), Role::Keyword);
    words
}

/// The operators of the field that was typed whole.
fn operators(typed: &str, span: Span) -> impl Iterator<Item = Candidate> {
    let field = FIELDS
        .iter()
        .find(|spec| spec.names().any(|name| name == typed))
        .map(|spec| spec.field);
    field.into_iter().flat_map(move |field| {
        let typed = field.as_str();
        field.kind().operators().iter().map(move |op| Candidate {
            span,
            text: format!("{typed}{op}"),
            description: op.help().to_owned(),
            role: Role::Operator,
        })
    })
}

/// Finds what the cursor is in, from what stands before it.
fn place(source: &str, cursor: usize, grammar: Grammar) -> Place {
    let before = source.get(..cursor).unwrap_or_default();
    let tokens = lex(before, grammar);
    let here = Span::new(cursor, cursor);
    let term = |span, tokens: &[Token]| Place::Term {
        span,
        joined: tokens.last().is_some_and(|token| ends_term(token.kind)),
        first: tokens.is_empty(),
    };
    let Some((last, earlier)) = tokens.split_last() else {
        return term(here, &[]);
    };
    let touching = last.span.end == cursor;
    match last.kind {
        TokenKind::Quoted { closed: true } | TokenKind::Close | TokenKind::Saved if touching => {
            Place::Nothing
        }
        TokenKind::Value | TokenKind::Quoted { closed: false } if touching => {
            value_place(before, earlier, last.span)
        }
        TokenKind::Operator(op) if touching || op.may_be_spaced() => {
            value_place(before, &tokens, here)
        }
        TokenKind::Comma if touching => value_place(before, &tokens, here),
        TokenKind::Operator(_) | TokenKind::Comma | TokenKind::Field => Place::Nothing,
        _ if touching && last.span.of(before).starts_with(char::is_alphabetic) => {
            term(last.span, earlier)
        }
        // Words with signs or digits at their start are searched for as they are.
        TokenKind::Word if touching => Place::Nothing,
        _ => term(here, &tokens),
    }
}

/// The value at `span` of the list that `tokens` end with.
fn value_place(source: &str, tokens: &[Token], span: Span) -> Place {
    let mut op = None;
    for token in tokens.iter().rev() {
        match (token.kind, op) {
            (TokenKind::Value | TokenKind::Quoted { .. } | TokenKind::Comma, None) => {}
            (TokenKind::Operator(found), None) => op = Some(found),
            (TokenKind::Field, Some(op)) => {
                let Named::Field(field) = Field::named(token.span.of(source)) else {
                    return Place::Nothing;
                };
                return Place::Value {
                    start: token.span.start,
                    field,
                    op,
                    span,
                };
            }
            _ => return Place::Nothing,
        }
    }
    Place::Nothing
}

fn ends_term(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Value
            | TokenKind::Quoted { .. }
            | TokenKind::Word
            | TokenKind::Flag(_)
            | TokenKind::Close
            | TokenKind::Saved
    )
}

/// The token of which `span` is the start, so that what stands behind the cursor is replaced too.
fn whole(tokens: &[Token], span: Span) -> Span {
    let token = tokens
        .iter()
        .find(|token| token.span.start == span.start && !span.of_nothing());
    token.map_or(span, |token| token.span)
}

/// Where the list of values around `span` ends.
fn end_of_list(tokens: &[Token], span: Span) -> usize {
    let mut end = span.end;
    for token in tokens.iter().filter(|token| token.span.start >= span.start) {
        let continues = matches!(
            token.kind,
            TokenKind::Value | TokenKind::Quoted { .. } | TokenKind::Comma
        );
        if !continues || token.span.start > end {
            break;
        }
        end = end.max(token.span.end);
    }
    end
}

impl Span {
    fn of_nothing(self) -> bool {
        self.start == self.end
    }
}
