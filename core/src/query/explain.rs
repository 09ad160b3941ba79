//! Why a query selects nothing.
//!
//! Invariants: one pass over the snapshot, whatever the number of terms. Pure.

use super::rows::Known;
use super::{Query, ast::Expr};

/// The term that took the last row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The term, as the query prints it.
    pub term: String,
    /// How many instances match without it; at least one.
    pub without: usize,
}

impl Known<'_> {
    /// The term without which `query` would select something: the first that leaves nothing of what
    /// the terms before it select, or else the one without which most match. `None` when something
    /// matches, or when leaving out one term does not help.
    pub fn blame(&self, query: &Query) -> Option<Blame> {
        let terms = query.expr().map_or(&[][..], Expr::conjuncts);
        let parts: Vec<Query> = terms.iter().cloned().map(Query::of).collect();
        // How many instances only this term keeps out, and how far any instance gets.
        let mut without = vec![0_usize; parts.len()];
        let mut furthest = 0;
        for instance in self.snapshot.instances() {
            let facts = self.facts(query, instance);
            let mut failed = parts
                .iter()
                .enumerate()
                .filter(|(_, part)| !part.matches(instance, &facts))
                .map(|(position, _)| position);
            // An instance that every term selects: nothing is to be explained.
            let first = failed.next()?;
            furthest = furthest.max(first);
            if failed.next().is_none() {
                without[first] += 1;
            }
        }
        let most = || (0..without.len()).max_by_key(|position| without[*position]);
        let guilty =
            Some(furthest).filter(|term| without.get(*term).is_some_and(|count| *count > 0));
        let guilty = guilty.or_else(most).filter(|term| without[*term] > 0)?;
        Some(Blame {
            term: terms.get(guilty)?.to_string(),
            without: without[guilty],
        })
    }
}

impl std::fmt::Display for Blame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "without `{}`: {}", self.term, self.without)
    }
}
