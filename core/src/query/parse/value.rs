//! Values of comparisons, read according to the kind of their field.
//!
//! Invariants: what is not of the field's kind is a diagnostic at the value, never another meaning;
//! numbers are finite and not negative; regexes are compiled here, within a bound of size.
#![warn(clippy::indexing_slicing)]

use regex::RegexBuilder;

use super::super::ast::{Pattern, Quantity, Unit, Value};
use super::super::diagnostic::{Diagnostic, Span};
use super::super::schema::{Field, Kind, Op, nearest};
use super::super::token::ends_word;
use crate::instance::State;

/// The most that one compiled regex may take, in bytes.
const REGEX_SIZE: usize = 256 * 1024;
/// How deep groups of one regex may be nested.
const REGEX_DEPTH: u32 = 50;
/// The hex digits of a whole uuid.
const UUID_DIGITS: usize = 32;

type Read = Result<Value, Diagnostic>;

/// Reads what stood in quotes: text as it is, or what could have stood without them.
pub(super) fn quoted(field: Field, op: Op, text: String, span: Span) -> Read {
    if op.is_regex() {
        return regex(&text, span).map_err(|found| Diagnostic {
            hint: None,
            ..found
        });
    }
    match field.kind() {
        Kind::Text | Kind::Version => Ok(Value::Text(text)),
        // The places within the quotes are not known, so the whole is pointed at.
        _ => bare(field, op, &text, span, false).map_err(|found| Diagnostic { span, ..found }),
    }
}

/// Reads what stood without quotes; `at_end` when nothing follows it.
pub(super) fn bare(field: Field, op: Op, raw: &str, span: Span, at_end: bool) -> Read {
    if op.is_regex() {
        return regex(raw, span);
    }
    match field.kind() {
        Kind::Uuid => uuid(raw, span),
        Kind::Text | Kind::Version => text(field, op, raw, span, at_end),
        Kind::Bool => bool(raw, span),
        Kind::State => state(raw, span),
        Kind::Integer | Kind::Number | Kind::Latency | Kind::Age => {
            numeric(field, op, raw, span, at_end)
        }
    }
}

fn text(field: Field, op: Op, raw: &str, span: Span, at_end: bool) -> Read {
    let versioned = raw.split_once(':').filter(|_| field == Field::Service);
    let Some((service, version)) = versioned else {
        return pattern(op, raw, span);
    };
    if version.is_empty() {
        return Err(Diagnostic::new(span, "`:` needs a version behind it")
            .hint("as in `service:payments:1.4*`; a name with `:` must be quoted")
            .incomplete_if(at_end));
    }
    Ok(Value::ServiceVersion(
        Box::new(pattern(op, service, span)?),
        Box::new(pattern(op, version, span)?),
    ))
}

/// Text, or a glob when it has `*` or `?`.
fn pattern(op: Op, raw: &str, span: Span) -> Read {
    if raw.is_empty() || raw.starts_with(['=', '~', '<', '>', '!', ':']) {
        return Err(Diagnostic::new(span, "two operators stand side by side")
            .hint("to compare with such a text, put it in quotes"));
    }
    if !raw.contains(['*', '?']) {
        return Ok(Value::Text(raw.to_owned()));
    }
    if op.is_order() {
        return Err(
            Diagnostic::new(span, format!("`{op}` takes no `*` and no `?`"))
                .hint("write a whole version, or use `:`"),
        );
    }
    Ok(Value::Glob(raw.to_owned()))
}

/// Whether `text` is the start of a uuid, with or without its hyphens, and long enough to be one.
fn is_uuid_prefix(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    let others = text
        .chars()
        .any(|letter| !letter.is_ascii_hexdigit() && letter != '-');
    (4..=UUID_DIGITS).contains(&digits) && !others && !text.starts_with('-')
}

fn uuid(raw: &str, span: Span) -> Read {
    if is_uuid_prefix(raw) {
        return Ok(Value::Uuid(raw.to_lowercase()));
    }
    Err(
        Diagnostic::new(span, format!("`{raw}` is not the start of a uuid"))
            .hint("at least its first 4 hex digits"),
    )
}

fn bool(raw: &str, span: Span) -> Read {
    match raw.to_lowercase().as_str() {
        "yes" | "true" => Ok(Value::Bool(true)),
        "no" | "false" => Ok(Value::Bool(false)),
        _ => Err(Diagnostic::new(
            span,
            format!("`{raw}` is neither `yes` nor `no`"),
        )),
    }
}

fn state(raw: &str, span: Span) -> Read {
    let word = raw.to_lowercase();
    word.parse()
        .map(Value::State)
        .map_err(|unknown: crate::instance::UnknownState| {
            let words = || State::ALL.into_iter().map(State::as_str);
            let hint = match words().find(|known| known.starts_with(&word)) {
                Some(known) => format!("did you mean `{known}`?"),
                None => match nearest(&word, words()) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!("try {}", words().collect::<Vec<_>>().join(" ")),
                },
            };
            Diagnostic::new(span, unknown.to_string()).hint(hint)
        })
}

fn regex(text: &str, span: Span) -> Read {
    let compiled = RegexBuilder::new(text)
        .case_insensitive(!has_capital(text))
        .size_limit(REGEX_SIZE)
        .dfa_size_limit(4 * REGEX_SIZE)
        .nest_limit(REGEX_DEPTH)
        .build();
    match compiled {
        Ok(compiled) => Ok(Value::Regex(Pattern(compiled, text.to_owned()))),
        Err(source) => {
            let told = source.to_string();
            let reason = told.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason).trim();
            Err(Diagnostic::new(span, format!("bad regex: {reason}"))
                .hint("a regex with `|` `(` `)` `&` `,` or a space must be quoted"))
        }
    }
}

