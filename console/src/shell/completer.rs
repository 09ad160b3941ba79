//! What could stand at the cursor: the shell's words, and what the query language offers.
//!
//! Invariants: answered from the live view that is there already, never from the network; values are
//! narrowed by the filter, and say what choosing them would leave.

use std::sync::Arc;

use jiff::Timestamp;
use reedline::{CompletionResult, Span, Suggestion};
use skynet::query::rows::{Known, StatsTable};
use skynet::query::{self, Candidate, Field, Grammar, Query};
use skynet::registry::snapshot::Snapshot;

use super::cluster::Cluster;
use super::style;
use super::words::{self, Takes};

/// The most that a menu holds.
const MOST: usize = 100;

/// Completes lines from the live view.
pub(super) struct LineCompleter {
    /// What is known.
    pub(super) cluster: Arc<Cluster>,
}

impl reedline::Completer for LineCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let snapshot = self.cluster.snapshot();
        let suggestions = complete(line, pos, &snapshot, &self.cluster.filter());
        CompletionResult::fresh(suggestions)
    }
}

/// What could stand in `line` at the byte `pos`, the best first. Pure.
pub(super) fn complete(
    line: &str,
    pos: usize,
    snapshot: &Snapshot,
    filter: &Query,
) -> Vec<Suggestion> {
    let (first, rest_at) = words::split(line);
    if pos <= rest_at {
        return first_words(first, rest_at);
    }
    let Some(entry) = words::named(first) else {
        return Vec::new();
    };
    let nothing = StatsTable::new();
    let known = Known::new(snapshot, &nothing, Timestamp::now());
    let completer = query::Completer::new(known).within(filter);
    let word = word_at(line, pos, rest_at);
    let typed = span_text(line, word);
    let mut suggestions = match entry.takes {
        Takes::Query => {
            let rest = line.get(rest_at..).unwrap_or_default();
            let candidates = completer.complete(rest, pos - rest_at, Grammar::Query);
            candidates
                .into_iter()
                .map(|found| of_candidate(found, rest_at))
                .collect()
        }
        Takes::Values(field) => values(&completer, field, typed, word),
        Takes::Uuid => values(&completer, Field::Uuid, typed, word),
        Takes::Call if is_second_word(line, rest_at, word) => {
            values(&completer, Field::Service, typed, word)
        }
        Takes::YesNoAny => fixed(
            &[
                ("yes", "clients may choose them"),
                ("no", "clients may not"),
                ("any", "both"),
            ],
            typed,
            word,
        ),
        Takes::FilterParts => parts(typed, word),
        Takes::Word => {
            let known: Vec<(&str, &str)> =
                words::all().map(|entry| (entry.name, entry.help)).collect();
            fixed(&known, typed, word)
        }
        Takes::Program if typed.starts_with('-') => fixed(
            &[
                ("--per-host", "how many on each host"),
                ("--all", "on every host"),
                ("--", "arguments follow"),
            ],
            typed,
            word,
        ),
        Takes::Call | Takes::Program | Takes::Nothing => Vec::new(),
    };
    suggestions.truncate(MOST);
    suggestions
}

fn first_words(typed: &str, end: usize) -> Vec<Suggestion> {
    let span = Span::new(end - typed.len(), end);
    let known: Vec<(&str, &str)> = words::all().map(|entry| (entry.name, entry.help)).collect();
    fixed(&known, typed, span)
}

fn parts(typed: &str, span: Span) -> Vec<Suggestion> {
    fixed(
        &[
            ("service", "forget services"),
            ("version", "forget versions"),
            ("region", "forget regions"),
            ("host", "forget hosts"),
            ("instance", "forget instances"),
            ("registered", "forget `registered`"),
            ("where", "forget queries"),
            ("all", "forget everything"),
        ],
        typed,
        span,
    )
}

/// Those of a few words that fit what was typed: beginnings first, then letters in between.
fn fixed(known: &[(&str, &str)], typed: &str, span: Span) -> Vec<Suggestion> {
    let mut scorer = query::fuzzy::Scorer::new(typed);
    let mut places = Vec::new();
    let mut scored: Vec<(bool, u16, Suggestion)> = known
        .iter()
        .filter_map(|(name, help)| {
            use query::fuzzy::Fuzzy;
            places.clear();
            let score = scorer.score(name, &mut places)?;
            let suggestion = Suggestion {
                value: (*name).to_owned(),
                description: Some((*help).to_owned()),
                span,
                append_whitespace: true,
                ..Suggestion::default()
            };
            // Beginnings keep the order of the table.
            let starts = name.starts_with(typed);
            Some((starts, if starts { 0 } else { score }, suggestion))
        })
        .collect();
    scored.sort_by_key(|(starts, score, _)| std::cmp::Reverse((*starts, *score)));
    // A beginning is what is meant; letters in between help when nothing begins so.
    let any_starts = scored.iter().any(|(starts, ..)| *starts);
    scored
        .into_iter()
        .filter(|(starts, ..)| *starts || !any_starts)
        .map(|(.., suggestion)| suggestion)
        .collect()
}

