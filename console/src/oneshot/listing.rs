//! `sky regions|hosts|services|versions|instances|topology`: what is there.
//!
//! Invariants: one listing of the registry and no watch; hosts are asked for statistics only when a
//! column, a filter or the order needs them; the same pure code writes the shell's listings.

use jiff::Timestamp;
use skynet::query::rows::{GroupRow, Known, StatsTable};
use skynet::query::{Listing, Query};
use skynet::registry::Listed;
use skynet::registry::snapshot::Snapshot;
use skynet::session::Session;

use super::row::{self, INSTANCE, InstanceRow, Sort};
use super::{STATS_DEADLINE, caveats, topology};
use crate::cli::args::{Format, ListArgs};
use crate::output::Output;
use crate::output::column::Column;
use crate::output::sheet::Sheet;
use crate::report::{self, Exit, Failure};

/// What is listed and how it is written; checked.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is listed.
    pub listing: Listing,
    /// Of what.
    pub query: Query,
    /// How it is written.
    pub format: Format,
    /// In which order; `None` for the snapshot's.
    pub sort: Option<Sort>,
    /// How many rows at most.
    pub limit: Option<usize>,
    /// Whether tables have a line of names.
    pub headers: bool,
    /// Whether hosts may be asked.
    pub stats: bool,
}

impl Request {
    /// A plain table.
    pub fn table(listing: Listing, query: Query) -> Self {
        Self {
            listing,
            query,
            format: Format::Table,
            sort: None,
            limit: None,
            headers: true,
            stats: true,
        }
    }

    /// What the arguments mean.
    ///
    /// # Errors
    /// When a selector, a filter or the order cannot be read.
    pub fn read(listing: Listing, args: &ListArgs) -> Result<Self, Failure> {
        let sort = args
            .sort
            .as_deref()
            .map(|text| sort_of(listing, text))
            .transpose()?;
        Ok(Self {
            listing,
            query: args.selectors.query(super::stdin)?,
            format: args.output,
            sort,
            limit: args.limit,
            headers: !args.no_headers,
            stats: !args.no_stats,
        })
    }

    /// Whether hosts have to be asked.
    fn is_measured(&self) -> bool {
        let sorted = self.sort.is_some_and(|sort| sort.measured);
        let shown = self.listing == Listing::Instances && self.format.is_json();
        self.stats && (sorted || shown || self.query.needs_stats())
    }
}

/// Reads the order of a listing.
///
/// # Errors
/// When there is no such column.
pub fn sort_of(listing: Listing, text: &str) -> Result<Sort, Failure> {
    let (sort, names) = match listing {
        Listing::Instances => (Sort::read(text, INSTANCE), keys(INSTANCE)),
        Listing::Topology => {
            return Err(Failure::usage("the topology has an order of its own")
                .hint("leave `--sort` out, or sort `sky instances`"));
        }
        _ => {
            let columns = row::group_columns(listing);
            (Sort::read(text, columns), keys(columns))
        }
    };
    sort.ok_or_else(|| {
        Failure::usage(format!("{listing} cannot be sorted by `{text}`")).hint(format!(
            "sort by one of {names}; `:desc` behind it puts the greatest first"
        ))
    })
}

fn keys<R>(columns: &[Column<R>]) -> String {
    columns
        .iter()
        .filter_map(|column| column.key)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Lists, and writes the result.
///
/// # Errors
/// When the registry cannot be reached, or nothing was found and that is a failure.
///
/// # Cancel safety
/// Reads only.
pub async fn run(
    session: &Session,
    request: &Request,
    fail_empty: bool,
    output: Output,
) -> Result<(), Failure> {
    let Listed { snapshot, is_stale } = session.registry().listing().await?;
    if is_stale {
        caveats::note_stale();
    }
    caveats::note(&snapshot);
    let stats = stats_for(session, request, &snapshot).await;
    let known = Known::new(&snapshot, &stats, Timestamp::now());
    let written = write(request, &known, output);
    output.write(&written.text)?;
    if written.rows > 0 {
        return Ok(());
    }
    if fail_empty {
        return Err(Failure::new(Exit::NothingMatched, "nothing matches"));
    }
    // An empty answer must not be taken for a dead cluster, nor the other way round.
    report::note(&match known.blame(&request.query) {
        Some(blame) => format!("Nothing matches: {blame}."),
        None if snapshot.is_empty() => {
            let prefix = session.registry().prefix();
            format!("Nothing is registered below `{prefix}`.")
        }
        None => "Nothing matches.".to_owned(),
    });
    Ok(())
}

/// Asks hosts for what the request needs, and nobody when it needs nothing.
///
/// # Cancel safety
/// Reads only.
pub async fn stats_for(session: &Session, request: &Request, snapshot: &Snapshot) -> StatsTable {
    if !request.is_measured() {
        return StatsTable::new();
    }
    let asked = if request.query.needs_stats() {
        // Without statistics nothing can be ruled out.
        snapshot.instances().cloned().collect()
    } else {
        let nothing = StatsTable::new();
        Known::new(snapshot, &nothing, Timestamp::now()).select(&request.query)
    };
    session
        .measure(&asked, snapshot, STATS_DEADLINE)
        .await
        .instances
}

/// A listing as text.
#[derive(Debug)]
pub struct Written {
    /// The text; it ends with a line feed unless it is empty.
    pub text: String,
    /// How many rows it has.
    pub rows: usize,
}

/// Writes a listing from what is known. Pure.
pub fn write(request: &Request, known: &Known<'_>, output: Output) -> Written {
    match request.listing {
        Listing::Instances => {
            let selected = known.select(&request.query).into_iter();
            let rows = selected
                .map(|instance| {
                    let stats = known.stats.get(&instance.id()).cloned();
                    InstanceRow { instance, stats }
                })
                .collect();
            written(
                request,
                INSTANCE,
                rows,
                InstanceRow::name,
                (known.now, output),
            )
        }
        Listing::Topology => topology::write(request, known, output),
        listing => {
            let mut rows = known.group(listing, &request.query);
            for row in &mut rows {
                // Groups of instances do not know where their host's daemon answers.
                let host = row
                    .key
                    .host
                    .as_deref()
                    .and_then(|name| known.snapshot.host(name));
                row.address = host.map(|host| host.address.ip());
            }
            let columns = row::group_columns(listing);
            let name = |row: &GroupRow| row::group_name(listing, row);
            written(request, columns, rows, name, (known.now, output))
        }
    }
}

fn written<R>(
    request: &Request,
    columns: &'static [Column<R>],
    mut rows: Vec<R>,
    name: impl Fn(&R) -> String,
    (now, output): (Timestamp, Output),
) -> Written {
    if let Some(sort) = request.sort {
        sort.apply(&mut rows, columns);
    }
    rows.truncate(request.limit.unwrap_or(usize::MAX));
    let sheet = Sheet {
        columns,
        format: request.format,
        headers: request.headers,
        measured: request.is_measured(),
        now,
        output,
    };
    Written {
        text: sheet.write(&rows, |row| Some(name(row))),
        rows: rows.len(),
    }
}
