//! What a service is told from outside: the environment that its daemon gives it, and the flags of
//! the original.
//!
//! Invariants: a flag wins over the environment, both win over what the program says; a value that
//! does not read is an error that names it; arguments that are not ours are left to the program.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::trust::Network;
use crate::hint::Hint;
use crate::instance::InstanceId;

/// The ports among which a service finds one.
pub const PORTS: RangeInclusive<u16> = 9000..=9999;

/// The variable that lets a service listen where other machines reach it.
const INSECURE: &str = "SKYNET_ALLOW_INSECURE";

/// The variable that names networks whose clients are believed.
const TRUSTED: &str = "SKYNET_TRUSTED_NETWORKS";

/// Where to listen: an address, and the ports to try in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub ip: IpAddr,
    /// The ports.
    pub ports: RangeInclusive<u16>,
}

/// The environment's variable by which a daemon's children know that they are supervised.
pub const SUPERVISED_VARIABLE: &str = "SKYNET_SUPERVISED";

/// What environment and flags say; `None` where they are silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `SKYNET_BIND_IP`, `-l`.
    pub bind: Option<IpAddr>,
    /// `SKYNET_MIN_PORT` and `SKYNET_MAX_PORT`, `-l`.
    pub ports: Option<RangeInclusive<u16>>,
    /// `-admin`: where the admin port is, when it is not beside the service's.
    pub admin: Option<Listen>,
    /// `SKYNET_REGION`, `-region`.
    pub region: Option<Arc<str>>,
    /// `SKYNET_HOST`.
    pub host: Option<Arc<str>>,
    /// `-version`.
    pub version: Option<Arc<str>>,
    /// `SKYNET_UUID`, `-uuid`.
    pub id: Option<InstanceId>,
    /// `SKYNET_REGISTRY`: the registry's endpoints.
    pub registry: Option<String>,
    /// `SKYNET_PREFIX`: what the registry's keys begin with.
    pub prefix: Option<String>,
    /// `SKYNET_DEPLOYMENT`: the deployment that started this process.
    pub deployment: Option<Arc<str>>,
    /// `SKYNET_REGISTERED`: whether clients may choose it from the start.
    pub registered: Option<bool>,
    /// [`SUPERVISED_VARIABLE`]: whether a daemon started it, and knows it by its id.
    pub supervised: Option<bool>,
    /// `SKYNET_ALLOW_INSECURE`: whether addresses that others reach are allowed.
    pub allow_insecure: Option<bool>,
    /// `SKYNET_TRUSTED_NETWORKS`: whose clients are believed when they say where a request came
    /// from, such as `10.0.0.0/8,127.0.0.1`.
    pub trusted: Option<Vec<Network>>,
    /// The arguments that are the program's own.
    pub arguments: Vec<OsString>,
}

/// A setting that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value is not of its kind.
    #[error("`{name}` is `{value}`, which is not {wanted}")]
    Value {
        /// The variable or flag.
        name: String,
        /// What it says.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A flag stands at the end without its value.
    #[error("`{flag}` has no value")]
    Missing {
        /// The flag.
        flag: String,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Value { wanted, .. } => format!("give it {wanted}"),
            Self::Missing { flag } => format!("write `{flag}=VALUE`"),
        })
    }
}

impl ServiceConfig {
    /// Reads the process's environment and arguments.
    ///
    /// # Errors
    /// When a value does not read.
    pub fn from_env_and_args() -> Result<Self, ConfigError> {
        Self::read(|name| std::env::var(name).ok(), std::env::args_os().skip(1))
    }

