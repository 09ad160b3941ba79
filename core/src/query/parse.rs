//! From a source to a statement, or to what keeps it from being one.
//!
//! Invariants: parsing never fails and never panics; there is a statement exactly when there is no
//! diagnostic, so that a broken query can never match more than a whole one; depth, length and
//! number of diagnostics are bounded. After an error it goes on with the next term, so that every
//! mistake of a line is shown. Knows nothing of instances.
#![warn(clippy::indexing_slicing)]

use super::Query;
use super::ast::{Expr, Statement, Word, WordKind};
use super::diagnostic::{Diagnostic, Span};
use super::schema::Grammar;
use super::token::{Token, TokenKind, lex, unquote};

mod comparison;
mod value;

pub(crate) use value::{bare_factor, exact_value, flag_value};

/// How deep `(` and `not` may be nested.
pub const MAX_DEPTH: usize = 100;
/// The longest source, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// How many mistakes of one source are told.
const MAX_DIAGNOSTICS: usize = 16;
/// How many regexes one source may hold: each may take up to 256 KiB.
const MAX_REGEXES: usize = 64;

/// A source that was read.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What was read.
    pub source: String,
    /// What it says; there exactly when there is no diagnostic.
    pub statement: Option<Statement>,
    /// What is wrong with it, in the order of its places.
    pub diagnostics: Vec<Diagnostic>,
    /// The source in pieces, for highlighting.
    pub tokens: Vec<Token>,
}

impl Parsed {
    /// What it selects; `None` exactly when there is a diagnostic.
    pub fn query(&self) -> Option<&Query> {
        self.statement.as_ref().map(Statement::query)
    }

    /// Whether it only ends too early, so that a shell should let its reader type on.
    pub fn is_incomplete(&self) -> bool {
        !self.diagnostics.is_empty() && self.diagnostics.iter().all(|found| found.incomplete)
    }
}

impl Statement {
    /// What it selects.
    pub fn query(&self) -> &Query {
        match self {
            Self::Listing { query, .. } | Self::Change { query, .. } | Self::Query(query) => query,
        }
    }
}

/// Reads a listing, a change or a query.
pub fn parse(source: &str) -> Parsed {
    read(source, Grammar::Statement)
}

/// Reads a query only; no query begins with an order here.
pub fn parse_query(source: &str) -> Parsed {
    read(source, Grammar::Query)
}

fn read(source: &str, grammar: Grammar) -> Parsed {
    let mut parsed = Parsed {
        source: source.to_owned(),
        statement: None,
        diagnostics: Vec::new(),
        tokens: Vec::new(),
    };
    if source.len() > MAX_LENGTH {
        let message = format!("longer than {MAX_LENGTH} bytes");
        parsed
            .diagnostics
            .push(Diagnostic::new(Span::new(0, source.len()), message));
        return parsed;
    }
    parsed.tokens = lex(source, grammar);
    let mut parser = Parser {
        source,
        tokens: &parsed.tokens,
        position: 0,
        regexes: 0,
        given_up: false,
        diagnostics: Vec::new(),
    };
    let statement = parser.statement();
    parsed.diagnostics = parser.diagnostics;
    parsed.diagnostics.sort_by_key(|found| found.span);
    if parsed.diagnostics.is_empty() {
        parsed.statement = statement;
    }
    debug_assert_eq!(parsed.statement.is_some(), parsed.diagnostics.is_empty());
    parsed
}

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token],
    position: usize,
    regexes: usize,
    /// Set when the rest of the source is not read: what is missing there says nothing.
    given_up: bool,
    diagnostics: Vec<Diagnostic>,
}

