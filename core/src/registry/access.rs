//! Who we are to the registry, and by which certificates it and we are known.
//!
//! Invariants: files are read when a connection is made, so what was renewed on the disk is used by
//! the next one; neither `Debug` nor an error shows a password or a key; one set of variables is
//! read here and told to children. It knows nothing of connections.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::hint::Hint;

/// The variable for [`Access::user`].
pub const USER: &str = "SKYNET_REGISTRY_USER";
/// The variable for a password as it is.
pub const PASSWORD: &str = "SKYNET_REGISTRY_PASSWORD";
/// The variable for a file that holds the password.
pub const PASSWORD_FILE: &str = "SKYNET_REGISTRY_PASSWORD_FILE";
/// The variable for [`Access::ca`].
pub const CA: &str = "SKYNET_REGISTRY_CA";
/// The variable for [`Access::certificate`].
pub const CERTIFICATE: &str = "SKYNET_REGISTRY_CERT";
/// The variable for [`Access::key`].
pub const KEY: &str = "SKYNET_REGISTRY_KEY";
/// The variable for [`Access::server_name`].
pub const SERVER_NAME: &str = "SKYNET_REGISTRY_SERVER_NAME";

/// How we are let in. The default is nobody, and the certificates that the system trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The user; without one, etcd takes the name in [`Access::certificate`].
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Password>,
    /// The file (PEM) of the CAs that the registry's certificate may come from; `None` stands for
    /// those of the system.
    pub ca: Option<PathBuf>,
    /// The file (PEM) of the certificate that we show.
    pub certificate: Option<PathBuf>,
    /// The file (PEM) of its private key.
    pub key: Option<PathBuf>,
    /// The name in the registry's certificate, where it is not the endpoint's.
    pub server_name: Option<String>,
}

/// A password, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// As it is.
    Text(String),
    /// The first line of a file, read whenever it is needed.
    File(PathBuf),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => formatter.write_str("Text(..)"),
            Self::File(path) => formatter.debug_tuple("File").field(path).finish(),
        }
    }
}

/// What is given does not let us in anywhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file cannot be read.
    #[error("the {what} `{}` cannot be read", path.display())]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{}` holds no {what}", path.display())]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// One half of a pair is missing.
    #[error("for the registry a {given} is given, but no {missing}")]
    Half {
        /// What is given.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// Certificates are given for an endpoint that uses none.
    #[error("`{endpoint}` is not encrypted, but certificates are given for it")]
    NotEncrypted {
        /// The endpoint.
        endpoint: String,
    },
}

impl Hint for AccessError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => {
                "the file must be there, and readable for the user that this process runs as".into()
            }
            Self::Empty { what, .. } if *what == "password" => {
                "its first line must be the password".into()
            }
            Self::Empty { .. } => "certificates and keys are given as PEM, keys unencrypted".into(),
            Self::Half { missing, .. } => match *missing {
                "user" => format!("give `--registry-user` or `{USER}`"),
                "password" => format!("give `--registry-password-file` or `{PASSWORD}`"),
                "key" => format!("give `--registry-key` or `{KEY}`"),
                _ => format!("give `--registry-cert` or `{CERTIFICATE}`"),
            },
            Self::NotEncrypted { .. } => {
                "write `https://` before the endpoint, or give no certificates".into()
            }
        })
    }
}

