//! How a call through the cluster fails, and what is then known of its outcome.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::hint::{Hint, Retry};
use crate::rpc::typed::TypedError;
use crate::rpc::{CallFailure, Called, Outcome};

/// Which call failed: what errors name before an instance was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId {
    /// The method that was called.
    pub method: Arc<str>,
    /// The request's id, as it stands in the logs of both sides.
    pub request_id: Arc<str>,
}

impl fmt::Display for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` (request {})", self.method, self.request_id)
    }
}

/// A failed call. Its message names the method, the request's id and what is known of the outcome,
/// and the service and the instance; the query where no instance was reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No instance that the query chooses could be reached before the deadline.
    #[error(
        "{call} was not sent: no instance of `{query}` could be reached within {within:?}, {known} known{}",
        if *registry_answers { "" } else { ", and the registry does not answer" }
    )]
    NoInstance {
        /// The call.
        call: CallId,
        /// Which instances were wanted.
        query: String,
        /// How many match and are registered and ready, as far as is known.
        known: usize,
        /// How long was waited.
        within: Duration,
        /// Whether the registry could be asked at last.
        registry_answers: bool,
    },
    /// The service ran the method, and the method failed.
    #[error("{called} failed: {message}")]
    Service {
        /// Which request, and of whom.
        called: Box<Called>,
        /// The method's own words.
        message: String,
    },
    /// The call failed on its way; `failure` tells what is known of the outcome.
    #[error("{failure} (attempts: {attempts})")]
    Failed {
        /// How many attempts reached an instance.
        attempts: u32,
        /// The attempt that decides what is known of the call: of several, the one that most likely
        /// ran, and of equals the last.
        failure: Box<CallFailure>,
    },
    /// The parameter does not become a document; nothing was sent.
    #[error("{call} was not sent to `{query}`: its parameter does not become a document")]
    Parameter {
        /// The call.
        call: CallId,
        /// Which instances were wanted.
        query: String,
        /// What does not fit.
        #[source]
        source: Box<TypedError>,
    },
    /// The method ran, and its result is not what was wanted.
    #[error("{called} failed: it ran, and its result is not what was wanted")]
    Result {
        /// Which request, and of whom.
        called: Box<Called>,
        /// What does not fit.
        #[source]
        source: Box<TypedError>,
    },
    /// The query asks for measurements, which a client does not have.
    #[error(
        "{call} was not sent: `{query}` asks for measurements, by which a client cannot choose"
    )]
    Measurements {
        /// The call.
        call: CallId,
        /// The query.
        query: String,
    },
}

impl CallError {
    /// What is known of the method's execution, all attempts together.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NoInstance { .. } | Self::Parameter { .. } | Self::Measurements { .. } => {
                Outcome::NotSent
            }
            Self::Failed { failure, .. } => failure.outcome(),
            Self::Service { .. } | Self::Result { .. } => Outcome::Failed,
        }
    }

    /// Which request failed, and of whom; `None` where no instance was reached.
    pub fn called(&self) -> Option<&Called> {
        match self {
            Self::Service { called, .. } | Self::Result { called, .. } => Some(called),
            Self::Failed { failure, .. } => Some(failure.called()),
            Self::NoInstance { .. } | Self::Parameter { .. } | Self::Measurements { .. } => None,
        }
    }

    /// The request's id, as it stands in the logs of both sides.
    pub fn request_id(&self) -> &str {
        match self {
            Self::NoInstance { call, .. }
            | Self::Parameter { call, .. }
            | Self::Measurements { call, .. } => &call.request_id,
            Self::Service { called, .. } | Self::Result { called, .. } => &called.request_id,
            Self::Failed { failure, .. } => &failure.called().request_id,
        }
    }

    /// Whether the same call may be made again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NoInstance { .. } => Retry::Safe,
            Self::Failed { failure, .. } => failure.retry(),
            Self::Service { .. }
            | Self::Parameter { .. }
            | Self::Result { .. }
            | Self::Measurements { .. } => Retry::Never,
        }
    }
}

impl Hint for CallError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoInstance {
                registry_answers: false,
                ..
            } => Some("is the registry running, and does SKYNET_REGISTRY name it?".into()),
            Self::NoInstance { known: 0, .. } => Some(
                "`sky instances` lists what is registered; start one, or check the query".into(),
            ),
            Self::NoInstance { .. } => {
                Some("they are known but do not answer: are they cut off?".into())
            }
            Self::Failed { failure, .. } => failure.hint(),
            Self::Parameter { source, .. } | Self::Result { source, .. } => source.hint(),
            Self::Measurements { .. } => {
                Some("choose by service, version, region, host, tag or state".into())
            }
            // The service's own words are the best advice there is.
            Self::Service { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use crate::rpc::{Code, Ended, Why};

    use super::*;

    fn id() -> CallId {
        CallId {
            method: "Upcase".into(),
            request_id: "r-1".into(),
        }
    }

    fn called() -> Called {
        Called {
            service: "TestService".to_owned(),
            method: "Upcase".to_owned(),
            instance: Some(uuid::Uuid::from_u128(7)),
            address: ([127, 0, 0, 1], 9000).into(),
            request_id: "r-1".to_owned(),
        }
    }

    fn rejected(code: Option<Code>, message: &str) -> CallFailure {
        CallFailure::Rejected {
            called: Box::new(called()),
            code,
            message: message.to_owned(),
        }
    }

    fn not_executed(code: Code, message: &str) -> CallFailure {
        CallFailure::NotExecuted {
            called: Box::new(called()),
            code,
            message: message.to_owned(),
        }
    }

    fn failures() -> Vec<CallFailure> {
        let too_large = Why::TooLarge {
            bytes: 17_000_000,
            limit: 16_777_216,
        };
        vec![
            CallFailure::NotSent {
                called: Box::new(called()),
                why: Why::Deadline,
            },
            CallFailure::NotSent {
                called: Box::new(called()),
                why: too_large,
            },
            not_executed(Code::Draining, "the service is draining"),
            not_executed(Code::Overloaded, "the service runs as many calls as it may"),
            not_executed(
                Code::Expired,
                "the deadline had passed before the method began",
            ),
            not_executed(Code::Unregistered, "the service is not registered"),
            CallFailure::Unknown {
                called: Box::new(called()),
                why: Why::Deadline,
            },
            CallFailure::Unknown {
                called: Box::new(Called {
                    instance: None,
                    ..called()
                }),
                why: Why::Ended(Ended::ByPeer),
            },
            rejected(Some(Code::NoMethod), "No such method \"Upcase\""),
            rejected(Some(Code::BadRequest), "Document is corrupted"),
            rejected(Some(Code::Internal), "method \"Upcase\" panicked"),
            rejected(None, "did not provide the ClientID"),
        ]
    }

    fn errors() -> Vec<CallError> {
        let query = || "service=TestService".to_owned();
        let misfit = |source| Box::new(source);
        let no_instance = |known, registry_answers| CallError::NoInstance {
            call: id(),
            query: query(),
            known,
            within: Duration::from_secs(10),
            registry_answers,
        };
        let typed = crate::rpc::typed::encode(&1).unwrap_err();
        let unread = crate::rpc::typed::decode::<()>(&[]).unwrap_err();
        let mut errors = vec![
            no_instance(0, true),
            no_instance(2, true),
            no_instance(0, false),
            CallError::Parameter {
                call: id(),
                query: query(),
                source: misfit(typed),
            },
            CallError::Measurements {
                call: id(),
                query: "avg>5ms".to_owned(),
            },
            CallError::Service {
                called: Box::new(called()),
                message: "there is nothing to raise".to_owned(),
            },
            CallError::Result {
                called: Box::new(called()),
                source: misfit(unread),
            },
        ];
        errors.extend(failures().into_iter().map(|failure| CallError::Failed {
            attempts: 2,
            failure: Box::new(failure),
        }));
        errors
    }

    #[test]
    fn every_error_says_which_call_whom_it_asked_and_what_is_known() {
        let mut told = String::new();
        for error in errors() {
            let text = crate::hint::chain(&error);
            assert_eq!(error.request_id(), "r-1");
            assert!(text.contains("`Upcase`") && text.contains("r-1"), "{text}");
            let outcome = error.outcome().as_str();
            assert!(text.contains(outcome), "`{outcome}` is not in: {text}");
            let whom = error.called().map_or("`", |called| &called.service);
            assert!(text.contains(whom), "{text}");
            let hint = error.hint().unwrap_or_else(|| "none".to_owned());
            writeln!(told, "{text}\n  {outcome}, {:?}; {hint}", error.retry()).unwrap();
        }
        insta::assert_snapshot!(told, @r#"
        `Upcase` (request r-1) was not sent: no instance of `service=TestService` could be reached within 10s, 0 known
          not sent, Safe; `sky instances` lists what is registered; start one, or check the query
        `Upcase` (request r-1) was not sent: no instance of `service=TestService` could be reached within 10s, 2 known
          not sent, Safe; they are known but do not answer: are they cut off?
        `Upcase` (request r-1) was not sent: no instance of `service=TestService` could be reached within 10s, 0 known, and the registry does not answer
          not sent, Safe; is the registry running, and does SKYNET_REGISTRY name it?
        `Upcase` (request r-1) was not sent to `service=TestService`: its parameter does not become a document: a `i32` does not become a BSON document: BSON error. Kind: A serialization error occurred. Message: attempted to encode a non-document type at the top level: Int32.
          not sent, Never; parameters and results are structs or maps with string keys
        `Upcase` (request r-1) was not sent: `avg>5ms` asks for measurements, by which a client cannot choose
          not sent, Never; choose by service, version, region, host, tag or state
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) failed: there is nothing to raise
          failed, Never; none
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) failed: it ran, and its result is not what was wanted: the document for a `()` is malformed: Document is corrupted
          failed, Never; the peer does not speak BSON as it should
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was not sent: the deadline passed (attempts: 2)
          not sent, Safe; it is safe to try again
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was not sent: the request has 17000000 bytes, the limit of a frame is 16777216 (attempts: 2)
          not sent, Never; send less, or raise the limit of frames on both sides
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was not executed: the service is draining (attempts: 2)
          not executed, Safe; it is safe to try again, on another instance if there is one
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was not executed: the service runs as many calls as it may (attempts: 2)
          not executed, Safe; it is safe to try again, on another instance if there is one
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was not executed: the deadline had passed before the method began (attempts: 2)
          not executed, Safe; give the call a longer deadline
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was not executed: the service is not registered (attempts: 2)
          not executed, Safe; `sky register` puts the instance back to work
        the outcome of `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) is unknown: the deadline passed (attempts: 2)
          unknown, IfIdempotent; it may have run: try again only what may be done twice
        the outcome of `Upcase` of `TestService` at 127.0.0.1:9000 (request r-1) is unknown: the peer closed the connection (attempts: 2)
          unknown, IfIdempotent; it may have run: try again only what may be done twice
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was refused (not executed): No such method "Upcase" (attempts: 2)
          not executed, Never; check the names of the service and the method
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was refused (not executed): Document is corrupted (attempts: 2)
          not executed, Never; check the parameter, and that the address is the service's
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was refused (failed): method "Upcase" panicked (attempts: 2)
          failed, Never; the service's log tells more, under the request's id
        `Upcase` of `TestService` at 127.0.0.1:9000 (instance 00000000-0000-0000-0000-000000000007, request r-1) was refused (unknown): did not provide the ClientID (attempts: 2)
          unknown, Never; check the parameter, and that the address is the service's
        "#);
    }
}
