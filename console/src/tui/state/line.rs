//! A line of text that is edited.
//!
//! Invariants: the cursor is a byte offset on a character boundary of the text; the text holds no
//! control characters and at most [`MAX_BYTES`] bytes. Pure.

use crate::tui::action::Edit;

/// The longest line that can be typed or pasted.
pub const MAX_BYTES: usize = 4096;

/// Text and where its cursor stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    cursor: usize,
}

impl Line {
    /// A line with its cursor at the end.
    pub fn new(text: &str) -> Self {
        let mut line = Self::default();
        line.insert(text);
        line
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The cursor's byte offset.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The text before the cursor.
    pub fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    /// The text from the cursor on.
    pub fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    /// Puts text in at the cursor; control characters become spaces, and what would be too long is
    /// left out.
    pub fn insert(&mut self, text: &str) {
        for character in text.chars() {
            let character = if character.is_control() {
                ' '
            } else {
                character
            };
            if self.text.len() + character.len_utf8() > MAX_BYTES {
                return;
            }
            self.text.insert(self.cursor, character);
            self.cursor += character.len_utf8();
        }
    }

    /// Replaces the bytes from `start` to `end` and puts the cursor behind the new text; a range
    /// that does not lie within the text changes nothing.
    pub fn replace(&mut self, start: usize, end: usize, text: &str) {
        if start <= end && self.text.get(start..end).is_some() {
            self.text.replace_range(start..end, "");
            self.cursor = start;
            self.insert(text);
        }
    }

    /// Moves or deletes.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Left => {
                self.cursor -= self.before().chars().next_back().map_or(0, char::len_utf8);
            }
            Edit::Right => self.cursor += self.after().chars().next().map_or(0, char::len_utf8),
            Edit::Start => self.cursor = 0,
            Edit::End => self.cursor = self.text.len(),
            Edit::Backspace => {
                let from =
                    self.cursor - self.before().chars().next_back().map_or(0, char::len_utf8);
                self.replace(from, self.cursor, "");
            }
            Edit::Delete => {
                let to = self.cursor + self.after().chars().next().map_or(0, char::len_utf8);
                self.replace(self.cursor, to, "");
            }
            Edit::DeleteWord => {
                let kept = self.before().trim_end();
                let from = kept.rfind(' ').map_or(0, |space| space + 1);
                self.replace(from, self.cursor, "");
            }
            Edit::DeleteToStart => self.replace(0, self.cursor, ""),
            Edit::DeleteToEnd => self.text.truncate(self.cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EDITS: [Edit; 9] = [
        Edit::Backspace,
        Edit::Delete,
        Edit::DeleteWord,
        Edit::DeleteToStart,
        Edit::DeleteToEnd,
        Edit::Left,
        Edit::Right,
        Edit::Start,
        Edit::End,
    ];

    #[test]
    fn words_are_deleted_backwards() {
        let mut line = Line::new("service=pay avg>5ms ");
        line.edit(Edit::DeleteWord);
        assert_eq!(line.text(), "service=pay ");
        line.edit(Edit::Left);
        line.edit(Edit::DeleteWord);
        assert_eq!((line.text(), line.cursor()), (" ", 0));
    }

    #[test]
    fn pasted_control_characters_do_no_harm() {
        assert_eq!(Line::new("a\nb\u{1b}[31m").text(), "a b [31m");
        assert_eq!(Line::new(&"é".repeat(MAX_BYTES)).text().len(), MAX_BYTES);
    }

    proptest! {
        #[test]
        fn the_cursor_stays_on_a_boundary(
            text in "\\PC{0,12}",
            edits in prop::collection::vec((0..EDITS.len(), "\\PC{0,2}"), 0..30),
        ) {
            let mut line = Line::new(&text);
            for (edit, typed) in edits {
                line.edit(EDITS[edit]);
                line.insert(&typed);
                prop_assert!(line.text().is_char_boundary(line.cursor()));
                prop_assert_eq!(format!("{}{}", line.before(), line.after()), line.text());
            }
        }
    }
}
