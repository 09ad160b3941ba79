//! Frames as bytes: two buffers, their difference, one write.
//!
//! Invariants: a frame that differs in nothing costs no byte; a frame is wrapped in the marks of
//! synchronized output (DEC 2026), which terminals that do not know them ignore. Pure: whoever
//! calls writes the bytes.

use std::io;

use crossterm::queue;
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::{cursor, style};
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

/// What the terminal shows, as far as we know.
#[derive(Debug)]
pub struct Screen {
    shown: Buffer,
    next: Buffer,
    cursor: Option<Position>,
    /// The terminal's content is not known: everything is drawn.
    stale: bool,
}

impl Screen {
    /// A screen of which nothing is known.
    pub fn new() -> Self {
        Self {
            shown: Buffer::empty(Rect::ZERO),
            next: Buffer::empty(Rect::ZERO),
            cursor: None,
            stale: true,
        }
    }

    /// Forgets what is shown, so that the next frame draws everything.
    pub fn forget(&mut self) {
        self.stale = true;
    }

    /// The bytes that bring the terminal from what it shows to what `draw` draws; empty when that
    /// is the same. `draw` returns where the cursor stands, if it is to be seen.
    ///
    /// # Errors
    /// None in practice: the bytes are written to memory.
    pub fn frame(
        &mut self,
        (width, height): (u16, u16),
        draw: impl FnOnce(&mut Buffer) -> Option<Position>,
    ) -> io::Result<Vec<u8>> {
        let area = Rect::new(0, 0, width, height);
        if *self.next.area() != area {
            self.stale = true;
        }
        if self.stale {
            self.shown = Buffer::empty(area);
            self.next = Buffer::empty(area);
        } else {
            self.next.reset();
        }
        let cursor = draw(&mut self.next);
        let updates = self.shown.diff(&self.next);
        if updates.is_empty() && !self.stale && cursor == self.cursor {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::with_capacity(256 + updates.len() * 8);
        queue!(bytes, BeginSynchronizedUpdate)?;
        if self.cursor.is_some() || self.stale {
            queue!(bytes, cursor::Hide)?;
        }
        if self.stale {
            queue!(
                bytes,
                style::SetAttribute(style::Attribute::Reset),
                Clear(ClearType::All)
            )?;
        }
        CrosstermBackend::new(&mut bytes).draw(updates.into_iter())?;
        if let Some(position) = cursor {
            queue!(bytes, cursor::MoveTo(position.x, position.y), cursor::Show)?;
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        std::mem::swap(&mut self.shown, &mut self.next);
        self.cursor = cursor;
        self.stale = false;
        Ok(bytes)
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    fn text(screen: &mut Screen, size: (u16, u16), text: &str) -> String {
        let bytes = screen
            .frame(size, |buffer| {
                buffer.set_stringn(0, 0, text, usize::from(size.0), Style::new());
                None
            })
            .unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut screen = Screen::new();
        let first = text(&mut screen, (10, 1), "hello");
        assert!(first.starts_with("\u{1b}[?2026h") && first.ends_with("\u{1b}[?2026l"));
        assert!(first.contains("hello"));
        assert_eq!(text(&mut screen, (10, 1), "hello"), "");
        let third = text(&mut screen, (10, 1), "hallo");
        assert!(third.contains('a') && !third.contains("llo"));
        screen.forget();
        assert!(text(&mut screen, (10, 1), "hallo").contains("hallo"));
        assert!(text(&mut screen, (9, 1), "hallo").contains("hallo"));
    }
}
