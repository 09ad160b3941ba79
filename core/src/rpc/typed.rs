//! Values to documents and back: the structure is judged first, then bson and serde decide
//! strictly.

use std::cell::Cell;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{ScanError, scan};
use crate::hint::Hint;

/// A value that does not become a document, or a document that does not become the value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// The value is not something that BSON can hold as a document.
    #[error("a `{kind}` does not become a BSON document")]
    Encode {
        /// The value's type.
        kind: &'static str,
        /// What serde says.
        #[source]
        source: bson::error::Error,
    },
    /// The bytes are no document that can be decoded safely.
    #[error("the document for a `{kind}` is malformed")]
    Malformed {
        /// The type that was wanted.
        kind: &'static str,
        /// What is wrong with its structure.
        #[source]
        source: ScanError,
    },
    /// The document holds something else than what was wanted.
    #[error("the document does not fit a `{kind}`")]
    Decode {
        /// The type that was wanted.
        kind: &'static str,
        /// What serde says.
        #[source]
        source: bson::error::Error,
    },
}

impl Hint for TypedError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Encode { .. } => {
                "parameters and results are structs or maps with string keys".to_owned()
            }
            Self::Malformed { .. } => "the peer does not speak BSON as it should".to_owned(),
            Self::Decode { .. } => {
                "compare the names and kinds of the fields with those of the service".to_owned()
            }
        })
    }
}

/// What a document has room for before it must grow, at least and at most.
const ROOM: (usize, usize) = (256, 64 * 1024);

thread_local! {
    /// How long the last one of this thread became: the next will be similar.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

/// The document for `value`.
///
/// # Errors
/// When the value is no struct or map, or holds what BSON cannot.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, TypedError> {
    let mut document = Vec::with_capacity(LAST.get().clamp(ROOM.0, ROOM.1));
    bson::serialize_to_buffer(&value, &mut document).map_err(|source| TypedError::Encode {
        kind: std::any::type_name::<T>(),
        source,
    })?;
    LAST.set(document.len());
    Ok(document)
}

/// The value that stands in `document`.
///
/// # Errors
/// When the document cannot be decoded safely, or holds something else.
pub fn decode<T: DeserializeOwned>(document: &[u8]) -> Result<T, TypedError> {
    let kind = std::any::type_name::<T>();
    scan(document).map_err(|source| TypedError::Malformed { kind, source })?;
    bson::deserialize_from_slice(document).map_err(|source| TypedError::Decode { kind, source })
}
