//! Rows as JSON: one object with all items, or one object per line.
//!
//! Invariants: keys stand in the order of the columns; nothing is left out because it is null.

use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::column::{Column, Value};

/// The name of the shape of what is written, so that it can change one day.
pub const SCHEMA: &str = "sky.v1";

/// A row with its columns.
struct Item<'a, R: 'static> {
    row: &'a R,
    columns: &'a [Column<R>],
}

impl<R> Serialize for Item<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for column in self.columns {
            if let Some(key) = column.key {
                map.serialize_entry(key, &(column.get)(self.row))?;
            }
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(number) | Self::Count(number) | Self::Micros(number) => {
                serializer.serialize_i64(*number)
            }
            Self::Text(text) | Self::Version(text) => serializer.serialize_str(text),
            Self::List(words) => words.serialize(serializer),
            Self::Time(time) => time.serialize(serializer),
        }
    }
}

/// All rows in one object, which ends with a line feed.
pub fn object<R>(rows: &[R], columns: &[Column<R>], now: Timestamp) -> String {
    let items = rows.iter().map(|row| written(&Item { row, columns }));
    let at = written(&now);
    let items: Vec<String> = items.collect();
    format!(
        "{{\"schema\":\"{SCHEMA}\",\"at\":{at},\"items\":[{}]}}\n",
        items.join(",")
    )
}

/// One object per row, each on its own line.
pub fn lines<R>(rows: &[R], columns: &[Column<R>]) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&written(&Item { row, columns }));
        text.push('\n');
    }
    text
}

fn written<T: Serialize>(value: &T) -> String {
    // Maps with string keys, strings and numbers always become JSON.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
