//! The pane of details: what is known of the row under the cursor, with its measurements.
//!
//! Invariants: it only shows what is known already; what hosts have not answered is a dash.

use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skynet::instance::Instance;

use super::pen::{Pen, line_of};
use crate::theme::{Glyphs, Role, Theme};
use crate::tui::cells::{average, present};
use crate::tui::format::{self, UNKNOWN, plural};
use crate::tui::layout::Regions;
use crate::tui::rows::window;
use crate::tui::state::State;
use crate::tui::state::measure::{Measure, Sample};
use crate::tui::state::row::{Group, Row, RowKey};

/// How many samples a graph shows.
const GRAPH: usize = 18;

/// How many samples the graph of one line shows.
const SHORT_GRAPH: usize = 12;

/// From this width on facts and measurements stand side by side.
const SIDE_BY_SIDE: u16 = 100;

/// A name, and what stands behind it.
type Fact = (&'static str, String);

pub(super) fn draw(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    if regions.detail.height == 0 {
        return;
    }
    let row = window::under_cursor(state);
    let title = row.map_or_else(String::new, |row| title(state, row));
    let rule = theme.style(Role::Rule);
    let across = theme.glyphs.pick("─", "-");
    let mut pen = Pen::new(buffer, regions.detail_rule);
    pen.right(across, rule)
        .right(" p:hide ", theme.style(Role::Muted));
    pen.text(across, rule);
    if !title.is_empty() {
        pen.text(&format!(" {title} "), theme.style(Role::Title));
    }
    pen.fill(across, rule);
    let Some(row) = row else {
        return;
    };
    let (facts, measured) = facts(state, row, theme.glyphs);
    if regions.detail.height == 1 {
        one_line(state, theme, buffer, regions.detail, row);
    } else if regions.detail.width >= SIDE_BY_SIDE {
        let half = regions.detail.width * 7 / 15;
        let left = Rect {
            width: half,
            ..regions.detail
        };
        let right = Rect {
            x: half,
            width: regions.detail.width - half,
            ..regions.detail
        };
        list(theme, buffer, left, &facts);
        list(theme, buffer, right, &measured);
    } else {
        // Three facts and two lines of measurements fit where five lines are.
        let (mut kept, mut rest) = (facts, measured);
        kept.truncate(3);
        rest.truncate(2);
        kept.extend(rest);
        list(theme, buffer, regions.detail, &kept);
    }
}

fn title(state: &State, row: &Row) -> String {
    match row {
        Row::Instance(instance) => {
            let instance = present(state, instance);
            let address = instance
                .address
                .map_or_else(|| "does not run".to_owned(), |address| address.to_string());
            format!(
                "instance {} · {} {} · {address}",
                short(instance),
                instance.service(),
                instance.version()
            )
        }
        Row::Group(group) => match &group.key {
            RowKey::Region(name) => format!("region {name}"),
            RowKey::Host(name) => format!("host {name}"),
            RowKey::Service(name) => format!("service {name}"),
            RowKey::Version(name, version) => format!("service {name} version {version}"),
            RowKey::Instance(id) => format!("instance {id}"),
        },
    }
}

/// The first part of the id, by which people tell instances apart.
fn short(instance: &Instance) -> String {
    let id = instance.id().simple().to_string();
    id.get(..8).unwrap_or(&id).to_owned()
}

fn list(theme: &Theme, buffer: &mut Buffer, area: Rect, facts: &[Fact]) {
    let names = facts
        .iter()
        .map(|(name, _)| format::width(name))
        .max()
        .unwrap_or(0);
    for (index, (name, text)) in facts.iter().enumerate() {
        let line = line_of(area, u16::try_from(index).unwrap_or(u16::MAX));
        let mut pen = Pen::new(buffer, line);
        pen.skip(1)
            .cell(name, names, false, theme.style(Role::Muted))
            .skip(2);
        pen.text(text, theme.style(Role::Text));
    }
}

fn facts(state: &State, row: &Row, glyphs: Glyphs) -> (Vec<Fact>, Vec<Fact>) {
    match row {
        Row::Instance(instance) => {
            let instance = present(state, instance);
            let measure = state.measures.of(instance.id());
            (
                instance_facts(state, instance),
                measurements(state, measure, glyphs),
            )
        }
        Row::Group(group) => (group_facts(group), group_measurements(group)),
    }
}

fn instance_facts(state: &State, instance: &Arc<Instance>) -> Vec<Fact> {
    let standing = if state.snapshot.instance(instance.id()).is_none() {
        "gone".to_owned()
    } else if instance.registered {
        format!("registered, {}", instance.state)
    } else {
        format!("not registered, {}", instance.state)
    };
    let age = format::uptime(state.age(instance.started));
    let since = match instance.process {
        Some(_) => format!("up {age}"),
        None => format!("last started {} ago", age.trim_start_matches('<')),
    };
    let address = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| UNKNOWN.to_owned(), |address| address.to_string())
    };
    let pid = instance
        .pid()
        .map_or_else(|| UNKNOWN.to_owned(), |pid| pid.to_string());
    let mut more = Vec::new();
    if let Some(reason) = &instance.reason {
        more.push(format!("reason: {reason}"));
    }
    if let Some(deployment) = &instance.deployment {
        more.push(format!("deployment {deployment}"));
    }
    if !instance.tags.is_empty() {
        more.push(format!("tags {}", instance.tags.join(", ")));
    }
    more.push(format!("weight {}", instance.weight));
    vec![
        ("uuid", instance.id().to_string()),
        ("state", format!("{standing} · {since}")),
        (
            "host",
            format!("{} ({}) · pid {pid}", instance.host(), instance.region()),
        ),
        ("admin", address(instance.admin_address)),
        ("more", more.join(" · ")),
    ]
}

