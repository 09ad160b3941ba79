//! Colors for the line as it is typed: what cannot be understood is red before Enter.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};
use skynet::query::Grammar;
use skynet::query::classify::classify_source;

use super::style;
use super::words::{self, Takes};

/// Colors lines by the shell's words and the query language.
pub(super) struct LineHighlighter;

impl Highlighter for LineHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        for (style, text) in parts(line) {
            styled.push((style, text.to_owned()));
        }
        styled
    }
}

/// The line in pieces, each with its look; together they are the line.
fn parts(line: &str) -> Vec<(Style, &str)> {
    let (first, rest_at) = words::split(line);
    let (head, rest) = line.split_at_checked(rest_at).unwrap_or((line, ""));
    let entry = words::named(first);
    let head_style = match entry {
        Some(_) => Style::new().fg(Color::Green).bold(),
        // It may still become one.
        None if rest.is_empty() && words::all().any(|entry| entry.name.starts_with(first)) => {
            Style::new()
        }
        None => style::error(),
    };
    let mut parts = vec![(head_style, head)];
    match entry.map(|entry| entry.takes) {
        Some(Takes::Query) => query_parts(rest, &mut parts),
        Some(Takes::Values(_)) => parts.push((Style::new().fg(Color::Yellow), rest)),
        _ => parts.push((Style::new(), rest)),
    }
    parts.retain(|(_, text)| !text.is_empty());
    parts
}

fn query_parts<'a>(text: &'a str, parts: &mut Vec<(Style, &'a str)>) {
    // The switches of changes are no part of the query.
    let switch = text.find("--").unwrap_or(text.len());
    let (query, switches) = text.split_at_checked(switch).unwrap_or((text, ""));
    let mut at = 0;
    for (span, role) in classify_source(query, Grammar::Query) {
        parts.push((Style::new(), query.get(at..span.start).unwrap_or_default()));
        parts.push((style::of_role(role), span.of(query)));
        at = span.end;
    }
    parts.push((Style::new(), query.get(at..).unwrap_or_default()));
    parts.push((Style::new().fg(Color::Purple), switches));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_are_the_line(line in "(stop |where |service |x)?[a-z:=<>()\"' -]{0,30}\\PC{0,5}") {
            let joined: String = parts(&line).into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(joined, line);
        }
    }

    #[test]
    fn unknown_words_are_red_when_they_cannot_become_known() {
        let is_red = |line| {
            parts(line)
                .first()
                .is_some_and(|(found, _)| *found == style::error())
        };
        assert!(!is_red("sto"));
        assert!(!is_red("stop x"));
        assert!(is_red("sto x"));
        assert!(is_red("zzz"));
    }
}
