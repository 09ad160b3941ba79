//! What a listing shows of a row: one list of columns for tables, JSON and sorting.
//!
//! Invariants: JSON gets raw values (numbers, RFC 3339 times, whole ids) and drops no null; tables
//! get what people read.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;
use skynet::query::version;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Not known, or not there.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number that people read as it is, such as a port.
    Int(i64),
    /// A count that people read with a unit.
    Count(i64),
    /// A duration in microseconds.
    Micros(i64),
    /// A word.
    Text(Arc<str>),
    /// A version, ordered part by part.
    Version(Arc<str>),
    /// Words.
    List(Vec<Arc<str>>),
    /// A time of which people read how long ago it was.
    Time(Timestamp),
}

impl Value {
    /// A word.
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }

    /// A number, or null.
    pub fn or_null<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, make)
    }

    /// Whether tables put it on the right.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Int(_) | Self::Count(_) | Self::Micros(_) | Self::Time(_)
        )
    }

    /// As people read it in a table.
    pub fn shown(&self, now: Timestamp) -> String {
        match self {
            Self::Null => "–".to_owned(),
            Self::Bool(true) => "yes".to_owned(),
            Self::Bool(false) => "no".to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Count(count) => count_text(*count),
            Self::Micros(micros) => micros_text(*micros),
            Self::Text(text) | Self::Version(text) => text.to_string(),
            Self::List(words) => words.join(" "),
            Self::Time(time) => age_text(*time, now),
        }
    }

    /// The order of two values of a column. Unknown ones come last in either direction, so that is
    /// left to the caller.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (
                Self::Int(left) | Self::Count(left) | Self::Micros(left),
                Self::Int(right) | Self::Count(right) | Self::Micros(right),
            ) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Version(left), Self::Version(right)) => version::compare(left, right),
            (Self::List(left), Self::List(right)) => left.cmp(right),
            (Self::Time(left), Self::Time(right)) => left.cmp(right),
            _ => Ordering::Equal,
        }
    }
}

/// A column of a listing.
pub struct Column<R: 'static> {
    /// Its name in JSON and for sorting; `None` when only tables show it.
    pub key: Option<&'static str>,
    /// Its name in tables; `None` when tables do not show it.
    pub header: Option<&'static str>,
    /// Whether tables show it only when statistics were asked for.
    pub measured: bool,
    /// The value of a row.
    pub get: fn(&R) -> Value,
}

impl<R> Column<R> {
    /// A column of both tables and JSON.
    pub const fn new(key: &'static str, header: &'static str, get: fn(&R) -> Value) -> Self {
        Self {
            key: Some(key),
            header: Some(header),
            measured: false,
            get,
        }
    }

    /// A column of JSON only.
    pub const fn hidden(key: &'static str, get: fn(&R) -> Value) -> Self {
        Self {
            key: Some(key),
            header: None,
            measured: false,
            get,
        }
    }

    /// A column of tables only.
    pub const fn shown(header: &'static str, get: fn(&R) -> Value) -> Self {
        Self {
            key: None,
            header: Some(header),
            measured: false,
            get,
        }
    }

    /// A column that hosts are asked for.
    pub const fn measured(key: &'static str, header: &'static str, get: fn(&R) -> Value) -> Self {
        Self {
            key: Some(key),
            header: Some(header),
            measured: true,
            get,
        }
    }
}

/// A count with a unit: `9.81M`.
fn count_text(count: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = count as f64;
    let (scaled, unit) = match count.unsigned_abs() {
        0..10_000 => return count.to_string(),
        10_000..1_000_000 => (number / 1e3, "k"),
        1_000_000..1_000_000_000 => (number / 1e6, "M"),
        _ => (number / 1e9, "G"),
    };
    format!("{}{unit}", three_digits(scaled))
}

/// Microseconds with a unit: `1.25ms`.
fn micros_text(micros: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = micros as f64;
    match micros.unsigned_abs() {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}ms", three_digits(number / 1e3)),
        _ => format!("{}s", three_digits(number / 1e6)),
    }
}

fn three_digits(number: f64) -> String {
    if number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// How long ago a time was, in the two largest units.
fn age_text(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        format!("{days}d{:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_short_numbers() {
        for (count, text) in [
            (0, "0"),
            (9_999, "9999"),
            (12_345, "12.3k"),
            (9_810_000, "9.81M"),
            (3_000_000_000, "3.00G"),
        ] {
            assert_eq!(count_text(count), text);
        }
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_250, "1.25ms"),
            (214_000, "214ms"),
            (2_500_000, "2.50s"),
        ] {
            assert_eq!(micros_text(micros), text);
        }
    }

    #[test]
    fn ages_have_two_units() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m"),
            (3_700, "1h01m"),
            (273_600, "3d04h"),
            (-5, "0s"),
        ] {
            let time = Timestamp::from_second(10_000_000 - seconds).unwrap();
            assert_eq!(age_text(time, now), text);
        }
    }
}
