//! Data on standard output: written here and nowhere else.
//!
//! Invariants: a closed pipe ends the program in silence with exit code 0; tables are cut to the
//! width of a terminal and never in a pipe; colors only on a terminal.

use std::io::{self, IsTerminal, Write};

use crate::report::{Exit, Failure};

pub mod column;
pub mod json;
pub mod sheet;
pub mod table;

/// Standard output, and what it can show.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The columns of the terminal; `None` in a pipe or a file.
    pub width: Option<usize>,
    /// Whether colors and bold may be used.
    pub color: bool,
}

impl Output {
    /// Standard output as it is now.
    pub fn stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self {
                width: None,
                color: false,
            };
        }
        let width = rustix::termios::tcgetwinsize(rustix::stdio::stdout())
            .ok()
            .map(|size| usize::from(size.ws_col))
            // The first size of a new terminal may be nothing.
            .filter(|columns| *columns > 0);
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width,
            color: !no_color && !dumb,
        }
    }

    /// Writes text whole.
    ///
    /// # Errors
    /// A silent failure with exit code 0 when the pipe is closed.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
            _ => Failure::new(Exit::Failed, error),
        })
    }
}