    /// The same from given ones.
    ///
    /// # Errors
    /// When a value does not read.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::read_env(variable)?;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some((flag, value)) = argument.to_str().and_then(our_flag) else {
                config.arguments.push(argument);
                continue;
            };
            let value = match value {
                Some(value) => value.to_owned(),
                None => arguments
                    .next()
                    .and_then(|value| value.into_string().ok())
                    .ok_or_else(|| ConfigError::Missing {
                        flag: format!("-{flag}"),
                    })?,
            };
            config.take(flag, &value)?;
        }
        Ok(config)
    }

    /// Reads the process's environment only.
    ///
    /// # Errors
    /// When a value does not read.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(|name| std::env::var(name).ok(), [])
    }

    fn read_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let port = |name| read_optional(name, variable(name), "a port");
        let (min, max) = (port("SKYNET_MIN_PORT")?, port("SKYNET_MAX_PORT")?);
        let ports = (min.is_some() || max.is_some())
            .then(|| min.unwrap_or(*PORTS.start())..=max.unwrap_or(*PORTS.end()));
        let bind = variable("SKYNET_BIND_IP");
        Ok(Self {
            bind: read_optional("SKYNET_BIND_IP", bind, "an IP address")?,
            ports,
            admin: None,
            region: variable("SKYNET_REGION").map(Into::into),
            host: variable("SKYNET_HOST").map(Into::into),
            version: None,
            id: read_optional("SKYNET_UUID", variable("SKYNET_UUID"), "a UUID")?,
            registry: variable("SKYNET_REGISTRY"),
            prefix: variable("SKYNET_PREFIX"),
            deployment: variable("SKYNET_DEPLOYMENT").map(Into::into),
            registered: read_bool(
                "SKYNET_REGISTERED",
                variable("SKYNET_REGISTERED").as_deref(),
            )?,
            supervised: read_bool(
                SUPERVISED_VARIABLE,
                variable(SUPERVISED_VARIABLE).as_deref(),
            )?,
            allow_insecure: read_bool(INSECURE, variable(INSECURE).as_deref())?,
            trusted: read_networks(variable(TRUSTED).as_deref())?,
            arguments: Vec::new(),
        })
    }

    fn take(&mut self, flag: &str, value: &str) -> Result<(), ConfigError> {
        match flag {
            "l" => {
                let listen = read_listen("-l", value)?;
                self.bind = Some(listen.ip);
                self.ports = Some(listen.ports);
            }
            "admin" => self.admin = Some(read_listen("-admin", value)?),
            "uuid" => self.id = Some(read_value("-uuid", value, "a UUID")?),
            "region" => self.region = Some(value.into()),
            "version" => self.version = Some(value.into()),
            _ => {}
        }
        Ok(())
    }
}

/// A flag of the original, with one dash or two, and its value behind `=`.
fn our_flag(argument: &str) -> Option<(&str, Option<&str>)> {
    let name = argument.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    };
    ["l", "admin", "uuid", "region", "version"]
        .contains(&name)
        .then_some((name, value))
}

fn read_value<T: std::str::FromStr>(
    name: &str,
    value: &str,
    wanted: &'static str,
) -> Result<T, ConfigError> {
    // What std says of the value adds nothing to what was wanted.
    value.parse().map_err(|_unreadable| ConfigError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        wanted,
    })
}

fn read_optional<T: std::str::FromStr>(
    name: &str,
    value: Option<String>,
    wanted: &'static str,
) -> Result<Option<T>, ConfigError> {
    value
        .map(|value| read_value(name, &value, wanted))
        .transpose()
}

fn read_networks(value: Option<&str>) -> Result<Option<Vec<Network>>, ConfigError> {
    let wanted = "networks such as `10.0.0.0/8`, with commas between them";
    let read = |value: &str| {
        let networks = value.split(',').map(str::trim);
        networks
            .map(|network| read_value(TRUSTED, network, wanted))
            .collect()
    };
    value.map(read).transpose()
}

fn read_bool(name: &str, value: Option<&str>) -> Result<Option<bool>, ConfigError> {
    match value {
        None => Ok(None),
        Some("1" | "true" | "yes") => Ok(Some(true)),
        Some("0" | "false" | "no") => Ok(Some(false)),
        Some(other) => Err(ConfigError::Value {
            name: name.to_owned(),
            value: other.to_owned(),
            wanted: "`true` or `false`",
        }),
    }
}

