//! The one query language: what the filter line, the shell, `--where` and clients select by.
//!
//! Pure and sync. Invariants: one table of words ([`schema`]) and one parser serve every surface;
//! parsing never fails but says what is wrong and where; a [`Query`] is valid by construction, and a
//! source with a diagnostic has none, so that a broken query never matches more than a whole one; an
//! unknown value satisfies neither a comparison nor its negation. Knows no terminal and no registry
//! but the snapshot.
//!
//! ```
//! use skynet::query::Query;
//! let query: Query = "service=payments (region:east or avg>50ms)".parse()?;
//! assert!(query.needs_stats());
//! # Ok::<_, skynet::query::QueryError>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::hint::Hint;
use crate::instance::Instance;

pub mod ast;
pub mod classify;
pub mod complete;
pub mod diagnostic;
pub mod eval;
pub mod explain;
pub mod fuzzy;
pub mod parse;
mod plan;
pub mod rows;
pub mod schema;
pub mod selectors;
mod text;
pub mod token;
pub mod version;

#[cfg(test)]
mod tests;

use ast::{Comparison, Value};
pub use ast::{Expr, Statement};
pub use classify::{Role, classify};
pub use complete::{Candidate, Completer, complete};
pub use diagnostic::{Diagnostic, Span};
pub use eval::Facts;
pub use explain::Blame;
pub use parse::{Parsed, parse, parse_query};
use plan::Plan;
pub use rows::{GroupKey, GroupRow, Known, StatsTable, select};
pub use schema::{Field, Flag, Grammar, Listing, Op, Verb};
pub use selectors::{SelectorError, Selectors};
pub use token::{Token, TokenKind};

/// What selects instances; the default selects all. Clones are cheap.
///
/// Its `Display` is a text that parses to an equal query, as long as that keeps within the limits of
/// length and depth of [`parse()`].
#[derive(Debug, Clone, Default)]
pub struct Query(Option<Arc<Compiled>>);

#[derive(Debug)]
struct Compiled {
    expr: Expr,
    plan: Plan,
}

/// A source that is no query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{source_text}` is no query: {}", .first.message)]
pub struct QueryError {
    source_text: String,
    first: Diagnostic,
    others: Vec<Diagnostic>,
}

// === impl Query ===

impl Query {
    /// Everything.
    pub fn all() -> Self {
        Self(None)
    }

    pub(crate) fn of(expr: Expr) -> Self {
        let plan = Plan::of(&expr);
        Self(Some(Arc::new(Compiled { expr, plan })))
    }

    /// What has one of these values in `field`, compared exactly: `*` and `?` stand for themselves.
    ///
    /// A value that the field cannot have matches nothing, and so does an empty list: a selection by
    /// mistake is never wider than one without it.
    pub fn exact(field: Field, values: &[&str]) -> Self {
        let values: Vec<Value> = values
            .iter()
            .filter_map(|value| parse::exact_value(field, value))
            .collect();
        if values.is_empty() {
            return Self::none();
        }
        Self::of(Expr::Compare(Comparison {
            field,
            op: Op::Is,
            values,
        }))
    }

    /// Nothing; written as `!service:*`, which no instance satisfies.
    pub fn none() -> Self {
        Self::of(Expr::not(Expr::Compare(Comparison {
            field: Field::Service,
            op: Op::Has,
            values: vec![Value::Glob("*".to_owned())],
        })))
    }

    /// Whether it has no terms, and so selects everything.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The tree; `None` for everything.
    pub fn expr(&self) -> Option<&Expr> {
        self.0.as_deref().map(|compiled| &compiled.expr)
    }

    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.0.as_deref().map(|compiled| &compiled.plan)
    }

    /// What both select.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.expr(), other.expr()) {
            (Some(left), Some(right)) => Self::of(Expr::and(vec![left.clone(), right.clone()])),
            (Some(_), None) => self,
            (None, _) => other,
        }
    }

    /// Whether it selects `instance`. Allocates nothing.
    pub fn matches(&self, instance: &Instance, facts: &Facts<'_>) -> bool {
        self.plan()
            .is_none_or(|plan| plan.eval(instance, facts) == Some(true))
    }

    /// Whether a term asks for what hosts measure. Balancers refuse such queries.
    pub fn needs_stats(&self) -> bool {
        self.has_term(|term| match term {
            Expr::Compare(comparison) => comparison.field.is_measured(),
            _ => false,
        })
    }

    /// Whether a term is a bare word: a way to look, not a way to aim.
    pub fn has_fuzzy(&self) -> bool {
        self.has_term(|term| matches!(term, Expr::Word(_)))
    }

    /// Whether it asks for nothing but hosts and regions, so that those without instances show.
    pub fn hosts_and_regions_only(&self) -> bool {
        !self.has_term(|term| match term {
            Expr::Compare(comparison) => !matches!(comparison.field, Field::Host | Field::Region),
            _ => true,
        })
    }

    /// Whether a term asks for a host by what may be an address, so that [`Facts::host_address`]
    /// matters.
    pub fn asks_for_hosts(&self) -> bool {
        self.has_term(|term| match term {
            Expr::Compare(comparison) => {
                comparison.field == Field::Host
                    && comparison.values.iter().any(plan::may_be_address)
            }
            _ => false,
        })
    }

    /// Whether a term asks how long ago something was, so that time alone changes what is selected.
    pub fn asks_for_age(&self) -> bool {
        self.has_term(|term| match term {
            Expr::Compare(comparison) => comparison.field.kind() == schema::Kind::Age,
            _ => false,
        })
    }

    /// Whether a term is `marked` or `new`, so that those facts matter.
    pub fn asks_for_marks(&self) -> bool {
        self.has_term(|term| matches!(term, Expr::Flag(Flag::Marked | Flag::New)))
    }

    fn has_term(&self, wanted: impl Fn(&Expr) -> bool) -> bool {
        self.expr()
            .is_some_and(|expr| !expr.all_terms(&mut |term| !wanted(term)))
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.expr() == other.expr()
    }
}

impl fmt::Display for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr().map_or(Ok(()), |expr| expr.fmt(formatter))
    }
}

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(source: &str) -> Result<Self, Self::Err> {
        parse_query(source).into_query()
    }
}

// === impl Parsed ===

impl Parsed {
    /// What it selects.
    ///
    /// # Errors
    ///
    /// What is wrong with the source.
    pub fn into_query(self) -> Result<Query, QueryError> {
        let mut diagnostics = self.diagnostics.into_iter();
        match (self.statement, diagnostics.next()) {
            (Some(statement), None) => Ok(statement.query().clone()),
            (_, first) => Err(QueryError {
                first: first
                    .unwrap_or_else(|| Diagnostic::new(Span::new(0, 0), "nothing was read")),
                source_text: self.source,
                others: diagnostics.collect(),
            }),
        }
    }
}

// === impl QueryError ===

impl QueryError {
    /// The source.
    pub fn source_text(&self) -> &str {
        &self.source_text
    }

    /// Everything that is wrong with it; at least one.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The source and a caret under what is wrong, in two lines.
    pub fn caret(&self) -> String {
        self.first.caret(&self.source_text)
    }
}

impl Hint for QueryError {
    fn hint(&self) -> Option<String> {
        self.first.hint.clone()
    }
}
