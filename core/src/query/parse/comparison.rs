//! Comparisons: a field, an operator and values, and what is said when one of them is wrong.
//!
//! Invariants: as those of the parser; the lexer has put an operator behind every field.
#![warn(clippy::indexing_slicing)]

use super::super::ast::{Comparison, Expr, Value};
use super::super::diagnostic::{Diagnostic, Span};
use super::super::schema::{Field, Kind, Named, Op};
use super::super::token::{Token, TokenKind};
use super::{MAX_REGEXES, Parser, Part, value};

impl Parser<'_> {
    /// Reads a comparison whose field, `name`, has been taken.
    pub(super) fn comparison(&mut self, name: Token) -> Part {
        let field = self.field(name);
        let Some(Token {
            span,
            kind: TokenKind::Operator(op),
        }) = self.peek()
        else {
            return None;
        };
        self.position += 1;
        let field = field.and_then(|field| self.allowed(field, op, span));
        let mut last = span;
        let mut values = Vec::new();
        loop {
            values.push(self.value(field, op, last));
            match self.take(TokenKind::Comma) {
                Some(comma) => last = comma.span,
                None => break,
            }
        }
        Some(Expr::Compare(Comparison {
            field: field?,
            op,
            values: values.into_iter().collect::<Option<Vec<Value>>>()?,
        }))
    }

    fn field(&mut self, name: Token) -> Option<Field> {
        let word = self.text(name);
        let (message, hint) = match Field::named(word) {
            Named::Field(field) => return Some(field),
            Named::Ambiguous(fields) => {
                let names: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
                let message = format!("`{word}` may be {}", names.join(" or "));
                (message, "write more of its name".to_owned())
            }
            Named::Unknown(Some(field)) => (
                format!("there is no field `{word}`"),
                format!("did you mean `{field}`?"),
            ),
            Named::Unknown(None) => (
                format!("there is no field `{word}`"),
                "to search for the text, put it in quotes".to_owned(),
            ),
        };
        self.report(Diagnostic::new(name.span, message).hint(hint));
        None
    }

    /// `field`, when it takes `op`.
    fn allowed(&mut self, field: Field, op: Op, span: Span) -> Option<Field> {
        let operators = field.kind().operators();
        if operators.contains(&op) {
            return Some(field);
        }
        let signs: Vec<String> = operators.iter().map(|op| format!("`{op}`")).collect();
        let message = format!("`{field}` does not take `{op}`");
        let hint = format!("try {}", signs.join(" "));
        self.report(Diagnostic::new(span, message).hint(hint));
        None
    }

    /// Reads one value; `before` is the operator or comma before it.
    fn value(&mut self, field: Option<Field>, op: Op, before: Span) -> Option<Value> {
        let token = self.peek().filter(|next| match next.kind {
            TokenKind::Value => true,
            TokenKind::Quoted { .. } => {
                let after_comma = before.of(self.source) == ",";
                next.span.start == before.end || (op.may_be_spaced() && !after_comma)
            }
            _ => false,
        });
        let Some(token) = token else {
            self.missing_value(field, op, before);
            return None;
        };
        self.position += 1;
        if matches!(token.kind, TokenKind::Quoted { .. }) {
            let text = self.unquoted(token)?;
            return self.checked(value::quoted(field?, op, text, token.span), op);
        }
        let raw = self.text(token);
        if let Some(found) = self.unquoted_sign(token, op) {
            self.report(found);
            return None;
        }
        let at_end = self.peek().is_none();
        self.checked(value::bare(field?, op, raw, token.span, at_end), op)
    }

    fn checked(&mut self, value: Result<Value, Diagnostic>, op: Op) -> Option<Value> {
        match value {
            Ok(value) => {
                self.regexes += usize::from(op.is_regex());
                if self.regexes == MAX_REGEXES + 1 {
                    let end = self.source.len();
                    let message = format!("more than {MAX_REGEXES} regexes");
                    self.report(Diagnostic::new(Span::new(0, end), message));
                }
                Some(value)
            }
            Err(found) => {
                self.report(found);
                None
            }
        }
    }

    /// What is wrong when a sign that ends a value was probably meant to be part of it.
    fn unquoted_sign(&self, token: Token, op: Op) -> Option<Diagnostic> {
        let meant = |kind| match kind {
            TokenKind::Open | TokenKind::Quoted { .. } => true,
            TokenKind::Or | TokenKind::And => op.is_regex(),
            _ => false,
        };
        if !self.touches_next(token, meant) {
            return None;
        }
        let next = self.peek()?;
        let sign = self.text(next);
        let what = if op.is_regex() { "a regex" } else { "a value" };
        let sign = if sign.starts_with('"') { "\"" } else { sign };
        Some(
            Diagnostic::new(
                token.span.to(next.span),
                format!("{what} with `{sign}` must be quoted"),
            )
            .hint("put it in quotes, or a space behind it"),
        )
    }

    fn missing_value(&mut self, field: Option<Field>, op: Op, before: Span) {
        let next = self.peek();
        let regex = op.is_regex()
            && next
                .is_some_and(|next| next.span.start == before.end && next.kind == TokenKind::Open);
        let found = if regex {
            Diagnostic::new(before, "a regex with `(` must be quoted").hint("put it in quotes")
        } else {
            let sign = before.of(self.source);
            let examples = field.map_or(&[][..], |field| match field.kind() {
                Kind::Bool => &["yes", "no"],
                _ => field.spec().examples,
            });
            let found = Diagnostic::new(before, format!("`{sign}` needs a value behind it"))
                .incomplete_if(next.is_none());
            match (field, examples.first()) {
                _ if next.is_some() && sign == "," => found.hint("no space after a comma"),
                _ if sign == "," => found.hint("write another one, or leave the comma out"),
                _ if next.is_some() && !op.may_be_spaced() => {
                    found.hint(format!("no space after `{sign}`"))
                }
                (Some(field), Some(example)) => found.hint(format!("as in `{field}{op}{example}`")),
                _ => found,
            }
        };
        self.report(found);
    }
}