fn values(
    completer: &query::Completer<'_>,
    field: Field,
    typed: &str,
    span: Span,
) -> Vec<Suggestion> {
    let found = completer.values(field, typed, query::Span::new(span.start, span.end));
    found
        .into_iter()
        .map(|candidate| of_candidate(candidate, 0))
        .collect()
}

fn of_candidate(candidate: Candidate, offset: usize) -> Suggestion {
    let Candidate {
        span,
        text,
        description,
        role,
    } = candidate;
    // A field waits for its operator, an operator for its value.
    let waits = matches!(role, query::Role::Field | query::Role::Operator);
    Suggestion {
        value: text,
        description: Some(description).filter(|text| !text.is_empty()),
        style: Some(style::of_role(role)),
        span: Span::new(span.start + offset, span.end + offset),
        append_whitespace: !waits,
        ..Suggestion::default()
    }
}

/// The word under the cursor, without the sign that adds or drops it.
fn word_at(line: &str, pos: usize, from: usize) -> Span {
    let before = line.get(from..pos).unwrap_or_default();
    let start = before
        .rfind(|letter: char| letter.is_whitespace() || letter == ',')
        .map_or(from, |at| from + at + 1);
    let signed = line.get(start..pos).unwrap_or_default();
    let sign = usize::from(
        signed.starts_with('+') || (signed.starts_with('-') && !signed.starts_with("--")),
    );
    let start = if line.get(start..pos) == Some("-") {
        start
    } else {
        start + sign
    };
    Span::new(start.min(pos), pos)
}

fn span_text(line: &str, span: Span) -> &str {
    line.get(span.start..span.end).unwrap_or_default()
}

fn is_second_word(line: &str, rest_at: usize, word: Span) -> bool {
    line.get(rest_at..word.start)
        .unwrap_or_default()
        .trim()
        .is_empty()
}

#[cfg(test)]
mod tests {
    use skynet::instance::{Identity, Instance, InstanceId, State};

    use super::*;

    fn instance(id: u128, service: &str, region: &str) -> Instance {
        Instance {
            identity: Identity {
                service: service.into(),
                version: "1".into(),
                region: region.into(),
                host: "h1".into(),
                id: InstanceId::from_u128(id),
            },
            address: None,
            admin_address: None,
            registered: true,
            state: State::Ready,
            reason: None,
            process: None,
            started: Timestamp::UNIX_EPOCH,
            deployment: None,
            weight: 100,
            lease: 1,
            tags: Vec::new(),
            mod_revision: 1,
        }
    }

    #[track_caller]
    fn check(line: &str, filter: &str, expected: &str) {
        let snapshot = Snapshot::of(
            [
                instance(1, "payments", "east"),
                instance(2, "payments-audit", "west"),
                instance(3, "ledger", "west"),
            ],
            [],
        );
        let found = complete(line, line.len(), &snapshot, &filter.parse().unwrap());
        let texts: Vec<&str> = found
            .iter()
            .map(|suggestion| &*suggestion.value)
            .take(4)
            .collect();
        assert_eq!(texts.join(" "), expected, "{line}");
    }

    #[test]
    fn words_come_first() {
        check("reg", "", "region registered regions register");
        check("inst", "", "instance instances");
        check("zz", "", "");
        check("help st", "", "start stop");
    }

    #[test]
    fn values_are_narrowed_by_the_filter() {
        check("service pay", "", "payments payments-audit");
        check("service pay", "region=west", "payments-audit");
        check("service ledger,pay", "region=east", "payments");
        check("service -led", "", "ledger");
        check("registered n", "", "no");
        check("reset w", "", "where");
        check("call led", "", "ledger");
        check("call ledger x", "", "");
    }

    #[test]
    fn queries_are_completed_by_the_query_language() {
        check("where region=w", "", "west");
        check("stop service=led", "", "ledger");
        check("exit x", "", "");
    }
}
