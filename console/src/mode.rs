//! From arguments to what runs: a command, the shell, or the console.
//!
//! Invariants: every way out is an exit code that is returned, so that guards run; one-shot commands
//! run on a single thread, because starting is most of their time.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use skynet::registry::{Registry, RegistryConfig};
use skynet::session::Session;

use crate::cli::args::{Format, ShellArgs, TopArgs};
use crate::cli::{Cli, Command, GlobalArgs, spelling};
use crate::demo::{self, DemoArgs};
use crate::oneshot::{self, call, change, daemon, deploy, help, listing, registry};
use crate::output::Output;
use crate::report::{self, Exit, Failure};
use crate::shell;
use crate::tui::{self, Ending, TuiConfig};

/// How long one frame waits for the registry.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(5);

/// Runs what the arguments say, the first of which is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(spelling::modern(args)) {
        Ok(cli) => cli,
        Err(error) => return asked_or_wrong(&error).into(),
    };
    let json = cli
        .command
        .as_ref()
        .and_then(format_of)
        .is_some_and(Format::is_json);
    match dispatch(cli) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            report::failure(&failure, json);
            failure.exit().into()
        }
    }
}

/// clap's errors are also how it hands over help and the version.
fn asked_or_wrong(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        return report::usage(error);
    }
    let output = Output::stdout();
    let text = error.render();
    let text = if output.color {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    match output.write(&text) {
        Ok(()) => Exit::Done,
        Err(failure) => failure.exit(),
    }
}

/// The form of the data, if the command has one: errors follow it.
fn format_of(command: &Command) -> Option<Format> {
    if let Some((_, args)) = command.listing() {
        return Some(args.output);
    }
    if let Some((_, args)) = command.change() {
        return Some(args.guard.output);
    }
    match command {
        Command::Deploy(args) => Some(args.guard.output),
        _ => None,
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let output = Output::stdout();
    let global = cli.global;
    let Some(command) = cli.command else {
        return no_command(&global);
    };
    match command {
        // The daemon has a log of its own, whose level can be changed.
        Command::Daemon(host) => return busy(daemon::run(&global, host)),
        Command::Top(args) => return top(&global, &args, output),
        Command::Cli(args) => return cli_shell(&global, &args),
        Command::Demo(args) => return demo(&global, args),
        _ => {}
    }
    log_to_stderr("warn");
    if let Command::Example(args) = command {
        return busy(async { Ok(demo::example::run(args).await?) });
    }
    if let Some((listing, args)) = command.listing() {
        let request = listing::Request::read(listing, args)?;
        let session = session(&global)?;
        return quick(listing::run(&session, &request, args.fail_empty, output));
    }
    if let Some((verb, args)) = command.change() {
        let session = session(&global)?;
        return quick(change::run(&session, verb, args, output));
    }
    match command {
        Command::Deploy(args) => {
            let session = session(&global)?;
            quick(deploy::run(&session, &args, output))
        }
        Command::Call(args) => quick(call::run(|| registry_of(&global), &args, output)),
        Command::Registry(args) => busy(registry::run(&args)),
        Command::Completions(args) => help::completions(args.shell, output),
        Command::Help(args) => help::run(args.topic.as_deref(), output),
        _ => Ok(()),
    }
}

/// Without a command: the console; without a terminal there is nothing to do but to say what could
/// be done.
fn no_command(global: &GlobalArgs) -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return top(global, &TopArgs::default(), Output::stdout());
    }
    report::text(&Cli::command().render_help().to_string());
    Err(Failure::silent(Exit::Usage))
}

fn top(global: &GlobalArgs, args: &TopArgs, output: Output) -> Result<(), Failure> {
    let filter = args.selectors.query(oneshot::stdin)?.to_string();
    let session = session(global)?;
    if let Some(size) = args.snapshot {
        return quick(async {
            let config = TuiConfig {
                filter,
                ..TuiConfig::new(session)
            };
            output.write(&with_end(
                tui::snapshot(config, size, SNAPSHOT_PATIENCE).await,
            ))
        });
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage("the console needs a terminal")
            .hint("`sky top --snapshot 120x36` prints one frame, `sky instances` lists"));
    }
    log_to_file();
    busy(async { console(session, filter).await.map(drop) })
}

/// Opens the console, and tells the filter that it was left with.
///
/// # Errors
/// When the terminal cannot be used, or a signal ended the console.
///
/// # Cancel safety
/// The terminal is restored; changes that were begun are left to the daemons.
pub async fn console(session: Session, filter: String) -> Result<String, Failure> {
    let config = TuiConfig {
        filter,
        ..TuiConfig::new(session)
    };
    let outcome = tui::run_tui(config).await?;
    match outcome.ending {
        Ending::Quit | Ending::Shutdown => Ok(outcome.filter),
        Ending::Signal("SIGINT") => Err(Failure::silent(Exit::Interrupted)),
        Ending::Signal(_) => Err(Failure::silent(Exit::Terminated)),
        Ending::TerminalLost => Err(Failure::silent(Exit::Failed)),
    }
}

fn cli_shell(global: &GlobalArgs, args: &ShellArgs) -> Result<(), Failure> {
    let filter = args.selectors.query(oneshot::stdin)?;
    let session = session(global)?;
    log_to_file();
    busy(shell::run(session, &filter))
}

fn demo(global: &GlobalArgs, args: DemoArgs) -> Result<(), Failure> {
    // A log on the terminal would be drawn over the console.
    if args.headless {
        log_to_stderr("warn");
    }
    let given = (!global.registry.is_empty()).then(|| RegistryConfig {
        access: global.access.access(),
        ..RegistryConfig::at(&global.registry.join(","))
    });
    busy(async { Ok(demo::run(args, given).await?) })
}

fn with_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn registry_of(global: &GlobalArgs) -> Result<Registry, Failure> {
    Ok(Registry::new(&global.registry_config())?)
}

fn session(global: &GlobalArgs) -> Result<Session, Failure> {
    Ok(Session::new(registry_of(global)?))
}

/// Runs a command that ends soon on this thread.
fn quick(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Failure::new(Exit::Failed, error)),
    }
}

/// Runs what lives long and has much to do.
fn busy(program: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => Err(Failure::new(Exit::Failed, error)),
    }
}

/// Sends the log to a file, if `SKY_LOG` asks for one: the terminal is taken.
fn log_to_file() {
    use tracing_subscriber::EnvFilter;

    let Ok(filter) = EnvFilter::try_from_env("SKY_LOG") else {
        return;
    };
    let folders = directories::ProjectDirs::from("", "", "sky");
    let Some(folder) = folders
        .as_ref()
        .and_then(directories::ProjectDirs::state_dir)
    else {
        return;
    };
    let opened = std::fs::create_dir_all(folder).and_then(|()| {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log"))
    });
    match opened {
        Ok(file) => {
            let log = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(std::sync::Mutex::new(file));
            // A log that somebody else has set up already is as good.
            drop(log.try_init());
        }
        Err(error) => report::note(&format!(
            "the log cannot be kept in {}: {error}",
            folder.display()
        )),
    }
}

/// Sends the log to standard error: `SKY_LOG` says what of it, `usual` if it is not set.
fn log_to_stderr(usual: &str) {
    use tracing_subscriber::EnvFilter;

    let filter = EnvFilter::try_from_env("SKY_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time();
    // A log that somebody else has set up already is as good.
    drop(log.try_init());
}
