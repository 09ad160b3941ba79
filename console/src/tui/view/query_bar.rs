//! The line of the filter or of a statement, what is wrong with it, and its completions.
//!
//! Invariants: the caret stands under the fault; a broken line shows the error role until it is
//! mended; the cursor of the line is always in sight.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use skynet::query::classify::{Role as Part, classify};
use skynet::query::complete::Candidate;
use skynet::query::{Diagnostic, Parsed};

use super::pen::{Pen, boxed, cursor_line, line_of};
use crate::theme::{Role, Theme};
use crate::tui::format::{grouped, width};
use crate::tui::layout::{Regions, Shape};
use crate::tui::state::State;
use crate::tui::state::layer::{Completions, Layer};
use crate::tui::state::line::Line;

/// How many completions are shown at once.
const SHOWN: u16 = 10;

/// A line that is drawn: its text with styles, and where the cursor and the faults are.
struct Bar<'a> {
    parts: Vec<(String, Style)>,
    /// Cells before the typed text.
    prefix: u16,
    line: &'a Line,
    parsed: &'a Parsed,
    focused: bool,
    /// Faults are shown; a statement's only after Enter or when typing on cannot mend them.
    faults: bool,
}

pub(super) fn draw(
    state: &State,
    theme: &Theme,
    buffer: &mut Buffer,
    regions: &Regions,
) -> Option<Position> {
    let statement = state.layers.iter().rev().find_map(|layer| match layer {
        Layer::Statement(statement) => Some(statement),
        _ => None,
    });
    let bar = match statement {
        Some(statement) => Bar {
            parts: vec![(" : ".to_owned(), theme.style(Role::Key))],
            prefix: 3,
            line: &statement.line,
            parsed: &statement.parsed,
            focused: true,
            faults: statement.refused
                || statement.parsed.diagnostics.iter().any(|it| !it.incomplete),
        },
        None => filter_bar(state, theme),
    };
    let is_filter = statement.is_none();
    let cursor = draw_line(state, theme, buffer, regions, (&bar, is_filter));
    rule(theme, buffer, regions.rule, &bar, cursor.1);
    cursor.0.filter(|_| bar.focused)
}

fn filter_bar<'a>(state: &'a State, theme: &Theme) -> Bar<'a> {
    let filter = &state.filter;
    let focused = state
        .layers
        .iter()
        .any(|layer| matches!(layer, Layer::Filter(_)));
    let mut parts = vec![(" / ".to_owned(), theme.style(Role::Key))];
    for term in filter.terms() {
        let query = skynet::query::Query::exact(term.field, &[&term.value]);
        parts.push((format!("{query} "), theme.style(Role::Structural)));
    }
    let prefix = parts.iter().map(|(text, _)| width(text)).sum();
    Bar {
        parts,
        prefix,
        line: filter.line(),
        parsed: filter.parsed(),
        focused,
        faults: true,
    }
}

