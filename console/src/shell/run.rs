//! What the shell's words do.
//!
//! Invariants: what a change hits is what the filter and its query select; it is frozen and shown
//! before anybody is asked; nothing is changed on a view that is not live, or without a terminal.

use std::sync::Arc;

use jiff::Timestamp;
use skynet::query::rows::{Known, StatsTable};
use skynet::query::{self, Blame, Listing, Query, Verb};
use skynet::registry::snapshot::Snapshot;
use skynet::session::Session;
use skynet::session::plan::Demand;

use super::cluster::Cluster;
use super::editor::Editor;
use super::filters::Filters;
use super::words::{self, Word};
use crate::cli::args::Format;
use crate::oneshot::change::Change;
use crate::oneshot::deploy::Deploy;
use crate::oneshot::row::InstanceRow;
use crate::oneshot::{call, caveats, change, deploy, listing, row};
use crate::output::Output;
use crate::output::column::Value;
use crate::report::{self, Exit, Failure};

/// What comes after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next line.
    Next,
    /// The console, then the next line.
    Console,
    /// The end.
    Leave,
}

/// A conversation: the filter that stays, and where it is applied.
pub(super) struct Conversation {
    session: Session,
    cluster: Arc<Cluster>,
    filters: Filters,
}

impl Conversation {
    /// A conversation that begins with a filter.
    pub(super) fn new(session: Session, cluster: Arc<Cluster>, filter: &Query) -> Self {
        cluster.set_filter(filter.clone());
        Self {
            session,
            cluster,
            filters: Filters::starting_with(filter),
        }
    }

    /// The filter.
    pub(super) fn filter(&self) -> &Query {
        self.filters.query()
    }

    /// Goes on with another filter; one that cannot be read changes nothing.
    pub(super) fn replace_filter(&mut self, text: &str) {
        if text.trim() != self.filter().to_string() && self.filters.replace(text).is_ok() {
            self.cluster.set_filter(self.filters.query().clone());
        }
    }

    /// Does what a line says; `editor` asks the person at the terminal, if there is one.
    ///
    /// # Errors
    /// When the line cannot be understood, or what it says cannot be done.
    ///
    /// # Cancel safety
    /// A change that was begun is left to the daemons.
    pub(super) async fn run(
        &mut self,
        line: &str,
        editor: Option<&mut Editor>,
    ) -> Result<After, Failure> {
        let (first, rest_at) = words::split(line);
        let rest = line.get(rest_at..).unwrap_or_default().trim();
        let Some(entry) = words::named(first) else {
            return Err(unknown(line, first));
        };
        match entry.word {
            Word::Filter(_) | Word::Registered | Word::Where | Word::Reset | Word::Undo => {
                self.change_filter(entry.word, rest)?;
                self.cluster.set_filter(self.filters.query().clone());
            }
            Word::Filters => self.show_filters()?,
            Word::List(listing) => self.list(listing, rest).await?,
            Word::Show => self.show(rest).await?,
            Word::Change(verb) => self.change(verb, rest, editor).await?,
            Word::Deploy => self.deploy(rest, editor).await?,
            Word::Call => self.call(rest).await?,
            Word::Help => help(rest)?,
            Word::Top => return Ok(After::Console),
            Word::Exit => return Ok(After::Leave),
        }
        Ok(After::Next)
    }

