//! `sky register|unregister|start|stop|restart`: what is hit, what it takes, what became of it.
//!
//! Invariants: nothing is changed that was not frozen in a plan first; without selectors nothing is
//! hit unless `--all` says so; without a terminal nothing is changed unless `--yes` says so; Skynet's
//! own instances are left out unless `--include-system` says otherwise.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use jiff::Timestamp;
use skynet::instance::{Instance, State};
use skynet::query::rows::{Known, StatsTable};
use skynet::query::{Query, Verb};
use skynet::registry::snapshot::Snapshot;
use skynet::session::plan::{ChangePlan, Target};
use skynet::session::{Outcome, Session, TargetResult};

use super::{STATS_DEADLINE, caveats};
use crate::cli::args::{ChangeArgs, Format, GuardArgs};
use crate::output::Output;
use crate::output::column::{Column, Value};
use crate::output::sheet::Sheet;
use crate::report::{self, Exit, Failure};

/// What a change is asked to hit; checked.
#[derive(Debug, Clone)]
pub struct Change {
    /// What is to be done.
    pub verb: Verb,
    /// To whom.
    pub query: Query,
    /// Whether Skynet's own instances are hit too.
    pub include_system: bool,
}

impl Change {
    /// What the arguments mean.
    ///
    /// # Errors
    /// When a selector cannot be read, or the query does not aim.
    pub fn read(verb: Verb, args: &ChangeArgs) -> Result<Self, Failure> {
        let query = args.selectors.query(super::stdin)?;
        check_aim(&query, verb.as_str(), args.guard.all, args.allow_fuzzy)?;
        Ok(Self {
            verb,
            query,
            include_system: args.include_system,
        })
    }

    /// The frozen plan of what this hits now.
    pub fn plan(&self, known: &Known<'_>) -> ChangePlan {
        let targets = known.select(&self.query);
        let targets = targets.iter().filter(|instance| self.hits(instance));
        ChangePlan::freeze(self.verb, targets, known.snapshot)
    }

    fn hits(&self, instance: &Instance) -> bool {
        (self.include_system || !instance.is_system()) && can_be(self.verb, instance.state)
    }
}

/// Whether a verb means anything for an instance in this state.
pub fn can_be(verb: Verb, state: State) -> bool {
    match verb {
        Verb::Start => state.is_child_only(),
        // Only what has a key can be marked.
        Verb::Register | Verb::Unregister => !state.is_child_only(),
        // What waits for its next start can be kept from it.
        Verb::Stop | Verb::Restart => {
            !matches!(state, State::Stopped | State::Done | State::Failed)
        }
    }
}

/// Refuses a query that hits everything, or that only looks.
///
/// # Errors
/// When it selects everything without `--all`, or has bare words without `--allow-fuzzy`.
pub fn check_aim(query: &Query, verb: &str, all: bool, allow_fuzzy: bool) -> Result<(), Failure> {
    if query.is_all() && !all {
        return Err(
            Failure::usage(format!("`{verb}` without selectors would hit everything"))
                .hint("select with `--service`, `--host`, `--where` and the like, or give `--all`"),
        );
    }
    if query.has_fuzzy() && !allow_fuzzy {
        return Err(Failure::usage(format!(
            "`{query}` has bare words, which match by similarity"
        ))
        .hint("name a field, as in `service=payments`, or give `--allow-fuzzy`"));
    }
    Ok(())
}

/// Refuses a change that nobody can confirm.
///
/// # Errors
/// Without a terminal, unless `--yes` or `--dry-run` is given.
pub fn check_terminal(verb: &str, guard: &GuardArgs) -> Result<(), Failure> {
    if guard.yes || guard.dry_run || io::stdin().is_terminal() {
        return Ok(());
    }
    Err(
        Failure::usage(format!("`{verb}` cannot be confirmed without a terminal"))
            .hint("give `--yes`, and `--expect N` to be sure of the set"),
    )
}

/// Refuses a set that is empty or not the expected one.
///
/// # Errors
/// Says which.
pub fn check_count(count: usize, verb: &str, expect: Option<usize>) -> Result<(), Failure> {
    if let Some(expected) = expect.filter(|expected| *expected != count) {
        let message = format!("`{verb}` would hit {count}, and {expected} were expected");
        return Err(Failure::new(Exit::SetChanged, message)
            .hint("look with `--dry-run`, then give the number that is right"));
    }
    if count == 0 {
        return Err(Failure::new(
            Exit::NothingMatched,
            format!("nothing matches that `{verb}` could hit"),
        )
        .hint("`sky instances` with the same selectors shows what is there"));
    }
    Ok(())
}

/// Asks the person at the terminal.
///
/// # Errors
/// When the answer is not `demanded`: declined.
pub fn confirm(
    title: &str,
    lines: &[String],
    prompt: &str,
    demanded: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    report::note(title);
    for line in lines {
        report::note(line);
    }
    report::prompt(prompt);
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if read.is_ok() && demanded(&answer) {
        return Ok(());
    }
    Err(declined())
}

