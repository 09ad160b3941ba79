//! `skydaemon`: the daemon of one host, as a program of its own.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use skynet::hint::Hint;
use skynet_daemon::{DaemonArgs, run};

/// Deploys, supervises, measures and heals the services of this host.
///
/// SIGTERM leaves them running for the next daemon, SIGINT stops them first.
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    args: DaemonArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(CommandLine::parse().args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to hear that stderr is closed.
            let _ = report(&error);
            ExitCode::FAILURE
        }
    }
}

/// The error, what caused it, and what can be done about it.
fn report(error: &skynet_daemon::DaemonError) -> std::io::Result<()> {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "error: {error}")?;
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        writeln!(stderr, "  caused by: {error}")?;
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        writeln!(stderr, "hint: {hint}")?;
    }
    Ok(())
}
