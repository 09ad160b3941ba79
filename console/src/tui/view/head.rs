//! The lines above the table: name and link, the views, the way here.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skynet::registry::link::Link;

use super::link;
use super::pen::Pen;
use crate::theme::{Role, Theme};
use crate::tui::format::{UNKNOWN, grouped, plural, width};
use crate::tui::layout::{Regions, Shape};
use crate::tui::state::{State, ViewKind};

pub(super) fn draw(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    status(state, theme, buffer, regions);
    tabs(state, theme, buffer, regions.tabs);
    crumbs(state, theme, buffer, regions.crumbs);
}

fn status(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    let narrow = regions.shape == Shape::Narrow;
    let mut pen = Pen::new(buffer, regions.status);
    let help = if narrow { "?" } else { "?:help" };
    pen.right(" ", theme.style(Role::Text));
    pen.right(help, theme.style(Role::Key));
    pen.right("  ", theme.style(Role::Text));
    pen.skip(1).text("sky", theme.style(Role::Title)).skip(2);
    if !narrow {
        pen.text(&place(state), theme.style(Role::Accent)).skip(3);
    }
    let (texts, role) = link::texts(state, theme.glyphs);
    let gap = if narrow { 1 } else { 3 };
    let tab = (regions.tabs.height == 0).then(|| tab(state, state.view));
    let beside = tab.as_deref().map_or(0, |tab| gap + width(tab));
    let room = pen.room();
    let with_tab = |text: &&String| width(text).saturating_add(beside) <= room;
    let alone = |text: &&String| width(text) <= room;
    let text = texts.iter().find(with_tab);
    if let Some(text) = text.or(texts.iter().find(alone)).or(texts.last()) {
        pen.text(text, theme.style(role)).skip(gap);
    }
    let (beside, role) = match (tab, state.link) {
        (Some(tab), _) => (tab, Role::TabActive),
        (None, Link::Lost { .. } | Link::Cached { .. } | Link::Unknown { .. }) => {
            let time = link::data_of(state);
            let dated = time.map_or_else(String::new, |time| format!("data of {time}"));
            (dated, Role::Muted)
        }
        (None, Link::Connecting { .. }) => return,
        (None, Link::Live { .. } | Link::Protected { .. }) => {
            (sizes(state, theme, pen.room()), Role::Muted)
        }
    };
    if width(&beside) <= pen.room() {
        pen.text(&beside, theme.style(role));
    }
}

/// How large the cluster is, as much of it as fits.
fn sizes(state: &State, theme: &Theme, room: u16) -> String {
    let totals = &state.totals;
    let all = [
        plural(totals.regions, "region", "regions"),
        plural(totals.hosts, "host", "hosts"),
        plural(totals.services, "service", "services"),
        plural(totals.instances, "instance", "instances"),
    ];
    let separator = theme.glyphs.pick(" · ", ", ");
    let shorter = [
        all.join(separator),
        [all[1].as_str(), &all[3]].join(separator),
    ];
    let fits = shorter.into_iter().find(|text| width(text) <= room);
    fits.unwrap_or_default()
}

/// What the cluster is called: the label, or the registry's address and an unusual prefix.
fn place(state: &State) -> String {
    let place = &state.place;
    if let Some(label) = &place.label {
        return label.clone();
    }
    let first = place.endpoints.first().map_or("", String::as_str);
    let address = first.split("://").last().unwrap_or(first);
    let more = match place.endpoints.len() {
        0 | 1 => String::new(),
        count => format!(" +{}", count - 1),
    };
    if place.prefix == skynet::registry::key::DEFAULT_PREFIX || place.prefix.is_empty() {
        format!("{address}{more}")
    } else {
        format!("{address}{more} {}", place.prefix)
    }
}

/// A tab: name and total, of the view that is shown also how many rows the filter leaves.
fn tab(state: &State, view: ViewKind) -> String {
    let number = view as usize + 1;
    let total = match state.link {
        // Nothing is known yet, which is not the same as nothing being there.
        Link::Connecting { .. } => UNKNOWN.to_owned(),
        Link::Unknown { .. } if state.snapshot.is_empty() => UNKNOWN.to_owned(),
        _ => count(state.totals.of(view)),
    };
    let title = view.title();
    if view != state.view {
        return format!("{number} {title} {total}");
    }
    if state.filter.query().is_all() {
        return format!("[{number} {title} {total}]");
    }
    format!("[{number} {title} {}/{total}]", count(state.rows.real()))
}

fn count(value: usize) -> String {
    grouped(u64::try_from(value).unwrap_or(u64::MAX))
}

fn tabs(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let tabs = ViewKind::ALL.map(|view| (view, tab(state, view)));
    let needed: u16 = tabs.iter().map(|(_, text)| width(text) + 2).sum();
    let mut pen = Pen::new(buffer, area);
    pen.skip(1);
    let gap = if needed <= pen.room() { 2 } else { 1 };
    for (view, text) in tabs {
        let role = if view == state.view {
            Role::TabActive
        } else {
            Role::Tab
        };
        pen.text(&text, theme.style(role)).skip(gap);
    }
}

fn crumbs(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let mut pen = Pen::new(buffer, area);
    let table = state.table();
    let direction = if table.sort.descending {
        theme.glyphs.pick("▼", "v")
    } else {
        theme.glyphs.pick("▲", "^")
    };
    let title = table.sort.column.title(state.view);
    pen.right(" ", theme.style(Role::Text));
    pen.right(
        &format!("sort: {title}{direction}"),
        theme.style(Role::Muted),
    );
    if state.rows.pending {
        pen.right("order pending  ", theme.style(Role::Warn));
    }
    if let Some(running) = state.running.last() {
        let more = match state.running.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let sign = theme.glyphs.pick("⟳", "~");
        pen.right("  ", theme.style(Role::Text));
        pen.right(
            &format!("{sign} {}{more}", running.what),
            theme.style(Role::Warn),
        );
    }
    pen.right("  ", theme.style(Role::Text));
    let separator = theme.glyphs.pick(" › ", " > ");
    pen.skip(1).text("all", theme.style(Role::Muted));
    for term in state.filter.terms() {
        pen.text(separator, theme.style(Role::Rule))
            .text(&term.value, theme.style(Role::Structural));
    }
    let view = state.view.title().to_lowercase();
    pen.text(separator, theme.style(Role::Rule))
        .text(&view, theme.style(Role::Muted));
}
