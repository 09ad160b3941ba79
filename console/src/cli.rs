//! What can be typed behind `sky`: the arguments as they are, checked for form only.
//!
//! Invariants: nothing here connects to anything; what the arguments mean is the business of
//! [`crate::mode`] and of the commands.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use skynet::query::{Listing, Verb};
use skynet::registry::{DEFAULT_ENDPOINT, RegistryConfig};
use skynet_daemon::{AccessArgs, HostArgs};

pub mod args;
pub mod selectors;
pub mod spelling;

use args::{
    CallArgs, ChangeArgs, CompletionsArgs, DeployArgs, HelpArgs, ListArgs, RegistryArgs, ShellArgs,
    TopArgs,
};

/// Quiet colors: headers and what is typed literally stand out, nothing else.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// The exit codes, for `sky help exit-codes`; [`crate::report::Exit`] has the same numbers.
pub const EXIT_CODES: &str = "\
Exit codes of sky

    0  done; a listing that finds nothing is also 0, unless `--fail-empty` is given
    1  failed, or at least one target failed
    2  the command line or the filter is wrong
    3  nothing matched a change, or a listing with `--fail-empty`
    4  not allowed: the server refused
    5  the cluster cannot be reached
    6  declined at the prompt
    7  a deadline passed
    8  the set is not the expected one (`--expect`)
  130  ended by Ctrl-C (SIGINT)
  143  ended by SIGTERM

A closed pipe is silent and 0.
";

/// Shows and steers a cluster of services.
///
/// Without a command, on a terminal, it opens the full-screen console.
#[derive(Debug, Parser)]
#[command(
    name = "sky",
    version,
    styles = STYLES,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND",
    max_term_width = 100,
    after_help = "`sky help COMMAND` tells more about a command, `sky help exit-codes` about exit codes."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command; none opens the console.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the cluster is.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// The registry's endpoints; none when the environment or the default names them.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        value_delimiter = ',',
        help = "The registry, as http://HOST:PORT; several are repeated or separated by commas \
                [env: SKYNET_REGISTRY] [default: http://127.0.0.1:2379]"
    )]
    pub registry: Vec<String>,
    /// The prefix of the cluster's keys in the registry.
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        help = "The prefix of the cluster's keys in the registry [env: SKYNET_PREFIX] \
                [default: /skynet/v1]"
    )]
    pub prefix: Option<String>,
    /// How one is let in.
    #[command(flatten)]
    pub access: AccessArgs,
}

impl GlobalArgs {
    /// The registry's place: flags first, then the environment, then the default.
    pub fn registry_config(&self) -> RegistryConfig {
        let mut config = RegistryConfig::from_env();
        config.access = self.access.access();
        if !self.registry.is_empty() {
            config.endpoints = RegistryConfig::at(&self.registry.join(",")).endpoints;
        } else if config.endpoints.is_empty() {
            // An empty variable says as much as none.
            config.endpoints = vec![DEFAULT_ENDPOINT.to_owned()];
        }
        match &self.prefix {
            Some(prefix) => config.with_prefix(prefix),
            None => config,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open the full-screen console
    Top(TopArgs),
    /// Open the interactive shell; without a terminal, run the lines of standard input
    Cli(ShellArgs),
    /// List regions
    Regions(ListArgs),
    /// List hosts
    Hosts(ListArgs),
    /// List services
    Services(ListArgs),
    /// List services by version
    Versions(ListArgs),
    /// List instances
    Instances(ListArgs),
    /// List regions, their hosts, and what runs there
    Topology(ListArgs),
    /// Let clients choose instances
    Register(ChangeArgs),
    /// Keep clients from choosing instances
    Unregister(ChangeArgs),
    /// Start instances that were stopped
    Start(ChangeArgs),
    /// Stop instances
    Stop(ChangeArgs),
    /// Stop instances and start them again
    Restart(ChangeArgs),
    /// Start a program on hosts
    Deploy(DeployArgs),
    /// Call a method of a service
    Call(CallArgs),
    /// Run an embedded registry, for one machine
    Registry(RegistryArgs),
    /// Run the daemon of this host: deploy, supervise and replace services
    ///
    /// SIGTERM leaves them running for the next daemon, SIGINT stops them first. `--registry
    /// embedded` runs a registry inside the daemon, for one machine.
    Daemon(HostArgs),
    /// Start a whole cluster on this machine and show it
    Demo(crate::demo::DemoArgs),
    /// Run an example service; for the demo
    #[command(hide = true)]
    Example(crate::demo::example::ExampleArgs),
    /// Print a script that lets a shell complete the arguments of sky
    Completions(CompletionsArgs),
    /// Tell about a command, or about `exit-codes`
    #[command(alias = "h")]
    Help(HelpArgs),
}

impl Command {
    /// What it lists, if it is a listing.
    pub fn listing(&self) -> Option<(Listing, &ListArgs)> {
        Some(match self {
            Self::Regions(args) => (Listing::Regions, args),
            Self::Hosts(args) => (Listing::Hosts, args),
            Self::Services(args) => (Listing::Services, args),
            Self::Versions(args) => (Listing::Versions, args),
            Self::Instances(args) => (Listing::Instances, args),
            Self::Topology(args) => (Listing::Topology, args),
            _ => return None,
        })
    }

    /// What it does to instances, if it is a change.
    pub fn change(&self) -> Option<(Verb, &ChangeArgs)> {
        Some(match self {
            Self::Register(args) => (Verb::Register, args),
            Self::Unregister(args) => (Verb::Unregister, args),
            Self::Start(args) => (Verb::Start, args),
            Self::Stop(args) => (Verb::Stop, args),
            Self::Restart(args) => (Verb::Restart, args),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let args = std::iter::once("sky")
            .chain(line.split_whitespace())
            .map(OsString::from);
        Cli::try_parse_from(spelling::modern(args))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in [
            "--registry http://a:1,http://b:2 --prefix /p instances",
            "instances --registry http://a:1 --registry http://b:2 --prefix p",
        ] {
            let config = parse(line).unwrap().global.registry_config();
            assert_eq!(config.endpoints, ["http://a:1", "http://b:2"], "{line}");
            assert_eq!(config.prefix, "/p", "{line}");
        }
    }

    #[test]
    fn version_is_the_selector_behind_a_command() {
        let cli = parse("instances --version 1,2").unwrap();
        let Some(Command::Instances(args)) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(args.selectors.version, ["1", "2"]);
        let shown = parse("--version").unwrap_err();
        assert_eq!(shown.kind(), clap::error::ErrorKind::DisplayVersion);
    }

    #[test]
    fn bad_forms_are_refused() {
        for line in [
            "instances extra",
            "instances -o yaml",
            "instances --limit -1",
            "instances --registered=maybe",
            "stop --expect many",
            "deploy",
            "call",
            "nonsense",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_table_of_exit_codes_is_that_of_the_code() {
        for exit in crate::report::Exit::ALL {
            let line = format!("\n{:>5}  ", exit.code());
            assert!(EXIT_CODES.contains(&line), "{exit:?} is not in the help");
        }
    }
}
