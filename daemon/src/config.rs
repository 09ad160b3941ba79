//! What a daemon is told on the command line and by its environment, and what that means.
//!
//! [`DaemonArgs`] is what was typed, [`DaemonConfig`] what it means. Reads the host's name and
//! nothing else of the system.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use skynet::hint::Hint;
use skynet::registry::{Access, DEFAULT_ENDPOINT, RegistryConfig, TTL_VARIABLE, parse_ttl};
use skynet::service::SUPERVISED_VARIABLE;

use crate::state_folder;

mod access;

pub use access::AccessArgs;

/// The word for a registry inside the daemon.
const EMBEDDED: &str = "embedded";

/// Where a registry inside the daemon listens: where `sky` looks for one.
const EMBEDDED_PORT: u16 = 2379;

/// The command line of `skydaemon`, and of `sky daemon`.
#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    /// Where the registry is.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// What this host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// The registry, as every command takes it.
#[derive(Debug, Clone, Args)]
pub struct RegistryArgs {
    /// The registry's endpoints, like `http://10.0.0.1:2379`, separated by commas; `embedded` for
    /// one inside this daemon, at 127.0.0.1:2379 (`embedded=IP:PORT` elsewhere)
    #[arg(long, value_name = "URL", env = "SKYNET_REGISTRY", value_delimiter = ',',
          default_value = DEFAULT_ENDPOINT)]
    pub registry: Vec<String>,

    /// The prefix of all keys, so that clusters can share a registry
    #[arg(long, value_name = "PREFIX", env = "SKYNET_PREFIX")]
    pub prefix: Option<String>,

    /// How one is let in.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// The host, its children, and where they may listen.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    /// The services that this host runs (TOML): `[[service]] path, args, env, count, user, cwd`
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The region that the host is in
    #[arg(long, value_name = "R", env = "SKYNET_REGION", default_value = "local")]
    pub region: String,

    /// The host's name, unique in the cluster; the machine's name unless given
    #[arg(long, value_name = "NAME", env = "SKYNET_HOST")]
    pub host: Option<String>,

    /// The address that the daemon and its children listen on
    #[arg(long, value_name = "IP", env = "SKYNET_BIND_IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,

    /// The ports that the daemon and its children take
    #[arg(long, value_name = "FIRST-LAST", default_value = "9000-9999", value_parser = parse_ports)]
    pub ports: RangeInclusive<u16>,

    /// The folder for what outlives the daemon: notes of its children, their output
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Listen on addresses that other machines reach; nothing is checked: deploying is running
    /// programs
    #[arg(long)]
    pub allow_insecure: bool,

    /// How long the entries of this host and its children outlive a silent process, 5s to 60s:
    /// longer than two elections of the registry
    #[arg(long, value_name = "DURATION", env = TTL_VARIABLE, default_value = "10s",
          value_parser = parse_ttl)]
    pub registry_ttl: Duration,

    /// How long a child may take to finish what it has before it gets SIGTERM; SIGKILL follows
    /// within 5 s
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let expected = || format!("`{text}` is no range of ports like 9000-9999");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = port(first).zip(port(last)).ok_or_else(expected)?;
    if first > last {
        return Err(expected());
    }
    Ok(first..=last)
}

/// Where the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrySource {
    /// Somewhere else.
    Endpoints(Vec<String>),
    /// In this process.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
    },
}

/// What a daemon works with.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Where the registry is.
    pub registry: RegistrySource,
    /// The registry's settings but for its endpoints.
    pub registry_config: RegistryConfig,
    /// The host's name.
    pub host: Arc<str>,
    /// The host's region.
    pub region: Arc<str>,
    /// The address that the daemon and its children listen on.
    pub bind: IpAddr,
    /// The ports that they take.
    pub ports: RangeInclusive<u16>,
    /// The state folder.
    pub state: PathBuf,
    /// Whether addresses that other machines reach are allowed.
    pub allow_insecure: bool,
    /// How long a child may take to finish what it has.
    pub drain: Duration,
    /// The file of services.
    pub file: Option<PathBuf>,
}

