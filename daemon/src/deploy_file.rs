//! The file that a daemon is started with: what this host is to run, in TOML.
//!
//! Invariants: a file that says something unknown, or nothing that can run, is refused as a whole,
//! with the place. Pure but for reading the file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use skynet::hint::Hint;

use crate::spec::ChildSpec;
use crate::supervise::ExitPolicy;

/// A file with more copies of one service than this is a mistake.
const MOST_COPIES: u32 = 10_000;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the file of services `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what is expected.
    #[error("the file of services `{}` does not read", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// One of its services cannot be meant.
    #[error("service {number} (`{service}`) in `{}`: {problem}", path.display())]
    Service {
        /// The file.
        path: PathBuf,
        /// Which `[[service]]`, counted from 1.
        number: usize,
        /// Its program.
        service: String,
        /// What is wrong.
        problem: String,
    },
}

impl Hint for FileError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Wrong { .. } | Self::Service { .. } => Some(
                "a service is `[[service]]` with `path`, and as needed `args`, `env`, `count`, \
                 `user`, `cwd`, `name`, `version`, `restart`, `uuid_flag`"
                    .to_owned(),
            ),
        }
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    service: Vec<RawService>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    path: String,
    #[serde(default)]
    args: RawArgs,
    #[serde(default)]
    env: BTreeMap<String, RawValue>,
    #[serde(default = "once")]
    count: u32,
    user: Option<RawValue>,
    cwd: Option<PathBuf>,
    name: Option<String>,
    version: Option<RawValue>,
    #[serde(default)]
    restart: ExitPolicy,
    #[serde(default)]
    uuid_flag: bool,
}

fn once() -> u32 {
    1
}

/// Arguments: one line as for a shell, or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawArgs {
    Line(String),
    List(Vec<String>),
}

impl Default for RawArgs {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// A text that people like to write as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawValue {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl RawValue {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// Reads a file; every copy of a service stands for itself in the answer. Blocks.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path) -> Result<Vec<ChildSpec>, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<ChildSpec>, FileError> {
    let file: RawFile = toml::from_str(text).map_err(|source| FileError::Wrong {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut specs = Vec::new();
    for (index, service) in file.service.into_iter().enumerate() {
        let named = service.path.clone();
        let copies = understand(service).map_err(|problem| FileError::Service {
            path: path.to_owned(),
            number: index + 1,
            service: named,
            problem,
        })?;
        specs.extend(copies);
    }
    Ok(specs)
}

fn understand(service: RawService) -> Result<impl Iterator<Item = ChildSpec>, String> {
    if service.path.is_empty() {
        return Err("`path` is empty".to_owned());
    }
    if service.count > MOST_COPIES {
        let count = service.count;
        return Err(format!("`count` is {count}, the most is {MOST_COPIES}"));
    }
    let args = match service.args {
        RawArgs::List(list) => list,
        RawArgs::Line(line) => {
            shell_words::split(&line).map_err(|error| format!("`args`: {error}"))?
        }
    };
    let env: BTreeMap<String, String> = service
        .env
        .into_iter()
        .map(|(name, value)| (name, value.into_text()))
        .collect();
    if let Some(name) = env
        .keys()
        .find(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        return Err(format!("`{name}` cannot name a variable"));
    }
    let spec = ChildSpec {
        path: service.path,
        args,
        env,
        user: service.user.map(RawValue::into_text),
        cwd: service.cwd,
        name: service.name,
        version: service.version.map(RawValue::into_text),
        restart: service.restart,
        uuid_flag: service.uuid_flag,
        registered: None,
    };
    Ok(std::iter::repeat_n(spec, service.count as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<ChildSpec> {
        parse(Path::new("services.toml"), text).unwrap()
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(Path::new("services.toml"), text).unwrap_err();
        let mut told = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            told = format!("{told}: {source}");
        }
        assert!(told.contains(expected), "{told}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn everything_that_a_service_can_say() {
        let specs = parsed(
            r#"
            [[service]]
            path = "/opt/bin/payments"
            args = "--name 'two words' -v"
            count = 2
            user = 1000
            cwd = "/srv"
            env = { MODE = "fast", WORKERS = 4, TRACE = true }
            version = 2
            restart = "on-failure"

            [[service]]
            path = "sleep"
            args = ["1000", "a b"]
            "#,
        );
        assert_eq!(specs.len(), 3);
        assert_eq!(specs[0], specs[1]);
        assert_eq!(specs[0].args, ["--name", "two words", "-v"]);
        assert_eq!(specs[0].env["WORKERS"], "4");
        assert_eq!(specs[0].env["TRACE"], "true");
        assert_eq!(specs[0].user.as_deref(), Some("1000"));
        assert_eq!(specs[0].version.as_deref(), Some("2"));
        assert_eq!(specs[0].restart, ExitPolicy::OnFailure);
        assert_eq!(specs[2].args, ["1000", "a b"]);
        assert_eq!(specs[2].restart, ExitPolicy::Always);
        assert!(parsed("").is_empty());
    }

    #[test]
    fn a_file_is_refused_with_the_place() {
        refused("[[service]]\nargs = 'x'", "missing field `path`");
        refused(
            "[[service]]\npath = 'x'\ncuont = 2",
            "unknown field `cuont`",
        );
        refused("[[services]]\npath = 'x'", "unknown field `services`");
        refused("[[service]\npath", "line 1");
        refused(
            "[[service]]\npath = 'x'\nargs = \"a 'b\"",
            "service 1 (`x`) in `services.toml`: `args`: missing closing quote",
        );
        refused(
            "[[service]]\npath = 'x'\n[[service]]\npath = ''",
            "service 2 (``) in `services.toml`: `path` is empty",
        );
        refused(
            "[[service]]\npath = 'x'\ncount = 1000000",
            "`count` is 1000000",
        );
        refused(
            "[[service]]\npath = 'x'\nenv = { 'A=B' = 1 }",
            "`A=B` cannot name a variable",
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/no/such.toml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the file of services `/no/such.toml`"
        );
    }
}
