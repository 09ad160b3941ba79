//! Which part of a source is to be drawn how.
//!
//! Invariants: the parts do not overlap and stand in order; what lies between them is white space.
//! Roles, not colors: the theme of a surface knows those.

use super::parse::Parsed;
use super::schema::Grammar;
use super::token::{Span, TokenKind};

/// How a part of a source is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A listing or a verb.
    Command,
    /// `and`, `or`, `not` and their signs.
    Keyword,
    /// The name of a field.
    Field,
    /// An operator.
    Operator,
    /// A value.
    Value,
    /// A flag.
    Flag,
    /// A bare word, quoted or not, outside comparisons.
    Fuzzy,
    /// Parentheses and commas.
    Punctuation,
    /// What is wrong; what only ends too early is not.
    Error,
}

/// The parts of what was read, each with its role.
pub fn classify(parsed: &Parsed) -> Vec<(Span, Role)> {
    let mut parts = Vec::with_capacity(parsed.tokens.len());
    let mut in_comparison = false;
    for token in &parsed.tokens {
        let role = match token.kind {
            TokenKind::Listing(_) | TokenKind::Verb(_) => Role::Command,
            TokenKind::And | TokenKind::Or | TokenKind::Not => Role::Keyword,
            TokenKind::Open | TokenKind::Close | TokenKind::Comma => Role::Punctuation,
            TokenKind::Field => Role::Field,
            TokenKind::Operator(_) => Role::Operator,
            TokenKind::Value => Role::Value,
            TokenKind::Quoted { .. } if in_comparison => Role::Value,
            TokenKind::Quoted { .. } | TokenKind::Word => Role::Fuzzy,
            TokenKind::Flag(_) => Role::Flag,
            TokenKind::Saved => Role::Error,
        };
        in_comparison = matches!(token.kind, TokenKind::Operator(_) | TokenKind::Comma);
        split(token.span, role, parsed, &mut parts);
    }
    parts
}

/// The same of a source that is not read yet.
pub fn classify_source(source: &str, grammar: Grammar) -> Vec<(Span, Role)> {
    classify(&match grammar {
        Grammar::Statement => super::parse(source),
        Grammar::Query => super::parse_query(source),
    })
}

/// Appends `span`, cut where mistakes begin and end.
fn split(span: Span, role: Role, parsed: &Parsed, parts: &mut Vec<(Span, Role)>) {
    let mut at = span.start;
    let mistakes = parsed.diagnostics.iter().filter(|found| !found.incomplete);
    for mistake in mistakes.map(|found| found.span) {
        let start = mistake.start.clamp(at, span.end);
        let end = mistake.end.clamp(start, span.end);
        if start < end {
            if at < start {
                parts.push((Span::new(at, start), role));
            }
            parts.push((Span::new(start, end), Role::Error));
            at = end;
        }
    }
    if at < span.end {
        parts.push((Span::new(at, span.end), role));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let parts: Vec<String> = classify_source(source, Grammar::Statement)
            .into_iter()
            .map(|(span, role)| format!("{role:?} {}", span.of(source)))
            .collect();
        assert_eq!(parts.join(", "), expected, "{source}");
    }

    #[test]
    fn every_part_has_a_role() {
        check(
            r#"stop (service="a",b or !pay) reg "x""#,
            "Command stop, Punctuation (, Field service, Operator =, Value \"a\", Punctuation ,, \
             Value b, Keyword or, Keyword !, Fuzzy pay, Punctuation ), Flag reg, Fuzzy \"x\"",
        );
    }

    #[test]
    fn mistakes_are_drawn_where_they_are() {
        check("avg>5x", "Field avg, Operator >, Value 5, Error x");
        check("regoin=a", "Error regoin, Operator =, Value a");
        check("(avg>", "Punctuation (, Field avg, Operator >");
    }
}
