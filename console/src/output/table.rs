//! Rows as aligned columns of text.
//!
//! Invariants: widths are those of the terminal's cells, not of letters; control characters never
//! get through; lines are cut only where a width is given, and then marked with `…`.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::report::plain;

/// The space between columns.
const GAP: &str = "  ";

/// A column's name and side.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Its name.
    pub name: &'static str,
    /// Whether its cells stand on the right, as numbers do.
    pub right: bool,
}

/// Aligns `rows` under `heads`; `headers` tells whether the heads are shown, `bold` how.
pub fn table(heads: &[Head], rows: &[Vec<String>], options: TableOptions) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let width_of = |index: usize, head: &Head| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(index))
            .map(|cell| cell.width());
        let head = if options.headers {
            head.name.width()
        } else {
            0
        };
        cells.max().unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(index, head)| width_of(index, head))
        .collect();
    let mut text = String::new();
    if options.headers {
        let names: Vec<&str> = heads.iter().map(|head| head.name).collect();
        let line = cut(&aligned(heads, &widths, &names), options.width);
        if options.bold {
            text.extend(["\x1b[1m", &line, "\x1b[0m\n"]);
        } else {
            text.extend([&line, "\n"]);
        }
    }
    for row in &rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text.push_str(&cut(&aligned(heads, &widths, &cells), options.width));
        text.push('\n');
    }
    text
}

/// How a table is drawn.
#[derive(Debug, Clone, Copy)]
pub struct TableOptions {
    /// Whether the columns' names are shown.
    pub headers: bool,
    /// Whether they are bold.
    pub bold: bool,
    /// Where lines are cut.
    pub width: Option<usize>,
}

fn aligned(heads: &[Head], widths: &[usize], cells: &[&str]) -> String {
    let mut line = String::new();
    for (index, (head, width)) in heads.iter().zip(widths).enumerate() {
        let cell = cells.get(index).copied().unwrap_or_default();
        let space = " ".repeat(width.saturating_sub(cell.width()));
        if index > 0 {
            line.push_str(GAP);
        }
        if head.right {
            line.push_str(&space);
            line.push_str(cell);
        } else {
            line.push_str(cell);
            line.push_str(&space);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// At most `width` cells of `text`, with `…` where something is missing.
pub fn cut(text: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| text.width() > *width) else {
        return text.to_owned();
    };
    let mut used = 0;
    let mut short = String::new();
    for letter in text.chars() {
        let next = used + letter.width().unwrap_or(0);
        if next + 1 > width {
            break;
        }
        used = next;
        short.push(letter);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [Head; 2] = [
        Head {
            name: "NAME",
            right: false,
        },
        Head {
            name: "N",
            right: true,
        },
    ];

    fn rows() -> Vec<Vec<String>> {
        vec![
            vec!["東京".to_owned(), "7".to_owned()],
            vec!["a\x1b[2Jb".to_owned(), "12".to_owned()],
        ]
    }

    #[test]
    fn columns_are_aligned_by_cells() {
        let options = TableOptions {
            headers: true,
            bold: false,
            width: None,
        };
        insta::assert_snapshot!(table(&HEADS, &rows(), options), @r"
        NAME     N
        東京     7
        a [2Jb  12
        ");
    }

    #[test]
    fn lines_are_cut_only_to_a_width() {
        let options = TableOptions {
            headers: false,
            bold: false,
            width: Some(5),
        };
        insta::assert_snapshot!(table(&HEADS, &rows(), options), @r"
        東京…
        a [2…
        ");
        assert_eq!(cut("abc", Some(0)), "");
        assert_eq!(cut("abc", Some(3)), "abc");
    }
}
