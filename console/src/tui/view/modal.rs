//! Dialogs over the table: the menu of actions, the columns to sort by, questions, texts.
//!
//! Invariants: a question names what Enter does; a dialog that does not fit scrolls and says so.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use skynet::query::Verb;
use skynet::session::plan::Demand;

use super::help::more;
use super::pen::{Pen, boxed, cursor_line, line_of};
use crate::theme::{Role, Theme};
use crate::tui::action::{BINDINGS, Command, Mode};
use crate::tui::format::{plural, width};
use crate::tui::layout::centered;
use crate::tui::rows::window;
use crate::tui::state::State;
use crate::tui::state::layer::{Confirm, DeployPrompt, Layer, Plan, Reading};
use crate::tui::state::row::{Row, RowKey};
use crate::tui::update::{Entry, MENU, sortable};

/// The widest dialog.
const WIDEST: u16 = 100;

pub(super) fn draw(
    state: &State,
    layer: &Layer,
    theme: &Theme,
    buffer: &mut Buffer,
    body: Rect,
) -> Option<Position> {
    let screen = *buffer.area();
    match layer {
        Layer::Sort(chosen) => sort(state, *chosen, theme, buffer, body),
        Layer::Menu(chosen) => menu(state, *chosen, theme, buffer, screen),
        Layer::Reading(reading) => read(reading, theme, buffer, screen),
        Layer::Confirm(question) => return confirm(question, theme, buffer, screen),
        Layer::Deploy(prompt) => return Some(deploy(prompt, theme, buffer, screen)),
        Layer::Filter(_) | Layer::Statement(_) | Layer::Help(_) => {}
    }
    None
}

