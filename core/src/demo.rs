//! The example services, as library code: `sky demo` runs them, and so do `core/examples/`.

use crate::hint::Hint;
use crate::registry::Registry;
use crate::service::Builder;

pub mod fibonacci;
pub mod sleeper;
pub mod test_service;

/// A name that no example has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no example service `{name}`")]
pub struct UnknownExample {
    /// The name that was given.
    pub name: String,
}

impl Hint for UnknownExample {
    fn hint(&self) -> Option<String> {
        Some("the examples are `TestService`, `Fibonacci` and `Sleeper`".to_owned())
    }
}

/// The example service of this name; those that are clients too find the others in `registry`.
///
/// # Errors
/// When there is no such example.
pub fn builder(name: &str, registry: &Registry) -> Result<Builder, UnknownExample> {
    match name {
        test_service::NAME => Ok(test_service::builder()),
        fibonacci::NAME => Ok(fibonacci::builder(registry)),
        sleeper::NAME => Ok(sleeper::builder()),
        _ => Err(UnknownExample {
            name: name.to_owned(),
        }),
    }
}
