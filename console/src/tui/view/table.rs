//! The table: only the rows on the screen, drawn straight into the buffer.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use skynet::registry::link::Link;

use super::pen::{Pen, cursor_line, line_of};
use crate::theme::{Role, Theme};
use crate::tui::cells::{cell, present};
use crate::tui::columns::{Column, Place};
use crate::tui::format::{grouped, width};
use crate::tui::layout::{Regions, Shape};
use crate::tui::rows::{NEW_FOR, window};
use crate::tui::state::row::{Lingering, Row};
use crate::tui::state::{State, ViewKind};

pub(super) fn draw(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    header(state, theme, buffer, regions);
    if state.rows.list.is_empty() {
        nothing(state, theme, buffer, regions.body);
        return;
    }
    let cursor = state.table().selected;
    let offset = state.table().offset;
    for (index, row) in window::visible(state).iter().enumerate() {
        let Ok(line) = u16::try_from(index) else {
            break;
        };
        let area = line_of(regions.body, line);
        let looks = Looks::of(state, row, cursor == Some(offset + index));
        match regions.shape {
            Shape::Wide => wide(state, theme, buffer, (area, &regions.columns), (row, looks)),
            Shape::Narrow | Shape::Tiny => narrow(state, theme, buffer, area, (row, looks)),
        }
        finish(theme, buffer, area, looks);
    }
    if !state.link.is_connected() {
        let area = regions.body.intersection(*buffer.area());
        buffer.set_style(area, theme.style(Role::Muted).add_modifier(Modifier::DIM));
    }
}

/// What is special about a row.
#[derive(Debug, Clone, Copy)]
struct Looks {
    cursor: bool,
    lingering: Option<Lingering>,
    new: bool,
}

impl Looks {
    fn of(state: &State, row: &Row, cursor: bool) -> Self {
        let (gone, new) = match row {
            Row::Instance(instance) => (
                state.snapshot.instance(instance.id()).is_none(),
                state.age(present(state, instance).started) < NEW_FOR,
            ),
            Row::Group(_) => (false, false),
        };
        let lingering = if gone {
            Some(Lingering::Gone)
        } else {
            state.rows.lingering(&row.key())
        };
        Self {
            cursor,
            lingering,
            new,
        }
    }

    fn sign(self, theme: &Theme) -> (&'static str, Role) {
        match self.lingering {
            Some(Lingering::Gone) => (theme.glyphs.pick("†", "x"), Role::Gone),
            Some(Lingering::Unmatched) => (theme.glyphs.pick("≠", "~"), Role::Muted),
            None if self.cursor => (theme.glyphs.pick("▶", ">"), Role::Accent),
            None if self.new => ("+", Role::New),
            None => (" ", Role::Text),
        }
    }
}

fn finish(theme: &Theme, buffer: &mut Buffer, area: Rect, looks: Looks) {
    let area = area.intersection(*buffer.area());
    if looks.lingering.is_some() {
        buffer.set_style(area, theme.style(Role::Gone));
    }
    if looks.cursor {
        cursor_line(theme, buffer, area);
    }
}

fn header(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    let style = theme.style(Role::Header);
    let sort = state.table().sort;
    for place in &regions.columns {
        let mut title = place.column.title(state.view).to_owned();
        if sort.column == place.column {
            title.push_str(if sort.descending {
                theme.glyphs.pick("▼", "v")
            } else {
                theme.glyphs.pick("▲", "^")
            });
        }
        let area = within(regions.header, *place);
        Pen::new(buffer, area).cell(&title, place.width, place.column.is_number(), style);
    }
}

fn within(line: Rect, place: Place) -> Rect {
    let x = line.x.saturating_add(place.x).min(line.right());
    Rect::new(x, line.y, place.width.min(line.right() - x), line.height)
}