/// A part that was read; `None` when a diagnostic says why not.
type Part = Option<Expr>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.position).copied()
    }

    fn text(&self, token: Token) -> &'a str {
        token.span.of(self.source)
    }

    /// Takes the next token when it is of this kind.
    fn take(&mut self, kind: TokenKind) -> Option<Token> {
        let token = self.peek().filter(|token| token.kind == kind)?;
        self.position += 1;
        Some(token)
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS && !self.given_up {
            self.diagnostics.push(diagnostic);
        }
    }

    fn statement(&mut self) -> Option<Statement> {
        let first = self.peek().map(|token| token.kind);
        if matches!(first, Some(TokenKind::Listing(_) | TokenKind::Verb(_))) {
            self.position += 1;
        }
        let query = if self.peek().is_some() {
            let mut parts = vec![self.alternatives(0)];
            while let Some(token) = self.take(TokenKind::Close) {
                self.report(
                    Diagnostic::new(token.span, "`)` closes nothing")
                        .hint("to search for it, put it in quotes"),
                );
                if self.peek().is_some() {
                    parts.push(self.alternatives(0));
                }
            }
            let parts: Option<Vec<Expr>> = parts.into_iter().collect();
            Query::of(Expr::and(parts?))
        } else {
            Query::all()
        };
        Some(match first {
            Some(TokenKind::Listing(listing)) => Statement::Listing { listing, query },
            Some(TokenKind::Verb(verb)) => Statement::Change { verb, query },
            _ => Statement::Query(query),
        })
    }

    fn alternatives(&mut self, depth: usize) -> Part {
        let mut parts = vec![self.conjunction(depth, None)];
        while let Some(sign) = self.take(TokenKind::Or) {
            parts.push(self.conjunction(depth, Some(sign)));
        }
        parts.into_iter().collect::<Option<Vec<_>>>().map(Expr::or)
    }

    /// Reads terms up to an `or` or the end. `sign` is the `or` before them.
    fn conjunction(&mut self, depth: usize, sign: Option<Token>) -> Part {
        let mut parts = Vec::new();
        let mut sign = sign;
        loop {
            match self.peek().map(|token| token.kind) {
                Some(TokenKind::And) if parts.is_empty() || sign.is_some() => {
                    self.missing_term(sign);
                    parts.push(None);
                    sign = self.take(TokenKind::And);
                }
                Some(TokenKind::And) => sign = self.take(TokenKind::And),
                None | Some(TokenKind::Or | TokenKind::Close) => break,
                Some(_) => {
                    sign = None;
                    parts.push(self.unary(depth));
                }
            }
        }
        if sign.is_some() || parts.is_empty() {
            self.missing_term(sign);
            parts.push(None);
        }
        parts.into_iter().collect::<Option<Vec<_>>>().map(Expr::and)
    }

    /// Says that a term is missing here; `before` is the sign that wants one.
    fn missing_term(&mut self, before: Option<Token>) {
        let next = self.peek();
        let found = match (before, next) {
            (Some(before), _) => {
                let message = format!("`{}` needs a term behind it", self.text(before));
                Diagnostic::new(before.span, message)
            }
            (None, Some(next)) => {
                let message = format!("a term is missing before `{}`", self.text(next));
                Diagnostic::new(next.span, message)
            }
            (None, None) => {
                let end = self.source.len();
                Diagnostic::new(Span::new(end, end), "a term is missing")
            }
        };
        self.report(found.incomplete_if(next.is_none()));
    }

    fn unary(&mut self, depth: usize) -> Part {
        let token = self.peek()?;
        if depth >= MAX_DEPTH && matches!(token.kind, TokenKind::Not | TokenKind::Open) {
            let message = format!("nested deeper than {MAX_DEPTH}");
            self.report(Diagnostic::new(token.span, message));
            self.given_up = true;
            self.position = self.tokens.len();
            return None;
        }
        self.position += 1;
        match token.kind {
            TokenKind::Not => match self.peek().map(|next| next.kind) {
                None | Some(TokenKind::And | TokenKind::Or | TokenKind::Close) => {
                    self.missing_term(Some(token));
                    None
                }
                Some(_) => self.unary(depth + 1).map(Expr::not),
            },
            TokenKind::Open => {
                let inner = self.alternatives(depth + 1);
                if self.take(TokenKind::Close).is_none() {
                    let found = Diagnostic::new(token.span, "`(` is not closed");
                    self.report(found.hint("add `)`").incomplete_if(true));
                    return None;
                }
                inner
            }
            _ => self.term(token),
        }
    }

    /// Reads a term whose first token, `token`, has been taken.
    fn term(&mut self, token: Token) -> Part {
        match token.kind {
            TokenKind::Field => self.comparison(token),
            TokenKind::Flag(flag) => Some(Expr::Flag(flag)),
            TokenKind::Word => self.word(token),
            TokenKind::Quoted { .. } => {
                let text = self.unquoted(token)?;
                self.substantial(token, WordKind::Substring, &text)
            }
            TokenKind::Saved => {
                let name = self.text(token);
                let found =
                    Diagnostic::new(token.span, format!("`{name}`: there are no saved queries"));
                let hint = format!("write its terms, or search for the word: `\"{name}\"`");
                self.report(found.hint(hint));
                None
            }
            TokenKind::Operator(op) => {
                let found = Diagnostic::new(token.span, format!("`{op}` needs a field before it"));
                let hint = if op.may_be_spaced() {
                    format!("as in `avg{op}50ms`; to search for it, put it in quotes")
                } else {
                    format!("as in `service{op}pay`, without spaces")
                };
                self.report(found.hint(hint));
                None
            }
            _ => {
                let sign = self.text(token);
                let found = Diagnostic::new(token.span, format!("`{sign}` does not belong here"));
                self.report(found.hint("values of a list stand side by side, as in `region=a,b`"));
                None
            }
        }
    }

    fn word(&mut self, token: Token) -> Part {
        let raw = self.text(token);
        if self.touches_next(token, |kind| matches!(kind, TokenKind::Quoted { .. })) {
            self.report(
                Diagnostic::new(token.span, "a quote stands within a word")
                    .hint("put a space between them, or the whole in quotes"),
            );
            return None;
        }
        let (kind, text) = match (raw.strip_prefix('\''), raw.strip_prefix('^')) {
            (Some(text), _) => (WordKind::Substring, text),
            (None, Some(text)) => match text.strip_suffix('$') {
                Some(text) => (WordKind::Whole, text),
                None => (WordKind::Prefix, text),
            },
            (None, None) => match raw.strip_suffix('$') {
                Some(text) => (WordKind::Suffix, text),
                None => (WordKind::Fuzzy, raw),
            },
        };
        self.substantial(token, kind, text)
    }

    /// A word with something in it.
    fn substantial(&mut self, token: Token, kind: WordKind, text: &str) -> Part {
        if text.is_empty() {
            let message = format!("`{}` has nothing to search for", self.text(token));
            let at_end = self.peek().is_none();
            self.report(Diagnostic::new(token.span, message).incomplete_if(at_end));
            return None;
        }
        Some(Expr::Word(Word {
            kind,
            text: text.to_owned(),
        }))
    }

    /// The text of a string that is closed and stands alone.
    fn unquoted(&mut self, token: Token) -> Option<String> {
        if token.kind == (TokenKind::Quoted { closed: false }) {
            let found = Diagnostic::new(token.span, "the string is not closed").hint("add `\"`");
            self.report(found.incomplete_if(true));
            return None;
        }
        let continues = |kind| {
            matches!(
                kind,
                TokenKind::Quoted { .. }
                    | TokenKind::Word
                    | TokenKind::Operator(_)
                    | TokenKind::Field
            )
        };
        if self.touches_next(token, continues) {
            let end = token.span.end;
            self.report(
                Diagnostic::new(Span::new(end, end), "the string ends within a word")
                    .hint("put a space behind it, or the whole in quotes"),
            );
            return None;
        }
        Some(unquote(self.text(token)))
    }

    /// Whether the next token stands directly behind `token` and is one of these.
    fn touches_next(&self, token: Token, kinds: impl Fn(TokenKind) -> bool) -> bool {
        self.peek()
            .is_some_and(|next| next.span.start == token.span.end && kinds(next.kind))
    }
}
