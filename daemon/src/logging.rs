//! The daemon's own log, on stderr, with a level that can be changed while it runs.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The variable that says what is logged from the start.
const VARIABLE: &str = "RUST_LOG";

/// What is logged from the start when nobody says otherwise.
const USUAL: &str = "info";

/// Changes what is logged; a cheap clone.
#[derive(Clone, Default)]
pub struct LogLevel {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogLevel")
            .field("is_changeable", &self.handle.is_some())
            .finish()
    }
}

/// The level cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LevelError {
    /// There is no such level.
    #[error("`{level}` is no log level: trace, debug, info, warn, error, off")]
    Unknown {
        /// What was given.
        level: String,
    },
    /// Somebody else owns this process's log.
    #[error("the log of this process cannot be changed")]
    Fixed,
}

/// Logs to stderr from now on. Where something logs already, that stays, and the level is fixed.
pub fn start() -> LogLevel {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_unset| EnvFilter::new(USUAL));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    LogLevel {
        handle: started.is_ok().then_some(handle),
    }
}

impl LogLevel {
    /// Logs what is at least as grave as `level`.
    ///
    /// # Errors
    /// [`LevelError`].
    pub fn set(&self, level: &str) -> Result<(), LevelError> {
        let word = known_word(level).ok_or_else(|| LevelError::Unknown {
            level: level.to_owned(),
        })?;
        let handle = self.handle.as_ref().ok_or(LevelError::Fixed)?;
        handle
            .reload(EnvFilter::new(word))
            .map_err(|_dropped| LevelError::Fixed)
    }
}

/// The filter for a level; the original's two gravest ones are errors here.
fn known_word(level: &str) -> Option<&'static str> {
    Some(match level.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "panic" => "error",
        "off" => "off",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_the_original_are_known_and_others_are_refused() {
        assert_eq!(known_word("DEBUG"), Some("debug"));
        assert_eq!(known_word("FATAL"), Some("error"));
        let error = LogLevel::default().set("loud").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`loud` is no log level: trace, debug, info, warn, error, off"
        );
        assert_eq!(LogLevel::default().set("info"), Err(LevelError::Fixed));
    }
}