/// `IP:PORT` or `IP:MIN-MAX`. As in the original a missing IP means every address, and a port
/// without a range is where the search begins.
fn read_listen(name: &str, value: &str) -> Result<Listen, ConfigError> {
    let malformed = || ConfigError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        wanted: "`IP:PORT` or `IP:MIN-MAX`",
    };
    let (ip, ports) = value.rsplit_once(':').ok_or_else(malformed)?;
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    let ip = if ip.is_empty() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        read_value(name, ip, "an IP address")?
    };
    let ports = if let Some((min, max)) = ports.split_once('-') {
        read_value(name, min, "a range of ports")?..=read_value(name, max, "a range of ports")?
    } else {
        let port: u16 = read_value(name, ports, "a port")?;
        port..=port.max(*PORTS.end())
    };
    Ok(Listen { ip, ports })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], arguments: &[&str]) -> Result<ServiceConfig, ConfigError> {
        let variables: std::collections::HashMap<_, _> = variables.iter().copied().collect();
        ServiceConfig::read(
            |name| variables.get(name).map(|value| (*value).to_owned()),
            arguments.iter().map(Into::into),
        )
    }

    #[test]
    fn flags_win_over_the_environment_and_foreign_arguments_stay() {
        let config = read(
            &[
                ("SKYNET_BIND_IP", "127.0.2.1"),
                ("SKYNET_MIN_PORT", "9100"),
                ("SKYNET_REGION", "east"),
                ("SKYNET_HOST", "h1"),
                ("SKYNET_UUID", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"),
                ("SKYNET_REGISTERED", ""),
                ("SKYNET_TRUSTED_NETWORKS", "10.0.0.0/8, ::1"),
            ],
            &["-region=west", "--other", "-version", "2", "x"],
        )
        .unwrap();
        assert_eq!(config.bind, Some(Ipv4Addr::new(127, 0, 2, 1).into()));
        assert_eq!(config.ports, Some(9100..=9999));
        assert_eq!(config.region.as_deref(), Some("west"));
        assert_eq!(config.version.as_deref(), Some("2"));
        assert_eq!(config.host.as_deref(), Some("h1"));
        assert!(config.id.is_some() && config.registered.is_none());
        assert_eq!(config.trusted.map(|networks| networks.len()), Some(2));
        assert_eq!(config.arguments, ["--other", "x"]);
    }

    #[test]
    fn addresses_read_as_in_the_original() {
        for (flag, ip, ports) in [
            ("-l=127.0.0.1:9140", [127, 0, 0, 1], 9140..=9999),
            ("-l=127.0.0.1:9140-9150", [127, 0, 0, 1], 9140..=9150),
            ("-l=:9140", [0, 0, 0, 0], 9140..=9999),
            ("-l=10.0.0.1:12000", [10, 0, 0, 1], 12000..=12000),
        ] {
            let config = read(&[], &[flag]).unwrap();
            assert_eq!(config.bind, Some(ip.into()), "{flag}");
            assert_eq!(config.ports, Some(ports), "{flag}");
        }
    }

    #[test]
    fn what_does_not_read_is_named() {
        for (variables, arguments, text) in [
            (
                &[("SKYNET_MIN_PORT", "x")][..],
                &[][..],
                "`SKYNET_MIN_PORT` is `x`, which is not a port",
            ),
            (
                &[("SKYNET_TRUSTED_NETWORKS", "10.0.0.0/8,home")],
                &[],
                "`SKYNET_TRUSTED_NETWORKS` is `home`, which is not networks such as `10.0.0.0/8`, \
                 with commas between them",
            ),
            (&[], &["-uuid=1"], "`-uuid` is `1`, which is not a UUID"),
            (&[], &["-region"], "`-region` has no value"),
            (
                &[],
                &["-l=9000"],
                "`-l` is `9000`, which is not `IP:PORT` or `IP:MIN-MAX`",
            ),
        ] {
            assert_eq!(read(variables, arguments).unwrap_err().to_string(), text);
        }
    }
}