fn wide(
    state: &State,
    theme: &Theme,
    buffer: &mut Buffer,
    (area, columns): (Rect, &[Place]),
    (row, looks): (&Row, Looks),
) {
    let (sign, role) = looks.sign(theme);
    Pen::new(buffer, area).text(sign, theme.style(role));
    for place in columns {
        let cell = cell(state, row, place.column, theme.glyphs);
        let right = place.column.is_number();
        let style = theme.style(cell.role);
        Pen::new(buffer, within(area, *place)).cell(&cell.text, place.width, right, style);
    }
}

/// Two joined cells at the left, the column of the order at the right.
fn narrow(
    state: &State,
    theme: &Theme,
    buffer: &mut Buffer,
    area: Rect,
    (row, looks): (&Row, Looks),
) {
    let (sign, role) = looks.sign(theme);
    let mut pen = Pen::new(buffer, area);
    pen.text(sign, theme.style(role)).skip(1);
    let sort = state.table().sort.column;
    let columns: &[Column] = match state.view {
        ViewKind::Instances => &[
            Column::Service,
            Column::Version,
            Column::Address,
            Column::Registered,
        ],
        ViewKind::Versions => &[Column::Service, Column::Version],
        ViewKind::Services => &[Column::Service],
        ViewKind::Hosts => &[Column::Host],
        ViewKind::Regions => &[Column::Region],
    };
    let last = if columns.contains(&sort) {
        match state.view {
            ViewKind::Instances => Column::Average,
            _ => Column::Total,
        }
    } else {
        sort
    };
    let value = cell(state, row, last, theme.glyphs);
    pen.right(" ", theme.style(Role::Text));
    pen.right(&value.text, theme.style(value.role));
    pen.right("  ", theme.style(Role::Text));
    for (index, column) in columns.iter().enumerate() {
        let cell = cell(state, row, *column, theme.glyphs);
        let widest = state.table().widths[*column as usize];
        let gap = u16::from(index > 0);
        pen.skip(gap);
        let text_width = width(&cell.text).max(widest);
        pen.cell(&cell.text, text_width, false, theme.style(cell.role));
    }
}

/// What is said where no row is.
fn nothing(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let mut lines: Vec<(String, Role)> = Vec::new();
    let place = state.place.endpoints.join(", ");
    match state.link {
        Link::Connecting { since } => {
            let seconds = state.now.mono.saturating_duration_since(since).as_secs();
            lines.push((format!("connecting to {place}"), Role::Text));
            lines.push((
                format!(
                    "nothing heard for {seconds}s; keys below {}",
                    state.place.prefix
                ),
                Role::Muted,
            ));
            if seconds >= 2 {
                lines.push((
                    "start a registry with `sky registry`, or a whole cluster with `sky demo`"
                        .to_owned(),
                    Role::Muted,
                ));
            }
        }
        Link::Unknown { .. } if state.snapshot.is_empty() => {
            let why = state.link.refusal().unwrap_or_default();
            lines.push((why, Role::Bad));
            lines.push((
                format!("use the `sky` that belongs to the services at {place}"),
                Role::Muted,
            ));
        }
        _ if state.snapshot.is_empty() && state.totals.hosts == 0 => {
            lines.push((format!("nothing is registered at {place}"), Role::Text));
            lines.push((
                "`sky daemon` brings a host, `sky deploy` starts services on it".to_owned(),
                Role::Muted,
            ));
        }
        _ => {
            lines.push(("nothing matches the filter".to_owned(), Role::Warn));
            if let Some(blame) = &state.rows.blame {
                let count = grouped(u64::try_from(blame.without).unwrap_or(u64::MAX));
                lines.push((format!("without `{}`: {count}", blame.term), Role::Text));
            }
            lines.push((
                "Esc clears the text, h takes a step back".to_owned(),
                Role::Muted,
            ));
        }
    }
    let count = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let first = area.height.saturating_sub(count) / 3;
    for (index, (text, role)) in lines.iter().enumerate() {
        let line = first.saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
        let room = line_of(area, line);
        let indent = room.width.saturating_sub(width(text)) / 2;
        let mut pen = Pen::new(buffer, room);
        pen.skip(indent).text(text, theme.style(*role));
    }
}