fn rows_of(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn sort(state: &State, chosen: usize, theme: &Theme, buffer: &mut Buffer, body: Rect) {
    let columns = sortable(state.view);
    let screen = *buffer.area();
    let tall = rows_of(columns.len()).saturating_add(2);
    let room = if body.height >= tall { body } else { screen };
    let area = centered(room, 48, tall);
    let inside = boxed(
        buffer,
        area,
        ("Sort by (again: turn round)", Role::Title),
        theme,
    );
    let sort = state.table().sort;
    let shown = usize::from(inside.height).max(1);
    let first = (chosen + 1).saturating_sub(shown);
    for (index, column) in columns.iter().enumerate().skip(first).take(shown) {
        let line = line_of(inside, rows_of(index - first));
        let mut pen = Pen::new(buffer, line);
        let direction = match (sort.column == *column, sort.descending) {
            (true, true) => theme.glyphs.pick("▼", "v"),
            (true, false) => theme.glyphs.pick("▲", "^"),
            (false, _) => " ",
        };
        pen.text(direction, theme.style(Role::Accent)).skip(1);
        pen.cell(column.title(state.view), 8, false, theme.style(Role::Text))
            .skip(1);
        pen.text(column.about(), theme.style(Role::Muted));
        if index == chosen {
            cursor_line(theme, buffer, line);
        }
    }
    more(theme, buffer, area, (first, shown, columns.len()));
}

fn menu(state: &State, chosen: usize, theme: &Theme, buffer: &mut Buffer, screen: Rect) {
    let target = window::under_cursor(state).map_or_else(String::new, |row| target(state, row));
    let wide = width(&target).saturating_add(4).clamp(46, WIDEST);
    let area = centered(screen, wide, rows_of(MENU.len()).saturating_add(4));
    let inside = boxed(buffer, area, ("Actions", Role::Title), theme);
    Pen::new(buffer, line_of(inside, 0)).text(&target, theme.style(Role::Accent));
    for (index, entry) in MENU.iter().enumerate() {
        let line = line_of(inside, rows_of(index).saturating_add(2));
        let command = match entry {
            Entry::Change(verb) => Command::Change(*verb),
            Entry::Deploy => Command::Deploy,
        };
        let binding = BINDINGS
            .iter()
            .find(|binding| binding.mode == Mode::Menu && binding.command == command);
        if let Some(binding) = binding {
            let key = binding.keys.first().copied().unwrap_or_default();
            let mut pen = Pen::new(buffer, line);
            pen.text(key, theme.style(Role::Key)).skip(2);
            pen.text(binding.help, theme.style(Role::Text));
        }
        if index == chosen {
            cursor_line(theme, buffer, line);
        }
    }
}

/// What the actions hit.
fn target(state: &State, row: &Row) -> String {
    match row {
        Row::Instance(instance) => {
            let place = instance
                .address
                .map_or_else(|| instance.id().to_string(), |address| address.to_string());
            format!("{} {} at {place}", instance.service(), instance.version())
        }
        Row::Group(group) => {
            let count = plural(group.total, "instance", "instances");
            let filtered = if state.filter.query().is_all() {
                ""
            } else {
                " that match the filter"
            };
            let name = match &group.key {
                RowKey::Region(name) => format!("in region {name}"),
                RowKey::Host(name) => format!("on host {name}"),
                RowKey::Service(name) => format!("of service {name}"),
                RowKey::Version(name, version) => format!("of service {name} {version}"),
                RowKey::Instance(id) => id.to_string(),
            };
            format!("{count} {name}{filtered}")
        }
    }
}

fn read(reading: &Reading, theme: &Theme, buffer: &mut Buffer, screen: Rect) {
    let widest = reading
        .lines
        .iter()
        .map(|line| width(line))
        .max()
        .unwrap_or(0);
    let wide = widest.saturating_add(6).clamp(40, WIDEST);
    let tall = rows_of(reading.lines.len()).saturating_add(2);
    let area = centered(screen, wide, tall);
    let inside = boxed(buffer, area, (&reading.title, Role::Title), theme);
    let room = usize::from(inside.height);
    let offset = reading.offset.min(reading.lines.len().saturating_sub(room));
    for (index, line) in reading.lines.iter().skip(offset).take(room).enumerate() {
        let place = line_of(inside, rows_of(index));
        Pen::new(buffer, place).text(line, theme.style(Role::Dialog));
    }
    more(theme, buffer, area, (offset, room, reading.lines.len()));
}

fn confirm(
    question: &Confirm,
    theme: &Theme,
    buffer: &mut Buffer,
    screen: Rect,
) -> Option<Position> {
    let (prompt, typed) = match (&question.demand, &question.plan) {
        (Demand::Yes, _) => (
            "y does it; n, Esc and Enter leave all as it is".to_owned(),
            false,
        ),
        (demand, Plan::Change(plan)) => (demand.prompt(plan.verb), true),
        (demand, Plan::Deploy(_)) => (deploy_prompt(demand), true),
    };
    let notes = if typed { 2 } else { 1 };
    let widest = question
        .lines
        .iter()
        .map(|line| width(line))
        .max()
        .unwrap_or(0);
    let wide = widest
        .max(width(&prompt).saturating_add(12))
        .saturating_add(6)
        .clamp(50, WIDEST);
    let tall = rows_of(question.lines.len()).saturating_add(3 + notes);
    let area = centered(screen, wide, tall);
    let title = (question.title.as_str(), title_role(&question.plan));
    let inside = boxed(buffer, area, title, theme);
    let room = inside.height.saturating_sub(notes + 1);
    let text = Rect {
        height: room,
        ..inside
    };
    let last = question.lines.len().saturating_sub(usize::from(room));
    let offset = question.offset.min(last);
    for (index, line) in question
        .lines
        .iter()
        .skip(offset)
        .take(usize::from(room))
        .enumerate()
    {
        Pen::new(buffer, line_of(text, rows_of(index))).text(line, theme.style(Role::Dialog));
    }
    more(
        theme,
        buffer,
        area,
        (offset, usize::from(room), question.lines.len()),
    );
    let asked = line_of(inside, inside.height.saturating_sub(notes));
    let mut pen = Pen::new(buffer, asked);
    pen.text(&prompt, theme.style(Role::Warn));
    if !typed {
        return None;
    }
    pen.text(question.typed.before(), theme.style(Role::Text));
    let cursor = pen.position();
    pen.text(question.typed.after(), theme.style(Role::Text));
    let note = line_of(inside, inside.height.saturating_sub(1));
    Pen::new(buffer, note).text(
        "anything else, and Esc, leaves all as it is",
        theme.style(Role::Muted),
    );
    Some(cursor)
}

fn deploy_prompt(demand: &Demand) -> String {
    match demand {
        Demand::Yes => String::new(),
        Demand::Count(count) => format!("Type {count} to deploy: "),
        Demand::Name(name) => format!("Type {name} to deploy: "),
    }
}

fn title_role(plan: &Plan) -> Role {
    match plan {
        Plan::Change(plan) => match plan.verb {
            Verb::Stop | Verb::Unregister | Verb::Restart => Role::DangerTitle,
            Verb::Register | Verb::Start => Role::Title,
        },
        Plan::Deploy(_) => Role::Title,
    }
}

fn deploy(prompt: &DeployPrompt, theme: &Theme, buffer: &mut Buffer, screen: Rect) -> Position {
    let title = format!("Deploy to {}", plural(prompt.hosts.len(), "host", "hosts"));
    let area = centered(screen, 80, 6);
    let inside = boxed(buffer, area, (&title, Role::Title), theme);
    let names: Vec<&str> = prompt.hosts.iter().map(|host| &*host.name).collect();
    Pen::new(buffer, line_of(inside, 0)).text(&names.join(", "), theme.style(Role::Muted));
    let mut pen = Pen::new(buffer, line_of(inside, 2));
    pen.text("program and arguments: ", theme.style(Role::Warn));
    pen.text(prompt.line.before(), theme.style(Role::Text));
    let cursor = pen.position();
    pen.text(prompt.line.after(), theme.style(Role::Text));
    let (note, role) = match &prompt.problem {
        Some(problem) => (problem.as_str(), Role::Error),
        None => ("Enter shows the plan, Esc leaves all as it is", Role::Muted),
    };
    Pen::new(buffer, line_of(inside, 3)).text(note, theme.style(role));
    cursor
}
