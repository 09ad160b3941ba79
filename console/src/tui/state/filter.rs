//! The filter: terms from drilling down, and typed text; one query of both.
//!
//! Invariants: a text that does not parse never changes what is selected: the last good query
//! stays, and so it does while the last word may still become the name of a field; clearing the text
//! never clears the terms. Pure.

use std::sync::Arc;

use skynet::query::schema::Named;
use skynet::query::{Field, Parsed, Query, TokenKind, parse_query};

use super::ViewKind;
use super::line::Line;
use crate::tui::action::Edit;

/// A term that drilling down has added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// What is compared.
    pub field: Field,
    /// With what, exactly.
    pub value: Arc<str>,
    /// The view to go back to.
    pub from: ViewKind,
    /// How many terms one step down added, told by its last one; 0 for the others.
    pub step: usize,
}

/// What selects the rows.
#[derive(Debug, Clone)]
pub struct Filter {
    terms: Vec<Term>,
    line: Line,
    parsed: Parsed,
    typed: Query,
    query: Query,
    /// The text is a query, but its last word may become the name of a field: it waits.
    waiting: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            terms: Vec::new(),
            line: Line::default(),
            parsed: parse_query(""),
            typed: Query::all(),
            query: Query::all(),
            waiting: false,
        }
    }
}

impl Filter {
    /// What selects the rows now: the terms and the last good text.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// What the last good text asks for.
    pub fn typed(&self) -> &Query {
        &self.typed
    }

    /// The terms, in the order in which they were added.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The text as it stands, good or not.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The parse of the text as it stands.
    pub fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    /// Whether the text as it stands is not a query.
    pub fn is_broken(&self) -> bool {
        !self.parsed.diagnostics.is_empty()
    }

    /// Whether the last word waits, because it may become the name of a field.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The text is left as it stands: what waited counts; `true` when the selection changed.
    pub fn finish(&mut self) -> bool {
        let waited = std::mem::take(&mut self.waiting);
        waited && self.adopt()
    }

    /// The whole filter as text that selects the same.
    pub fn text(&self) -> String {
        if self.query.is_all() {
            String::new()
        } else {
            self.query.to_string()
        }
    }

    /// Moves or deletes in the text; `true` when the selection changed.
    pub fn edit(&mut self, edit: Edit) -> bool {
        self.line.edit(edit);
        self.read()
    }

    /// Puts text in; `true` when the selection changed.
    pub fn insert(&mut self, text: &str) -> bool {
        self.line.insert(text);
        self.read()
    }

    /// Replaces a part of the text; `true` when the selection changed.
    pub fn replace(&mut self, start: usize, end: usize, text: &str) -> bool {
        self.line.replace(start, end, text);
        self.read()
    }

    /// Replaces the whole text; `true` when the selection changed.
    pub fn set_text(&mut self, text: &str) -> bool {
        self.line = Line::new(text);
        let read = self.read();
        self.finish() || read
    }

    /// Adds the terms of one step down from `from`.
    pub fn drill(&mut self, from: ViewKind, added: &[(Field, Arc<str>)]) {
        let count = added.len();
        for (index, (field, value)) in added.iter().enumerate() {
            self.terms.push(Term {
                field: *field,
                value: Arc::clone(value),
                from,
                step: if index + 1 == count { count } else { 0 },
            });
        }
        self.combine();
    }

    /// Takes the last step down back; returns the view that it started from.
    pub fn undrill(&mut self) -> Option<ViewKind> {
        let last = self.terms.last()?;
        let (from, step) = (last.from, last.step.max(1));
        self.terms.truncate(self.terms.len().saturating_sub(step));
        self.combine();
        Some(from)
    }

    /// Forgets all terms.
    pub fn clear_terms(&mut self) {
        self.terms.clear();
        self.combine();
    }

    fn read(&mut self) -> bool {
        if self.parsed.source == self.line.text() {
            return false;
        }
        self.parsed = parse_query(self.line.text());
        self.waiting = self.parsed.query().is_some() && self.may_become_a_field();
        !self.waiting && self.adopt()
    }

    fn adopt(&mut self) -> bool {
        let Some(query) = self.parsed.query().cloned() else {
            return false;
        };
        self.typed = query;
        self.combine();
        true
    }

    /// Whether the text ends in a bare word that is the beginning of a field's name: as a fuzzy word
    /// it would empty the table on the way to every comparison.
    fn may_become_a_field(&self) -> bool {
        let Some(last) = self.parsed.tokens.last() else {
            return false;
        };
        let text = self.line.text();
        last.kind == TokenKind::Word
            && last.span.end == text.len()
            && self.line.cursor() == text.len()
            && !matches!(Field::named(last.span.of(text)), Named::Unknown(_))
    }

    fn combine(&mut self) {
        self.query = self.steps().and(self.typed.clone());
    }

    /// What the steps down select, whatever was typed.
    pub fn steps(&self) -> Query {
        self.terms
            .iter()
            .fold(Query::all(), |query, term| query.and(exact(term)))
    }
}

fn exact(term: &Term) -> Query {
    Query::exact(term.field, &[&term.value])
}
