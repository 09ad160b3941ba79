//! Passing messages, above the foot of the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::pen::{Pen, boxed, line_of};
use crate::theme::{Role, Theme};
use crate::tui::format::{clean, width};
use crate::tui::state::{State, Tone};

/// The widest message; longer ones take more lines.
const WIDEST: u16 = 76;

/// The most lines of one message.
const MOST_LINES: usize = 4;

/// Draws the messages one above the other, ending above the row `bottom`.
pub(super) fn draw(state: &State, theme: &Theme, buffer: &mut Buffer, bottom: u16) {
    let screen = *buffer.area();
    let mut bottom = bottom.min(screen.height);
    for toast in state.toasts.iter().rev() {
        let role = match toast.tone {
            Tone::Good => Role::Toast,
            Tone::Warning => Role::Warn,
            Tone::Failure => Role::Bad,
        };
        let room = WIDEST.min(screen.width.saturating_sub(4));
        let mut lines = wrap(&clean(&toast.text), room);
        if lines.len() > MOST_LINES {
            lines.truncate(MOST_LINES);
            if let Some(last) = lines.last_mut() {
                last.push('…');
            }
        }
        let wide = lines
            .iter()
            .map(|line| width(line))
            .max()
            .unwrap_or(0)
            .min(room);
        let tall = u16::try_from(lines.len())
            .unwrap_or(u16::MAX)
            .saturating_add(2);
        // The oldest messages wait until there is room; the head of the screen stays free.
        if wide == 0 || bottom < tall + 4 {
            return;
        }
        let area = Rect::new(screen.width - wide - 4, bottom - tall, wide + 4, tall);
        let inside = boxed(buffer, area, ("", role), theme);
        for (index, line) in lines.iter().enumerate() {
            let place = line_of(inside, u16::try_from(index).unwrap_or(u16::MAX));
            Pen::new(buffer, place).text(line, theme.style(role));
        }
        bottom -= tall;
    }
}

/// Breaks text at spaces so that no line is wider than `room`; a longer word is cut when drawn.
fn wrap(text: &str, room: u16) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("  ", 7), [""; 0]);
        assert_eq!(wrap("longer than", 3), ["longer", "than"]);
    }
}
