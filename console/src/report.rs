//! What is said to people beside the data: errors with their causes and hints, notes, prompts.
//!
//! Invariants: the only place that writes to standard error; an error's chain is printed here and
//! nowhere else; every way out has one of the exit codes of [`Exit`]; a standard error that is gone
//! stops nothing.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use skynet::client::CallError;
use skynet::hint::Hint;
use skynet::query::{QueryError, SelectorError};
use skynet::registry;
use skynet::rpc::typed::TypedError;
use skynet::rpc::{CallFailure, ConnectError};

/// How the program ends; the numbers are a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It failed, or at least one target did.
    Failed,
    /// The command line or the filter is wrong.
    Usage,
    /// Nothing matched.
    NothingMatched,
    /// The server refused.
    NotAllowed,
    /// The cluster cannot be reached.
    Unreachable,
    /// Declined at the prompt.
    Declined,
    /// A deadline passed.
    TimedOut,
    /// The set is not the expected one.
    SetChanged,
    /// Ended by Ctrl-C.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
}

impl Exit {
    /// Every way out.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NothingMatched,
        Self::NotAllowed,
        Self::Unreachable,
        Self::Declined,
        Self::TimedOut,
        Self::SetChanged,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number that the parent process gets.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NothingMatched => 3,
            Self::NotAllowed => 4,
            Self::Unreachable => 5,
            Self::Declined => 6,
            Self::TimedOut => 7,
            Self::SetChanged => 8,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked, ready to be reported.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// `None` when there is nothing to say: a closed pipe, or results that tell it already.
    error: Option<Box<dyn Error + Send + Sync>>,
    /// Lines between the message and the hint, such as a filter and its caret.
    details: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with this way out.
    pub fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            exit,
            error: Some(error.into()),
            details: Vec::new(),
            hint: None,
        }
    }

    /// An error whose type knows what to do about it.
    pub fn of<E>(exit: Exit, error: E) -> Self
    where
        E: Error + Hint + Send + Sync + 'static,
    {
        let hint = error.hint();
        Self {
            hint,
            ..Self::new(exit, error)
        }
    }

    /// What was typed cannot be done as it stands.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message.into())
    }

    /// A way out about which everything has been said.
    pub fn silent(exit: Exit) -> Self {
        Self {
            exit,
            error: None,
            details: Vec::new(),
            hint: None,
        }
    }

    /// The same with this advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The lines for people, without color.
    pub fn lines(&self) -> Vec<String> {
        self.painted(Paint::PLAIN)
    }

    fn painted(&self, paint: Paint) -> Vec<String> {
        let Some(error) = &self.error else {
            return Vec::new();
        };
        if self.exit == Exit::Declined {
            // Somebody chose it, so it is no error.
            return vec![plain(&error.to_string())];
        }
        let mut lines = vec![format!(
            "{} {}",
            paint.bad("error:"),
            plain(&error.to_string())
        )];
        let causes = causes(error.as_ref());
        lines.extend(
            causes
                .iter()
                .map(|cause| format!("  caused by: {}", plain(cause))),
        );
        lines.extend(
            self.details
                .iter()
                .map(|detail| format!("  {}", plain(detail))),
        );
        if let Some(hint) = &self.hint {
            lines.push(format!("{} {}", paint.note("hint:"), plain(hint)));
        }
        lines
    }

    fn json(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let object = serde_json::json!({
            "schema": "sky.v1",
            "error": error.to_string(),
            "causes": causes(error.as_ref()),
            "hint": self.hint,
            "code": self.exit.code(),
        });
        Some(object.to_string())
    }
}

/// What lies below an error.
fn causes(error: &(dyn Error + Send + Sync)) -> Vec<String> {
    let mut below = error.source();
    let mut causes: Vec<String> = Vec::new();
    while let Some(cause) = below {
        let text = cause.to_string();
        // Some libraries repeat the message of the cause.
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        below = cause.source();
    }
    causes
}

/// `text` without control characters, which might steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

// === Which error is which way out ===

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        let exit = match &error {
            registry::Error::Unreachable { .. } => Exit::Unreachable,
            registry::Error::Refused { .. } => Exit::NotAllowed,
            registry::Error::NoEndpoint | registry::Error::BadEndpoint { .. } => Exit::Usage,
            registry::Error::Changed { .. } => Exit::SetChanged,
            _ => Exit::Failed,
        };
        Self::of(exit, error)
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let hint = error.hint();
        let details = error.caret().lines().map(str::to_owned).collect();
        let message = format!("`{}` is no filter", error.source_text());
        Self {
            details,
            hint,
            ..Self::usage(message)
        }
    }
}

