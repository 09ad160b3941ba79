//! Writes along one line and knows how much room is left.
//!
//! Invariants: nothing is written outside the line; text that does not fit ends in a sign; control
//! characters are left out.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Style};

use crate::theme::{Role, Theme};
use crate::tui::format;

/// Writes from left to right within one line.
pub(super) struct Pen<'a> {
    buffer: &'a mut Buffer,
    x: u16,
    y: u16,
    end: u16,
}

impl<'a> Pen<'a> {
    /// At the beginning of the first line of `area`.
    pub(super) fn new(buffer: &'a mut Buffer, area: Rect) -> Self {
        let area = area.intersection(*buffer.area());
        let end = if area.height == 0 {
            area.x
        } else {
            area.right()
        };
        Self {
            buffer,
            x: area.x,
            y: area.y,
            end,
        }
    }

    /// How many cells are left.
    pub(super) fn room(&self) -> u16 {
        self.end.saturating_sub(self.x)
    }

    /// Where the next text goes.
    pub(super) fn x(&self) -> u16 {
        self.x
    }

    /// Where the cursor stands when it stands here.
    pub(super) fn position(&self) -> Position {
        Position::new(self.x, self.y)
    }

    /// Leaves cells free.
    pub(super) fn skip(&mut self, cells: u16) -> &mut Self {
        self.x = self.x.saturating_add(cells).min(self.end);
        self
    }

    /// Writes text, cut with a sign where it does not fit.
    pub(super) fn text(&mut self, text: &str, style: Style) -> &mut Self {
        let clean = format::clean(text);
        let fitting = format::fit(&clean, self.room());
        if !fitting.is_empty() {
            let room = usize::from(self.room());
            let (x, _) = self
                .buffer
                .set_stringn(self.x, self.y, &fitting, room, style);
            self.x = x;
        }
        self
    }

    /// Writes text in exactly `width` cells, at the left or at the right of them.
    pub(super) fn cell(&mut self, text: &str, width: u16, right: bool, style: Style) -> &mut Self {
        let width = width.min(self.room());
        let end = self.x + width;
        let clean = format::clean(text);
        let fitting = format::fit(&clean, width);
        if right {
            self.skip(width.saturating_sub(format::width(&fitting)));
        }
        self.text(&fitting, style);
        self.x = end;
        self
    }

    /// Writes text so that it ends where the line ends, and gives up its cells.
    pub(super) fn right(&mut self, text: &str, style: Style) -> &mut Self {
        let clean = format::clean(text);
        let fitting = format::fit(&clean, self.room());
        let start = self.end.saturating_sub(format::width(&fitting));
        if !fitting.is_empty() {
            let room = usize::from(self.end - start);
            self.buffer
                .set_stringn(start, self.y, &fitting, room, style);
            self.end = start;
        }
        self
    }

    /// Fills what is left with a character.
    pub(super) fn fill(&mut self, symbol: &str, style: Style) {
        let text = symbol.repeat(usize::from(self.room()));
        self.text(&text, style);
    }
}

/// Makes `area` the line under the cursor: in one color, since colors of their own would turn into
/// patches of background when a theme reverses the line.
pub(super) fn cursor_line(theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let area = area.intersection(*buffer.area());
    let plain = Style::new().fg(Color::Reset).bg(Color::Reset);
    buffer.set_style(area, plain.patch(theme.style(Role::Cursor)));
}

/// A line of `area`, counted from its top; without height below its end.
pub(super) fn line_of(area: Rect, line: u16) -> Rect {
    if line < area.height {
        Rect::new(area.x, area.y + line, area.width, 1)
    } else {
        Rect::new(area.x, area.bottom(), area.width, 0)
    }
}

/// Clears `area`, draws a frame around it with a title, and returns what is inside.
pub(super) fn boxed(
    buffer: &mut Buffer,
    area: Rect,
    (title, title_role): (&str, Role),
    theme: &Theme,
) -> Rect {
    let area = area.intersection(*buffer.area());
    if area.width < 4 || area.height < 2 {
        return Rect::new(area.x, area.y, 0, 0);
    }
    let base = theme.style(Role::Dialog);
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            if let Some(cell) = buffer.cell_mut(Position::new(x, y)) {
                cell.reset();
                cell.set_style(base);
            }
        }
    }
    let rule = theme.style(Role::Rule);
    let (across, down) = theme.glyphs.pick(("─", "│"), ("-", "|"));
    let [upper_left, upper_right, lower_left, lower_right] = theme
        .glyphs
        .pick(["┌", "┐", "└", "┘"], ["+", "+", "+", "+"]);
    let mut top = Pen::new(buffer, line_of(area, 0));
    top.right(upper_right, rule)
        .text(upper_left, rule)
        .text(across, rule);
    if !title.is_empty() {
        top.text(&format!(" {title} "), theme.style(title_role));
    }
    top.fill(across, rule);
    for line in 1..area.height - 1 {
        let mut pen = Pen::new(buffer, line_of(area, line));
        pen.right(down, rule).text(down, rule);
    }
    let mut bottom = Pen::new(buffer, line_of(area, area.height - 1));
    bottom
        .right(lower_right, rule)
        .text(lower_left, rule)
        .fill(across, rule);
    Rect::new(area.x + 2, area.y + 1, area.width - 4, area.height - 2)
}