    fn change_filter(&mut self, word: Word, rest: &str) -> Result<(), Failure> {
        match word {
            Word::Filter(_) | Word::Where | Word::Registered if rest.is_empty() => {
                return self.show_filters();
            }
            Word::Filter(field) => self.filters.add(field, &values(rest)?)?,
            Word::Where => self.filters.add_query(rest)?,
            Word::Registered => self.filters.registered(yes_no_any(rest)?)?,
            Word::Undo if !self.filters.undo() => {
                return Err(Failure::usage(
                    "there is no change of the filter to take back",
                ));
            }
            Word::Reset => {
                let part = Some(rest).filter(|part| !part.is_empty());
                if !self.filters.reset(part) {
                    return Err(Failure::usage(format!("the filter has no part `{rest}`"))
                        .hint("its parts are service, version, region, host, instance, registered and where"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn show_filters(&self) -> Result<(), Failure> {
        let lines = self.filters.lines();
        if lines.is_empty() {
            report::note("No filter: everything is selected.");
            return Ok(());
        }
        let text: String = lines
            .iter()
            .map(|line| report::plain(line) + "\n")
            .collect();
        Output::stdout().write(&text)
    }

    /// The cluster: the live view, or, while there is none yet, one listing.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, Failure> {
        let link = self.cluster.link();
        if link.is_live() {
            return Ok(self.cluster.snapshot());
        }
        let seen = self.cluster.snapshot();
        if seen.revision() == 0 {
            return Ok(Arc::new(self.session.snapshot().await?));
        }
        caveats::note_link(&link);
        Ok(seen)
    }

    async fn list(&self, listing: Listing, rest: &str) -> Result<(), Failure> {
        let query = self.filter().clone().and(query_of(rest)?);
        let request = listing::Request::table(listing, query);
        let snapshot = self.snapshot().await?;
        caveats::note(&snapshot);
        let stats = listing::stats_for(&self.session, &request, &snapshot).await;
        let output = Output::stdout();
        let known = Known::new(&snapshot, &stats, Timestamp::now());
        let written = listing::write(&request, &known, output);
        if written.rows == 0 {
            report::note("Nothing matches.");
            if let Some(blame) = known.blame(&request.query) {
                let Blame { term, without } = blame;
                report::note(&format!("Without `{term}` there would be {without}."));
            }
        }
        output.write(&written.text)
    }

    async fn show(&self, rest: &str) -> Result<(), Failure> {
        if rest.is_empty() {
            return Err(Failure::usage(
                "`show` needs the id of an instance, or its beginning",
            ));
        }
        let selectors = query::Selectors {
            instances: values(rest)?,
            ..query::Selectors::default()
        };
        let query = selectors.query()?;
        let snapshot = self.snapshot().await?;
        let nothing = StatsTable::new();
        let now = Timestamp::now();
        let found = Known::new(&snapshot, &nothing, now).select(&query);
        if found.is_empty() {
            return Err(Failure::new(
                Exit::NothingMatched,
                format!("there is no instance `{rest}`"),
            ));
        }
        let stats = self
            .session
            .measure(&found, &snapshot, crate::oneshot::STATS_DEADLINE)
            .await;
        let mut text = String::new();
        for instance in found {
            let stats = stats.instances.get(&instance.id()).cloned();
            text.push_str(&described(&InstanceRow { instance, stats }, now));
        }
        Output::stdout().write(&text)
    }

    /// Refuses to change what is not seen as it is.
    fn check_live(&self) -> Result<(), Failure> {
        match self.cluster.link().refusal() {
            None => Ok(()),
            Some(why) => Err(Failure::new(Exit::Unreachable, why)
                .hint("nothing was changed; `instances` shows what is known, and how old it is")),
        }
    }

    async fn change(
        &self,
        verb: Verb,
        rest: &str,
        editor: Option<&mut Editor>,
    ) -> Result<(), Failure> {
        let (switches, text) = words::switches(rest);
        let query = self.filter().clone().and(query_of(text)?);
        if query.is_all() && !switches.all {
            return Err(
                Failure::usage(format!("`{verb}` without a filter would hit everything")).hint(
                    format!("narrow it, as in `{verb} service=NAME`, or say `{verb} --all`"),
                ),
            );
        }
        let editor = terminal(verb.as_str(), editor)?;
        self.check_live()?;
        let snapshot = self.cluster.snapshot();
        caveats::note(&snapshot);
        let stats = change::stats_for(&self.session, &query, &snapshot).await;
        let change = Change {
            verb,
            query,
            include_system: switches.include_system,
        };
        let plan = change.plan(&Known::new(&snapshot, &stats, Timestamp::now()));
        change::check_count(plan.targets.len(), verb.as_str(), None)?;
        let demand = plan.demand();
        confirm(
            editor,
            &plan.title(),
            &plan.lines(),
            &demand.prompt(verb),
            &demand,
        )
        .await?;
        let results = self.session.execute(&plan).await?;
        let output = Output::stdout();
        output.write(&change::told(&results, Format::Table, output))?;
        change::verdict(&results)
    }

    async fn deploy(&self, rest: &str, editor: Option<&mut Editor>) -> Result<(), Failure> {
        let words::Program {
            path,
            args,
            per_host,
            all,
        } = words::program(rest).map_err(|message| {
            Failure::usage(message).hint("as in `deploy ./service --per-host 2 -- ARGS`")
        })?;
        let query = self.filter().clone();
        if query.is_all() && !all {
            return Err(
                Failure::usage("`deploy` without a filter would go to every host")
                    .hint("narrow it with `host` or `region`, or say `deploy PATH --all`"),
            );
        }
        let editor = terminal("deploy", editor)?;
        self.check_live()?;
        let snapshot = self.cluster.snapshot();
        caveats::note(&snapshot);
        let stats = change::stats_for(&self.session, &query, &snapshot).await;
        let wanted = Deploy {
            path,
            args,
            per_host,
            query,
        };
        let plan = wanted.plan(&Known::new(&snapshot, &stats, Timestamp::now()));
        change::check_count(plan.count(), "deploy", None)?;
        let (demand, prompt) = deploy::demand(&plan);
        confirm(
            editor,
            &deploy::title(&plan),
            &plan.lines(),
            &prompt,
            &demand,
        )
        .await?;
        let results = self.session.deploy(&plan).await;
        let output = Output::stdout();
        output.write(&deploy::told(&results, Format::Table, output))?;
        deploy::verdict(&results)
    }

    async fn call(&self, rest: &str) -> Result<(), Failure> {
        let (service, at) = words::split(rest);
        let rest = rest.get(at..).unwrap_or_default();
        let (method, at) = words::split(rest);
        let input = rest.get(at..).unwrap_or_default().trim();
        if service.is_empty() || method.is_empty() {
            return Err(Failure::usage("`call` needs a service and a method")
                .hint("as in `call TestService Upcase {\"data\": \"x\"}`"));
        }
        let input = call::document(if input.is_empty() { "{}" } else { input })?;
        let target = call::Target {
            service,
            method,
            deadline: skynet::client::DEFAULT_DEADLINE,
        };
        let result = call::by_registry(self.session.registry(), target, &input).await?;
        Output::stdout().write(&(call::json(result) + "\n"))
    }
}

/// Shows a plan and asks for what confirms it.
async fn confirm(
    editor: &mut Editor,
    title: &str,
    lines: &[String],
    prompt: &str,
    demand: &Demand,
) -> Result<(), Failure> {
    report::note(title);
    for line in lines {
        report::note(line);
    }
    match editor.answer(prompt).await {
        Some(answer) if demand.is_met_by(&answer) => Ok(()),
        _ => Err(change::declined()),
    }
}

/// The editor, without which nobody can confirm a change.
fn terminal<'a>(verb: &str, editor: Option<&'a mut Editor>) -> Result<&'a mut Editor, Failure> {
    editor.ok_or_else(|| {
        Failure::usage(format!("`{verb}` cannot be confirmed without a terminal"))
            .hint(format!("`sky {verb} … --yes` does it without asking"))
    })
}

fn query_of(text: &str) -> Result<Query, Failure> {
    Ok(text.parse::<Query>()?)
}

/// Values between spaces and commas, in quotes where they have such.
fn values(text: &str) -> Result<Vec<String>, Failure> {
    let words = shell_words::split(text).map_err(|error| Failure::new(Exit::Usage, error))?;
    let values = words.iter().flat_map(|word| word.split(','));
    Ok(values
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect())
}

fn yes_no_any(word: &str) -> Result<Option<bool>, Failure> {
    match word.to_lowercase().as_str() {
        "yes" | "true" => Ok(Some(true)),
        "no" | "false" => Ok(Some(false)),
        "any" | "all" => Ok(None),
        _ => Err(Failure::usage(format!(
            "`{word}` is neither `yes` nor `no` nor `any`"
        ))),
    }
}

/// What to say of a line that begins with no word.
fn unknown(line: &str, first: &str) -> Failure {
    let failure = Failure::usage(format!("there is no word `{first}`"));
    let is_query = query::parse_query(line)
        .query()
        .is_some_and(|query| !query.has_fuzzy());
    if is_query {
        return failure.hint(format!("`where {}` filters by it", line.trim()));
    }
    let starts = words::all()
        .find(|entry| !first.is_empty() && entry.name.starts_with(&first.to_lowercase()));
    match starts {
        Some(entry) => failure.hint(format!(
            "did you mean `{}`? `help` lists the words",
            entry.name
        )),
        None => failure.hint("`help` lists the words"),
    }
}

/// All that is known of an instance, line by line.
fn described(row: &InstanceRow, now: Timestamp) -> String {
    let mut text = String::new();
    for column in row::INSTANCE {
        let Some(key) = column.key else { continue };
        let value = (column.get)(row);
        let shown = match &value {
            Value::Time(time) => format!("{time} ({} ago)", value.shown(now)),
            value => value.shown(now),
        };
        text.push_str(&report::plain(&format!("{key:<14} {shown}")));
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Tells about one word, or lists all.
fn help(rest: &str) -> Result<(), Failure> {
    let output = Output::stdout();
    if rest.is_empty() {
        let width = words::all()
            .map(|entry| entry.name.len())
            .max()
            .unwrap_or(0);
        let lines = words::all().map(|entry| format!("  {:<width$}  {}\n", entry.name, entry.help));
        let text: String = lines.collect();
        return output.write(&format!(
            "{text}\nTab completes. The filter in the prompt holds for every listing and change.\n\
             `help WORD` tells more about a word.\n"
        ));
    }
    let Some(entry) = words::named(rest) else {
        return Err(unknown("", rest));
    };
    let mut text = format!("{} {}\n  {}\n", entry.name, entry.usage, entry.help);
    if !entry.aliases.is_empty() {
        text.extend(["  also: ", &entry.aliases.join(", "), "\n"]);
    }
    if entry.takes == words::Takes::Query {
        text.push_str("  fields: ");
        let fields = query::schema::FIELDS.iter().map(|spec| spec.name);
        text.push_str(&fields.collect::<Vec<_>>().join(" "));
        text.push('\n');
    }
    output.write(&text)
}
