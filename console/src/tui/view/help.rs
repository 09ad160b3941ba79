//! The page of keys, made from the table of bindings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::pen::{Pen, boxed, line_of};
use crate::theme::{Role, Theme};
use crate::tui::action::{BINDINGS, Mode};
use crate::tui::layout::centered;

/// The cells of the keys on a wide and on a narrow page.
const KEYS: (u16, u16) = (22, 16);

/// One line of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelpLine {
    /// Between two modes.
    Empty,
    /// The name of a mode.
    Title(&'static str),
    /// Keys and what they do.
    Keys(String, &'static str),
}

/// The whole page.
pub fn lines() -> Vec<HelpLine> {
    let mut lines = Vec::new();
    for mode in Mode::ALL {
        if !lines.is_empty() {
            lines.push(HelpLine::Empty);
        }
        lines.push(HelpLine::Title(mode.title()));
        for binding in BINDINGS.iter().filter(|binding| binding.mode == mode) {
            let keys: Vec<String> = binding
                .keys
                .iter()
                .map(|keys| {
                    if keys.starts_with(' ') {
                        (*keys).to_owned()
                    } else {
                        keys.replace(' ', "")
                    }
                })
                .collect();
            lines.push(HelpLine::Keys(keys.join("  "), binding.help));
        }
    }
    lines
}

pub(super) fn draw(offset: usize, theme: &Theme, buffer: &mut Buffer, screen: Rect) {
    let lines = lines();
    let area = centered(screen, 92, screen.height);
    let inside = boxed(buffer, area, ("Keys (Esc closes)", Role::Title), theme);
    let room = usize::from(inside.height);
    let keys_width = if inside.width < 70 { KEYS.1 } else { KEYS.0 };
    let offset = offset.min(lines.len().saturating_sub(room));
    for (index, line) in lines.iter().skip(offset).take(room).enumerate() {
        let place = line_of(inside, u16::try_from(index).unwrap_or(u16::MAX));
        let mut pen = Pen::new(buffer, place);
        match line {
            HelpLine::Empty => {}
            HelpLine::Title(title) => drop(pen.text(title, theme.style(Role::Header))),
            HelpLine::Keys(keys, help) => {
                pen.skip(1)
                    .cell(keys, keys_width, false, theme.style(Role::Key))
                    .skip(1);
                pen.text(help, theme.style(Role::Text));
            }
        }
    }
    more(theme, buffer, area, (offset, room, lines.len()));
}

/// Says at the lower edge how much is above and below.
pub(super) fn more(
    theme: &Theme,
    buffer: &mut Buffer,
    area: Rect,
    (offset, room, len): (usize, usize, usize),
) {
    if len <= room || area.height == 0 {
        return;
    }
    let shown_to = (offset + room).min(len);
    let text = format!(" {}-{shown_to} of {len} ", offset + 1);
    let line = line_of(area, area.height - 1);
    Pen::new(buffer, line)
        .skip(2)
        .text(&text, theme.style(Role::Muted));
}
