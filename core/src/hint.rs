//! What a reader of an error can do about it, and whether trying again makes sense.
//!
//! An error's message says what happened to what; the hint, beside the type, says what to do.

/// Advice that belongs to an error.
pub trait Hint {
    /// One sentence that says what to do, or `None` where nothing the reader does can help.
    fn hint(&self) -> Option<String>;
}

/// Whether the same thing may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing was done: trying again is safe.
    Safe,
    /// It may have been done: try again only what may be done twice.
    IfIdempotent,
    /// Trying again will not help.
    Never,
}

/// An error with all that lies below it, on one line: `what: because: because`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        text.push_str(": ");
        text.push_str(&below.to_string());
        source = below.source();
    }
    text
}
