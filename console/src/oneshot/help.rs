//! `sky help` and `sky completions`: what can be read out of the definition of the arguments.

use clap::CommandFactory;

use crate::cli::{Cli, EXIT_CODES};
use crate::output::Output;
use crate::report::Failure;

/// Writes the help of a topic, or of everything.
///
/// # Errors
/// When there is no such topic.
pub fn run(topic: Option<&str>, output: Output) -> Result<(), Failure> {
    if topic == Some("exit-codes") {
        return output.write(EXIT_CODES);
    }
    output.write(&text(topic, output.color)?)
}

/// Writes the script that lets a shell complete the arguments of `sky`.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(shell: clap_complete::Shell, output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sky", &mut script);
    output.write(&String::from_utf8_lossy(&script))
}

/// The help of a command, or of all.
///
/// # Errors
/// When there is no such command.
pub fn text(topic: Option<&str>, color: bool) -> Result<String, Failure> {
    let mut command = Cli::command();
    command.build();
    let found = match topic {
        None => Some(&mut command),
        Some(name) => command.find_subcommand_mut(name),
    };
    let Some(found) = found else {
        let name = topic.unwrap_or_default();
        return Err(Failure::usage(format!("there is no help on `{name}`"))
            .hint("`sky help` lists the commands; `sky help exit-codes` tells the exit codes"));
    };
    let help = found.render_long_help();
    Ok(if color {
        help.ansi().to_string()
    } else {
        help.to_string()
    })
}