impl From<SelectorError> for Failure {
    fn from(error: SelectorError) -> Self {
        match error {
            SelectorError::Filter(error) => error.into(),
            error => Self::of(Exit::Usage, error),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::Mismatch { .. } | ConnectError::Unregistered { .. } => Exit::NotAllowed,
            _ => Exit::Unreachable,
        };
        Self::of(exit, error)
    }
}

impl From<CallFailure> for Failure {
    fn from(error: CallFailure) -> Self {
        let exit = if error.is_deadline() {
            Exit::TimedOut
        } else {
            Exit::Failed
        };
        Self::of(exit, error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let exit = match &error {
            CallError::NoInstance { known: 0, .. } => Exit::NothingMatched,
            CallError::NoInstance { .. } => Exit::Unreachable,
            CallError::Failed { failure, .. } if failure.is_deadline() => Exit::TimedOut,
            _ => Exit::Failed,
        };
        Self::of(exit, error)
    }
}

impl From<TypedError> for Failure {
    fn from(error: TypedError) -> Self {
        Self::of(Exit::Failed, error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, Box::<dyn Error + Send + Sync>::from(error))
    }
}

// === Writing to standard error ===

/// Colors for a few words, or none.
#[derive(Debug, Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    const PLAIN: Self = Self { on: false };

    fn of_stderr() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            on: io::stderr().is_terminal() && !no_color && !dumb,
        }
    }

    fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn note(self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Reports a failure on standard error: lines for people, or an object where the data are JSON.
pub fn failure(failure: &Failure, json: bool) {
    if json {
        failure.json().into_iter().for_each(|object| line(&object));
    } else {
        failure
            .painted(Paint::of_stderr())
            .iter()
            .for_each(|text| line(text));
    }
}

/// Reports what clap found wrong with the arguments; its text has its own form.
pub fn usage(error: &clap::Error) -> Exit {
    let text = error.render();
    let text = if Paint::of_stderr().on {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    line(text.trim_end());
    Exit::Usage
}

/// Says something for people that is no data.
pub fn note(text: &str) {
    line(&plain(text));
}

/// Asks for an answer on the same line.
pub fn prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    // Nobody can be told that standard error is gone.
    drop(stderr.write_all(plain(text).as_bytes()));
    drop(stderr.flush());
}

/// Writes text as it is, for help where no command was given.
pub fn text(text: &str) {
    line(text);
}

fn line(text: &str) {
    let mut stderr = io::stderr().lock();
    // Nobody can be told that standard error is gone.
    drop(stderr.write_all(text.as_bytes()));
    drop(stderr.write_all(b"\n"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_what_to_do() {
        let unreachable = registry::Error::Unreachable {
            operation: "list",
            endpoints: "http://127.0.0.1:1".to_owned(),
            within: Duration::from_secs(5),
            source: Some("connection refused".into()),
        };
        let failure = Failure::from(unreachable);
        assert_eq!(failure.exit().code(), 5);
        insta::assert_snapshot!(failure.lines().join("\n"), @r"
        error: the registry at http://127.0.0.1:1 did not answer to `list` within 5s
          caused by: connection refused
        hint: is it running, and is `--registry` right? `sky registry` starts one on this machine, `sky demo` a whole cluster
        ");
    }

    #[test]
    fn a_bad_filter_is_told_with_a_caret() {
        let error = "regoin=east".parse::<skynet::query::Query>().unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.exit(), Exit::Usage);
        insta::assert_snapshot!(failure.lines().join("\n"), @r"
        error: `regoin=east` is no filter
          regoin=east
          ^^^^^^ there is no field `regoin`
        hint: did you mean `region`?
        ");
    }

    #[test]
    fn a_silent_failure_says_nothing() {
        let failure = Failure::silent(Exit::Failed);
        assert!(failure.lines().is_empty());
        assert_eq!(failure.json(), None);
    }

    #[test]
    fn what_is_told_cannot_steer_the_terminal() {
        let failure = Failure::usage("bad \x1b[2J name").hint("a\nb");
        assert_eq!(failure.lines(), ["error: bad  [2J name", "hint: a b"]);
    }
}