/// What was typed cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing guards the daemon yet.
    #[error("the daemon may not listen on `{bind}`: it is no loopback address")]
    NotLoopback {
        /// What was asked for.
        bind: IpAddr,
    },
    /// The embedded registry stands alone.
    #[error("`{given}` is no place for an embedded registry")]
    BadEmbedded {
        /// What was given.
        given: String,
    },
    /// A name is empty.
    #[error("the {what} is empty")]
    Empty {
        /// Which.
        what: &'static str,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotLoopback { .. } => {
                "whoever reaches a daemon can run programs: use a loopback address, or allow it \
                 with `--allow-insecure`"
                    .to_owned()
            }
            Self::BadEmbedded { .. } => {
                "give `--registry embedded`, or `--registry embedded=127.0.0.1:2379`".to_owned()
            }
            Self::Empty { what } => format!("leave the option out, or give a {what}"),
        })
    }
}

impl DaemonConfig {
    /// What the arguments mean.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(registry: RegistryArgs, host: HostArgs) -> Result<Self, ConfigError> {
        if !host.bind.is_loopback() && !host.allow_insecure {
            return Err(ConfigError::NotLoopback { bind: host.bind });
        }
        let mut registry_config = RegistryConfig {
            ttl: host.registry_ttl,
            ..RegistryConfig::default()
        };
        if let Some(prefix) = &registry.prefix {
            registry_config = registry_config.with_prefix(prefix);
        }
        let source = source(registry.registry)?;
        // The one inside lets everybody in who reaches it, whatever the environment says of others.
        registry_config.access = match source {
            RegistrySource::Endpoints(_) => registry.access.access(),
            RegistrySource::Embedded { .. } => Access::default(),
        };
        let name = host.host.unwrap_or_else(machine_name);
        for (what, value) in [("host", &name), ("region", &host.region)] {
            if value.is_empty() {
                return Err(ConfigError::Empty { what });
            }
        }
        Ok(Self {
            registry: source,
            registry_config,
            state: host.state.unwrap_or_else(|| state_folder::usual(&name)),
            host: name.into(),
            region: host.region.into(),
            bind: host.bind,
            ports: host.ports,
            allow_insecure: host.allow_insecure,
            drain: host.drain,
            file: host.file,
        })
    }

    /// What the environment of every child has; `endpoints` are the registry's.
    pub fn child_env(&self, endpoints: &[String]) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
        set("SKYNET_REGISTRY", endpoints.join(","));
        set("SKYNET_PREFIX", self.registry_config.prefix.clone());
        let ttl = humantime::format_duration(self.registry_config.ttl);
        set(TTL_VARIABLE, ttl.to_string());
        for (name, value) in self.registry_config.access.to_env() {
            set(name, value);
        }
        set(SUPERVISED_VARIABLE, true.to_string());
        set("SKYNET_REGION", self.region.to_string());
        set("SKYNET_HOST", self.host.to_string());
        set("SKYNET_BIND_IP", self.bind.to_string());
        set("SKYNET_MIN_PORT", self.ports.start().to_string());
        set("SKYNET_MAX_PORT", self.ports.end().to_string());
        // Said either way: what the daemon itself inherited must not open its children.
        set("SKYNET_ALLOW_INSECURE", self.allow_insecure.to_string());
        env
    }
}

fn source(given: Vec<String>) -> Result<RegistrySource, ConfigError> {
    let embedded = given.iter().find(|word| word.starts_with(EMBEDDED));
    let Some(word) = embedded else {
        return Ok(RegistrySource::Endpoints(given));
    };
    let bad = || ConfigError::BadEmbedded {
        given: given.join(","),
    };
    if given.len() > 1 {
        return Err(bad());
    }
    let listen = match word.strip_prefix(EMBEDDED) {
        Some("") => SocketAddr::from((Ipv4Addr::LOCALHOST, EMBEDDED_PORT)),
        Some(rest) => rest
            .strip_prefix('=')
            .and_then(|place| place.parse().ok())
            .ok_or_else(bad)?,
        None => return Err(bad()),
    };
    Ok(RegistrySource::Embedded { listen })
}

