//! `sky daemon`: what `skydaemon` is, in this program.
//!
//! Invariant: the registry is taken from the same flags and variables as everywhere in `sky`, and
//! `embedded` among them means one inside the daemon.

use skynet::registry::DEFAULT_ENDPOINT;
use skynet_daemon::{DaemonArgs, HostArgs, RegistryArgs};

use crate::cli::GlobalArgs;
use crate::report::{Exit, Failure};

/// Runs the daemon until it is told to end.
///
/// # Errors
/// When it cannot start, or ends by itself.
///
/// # Cancel safety
/// Dropping the future leaves its children running.
pub async fn run(global: &GlobalArgs, host: HostArgs) -> Result<(), Failure> {
    let args = DaemonArgs {
        registry: registry(global, |name| std::env::var(name).ok()),
        host,
    };
    skynet_daemon::run(args)
        .await
        .map_err(|error| Failure::of(Exit::Failed, error))
}

fn registry(global: &GlobalArgs, env: impl Fn(&str) -> Option<String>) -> RegistryArgs {
    let mut registry = global.registry.clone();
    if registry.is_empty() {
        let text = env("SKYNET_REGISTRY").unwrap_or_default();
        registry = text.split(',').map(|one| one.trim().to_owned()).collect();
        registry.retain(|endpoint| !endpoint.is_empty());
    }
    if registry.is_empty() {
        registry.push(DEFAULT_ENDPOINT.to_owned());
    }
    let prefix = global.prefix.clone().or_else(|| env("SKYNET_PREFIX"));
    RegistryArgs {
        registry,
        prefix,
        access: global.access.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_the_environment() {
        let env =
            |name: &str| (name == "SKYNET_REGISTRY").then(|| "http://a:1, embedded".to_owned());
        let none = GlobalArgs::default();
        assert_eq!(registry(&none, env).registry, ["http://a:1", "embedded"]);
        assert_eq!(registry(&none, |_| None).registry, [DEFAULT_ENDPOINT]);
        let given = GlobalArgs {
            registry: vec!["embedded".to_owned()],
            prefix: Some("/p".to_owned()),
            ..GlobalArgs::default()
        };
        let read = registry(&given, env);
        assert_eq!(
            (read.registry, read.prefix),
            (given.registry.clone(), given.prefix.clone())
        );
    }
}