/// Draws the line; returns the cursor and how many cells are scrolled out at the left.
fn draw_line(
    state: &State,
    theme: &Theme,
    buffer: &mut Buffer,
    regions: &Regions,
    (bar, is_filter): (&Bar<'_>, bool),
) -> (Option<Position>, u16) {
    let mut pen = Pen::new(buffer, regions.filter);
    pen.right(" ", theme.style(Role::Text));
    if is_filter {
        verdict(state, theme, &mut pen, regions.shape == Shape::Narrow);
    }
    let mut parts = bar.parts.clone();
    parts.extend(typed(bar, theme));
    if bar.line.text().is_empty() && !bar.focused && state.filter.terms().is_empty() {
        parts.push((
            "everything; type / to filter".to_owned(),
            theme.style(Role::Muted),
        ));
    }
    let at = bar.prefix.saturating_add(width(bar.line.before()));
    // One cell for the cursor behind the text, one for the sign of what is scrolled out.
    let scrolled = at.saturating_add(2).saturating_sub(pen.room());
    let scrolled = if bar.focused { scrolled } else { 0 };
    let start = pen.x();
    let mut skip = scrolled;
    for (text, style) in &parts {
        let shown = skip_cells(text, &mut skip);
        pen.text(shown, *style);
    }
    if scrolled > 0 {
        let sign = Rect::new(start, regions.filter.y, 1, regions.filter.height);
        Pen::new(buffer, sign).text("…", theme.style(Role::Muted));
    }
    let x = start.saturating_add(at - scrolled.min(at));
    let position = (x < regions.filter.right() && regions.filter.height > 0)
        .then(|| Position::new(x, regions.filter.y));
    (position, scrolled)
}

/// How many rows the filter leaves, and whether it is valid.
fn verdict(state: &State, theme: &Theme, pen: &mut Pen<'_>, narrow: bool) {
    let broken = state.filter.is_broken();
    let (sign, word, role) = if broken {
        (theme.glyphs.pick("✗", "!"), "invalid", Role::Bad)
    } else if state.filter.is_waiting() {
        (theme.glyphs.pick("…", "."), "waits", Role::Muted)
    } else {
        (theme.glyphs.pick("✓", "ok"), "valid", Role::Ok)
    };
    let count = |value: usize| grouped(u64::try_from(value).unwrap_or(u64::MAX));
    let matched = count(state.rows.matched);
    let text = if narrow {
        format!("{matched} ")
    } else {
        format!("{matched} of {}   ", count(state.totals.instances))
    };
    let verdict = if narrow {
        sign.to_owned()
    } else {
        format!("{sign} {word}")
    };
    pen.right(&verdict, theme.style(role));
    pen.right(&text, theme.style(Role::Text));
    pen.right("  ", theme.style(Role::Text));
}

/// The typed text in the colors of its parts.
fn typed(bar: &Bar<'_>, theme: &Theme) -> Vec<(String, Style)> {
    let source = bar.line.text();
    let mut parts = Vec::new();
    let mut at = 0;
    if bar.parsed.source == source {
        for (span, part) in classify(bar.parsed) {
            if span.start < at {
                continue;
            }
            let between = source.get(at..span.start).unwrap_or_default();
            parts.push((between.to_owned(), Style::new()));
            let role = match part {
                Part::Command | Part::Keyword | Part::Flag => Role::Keyword,
                Part::Field => Role::Field,
                Part::Operator | Part::Punctuation => Role::Operator,
                Part::Value => Role::Value,
                Part::Fuzzy => Role::Fuzzy,
                Part::Error => Role::Error,
            };
            parts.push((span.of(source).to_owned(), theme.style(role)));
            at = span.end;
        }
    }
    parts.push((
        source.get(at..).unwrap_or_default().to_owned(),
        Style::new(),
    ));
    parts
}

/// The text without its first `skip` cells, which are counted down.
fn skip_cells<'a>(text: &'a str, skip: &mut u16) -> &'a str {
    let mut rest = text;
    while *skip > 0 {
        let Some(first) = rest.chars().next() else {
            break;
        };
        let (head, tail) = rest.split_at(first.len_utf8());
        *skip = skip.saturating_sub(width(head));
        rest = tail;
    }
    rest
}