/// Smart case: a capital that stands for itself makes the search mind the case. Classes (`\W`,
/// `\p{Lu}`) and names of groups do not count.
fn has_capital(text: &str) -> bool {
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = match letter {
            '\\' => match rest.get(1..).and_then(|rest| rest.chars().next()) {
                Some('p' | 'P' | 'x' | 'u' | 'U') if rest.get(2..3) == Some("{") => {
                    rest.find('}').map_or(rest.len(), |end| end + 1)
                }
                Some(escaped) => 1 + escaped.len_utf8(),
                None => 1,
            },
            '(' if rest.starts_with("(?") => rest
                .find([')', ':', '>', '=', '!'])
                .map_or(rest.len(), |end| end + 1),
            _ if letter.is_uppercase() => return true,
            _ => letter.len_utf8(),
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    false
}

fn numeric(field: Field, op: Op, raw: &str, span: Span, at_end: bool) -> Read {
    let Some((low, high)) = raw.split_once("..") else {
        return quantity(field, raw, span).map(Value::Quantity);
    };
    if op.is_order() {
        return Err(Diagnostic::new(span, format!("`{op}` takes no range"))
            .hint(format!("write `{field}:{raw}`")));
    }
    if low.is_empty() || high.is_empty() {
        return Err(Diagnostic::new(span, "a range needs two ends")
            .hint(format!(
                "as in `{field}:10..20`; for an open one use `>=` or `<=`"
            ))
            .incomplete_if(at_end && high.is_empty() && !low.is_empty()));
    }
    let split = span.start + low.len();
    let low = quantity(field, low, Span::new(span.start, split))?;
    let high = quantity(field, high, Span::new(split + 2, span.end))?;
    let bare = bare_factor(field.kind());
    if low.scaled(bare) > high.scaled(bare) {
        return Err(Diagnostic::new(span, "the range ends before it begins")
            .hint(format!("write `{field}:{high}..{low}`")));
    }
    Ok(Value::Range(low, high))
}

/// What a number without a unit counts: milliseconds for response times.
pub(crate) fn bare_factor(kind: Kind) -> f64 {
    match kind {
        Kind::Latency => Unit::Millis.factor(),
        _ => 1.0,
    }
}

fn quantity(field: Field, raw: &str, span: Span) -> Result<Quantity, Diagnostic> {
    let kind = field.kind();
    let units = kind
        .units()
        .iter()
        .map(|unit| format!("`{unit}`"))
        .collect::<Vec<_>>()
        .join(" ");
    let digits = raw
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(raw.len());
    let (digits, letters) = raw.split_at_checked(digits).unwrap_or((raw, ""));
    let whole = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.ends_with(|last: char| last.is_ascii_digit());
    let number = digits
        .parse::<f64>()
        .ok()
        .filter(|number| whole && number.is_finite());
    let Some(number) = number else {
        let example = field.spec().examples.first().unwrap_or(&"10");
        return Err(
            Diagnostic::new(span, format!("`{raw}` is not a {}", kind.as_str()))
                .hint(format!("as in `{field}:{example}`")),
        );
    };
    let unit_span = Span::new(span.end - letters.len(), span.end);
    let takes_time = matches!(kind, Kind::Latency | Kind::Age);
    let unit = match letters {
        "" if kind == Kind::Age && number != 0.0 => {
            return Err(
                Diagnostic::new(span, format!("`{raw}` has no unit")).hint(format!("try {units}"))
            );
        }
        "" => None,
        _ => {
            let known = Unit::named(letters);
            let unit = known.filter(|unit| kind != Kind::Integer && unit.is_time() == takes_time);
            if unit.is_none() {
                let hint = match kind {
                    Kind::Integer => "write a whole number".to_owned(),
                    _ => format!("try {units}"),
                };
                let message = format!("`{letters}` is not a unit of `{field}`");
                return Err(Diagnostic::new(unit_span, message).hint(hint));
            }
            unit
        }
    };
    if kind == Kind::Integer && number.fract() != 0.0 {
        return Err(Diagnostic::new(
            span,
            format!("`{raw}` is not a whole number"),
        ));
    }
    Ok(Quantity { number, unit })
}

/// `text` as an exact value of `field`; `None` when the field cannot have it.
pub(crate) fn exact_value(field: Field, text: &str) -> Option<Value> {
    quoted(field, Op::Is, text.to_owned(), Span::new(0, text.len())).ok()
}

/// `text` as a value of `field` in the flag of a command: exact, or a glob.
pub(crate) fn flag_value(field: Field, text: &str) -> Result<Value, Diagnostic> {
    let span = Span::new(0, text.len());
    let plain = !text.contains(ends_word) && !text.starts_with(['=', '~', '<', '>', '!', ':']);
    if plain {
        bare(field, Op::Is, text, span, false)
    } else if text.contains(['*', '?']) {
        Err(
            Diagnostic::new(span, "a pattern has no spaces, quotes or parentheses")
                .hint("use `--where` with `~` and a regex in quotes"),
        )
    } else {
        quoted(field, Op::Is, text.to_owned(), span)
    }
}
