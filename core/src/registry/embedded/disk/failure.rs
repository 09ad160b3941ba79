//! What can be wrong with the file, whoever found it out.
//!
//! Invariant: redb may panic on what is damaged; no such panic leaves [`contained`].

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(in crate::registry::embedded) enum Failure {
    /// The database or the system said so.
    #[error(transparent)]
    Redb(#[from] redb::Error),
    /// It made no sense, so little that the database gave up.
    #[error("its pages contradict each other ({0})")]
    Contradiction(String),
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is something else.
    #[error("it holds nothing that a registry wrote")]
    Foreign,
    /// Another version wrote it.
    #[error("it has the format {0}")]
    Format(u64),
    /// A row is not what was written.
    #[error("a row of `{table}` is not what was written")]
    Row {
        /// The table.
        table: &'static str,
    },
    /// Rows are missing, or are there that should not be.
    #[error("`{table}` has {found} rows, {expected} were written")]
    Rows {
        /// The table.
        table: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// It failed before and was not opened again.
    #[error("it is closed after an error")]
    Closed,
}

impl Failure {
    /// Whether there is no space left.
    pub(in crate::registry::embedded) fn is_full(&self) -> bool {
        matches!(self, Self::Redb(redb::Error::Io(source)) if is_full(source))
    }

    /// What the system said, if the file itself is not to blame.
    pub(in crate::registry::embedded) fn into_io(self) -> Result<io::Error, Self> {
        match self {
            // redb says these of files that it cannot make sense of.
            Self::Redb(redb::Error::Io(source))
                if !matches!(
                    source.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                ) =>
            {
                Ok(source)
            }
            other => Err(other),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self::Redb(source.into())
    }
}

/// Whether the system says that there is no space left.
fn is_full(source: &io::Error) -> bool {
    matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Runs what may panic on a damaged file; such a panic becomes an error.
pub(super) fn contained<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What `work` has touched is closed by whoever gets the error.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Failure::Contradiction(message(panic.as_ref()))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no word why").to_owned()
}