fn measurements(state: &State, measure: Option<&Measure>, glyphs: Glyphs) -> Vec<Fact> {
    let Some(measure) = measure else {
        return vec![("statistics", "not known yet".to_owned())];
    };
    let stats = &measure.stats;
    let graph = |value: fn(&Sample) -> f64| {
        let skipped = measure.history.len().saturating_sub(GRAPH);
        let line = format::sparkline(
            measure.history.iter().skip(skipped).map(value),
            glyphs == Glyphs::Ascii,
        );
        let missing = GRAPH.saturating_sub(line.chars().count());
        format!("{}{line}", " ".repeat(missing))
    };
    let avg = average(measure).map_or_else(|| UNKNOWN.to_owned(), format::micros);
    let rate = measure.rps.map_or_else(|| UNKNOWN.to_owned(), format::rate);
    let last = measure
        .last
        .map_or_else(|| "never".to_owned(), |last| format::ago(state.age(last)));
    let cpu = stats
        .cpu_pct
        .map_or_else(|| UNKNOWN.to_owned(), |share| format!("{share:.1}%"));
    let memory = stats
        .rss_bytes
        .map_or_else(|| UNKNOWN.to_owned(), format::bytes);
    vec![
        (
            "avg",
            format!(
                "{} {avg} (p50 {}, p99 {})",
                graph(|sample| as_amount(sample.avg_us)),
                format::micros(stats.p50_us),
                format::micros(stats.p99_us)
            ),
        ),
        (
            "req/s",
            format!("{} {rate}", graph(|sample| sample.rps.unwrap_or(0.0))),
        ),
        (
            "clients",
            format!(
                "{} {}",
                graph(|sample| as_amount(sample.clients)),
                stats.clients
            ),
        ),
        (
            "requests",
            format!(
                "{} · {} in flight · last {last}",
                format::count(stats.requests),
                stats.inflight
            ),
        ),
        ("process", format!("cpu {cpu} · memory {memory}")),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "the graph has eight steps")]
fn as_amount(value: i64) -> f64 {
    value as f64
}

fn group_facts(group: &Group) -> Vec<Fact> {
    let instances = plural(group.total, "instance", "instances");
    let names: Vec<_> = group.names.iter().map(|name| format::clean(name)).collect();
    let (label, names) = match &group.key {
        RowKey::Region(_) | RowKey::Host(_) => ("services", names.join(", ")),
        _ => ("versions", names.join(", ")),
    };
    let mut facts = vec![
        (
            "instances",
            format!(
                "{instances} · {} ready · {} registered",
                group.ready, group.registered
            ),
        ),
        (label, names),
    ];
    match (&group.key, group.address) {
        (RowKey::Host(_), Some(address)) => facts.push(("daemon", address.to_string())),
        (RowKey::Host(_), None) => facts.push(("daemon", "none is registered".to_owned())),
        _ => facts.push(("hosts", group.hosts.to_string())),
    }
    if let Some(region) = &group.region {
        facts.push(("region", region.to_string()));
    }
    facts
}

fn group_measurements(group: &Group) -> Vec<Fact> {
    if group.measured == 0 {
        return vec![("statistics", "not known yet".to_owned())];
    }
    let time = |value: Option<i64>| value.map_or_else(|| UNKNOWN.to_owned(), format::micros);
    let rate = group.rps.map_or_else(|| UNKNOWN.to_owned(), format::rate);
    vec![
        (
            "avg",
            format!("{} · worst {}", time(group.avg_us), time(group.worst_us)),
        ),
        ("req/s", rate),
        ("clients", format::count(group.clients)),
        ("requests", format::count(group.requests)),
        ("measured", format!("{} of {}", group.measured, group.total)),
    ]
}

/// Where there is one line: what the columns at hand leave out.
fn one_line(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect, row: &Row) {
    let text = match row {
        Row::Instance(instance) => instance_line(state, present(state, instance), theme.glyphs),
        Row::Group(group) => group_line(group),
    };
    Pen::new(buffer, area)
        .skip(1)
        .text(&text, theme.style(Role::Text));
}

fn instance_line(state: &State, instance: &Instance, glyphs: Glyphs) -> String {
    let mut parts = vec![format!("{} {}", short(instance), instance.host())];
    if instance.process.is_some() {
        parts.push(format!(
            "up {}",
            format::uptime(state.age(instance.started))
        ));
    }
    let Some(measure) = state.measures.of(instance.id()) else {
        parts.push(" no statistics yet".to_owned());
        return parts.join(" ");
    };
    let last = measure
        .last
        .map_or_else(|| "never".to_owned(), |last| format::ago(state.age(last)));
    let skipped = measure.history.len().saturating_sub(SHORT_GRAPH);
    let samples = measure.history.iter().skip(skipped);
    let graph = format::sparkline(
        samples.map(|sample| as_amount(sample.avg_us)),
        glyphs == Glyphs::Ascii,
    );
    let stats = &measure.stats;
    parts.push(format!(
        " reqs {} last {last}",
        format::count(stats.requests)
    ));
    parts.push(format!(
        " avg {graph} {} p99 {}",
        average(measure).map_or_else(|| UNKNOWN.to_owned(), format::micros),
        format::micros(stats.p99_us)
    ));
    parts.join(" ")
}

fn group_line(group: &Group) -> String {
    let words: Vec<String> = group_facts(group)
        .into_iter()
        .map(|(name, text)| match name {
            "instances" => text,
            name => format!("{name} {text}"),
        })
        .collect();
    words.join(" · ")
}
