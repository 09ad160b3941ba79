//! When Enter ends a line: an open quote or parenthesis goes on in the next one.

use reedline::{ValidationResult, Validator};
use skynet::query::{self, TokenKind};

use super::words::{self, Takes};

/// Asks the query language whether a line is whole.
pub(super) struct LineValidator;

impl Validator for LineValidator {
    fn validate(&self, line: &str) -> ValidationResult {
        if is_open(line) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Complete
        }
    }
}

/// Whether a quote or a parenthesis of the line's query is not closed yet. A term that only ends too
/// early is a mistake to be told, not a line to be continued.
fn is_open(line: &str) -> bool {
    let (first, rest) = words::split(line);
    let takes_query = words::named(first).is_some_and(|entry| entry.takes == Takes::Query);
    if !takes_query {
        return false;
    }
    let parsed = query::parse_query(line.get(rest..).unwrap_or_default());
    let count = |wanted: TokenKind| {
        parsed
            .tokens
            .iter()
            .filter(|token| token.kind == wanted)
            .count()
    };
    let open_quote = count(TokenKind::Quoted { closed: false }) > 0;
    parsed.is_incomplete() && (open_quote || count(TokenKind::Open) > count(TokenKind::Close))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_quotes_and_parentheses_go_on() {
        for (line, open) in [
            ("where (service=a", true),
            ("where (service=a)", false),
            ("stop service=\"a b", true),
            ("where avg>", false),
            ("where avg>5x (", false),
            ("call x y {\"a\": (", false),
            ("nonsense (", false),
            ("", false),
        ] {
            assert_eq!(is_open(line), open, "{line}");
        }
    }
}
