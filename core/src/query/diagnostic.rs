//! What is wrong with a source, where, and what to write instead; drawn as two lines with a caret.
//!
//! Invariants: a span lies within its source on character boundaries; messages are lower case
//! without a dot at the end. All surfaces draw the caret by [`Diagnostic::caret`].

use std::fmt;

use unicode_width::UnicodeWidthChar;

/// The widest excerpt of a source that a caret is drawn under, in columns.
const EXCERPT: usize = 100;

/// A part of a source, in byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The text that it covers; empty when it does not lie within `source`.
    pub fn of(self, source: &str) -> &str {
        source.get(self.start..self.end).unwrap_or_default()
    }

    /// From the start of this to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self::new(self.start, other.end)
    }
}

/// Something that keeps a source from being a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// Whether the source only ends too early, so that typing on may mend it.
    pub incomplete: bool,
}

impl Diagnostic {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
            incomplete: false,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn incomplete_if(mut self, incomplete: bool) -> Self {
        self.incomplete = incomplete;
        self
    }

    /// Two lines: the source (or the part of a long one around the span), and carets under the
    /// span with the message behind them. Control characters are drawn as spaces.
    pub fn caret(&self, source: &str) -> String {
        let columns: Vec<(usize, char, usize)> = source
            .char_indices()
            .map(|(at, letter)| {
                let drawn = if letter.is_control() { ' ' } else { letter };
                (at, drawn, drawn.width().unwrap_or(0))
            })
            .collect();
        let before: usize = columns
            .iter()
            .filter(|(at, ..)| *at < self.span.start)
            .map(|(.., width)| width)
            .sum();
        let carets: usize = columns
            .iter()
            .filter(|(at, ..)| (self.span.start..self.span.end).contains(at))
            .map(|(.., width)| width)
            .sum();
        let total: usize = columns.iter().map(|(.., width)| width).sum();
        // A long source is cut so that the start of the span stays in sight.
        let skip = if total <= EXCERPT {
            0
        } else {
            before.saturating_sub(EXCERPT / 2)
        };
        let mut line = String::new();
        let mut column = 0;
        for (_, drawn, width) in columns {
            if column >= skip && column + width <= skip + EXCERPT {
                line.push(drawn);
            }
            column += width;
        }
        let room = (skip + EXCERPT).saturating_sub(before).max(1);
        let indent = " ".repeat(before - skip);
        let carets = "^".repeat(carets.clamp(1, room));
        format!("{line}\n{indent}{carets} {}", self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, span: (usize, usize), expected: &str) {
        let diagnostic = Diagnostic::new(Span::new(span.0, span.1), "here");
        assert_eq!(diagnostic.caret(source), expected);
    }

    #[test]
    fn carets_stand_under_the_span() {
        check("a bcd", (2, 5), "a bcd\n  ^^^ here");
        check("a", (1, 1), "a\n ^ here");
        check("", (0, 0), "\n^ here");
        check("a\tb", (2, 3), "a b\n  ^ here");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        check(
            "\u{6771}\u{4eac} x",
            (7, 8),
            "\u{6771}\u{4eac} x\n     ^ here",
        );
    }

    #[test]
    fn a_long_source_is_cut_around_the_span() {
        let source = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let drawn = Diagnostic::new(Span::new(500, 501), "here").caret(&source);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0].len(), EXCERPT);
        assert_eq!(lines[0].find('X'), lines[1].find('^'));
    }
}