impl Access {
    /// What the variables of the environment say.
    pub fn from_env() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    /// The same from given ones; an empty one is not set.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name| variable(name).filter(|value| !value.is_empty());
        let path = |name| text(name).map(PathBuf::from);
        Self {
            user: text(USER),
            password: path(PASSWORD_FILE)
                .map(Password::File)
                .or_else(|| text(PASSWORD).map(Password::Text)),
            ca: path(CA),
            certificate: path(CERTIFICATE),
            key: path(KEY),
            server_name: text(SERVER_NAME),
        }
    }

    /// The variables that say the same to a child, all of them: what is not set is empty, so that
    /// the child has nothing from elsewhere. Paths are absolute, as it may run in another folder.
    pub fn to_env(&self) -> BTreeMap<&'static str, String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let path = |path: Option<&PathBuf>| {
            path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let (password, file) = match &self.password {
            Some(Password::Text(text)) => (text.clone(), None),
            Some(Password::File(file)) => (String::new(), Some(file)),
            None => (String::new(), None),
        };
        BTreeMap::from([
            (USER, text(&self.user)),
            (PASSWORD, password),
            (PASSWORD_FILE, path(file)),
            (CA, path(self.ca.as_ref())),
            (CERTIFICATE, path(self.certificate.as_ref())),
            (KEY, path(self.key.as_ref())),
            (SERVER_NAME, text(&self.server_name)),
        ])
    }

    /// Whether anything of it only makes sense with TLS.
    pub(super) fn wants_tls(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some() || self.server_name.is_some()
    }

    /// Looks whether it is whole and its files are there, before anything is connected.
    pub(super) fn check<'a>(
        &self,
        endpoints: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), AccessError> {
        for (given, is_given, missing, is_there) in [
            (
                "user",
                self.user.is_some(),
                "password",
                self.password.is_some(),
            ),
            (
                "password",
                self.password.is_some(),
                "user",
                self.user.is_some(),
            ),
            (
                "certificate",
                self.certificate.is_some(),
                "key",
                self.key.is_some(),
            ),
            (
                "key",
                self.key.is_some(),
                "certificate",
                self.certificate.is_some(),
            ),
        ] {
            if is_given && !is_there {
                return Err(AccessError::Half { given, missing });
            }
        }
        if self.wants_tls() {
            for endpoint in endpoints {
                if !endpoint.starts_with("https://") {
                    let endpoint = endpoint.to_owned();
                    return Err(AccessError::NotEncrypted { endpoint });
                }
            }
        }
        for file in self.files() {
            file.check(std::fs::read_to_string(file.path))?;
        }
        Ok(())
    }

    /// The user and its password as it now is.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(super) async fn user(&self) -> Result<Option<(String, String)>, AccessError> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        let password = match &self.password {
            Some(Password::Text(text)) => text.clone(),
            Some(Password::File(path)) => {
                let file = PemFile::password(path);
                let text = file.check(tokio::fs::read_to_string(path).await)?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => String::new(),
        };
        Ok(Some((user.clone(), password)))
    }

    /// What TLS needs, with the files as they now are.
    ///
    /// # Cancel safety
    /// Reads only.
    pub(super) async fn tls(&self) -> Result<TlsOptions, AccessError> {
        let mut tls = TlsOptions::new();
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        tls = match &self.ca {
            Some(path) => {
                let text = PemFile::ca(path).check(tokio::fs::read_to_string(path).await)?;
                tls.ca_certificate(Certificate::from_pem(text))
            }
            None => tls.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            let read = tokio::fs::read_to_string(certificate).await;
            let certificate = PemFile::certificate(certificate).check(read)?;
            let key = PemFile::key(key).check(tokio::fs::read_to_string(key).await)?;
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Ok(tls)
    }

    fn files(&self) -> impl Iterator<Item = PemFile<'_>> {
        let password = match &self.password {
            Some(Password::File(path)) => Some(PemFile::password(path)),
            _ => None,
        };
        let ca = self.ca.as_deref().map(PemFile::ca);
        let certificate = self.certificate.as_deref().map(PemFile::certificate);
        let key = self.key.as_deref().map(PemFile::key);
        [password, ca, certificate, key].into_iter().flatten()
    }
}

/// A file, and what it must hold.
#[derive(Clone, Copy)]
struct PemFile<'a> {
    path: &'a Path,
    what: &'static str,
    /// What a text of its kind holds; rustls passes over what is not.
    sign: &'static str,
}

impl<'a> PemFile<'a> {
    fn password(path: &'a Path) -> Self {
        Self {
            path,
            what: "password",
            sign: "",
        }
    }

    fn ca(path: &'a Path) -> Self {
        Self {
            path,
            what: "CA certificate",
            sign: "-----BEGIN CERTIFICATE-----",
        }
    }

    fn certificate(path: &'a Path) -> Self {
        Self {
            what: "certificate",
            ..Self::ca(path)
        }
    }

    fn key(path: &'a Path) -> Self {
        Self {
            path,
            what: "private key",
            sign: " KEY-----",
        }
    }

    fn check(&self, read: io::Result<String>) -> Result<String, AccessError> {
        let Self { path, what, sign } = *self;
        let text = read.map_err(|source| AccessError::Unreadable {
            what,
            path: path.to_owned(),
            source,
        })?;
        let holds = !text.trim().is_empty() && text.contains(sign);
        if !holds || text.contains("ENCRYPTED PRIVATE KEY") {
            let path = path.to_owned();
            return Err(AccessError::Empty { what, path });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
