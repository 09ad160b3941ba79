//! What a child is to be: program, arguments, environment, user, folder.
//!
//! Plain data that is kept in the state folder; knows nothing of processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::supervise::ExitPolicy;

/// The version that views show for a child that never registered and whose spec tells none.
pub const UNKNOWN_VERSION: &str = "unknown";

/// What a child is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChildSpec {
    /// The program: a path, or a name that is looked up on the daemon's PATH.
    pub path: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// What its environment has beside the daemon's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The user that it runs as, by name or number; the daemon's own when absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Its working folder; the daemon's own when absent.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// The service's name for views until the child registers under its own.
    #[serde(default)]
    pub name: Option<String>,
    /// The service's version for views until the child registers under its own.
    #[serde(default)]
    pub version: Option<String>,
    /// What an exit that nobody asked for leads to.
    #[serde(default)]
    pub restart: ExitPolicy,
    /// Whether the id is passed as a `-uuid` flag too, before the other arguments.
    #[serde(default)]
    pub uuid_flag: bool,
    /// Whether clients may choose it from the start; its own default when absent.
    #[serde(default)]
    pub registered: Option<bool>,
}

impl ChildSpec {
    /// The name that views show before the child has registered.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| {
            Path::new(&self.path)
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or(&self.path)
        })
    }

    /// The version that views show before the child has registered.
    pub fn shown_version(&self) -> &str {
        self.version.as_deref().unwrap_or(UNKNOWN_VERSION)
    }

    /// Makes a path that depends on the daemon's working folder absolute, so that the child stays
    /// the same wherever the next daemon is started.
    pub fn settle(&mut self) {
        if self.path.contains('/')
            && Path::new(&self.path).exists()
            && let Ok(path) = std::path::absolute(&self.path)
            && let Some(path) = path.to_str()
        {
            path.clone_into(&mut self.path);
        }
        if let Some(folder) = &mut self.cwd
            && let Ok(path) = std::path::absolute(&folder)
        {
            *folder = path;
        }
    }

    /// The arguments in one line, quoted as for a shell.
    pub fn quoted_args(&self) -> String {
        shell_words::join(&self.args)
    }
}

/// Where a child came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Somebody deployed it by a request.
    #[default]
    Request,
    /// The file that the daemon was given describes it.
    File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_spec_or_from_the_program() {
        let mut spec = ChildSpec {
            path: "/opt/bin/payments".to_owned(),
            args: vec!["-x".to_owned(), "two words".to_owned()],
            ..ChildSpec::default()
        };
        assert_eq!(
            (spec.shown_name(), spec.shown_version()),
            ("payments", "unknown")
        );
        assert_eq!(spec.quoted_args(), "-x 'two words'");
        spec.name = Some("Payments".to_owned());
        spec.version = Some("2".to_owned());
        assert_eq!((spec.shown_name(), spec.shown_version()), ("Payments", "2"));
    }
}