/// The failure of a change that was not confirmed.
pub fn declined() -> Failure {
    Failure::new(Exit::Declined, "Declined, nothing was changed.")
}

/// Changes, and writes what became of each target.
///
/// # Errors
/// When the registry cannot be reached, the set is not right, it was declined, or a target failed.
///
/// # Cancel safety
/// What was begun is left to the daemons.
pub async fn run(
    session: &Session,
    verb: Verb,
    args: &ChangeArgs,
    output: Output,
) -> Result<(), Failure> {
    let change = Change::read(verb, args)?;
    let guard = &args.guard;
    check_terminal(verb.as_str(), guard)?;
    let snapshot = session.snapshot().await?;
    caveats::note(&snapshot);
    let stats = stats_for(session, &change.query, &snapshot).await;
    let plan = change.plan(&Known::new(&snapshot, &stats, Timestamp::now()));
    check_count(plan.targets.len(), verb.as_str(), guard.expect)?;
    if guard.dry_run {
        return output.write(&planned(&plan, guard.output, output));
    }
    if !guard.yes {
        let demand = plan.demand();
        confirm(
            &plan.title(),
            &plan.lines(),
            &demand.prompt(verb),
            |answer| demand.is_met_by(answer),
        )?;
    }
    let results = session.execute(&plan).await?;
    output.write(&told(&results, guard.output, output))?;
    verdict(&results)
}

/// Statistics of every instance, if the query asks for them.
///
/// # Cancel safety
/// Reads only.
pub async fn stats_for(session: &Session, query: &Query, snapshot: &Snapshot) -> StatsTable {
    if !query.needs_stats() {
        return StatsTable::new();
    }
    let all: Vec<Arc<Instance>> = snapshot.instances().cloned().collect();
    session
        .measure(&all, snapshot, STATS_DEADLINE)
        .await
        .instances
}

/// A plan as it is shown instead of being carried out.
pub fn planned(plan: &ChangePlan, format: Format, output: Output) -> String {
    if format == Format::Table {
        let lines = std::iter::once(plan.title()).chain(plan.lines());
        return lines.map(|line| report::plain(&line) + "\n").collect();
    }
    Sheet::new(TARGET, format, output).write(&plan.targets, |target| {
        Some(format!("instance/{}", target.identity.id))
    })
}

/// The results as text.
pub fn told(results: &[TargetResult], format: Format, output: Output) -> String {
    Sheet::new(RESULT, format, output).write(results, |result| {
        let done = result.outcome.is_done();
        done.then(|| format!("instance/{}", result.target.identity.id))
    })
}

/// Whether all was done.
///
/// # Errors
/// When at least one target was not changed.
pub fn verdict(results: &[TargetResult]) -> Result<(), Failure> {
    let missed = results
        .iter()
        .filter(|result| !result.outcome.is_done())
        .count();
    if missed == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("{missed} of {} were not changed", results.len()),
    ))
}

fn address(target: &Target) -> Value {
    Value::or_null(target.address, |address| Value::text(&address.to_string()))
}

const TARGET: &[Column<Target>] = &[
    Column::new("uuid", "UUID", |target| {
        Value::text(&target.identity.id.to_string())
    }),
    Column::new("service", "SERVICE", |target| {
        Value::text(&target.identity.service)
    }),
    Column::new("version", "VERSION", |target| {
        Value::text(&target.identity.version)
    }),
    Column::new("region", "REGION", |target| {
        Value::text(&target.identity.region)
    }),
    Column::new("host", "HOST", |target| Value::text(&target.identity.host)),
    Column::new("address", "ADDRESS", address),
    Column::new("registered", "REG", |target| Value::Bool(target.registered)),
    Column::new("state", "STATE", |target| {
        Value::text(target.state.as_str())
    }),
    Column::new("started", "UPTIME", |target| Value::Time(target.started)),
];

const RESULT: &[Column<TargetResult>] = &[
    Column::hidden("uuid", |result| {
        Value::text(&result.target.identity.id.to_string())
    }),
    Column::new("service", "SERVICE", |result| {
        Value::text(&result.target.identity.service)
    }),
    Column::new("version", "VERSION", |result| {
        Value::text(&result.target.identity.version)
    }),
    Column::new("region", "REGION", |result| {
        Value::text(&result.target.identity.region)
    }),
    Column::new("host", "HOST", |result| {
        Value::text(&result.target.identity.host)
    }),
    Column::new("address", "ADDRESS", |result| address(&result.target)),
    Column::shown("RESULT", |result| Value::text(&result.outcome.to_string())),
    Column::hidden("outcome", |result| {
        Value::text(match result.outcome {
            Outcome::Done => "done",
            Outcome::Skipped(_) => "skipped",
            Outcome::Failed(_) => "failed",
        })
    }),
    Column::hidden("reason", |result| match &result.outcome {
        Outcome::Done => Value::Null,
        Outcome::Skipped(why) | Outcome::Failed(why) => Value::text(why),
    }),
];
