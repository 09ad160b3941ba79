//! `sky deploy`: start a program on hosts.
//!
//! Invariants: as for other changes; the hosts are those that match, or that run something that
//! matches, as the original did.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use skynet::query::rows::Known;
use skynet::query::{Listing, Query};
use skynet::session::plan::Demand;
use skynet::session::{DeployPlan, DeployResult, Session};

use super::{caveats, change};
use crate::cli::args::DeployArgs;
use crate::cli::args::Format;
use crate::output::Output;
use crate::output::column::{Column, Value};
use crate::output::sheet::Sheet;
use crate::report::{self, Exit, Failure};

/// Up to so many starts, a `y` is enough.
const FEW: usize = 5;

/// What is started where.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How many on each host.
    pub per_host: u32,
    /// The hosts.
    pub query: Query,
}

impl Deploy {
    /// The frozen plan of where this would start what.
    pub fn plan(&self, known: &Known<'_>) -> DeployPlan {
        // The groups know hosts that run nothing, too.
        let rows = known.group(Listing::Hosts, &self.query);
        let names: BTreeSet<&Arc<str>> = rows
            .iter()
            .filter_map(|row| row.key.host.as_ref())
            .collect();
        DeployPlan {
            hosts: names
                .into_iter()
                .filter_map(|name| known.snapshot.host(name).cloned())
                .collect(),
            path: self.path.clone(),
            args: shell_words::join(&self.args),
            per_host: self.per_host,
        }
    }
}

/// What a person has to type before it is deployed, and the prompt that asks for it.
pub fn demand(plan: &DeployPlan) -> (Demand, String) {
    let count = plan.count();
    if count > FEW {
        (Demand::Count(count), format!("Type {count} to deploy: "))
    } else {
        (Demand::Yes, "Type y to deploy: ".to_owned())
    }
}

/// The headline of a plan.
pub fn title(plan: &DeployPlan) -> String {
    let counted =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "Deploy {} on {}",
        counted(plan.count(), "instance"),
        counted(plan.hosts.len(), "host")
    )
}

/// Deploys, and writes what became of each start.
///
/// # Errors
/// When the registry cannot be reached, the set is not right, it was declined, or a start failed.
///
/// # Cancel safety
/// What was begun is left to the daemons.
pub async fn run(session: &Session, args: &DeployArgs, output: Output) -> Result<(), Failure> {
    let query = args.selectors.query(super::stdin)?;
    let guard = &args.guard;
    change::check_aim(&query, "deploy", guard.all, args.allow_fuzzy)?;
    change::check_terminal("deploy", guard)?;
    let deploy = Deploy {
        path: args.path.clone(),
        args: args.args.clone(),
        per_host: args.per_host,
        query,
    };
    let snapshot = session.snapshot().await?;
    caveats::note(&snapshot);
    let stats = change::stats_for(session, &deploy.query, &snapshot).await;
    let plan = deploy.plan(&Known::new(&snapshot, &stats, Timestamp::now()));
    change::check_count(plan.count(), "deploy", guard.expect)?;
    if guard.dry_run {
        return output.write(&planned(&plan, guard.output, output));
    }
    if !guard.yes {
        let (demand, prompt) = demand(&plan);
        change::confirm(&title(&plan), &plan.lines(), &prompt, |answer| {
            demand.is_met_by(answer)
        })?;
    }
    let results = session.deploy(&plan).await;
    output.write(&told(&results, guard.output, output))?;
    verdict(&results)
}

/// A plan as it is shown instead of being carried out.
fn planned(plan: &DeployPlan, format: Format, output: Output) -> String {
    if format == Format::Table {
        let lines = std::iter::once(title(plan)).chain(plan.lines());
        return lines.map(|line| report::plain(&line) + "\n").collect();
    }
    Sheet::new(HOST, format, output).write(&plan.hosts, |host| Some(format!("host/{}", host.name)))
}

/// The results as text.
pub fn told(results: &[DeployResult], format: Format, output: Output) -> String {
    Sheet::new(RESULT, format, output).write(results, |result| {
        result
            .outcome
            .as_ref()
            .ok()
            .map(|uuid| format!("instance/{uuid}"))
    })
}

/// Whether all was started.
///
/// # Errors
/// When at least one start failed.
pub fn verdict(results: &[DeployResult]) -> Result<(), Failure> {
    let failed = results
        .iter()
        .filter(|result| result.outcome.is_err())
        .count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("{failed} of {} were not started", results.len()),
    ))
}

const HOST: &[Column<Arc<skynet::instance::Host>>] = &[
    Column::new("host", "HOST", |host| Value::text(&host.name)),
    Column::new("region", "REGION", |host| Value::text(&host.region)),
    Column::new("address", "ADDRESS", |host| {
        Value::text(&host.address.to_string())
    }),
];

const RESULT: &[Column<DeployResult>] = &[
    Column::new("host", "HOST", |result| Value::text(&result.host.name)),
    Column::new("region", "REGION", |result| {
        Value::text(&result.host.region)
    }),
    Column::new("uuid", "UUID", |result| {
        result
            .outcome
            .as_ref()
            .map_or(Value::Null, |uuid| Value::text(uuid))
    }),
    Column::shown("RESULT", |result| match &result.outcome {
        Ok(_) => Value::text("started"),
        Err(why) => Value::text(&format!("failed: {why}")),
    }),
    Column::hidden("outcome", |result| {
        Value::text(if result.outcome.is_ok() {
            "done"
        } else {
            "failed"
        })
    }),
    Column::hidden("reason", |result| match &result.outcome {
        Ok(_) => Value::Null,
        Err(why) => Value::text(why),
    }),
];
