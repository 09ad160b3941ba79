//! What the registry, or the way to it, says of a failed exchange, in one plain sentence.
//!
//! Invariant: whatever the layers below wrap around it, the words are those of the innermost error;
//! what they mean is the business of [`super::refusal`].

use std::error::Error as StdError;
use std::io;

use super::refusal::{Refusal, Verdict, classify};

/// The words, and what they mean.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(super) struct Said {
    message: String,
    pub(super) verdict: Verdict,
    pub(super) refusal: Option<Refusal>,
}

impl Said {
    /// What a cancelled watch or another answer says in words only.
    pub(super) fn words(message: &str) -> Self {
        let (verdict, refusal) = classify(None, message);
        Self {
            message: message.to_owned(),
            verdict,
            refusal,
        }
    }
}

impl From<etcd_client::Error> for Said {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        let code = match &error {
            E::GRpcStatus(status) => Some(status.code()),
            _ => None,
        };
        // etcd-client does not tell what lies below its own errors.
        let root = match &error {
            E::GRpcStatus(status) => root_of(status),
            E::TransportError(transport) => root_of(transport),
            other => root_of(other),
        };
        let message = match &error {
            E::GRpcStatus(status) if root.is::<tonic::Status>() => status.message().to_owned(),
            _ => root.to_string(),
        };
        // The system's own words end in its number, which is for programs.
        let message = message
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned();
        let (mut verdict, mut refusal) = classify(code, &message);
        if matches!(error, E::InvalidArgs(_) | E::InvalidUri(_)) {
            verdict = Verdict::Final;
        }
        let io = root.downcast_ref::<io::Error>().map(io::Error::kind);
        if io == Some(io::ErrorKind::ConnectionRefused) {
            refusal = Some(Refusal::Nobody);
        }
        Self {
            message,
            verdict,
            refusal,
        }
    }
}

/// The error below all others: the layers above only repeat it.
fn root_of<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut root = error;
    while let Some(below) = root.source() {
        root = below;
    }
    root
}
