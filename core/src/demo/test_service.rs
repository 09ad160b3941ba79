//! `TestService`: one method, which raises letters.

use serde::{Deserialize, Serialize};

use crate::service::{Builder, Context, Service, ServiceError};

/// The service's name.
pub const NAME: &str = "TestService";

/// The parameter and the result of `Upcase`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Any text.
    pub data: String,
}

/// `Upcase` {data} → {data}.
pub fn builder() -> Builder {
    Service::builder(NAME).method("Upcase", |_: Context, input: Text| async move {
        Ok::<_, ServiceError>(Text {
            data: input.data.to_uppercase(),
        })
    })
}
