//! The arguments of each command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use skynet::registry::embedded::EmbeddedConfig;

use super::selectors::Selectors;

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// One JSON object with all items
    Json,
    /// One JSON object per line
    Jsonl,
    /// One name per line, as `instance/UUID`, which `--instance -` reads
    Name,
}

impl Format {
    /// Whether it is JSON, so that errors are JSON too.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// The arguments of listings.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// What is listed.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How the result is written
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub output: Format,
    /// Sort by a field of the query language, as `avg` or `avg:desc`
    #[arg(long, value_name = "FIELD[:desc]", help_heading = "Output")]
    pub sort: Option<String>,
    /// Write so many items at most
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub limit: Option<usize>,
    /// Write no line with the columns' names
    #[arg(long, help_heading = "Output")]
    pub no_headers: bool,
    /// Do not ask hosts for statistics; they are null then
    #[arg(long, help_heading = "Output")]
    pub no_stats: bool,
    /// Exit with 3 when nothing matches
    #[arg(long, help_heading = "Output")]
    pub fail_empty: bool,
}

/// How a change is guarded.
#[derive(Debug, Clone, Default, Args)]
pub struct GuardArgs {
    /// Show what would be done, and do nothing
    #[arg(long, help_heading = "Safety")]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(short, long, help_heading = "Safety")]
    pub yes: bool,
    /// Do it only when exactly so many are hit; otherwise exit with 8
    #[arg(long, value_name = "N", help_heading = "Safety")]
    pub expect: Option<usize>,
    /// Allow a change without selectors, which hits all
    #[arg(long, help_heading = "Safety")]
    pub all: bool,
    /// How the result is written
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub output: Format,
}

/// The arguments of changes.
#[derive(Debug, Clone, Default, Args)]
pub struct ChangeArgs {
    /// What is changed.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How it is guarded.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// Change Skynet's own instances, the daemons, too
    #[arg(long, help_heading = "Safety")]
    pub include_system: bool,
    /// Allow bare words in `--where`, which match by similarity
    #[arg(long, help_heading = "Safety")]
    pub allow_fuzzy: bool,
}

/// The arguments of `deploy`.
#[derive(Debug, Clone, Args)]
pub struct DeployArgs {
    /// The program: a path on the hosts, or a name that is looked up on the PATH of their daemons
    pub path: String,
    /// How many are started on each host
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub per_host: u32,
    /// The hosts: those that match, or that run something that matches.
    #[command(flatten)]
    pub selectors: Selectors,
    /// How it is guarded.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// Allow bare words in `--where`, which match by similarity
    #[arg(long, help_heading = "Safety")]
    pub allow_fuzzy: bool,
    /// The program's arguments, behind `--`
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// The arguments of `call`.
#[derive(Debug, Clone, Args)]
pub struct CallArgs {
    /// Call the instance at this address, without a registry
    #[arg(long, value_name = "IP:PORT")]
    pub address: Option<SocketAddr>,
    /// How long the call may take, as `500ms` or `10s`
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub deadline: Duration,
    /// The service, or `NAME:VERSION`
    pub service: String,
    /// The method
    pub method: String,
    /// The parameter, a JSON object; `-` reads it from standard input
    #[arg(value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    pub input: String,
}

/// The arguments of `registry`.
#[derive(Debug, Clone, Args)]
pub struct RegistryArgs {
    /// The address to serve etcd's v3 API on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2379")]
    pub listen: SocketAddr,
    /// The folder that keeps the data; without it they are lost when the registry ends
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How many bytes the kept keys may take before writes are refused
    #[arg(long, value_name = "BYTES", default_value_t = EmbeddedConfig::default().quota_bytes,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub quota_bytes: u64,
    /// Save what can be read of damaged data, and end
    ///
    /// The damaged file stays beside the new one under a dated name. No registry may run on the
    /// folder.
    #[arg(
        long,
        requires = "data",
        conflicts_with = "restore",
        help_heading = "Recovery"
    )]
    pub repair: bool,
    /// Restore a backup into an empty folder, and end
    ///
    /// Backups are made with `etcdctl snapshot save FILE` while the registry runs. `etcdctl snapshot
    /// status` and `restore` are for files of etcd and cannot read them.
    #[arg(
        long,
        value_name = "FILE",
        requires = "data",
        help_heading = "Recovery"
    )]
    pub restore: Option<PathBuf>,
    /// Listen on an address that other machines reach, without authentication
    #[arg(long, help_heading = "Safety")]
    pub allow_insecure: bool,
}

/// The arguments of `cli`.
#[derive(Debug, Clone, Default, Args)]
pub struct ShellArgs {
    /// The filter that the shell begins with.
    #[command(flatten)]
    pub selectors: Selectors,
}

/// The arguments of `top`.
#[derive(Debug, Clone, Default, Args)]
pub struct TopArgs {
    /// The filter that the console begins with.
    #[command(flatten)]
    pub selectors: Selectors,
    /// Print one frame of this size as text, and end
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_size, help_heading = "Output")]
    pub snapshot: Option<(u16, u16)>,
}

/// The most columns and rows of a frame.
const MOST_CELLS: u16 = 1000;

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let side = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|side| (1..=MOST_CELLS).contains(side))
    };
    text.split_once('x')
        .and_then(|(width, height)| side(width).zip(side(height)))
        .ok_or_else(|| format!("`{text}` is no size such as 120x36"))
}

/// The arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell that is to complete the arguments of `sky`
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// The arguments of `help`.
#[derive(Debug, Clone, Args)]
pub struct HelpArgs {
    /// A command, or `exit-codes`
    pub topic: Option<String>,
}