/// The line below: a rule, or the first fault with a caret under its place.
fn rule(theme: &Theme, buffer: &mut Buffer, area: Rect, bar: &Bar<'_>, scrolled: u16) {
    let fault = bar.parsed.diagnostics.first().filter(|_| bar.faults);
    let Some(fault) = fault else {
        Pen::new(buffer, area).fill(theme.glyphs.pick("─", "-"), theme.style(Role::Rule));
        return;
    };
    let role = if fault.incomplete && bar.focused {
        Role::Warn
    } else {
        Role::Bad
    };
    let source = bar.line.text();
    let before = source.get(..fault.span.start).map_or(0, width);
    let under = fault.span.of(source);
    let x = bar.prefix.saturating_add(before).saturating_sub(scrolled);
    let x = x.min(area.width.saturating_sub(1));
    let carets = "^".repeat(usize::from(
        width(under).clamp(1, area.width.saturating_sub(x).max(1)),
    ));
    let behind = area
        .width
        .saturating_sub(x)
        .saturating_sub(width(&carets) + 1);
    let before = x.saturating_sub(1);
    let whole = words(fault);
    let short = &fault.message;
    let mut pen = Pen::new(buffer, area);
    pen.skip(x).text(&carets, theme.style(role)).skip(1);
    // Behind the caret if it fits there, else before it; without the advice before it is cut.
    if width(&whole) <= behind {
        pen.text(&whole, theme.style(role));
    } else if width(&whole) <= before {
        let place = Rect::new(before - width(&whole), area.y, width(&whole), area.height);
        Pen::new(buffer, place).text(&whole, theme.style(role));
    } else if width(short) <= behind || behind >= before {
        pen.text(short, theme.style(role));
    } else {
        let start = before.saturating_sub(width(short));
        let place = Rect::new(start, area.y, before - start, area.height);
        Pen::new(buffer, place).text(short, theme.style(role));
    }
}

fn words(fault: &Diagnostic) -> String {
    match &fault.hint {
        Some(hint) => format!("{}: {hint}", fault.message),
        None => fault.message.clone(),
    }
}

/// The completions of the layer on top, below its line.
pub(super) fn draw_completions(
    state: &State,
    layer: &Layer,
    theme: &Theme,
    buffer: &mut Buffer,
    regions: &Regions,
) {
    let (completions, prefix, line): (&Completions, u16, &Line) = match layer {
        Layer::Filter(completions) => {
            let bar = filter_bar(state, theme);
            (completions, bar.prefix, state.filter.line())
        }
        Layer::Statement(statement) => (&statement.completions, 3, &statement.line),
        _ => return,
    };
    let Some(first) = completions.candidates.first() else {
        return;
    };
    let before = line.text().get(..first.span.start).map_or(0, width);
    let x = prefix.saturating_add(before).saturating_sub(2);
    let top = regions.filter.bottom().saturating_add(regions.rule.height);
    let area = *buffer.area();
    let room = area.height.saturating_sub(top).saturating_sub(1);
    let shown = SHOWN
        .min(room.saturating_sub(2))
        .min(u16::try_from(completions.candidates.len()).unwrap_or(SHOWN));
    if shown == 0 {
        return;
    }
    let visible = window(completions, usize::from(shown));
    let texts = visible.iter().map(|it| width(&it.text)).max().unwrap_or(0);
    let words = visible
        .iter()
        .map(|it| width(&it.description))
        .max()
        .unwrap_or(0);
    let wanted = texts.saturating_add(words).saturating_add(8).clamp(16, 72);
    let wide = wanted.min(area.width);
    let x = x.min(area.width - wide);
    let title = match completions.candidates.len() {
        count if count > usize::from(shown) => format!("{count}"),
        _ => String::new(),
    };
    let place = Rect::new(x, top, wide, shown + 2);
    let inside = boxed(buffer, place, (&title, Role::Muted), theme);
    let chosen = completions
        .chosen
        .and_then(|at| completions.candidates.get(at));
    for (index, candidate) in visible.iter().enumerate() {
        let area = line_of(inside, u16::try_from(index).unwrap_or(u16::MAX));
        let mut pen = Pen::new(buffer, area);
        pen.cell(
            &candidate.text,
            texts.min(inside.width),
            false,
            theme.style(Role::Value),
        );
        pen.skip(2)
            .text(&candidate.description, theme.style(Role::Muted));
        if chosen == Some(candidate) {
            cursor_line(theme, buffer, area);
        }
    }
}

/// The candidates that are shown, the chosen one among them.
fn window(completions: &Completions, shown: usize) -> &[Candidate] {
    let chosen = completions.chosen.unwrap_or(0);
    let last = completions.candidates.len().saturating_sub(shown);
    let start = (chosen + 1).saturating_sub(shown).min(last);
    let end = (start + shown).min(completions.candidates.len());
    completions.candidates.get(start..end).unwrap_or_default()
}
