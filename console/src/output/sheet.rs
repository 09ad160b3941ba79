//! Rows in the form that was asked for: a table, JSON, or names.
//!
//! Invariants: pure; the same rows give the same text wherever they are written.

use jiff::Timestamp;

use super::column::{Column, Value};
use super::table::{Head, TableOptions, table};
use super::{Output, json};
use crate::cli::args::Format;

/// How rows are written.
pub struct Sheet<R: 'static> {
    /// What of a row is written.
    pub columns: &'static [Column<R>],
    /// In which form.
    pub format: Format,
    /// Whether tables have a line of names.
    pub headers: bool,
    /// Whether tables show what hosts were asked for.
    pub measured: bool,
    /// The present time, for ages.
    pub now: Timestamp,
    /// What the terminal can show.
    pub output: Output,
}

impl<R> Sheet<R> {
    /// A table with a line of names.
    pub fn new(columns: &'static [Column<R>], format: Format, output: Output) -> Self {
        Self {
            columns,
            format,
            headers: true,
            measured: false,
            now: Timestamp::now(),
            output,
        }
    }

    /// The text of these rows; `name` is what `-o name` writes of a row, if anything.
    pub fn write(&self, rows: &[R], name: impl Fn(&R) -> Option<String>) -> String {
        match self.format {
            Format::Table => self.table(rows),
            Format::Json => json::object(rows, self.columns, self.now),
            Format::Jsonl => json::lines(rows, self.columns),
            Format::Name => rows
                .iter()
                .filter_map(name)
                .map(|name| name + "\n")
                .collect(),
        }
    }

    fn table(&self, rows: &[R]) -> String {
        let columns: Vec<(&Column<R>, &'static str)> = self
            .columns
            .iter()
            .filter(|column| self.measured || !column.measured)
            .filter_map(|column| Some((column, column.header?)))
            .collect();
        let values: Vec<Vec<Value>> = rows
            .iter()
            .map(|row| {
                columns
                    .iter()
                    .map(|(column, _)| (column.get)(row))
                    .collect()
            })
            .collect();
        let heads: Vec<Head> = columns
            .iter()
            .enumerate()
            .map(|(index, (_, name))| {
                let mut values = values.iter().filter_map(|row| row.get(index));
                Head {
                    name,
                    right: values.any(Value::is_number),
                }
            })
            .collect();
        let cells: Vec<Vec<String>> = values
            .iter()
            .map(|row| row.iter().map(|value| value.shown(self.now)).collect())
            .collect();
        let options = TableOptions {
            headers: self.headers && !rows.is_empty(),
            bold: self.output.color,
            width: self.output.width,
        };
        table(&heads, &cells, options)
    }
}
