//! What can go wrong between us and the registry.

use std::time::Duration;

use super::access::AccessError;
use super::refusal::Refusal;
use super::said::Said;
use crate::hint::{Hint, Retry};

/// The cause below an error, kept for the chain that a reporter prints.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failed exchange with the registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration names no endpoint.
    #[error("no endpoint of a registry is given")]
    NoEndpoint,
    /// An endpoint is no address that can be used.
    #[error("`{endpoint}` is not the address of a registry")]
    BadEndpoint {
        /// The endpoint as it was given, without the user and password in it.
        endpoint: String,
    },
    /// No endpoint answered in time.
    #[error("the registry at {endpoints} did not answer to `{operation}` within {within:?}")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// Whom we asked.
        endpoints: String,
        /// How long it was tried.
        within: Duration,
        /// What the last endpoint said.
        #[source]
        source: Option<Cause>,
    },
    /// The registry answered, and refused.
    #[error("the registry refused `{operation}`")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Why, where its words are known.
        refusal: Option<Refusal>,
        /// Its words.
        #[source]
        source: Cause,
    },
    /// What should let us in cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A guarded write found that somebody else had written.
    #[error("`{key}` changed while it was being written")]
    Changed {
        /// The key that changed.
        key: String,
    },
    /// The key is not there.
    #[error("`{key}` is not in the registry")]
    Missing {
        /// The key that was looked for.
        key: String,
    },
    /// The name is held by another living process.
    #[error("`{key}` is held by process {pid} of another program")]
    Taken {
        /// The key that is held.
        key: String,
        /// The holder's process id.
        pid: u32,
    },
    /// The registry's keys are in a format that we do not know.
    #[error(
        "what stands below `{prefix}` is in format {found}, and this program knows format {}",
        super::cluster::FORMAT
    )]
    Format {
        /// The prefix.
        prefix: String,
        /// The format that stands there.
        found: u32,
    },
    /// A value is not what its key promises.
    #[error("the value of `{key}` cannot be read")]
    BadValue {
        /// The key.
        key: String,
        /// Why it cannot be read.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Why the registry, or the way to it, said no, where that is known.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => *refusal,
            Self::Unreachable {
                source: Some(source),
                ..
            } => source.downcast_ref::<Said>().and_then(|said| said.refusal),
            _ => None,
        }
    }

    /// Whether the same may be tried again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Changed { .. } => Retry::Safe,
            Self::Unreachable { .. } => Retry::IfIdempotent,
            Self::Refused { refusal, .. } => refusal.map_or(Retry::Never, Refusal::retry),
            Self::NoEndpoint
            | Self::BadEndpoint { .. }
            | Self::Access(_)
            | Self::Missing { .. }
            | Self::Taken { .. }
            | Self::Format { .. }
            | Self::BadValue { .. } => Retry::Never,
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        if let Some(hint) = self.refusal().and_then(|refusal| refusal.hint()) {
            return Some(hint);
        }
        Some(match self {
            Self::NoEndpoint => "give one with `--registry http://HOST:2379`".into(),
            Self::BadEndpoint { endpoint } if endpoint.contains('@') => {
                "a user is given with `--registry-user` and `--registry-password-file`, \
                 and an endpoint looks like `http://10.0.0.1:2379`"
                    .into()
            }
            Self::BadEndpoint { .. } => "an endpoint looks like `http://10.0.0.1:2379`".into(),
            Self::Unreachable { .. } => "is it running, and is `--registry` right? \
                 `sky registry` starts one on this machine, `sky demo` a whole cluster"
                .into(),
            Self::Refused { .. } => return None,
            Self::Access(error) => return error.hint(),
            Self::Changed { .. } => "look at it again and repeat the command".into(),
            Self::Missing { .. } => "`sky instances` lists what is there".into(),
            Self::Taken { .. } => "names must be unique: choose another, or end its holder".into(),
            Self::Format { .. } => {
                "use programs of one release, or another prefix for this one".into()
            }
            Self::BadValue { key, .. } => {
                format!(
                    "`etcdctl get '{key}'` shows it; its writer will put it right, or delete it"
                )
            }
        })
    }
}
