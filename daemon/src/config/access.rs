//! How one is let into the registry, as `sky` and `skydaemon` take it.
//!
//! Invariant: no password stands on a command line, where every user of the machine could read it.

use std::path::PathBuf;

use clap::Args;
use skynet::registry::Access;
use skynet::registry::access::Password;

/// The section of the help.
const HEADING: &str = "Access to the registry";

/// The flags, which win over the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct AccessArgs {
    /// The user that we are to the registry, where it checks users (env: `SKYNET_REGISTRY_USER`)
    #[arg(long, global = true, value_name = "NAME", help_heading = HEADING)]
    pub registry_user: Option<String>,

    /// The file whose first line is its password (env: `SKYNET_REGISTRY_PASSWORD_FILE`, or the
    /// password itself in `SKYNET_REGISTRY_PASSWORD`)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub registry_password_file: Option<PathBuf>,

    /// The CA certificates (PEM) that the registry's may come from; those of the system unless
    /// given (env: `SKYNET_REGISTRY_CA`)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub registry_ca: Option<PathBuf>,

    /// Our certificate (PEM), where the registry wants one (env: `SKYNET_REGISTRY_CERT`)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub registry_cert: Option<PathBuf>,

    /// Its private key (PEM, unencrypted) (env: `SKYNET_REGISTRY_KEY`)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub registry_key: Option<PathBuf>,

    /// The name in the registry's certificate, where it is not the endpoint's (env:
    /// `SKYNET_REGISTRY_SERVER_NAME`)
    #[arg(long, global = true, value_name = "NAME", help_heading = HEADING)]
    pub registry_server_name: Option<String>,
}

impl AccessArgs {
    /// What they mean, with the environment where they are silent.
    pub fn access(&self) -> Access {
        self.over(Access::from_env())
    }

    fn over(&self, env: Access) -> Access {
        let file = self.registry_password_file.clone().map(Password::File);
        Access {
            user: self.registry_user.clone().or(env.user),
            password: file.or(env.password),
            ca: self.registry_ca.clone().or(env.ca),
            certificate: self.registry_cert.clone().or(env.certificate),
            key: self.registry_key.clone().or(env.key),
            server_name: self.registry_server_name.clone().or(env.server_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_environment() {
        let env = Access {
            user: Some("env".into()),
            password: Some(Password::Text("secret".into())),
            ca: Some("/env/ca.pem".into()),
            ..Access::default()
        };
        assert_eq!(AccessArgs::default().over(env.clone()), env);
        let flags = AccessArgs {
            registry_user: Some("flag".into()),
            registry_password_file: Some("/flag/password".into()),
            ..AccessArgs::default()
        };
        let read = flags.over(env);
        assert_eq!(read.user.as_deref(), Some("flag"));
        assert_eq!(read.password, Some(Password::File("/flag/password".into())));
        assert_eq!(read.ca.as_deref(), Some("/env/ca.pem".as_ref()));
    }
}