fn machine_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or("localhost")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: DaemonArgs,
    }

    fn config(line: &str) -> Result<DaemonConfig, ConfigError> {
        let words = std::iter::once("skydaemon").chain(line.split_whitespace());
        let args = Line::try_parse_from(words).unwrap().args;
        DaemonConfig::new(args.registry, args.host)
    }

    #[test]
    fn a_whole_line_is_understood() {
        let config = config(
            "--registry http://a:1,http://b:2 --prefix x --region east --host h1 --bind 127.0.1.1 \
             --ports 9100-9199 --state /tmp/s --drain 1s --registry-ttl 30s --registry-user svc \
             --registry-password-file /run/pw --registry-ca /tls/ca.pem services.toml",
        )
        .unwrap();
        let endpoints = ["http://a:1".to_owned(), "http://b:2".to_owned()];
        assert_eq!(
            config.registry,
            RegistrySource::Endpoints(endpoints.to_vec())
        );
        assert_eq!(config.ports, 9100..=9199);
        assert_eq!(config.drain, Duration::from_secs(1));
        assert_eq!(config.file.as_deref(), Some("services.toml".as_ref()));
        let env = config.child_env(&endpoints);
        assert_eq!(env["SKYNET_REGISTRY"], "http://a:1,http://b:2");
        assert_eq!(env["SKYNET_PREFIX"], "/x");
        assert_eq!(config.registry_config.ttl, Duration::from_secs(30));
        assert_eq!(env["SKYNET_REGISTRY_TTL"], "30s");
        assert_eq!(env[SUPERVISED_VARIABLE], "true");
        assert_eq!(env["SKYNET_REGISTRY_USER"], "svc");
        assert_eq!(env["SKYNET_REGISTRY_PASSWORD_FILE"], "/run/pw");
        assert_eq!(env["SKYNET_REGISTRY_CA"], "/tls/ca.pem");
        assert_eq!(env["SKYNET_MAX_PORT"], "9199");
        assert_eq!(env["SKYNET_BIND_IP"], "127.0.1.1");
        assert_eq!(env["SKYNET_ALLOW_INSECURE"], "false");
    }

    #[test]
    fn what_is_left_out_is_sensible() {
        let config = config("").unwrap();
        assert!(!config.host.is_empty());
        assert!(config.state.ends_with(&*config.host));
        assert_eq!(config.ports, 9000..=9999);
        assert_eq!(config.drain, Duration::from_secs(25));
    }

    #[test]
    fn an_embedded_registry_stands_alone() {
        let listen = |line| match config(line).map(|config| config.registry) {
            Ok(RegistrySource::Embedded { listen }) => Some(listen.to_string()),
            _ => None,
        };
        assert_eq!(
            listen("--registry embedded").as_deref(),
            Some("127.0.0.1:2379")
        );
        assert_eq!(
            listen("--registry embedded=127.0.0.1:7").as_deref(),
            Some("127.0.0.1:7")
        );
        // What lets in elsewhere is not told to it, nor to the children.
        let inside = config("--registry embedded --registry-ca /tls/ca.pem").unwrap();
        assert_eq!(inside.child_env(&[])["SKYNET_REGISTRY_CA"], "");
        for line in [
            "--registry embedded,http://a:1",
            "--registry embedded=x",
            "--registry embeddedx",
        ] {
            let refused = config(line).unwrap_err();
            assert!(matches!(refused, ConfigError::BadEmbedded { .. }), "{line}");
        }
    }

    #[test]
    fn other_machines_are_kept_out_unless_allowed() {
        let refused = config("--bind 0.0.0.0").unwrap_err();
        assert!(
            refused
                .hint()
                .is_some_and(|hint| hint.contains("--allow-insecure"))
        );
        let open = config("--bind 0.0.0.0 --allow-insecure").unwrap();
        assert_eq!(open.child_env(&[])["SKYNET_ALLOW_INSECURE"], "true");
        assert_eq!(
            config("--region= --host x").unwrap_err(),
            ConfigError::Empty { what: "region" }
        );
    }

    #[test]
    fn ports_are_a_range() {
        assert_eq!(parse_ports("9000"), Ok(9000..=9000));
        for wrong in ["", "9000-", "9001-9000", "0-5", "70000", "a-b"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }
}
