//! `Sleeper`: one method, which takes its time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::service::{Builder, Context, MethodOptions, OnHangUp, Service, ServiceError};

/// The service's name.
pub const NAME: &str = "Sleeper";

/// The longest sleep, in milliseconds.
pub const MOST_MS: i64 = 60_000;

/// The parameter and the result of `Sleep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nap {
    /// How long, in milliseconds.
    pub ms: i64,
}

/// `Sleep` {ms} → {ms}, after that time; it ends early when its caller has gone, and may run twice.
pub fn builder() -> Builder {
    let options = MethodOptions {
        idempotent: true,
        on_hang_up: OnHangUp::Cancel,
    };
    Service::builder(NAME).method_with("Sleep", options, |_: Context, nap: Nap| async move {
        let ms = u64::try_from(nap.ms).ok().filter(|_| nap.ms <= MOST_MS);
        let Some(ms) = ms else {
            let message = format!("`ms` is {}, and must be between 0 and {MOST_MS}", nap.ms);
            return Err(ServiceError::new(message));
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(nap)
    })
}
