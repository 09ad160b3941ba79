//! One call through the cluster: choose, send, and try again where that is safe.
//!
//! Invariants: a call has a deadline; what certainly did not run may be tried on another instance, at
//! most three attempts and within the budget; what may have run is tried again only on the caller's
//! word that it may run twice; a service's own error never is. What an error says of the outcome holds
//! for all attempts together, however certain the last one is. An instance that cannot be connected
//! to has had no attempt.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::ServiceClient;
use super::error::{CallError, CallId};
use super::peer::Peer;
use super::policy;
use crate::hint::Retry;
use crate::rpc::{self, CallFailure, Code, Reply, Request, RequestInfo, Why};
use crate::service::Context;

/// How long a call may take unless its options say otherwise: the original's give-up time.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// The longest deadline.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);
/// How many instances one call may reach.
pub(super) const ATTEMPTS: u32 = 3;

/// How one call is made.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// How long the call may take, retries included.
    pub deadline: Duration,
    /// Whether the method may run twice, so that an unknown outcome is tried again. It is, whatever
    /// stands here, where the service declares the method so
    /// ([`MethodOptions::idempotent`](crate::service::MethodOptions::idempotent)).
    pub idempotent: bool,
    /// After how long without an answer the same request goes to a second instance as well; the
    /// first answer counts, and the other request is given up. Takes effect for calls with
    /// `idempotent` only, and costs the retry budget. A good value is the method's 95th percentile.
    pub hedge: Option<Duration>,
    /// Whether the call fails at once when instances are known and none can be reached, instead of
    /// waiting for one until the deadline. While none is known at all, it waits in any case.
    pub fail_fast: bool,
    /// The request's id; a random one if none is given. Pass the caller's on in composite services.
    pub request_id: Option<String>,
    /// The address that the request came from in the first place, if this call serves another.
    pub origin: Option<String>,
    /// The W3C trace context, as its header's value, passed on as it is.
    pub traceparent: Option<String>,
    /// What [`Policy::ConsistentHash`](super::Policy::ConsistentHash) chooses by; the request's id if
    /// none is given.
    pub key: Option<String>,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            deadline: DEFAULT_DEADLINE,
            idempotent: false,
            hedge: None,
            fail_fast: false,
            request_id: None,
            origin: None,
            traceparent: None,
            key: None,
        }
    }
}

impl CallOptions {
    /// The options of a call that a method makes to do its own work: it has the request id, the
    /// origin and the trace context of the call that is served, and ends with it.
    pub fn on_behalf_of(context: &Context) -> Self {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        Self {
            deadline: context.deadline().map_or(DEFAULT_DEADLINE, left),
            idempotent: false,
            hedge: None,
            fail_fast: false,
            request_id: Some(context.request_id().to_owned()),
            origin: Some(context.origin().to_owned()),
            traceparent: context.traceparent().map(str::to_owned),
            key: None,
        }
    }
}

/// One attempt's end.
pub(super) enum Attempt {
    Answered(Reply),
    /// No connection stood, so nothing was attempted.
    NotConnected,
    Failed(CallFailure),
}

impl ServiceClient {
    /// Calls a method of one of the instances and waits for its result, 10 s at most.
    ///
    /// # Errors
    /// [`CallError`] says what is known of the outcome.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up; if it was sent, it may still run.
    pub async fn call<I, O>(&self, method: &str, input: &I) -> Result<O, CallError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        self.call_with(method, input, CallOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`ServiceClient::call`].
    ///
    /// # Cancel safety
    /// As [`ServiceClient::call`].
    pub async fn call_with<I, O>(
        &self,
        method: &str,
        input: &I,
        options: CallOptions,
    ) -> Result<O, CallError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let counting = self.shared.calls.begin();
        let result = self.call_once(method, input, options).await;
        counting.ended(&result);
        result
    }

    /// The call itself, which is counted.
    async fn call_once<I, O>(
        &self,
        method: &str,
        input: &I,
        options: CallOptions,
    ) -> Result<O, CallError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let CallOptions {
            deadline,
            idempotent,
            hedge,
            fail_fast,
            request_id,
            origin,
            traceparent,
            key,
        } = options;
        let call = CallId {
            method: Arc::from(method),
            request_id: request_id
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
                .into(),
        };
        if self.query().needs_stats() {
            let query = self.query().to_string();
            return Err(CallError::Measurements { call, query });
        }
        let input = match rpc::typed::encode(input) {
            Ok(input) => input,
            Err(source) => {
                return Err(CallError::Parameter {
                    call,
                    query: self.query().to_string(),
                    source: Box::new(source),
                });
            }
        };
        let plan = CallPlan {
            key: policy::hash(key.as_deref().unwrap_or(&call.request_id)),
            call,
            input,
            within: deadline,
            idempotent,
            hedge: hedge.filter(|_| idempotent),
            fail_fast,
            origin,
            traceparent,
        };
        let (peer, reply) = self.run(&plan).await?;
        if let Some(message) = reply.service_error {
            let called = Box::new(peer.called(&plan.call));
            return Err(CallError::Service { called, message });
        }
        rpc::typed::decode(&reply.output).map_err(|source| CallError::Result {
            called: Box::new(peer.called(&plan.call)),
            source: Box::new(source),
        })
    }

    async fn run(&self, plan: &CallPlan) -> Result<(Arc<Peer>, Reply), CallError> {
        // Whoever says "for ever" gets what is as good as that.
        let now = Instant::now();
        let deadline = now.checked_add(plan.within).unwrap_or(now + FOR_EVER);
        self.shared.calls.earn();
        let mut tried = Vec::new();
        let mut attempts = 0;
        // What is known of the call, of all attempts so far.
        let mut known: Option<CallFailure> = None;
        loop {
            let choosing = self.choose_or_wait(plan.key, &tried, plan.fail_fast);
            let Ok(Some(peer)) = timeout_at(deadline, choosing).await else {
                return Err(self.gave_up(plan, attempts, known));
            };
            let sent = self
                .attempt_hedged(plan, &peer, attempts, deadline, &tried)
                .await;
            let failure = match sent.ended {
                Attempt::Answered(reply) => {
                    let answered = sent.other.filter(|_| sent.by_other).unwrap_or(peer);
                    return Ok((answered, reply));
                }
                Attempt::NotConnected if Instant::now() < deadline => continue,
                Attempt::NotConnected => return Err(self.gave_up(plan, attempts, known)),
                Attempt::Failed(failure) => failure,
            };
            attempts += 1 + u32::from(sent.other.is_some());
            let asked = [Some(&peer), sent.other.as_ref()];
            let again = match failure.retry() {
                Retry::Safe => true,
                Retry::IfIdempotent => plan.idempotent || is_declared(asked, &plan.call.method),
                Retry::Never => false,
            };
            let failure = less_certain(known.take(), failure);
            // A service may take a request for older than it is; whether it is late we know better.
            let late = Instant::now() >= deadline;
            if !again || late || attempts >= ATTEMPTS || !self.shared.calls.spend_retry() {
                return Err(CallError::Failed {
                    attempts,
                    failure: Box::new(failure),
                });
            }
            tried.push(peer.instance.id());
            tried.extend(sent.other.map(|other| other.instance.id()));
            known = Some(failure);
        }
    }

    fn gave_up(&self, plan: &CallPlan, attempts: u32, known: Option<CallFailure>) -> CallError {
        match known {
            Some(failure) => CallError::Failed {
                attempts,
                failure: Box::new(failure),
            },
            None => CallError::NoInstance {
                call: plan.call.clone(),
                query: self.query().to_string(),
                known: self.known(),
                within: plan.within,
                registry_answers: self.shared.client.view().link().borrow().is_connected(),
            },
        }
    }
}

/// Of two attempts at one call, the failure that tells what is known of the call.
pub(super) fn less_certain(before: Option<CallFailure>, after: CallFailure) -> CallFailure {
    match before {
        Some(before) if before.outcome() > after.outcome() => before,
        _ => after,
    }
}

/// What stays the same over all attempts of a call.
pub(super) struct CallPlan {
    pub(super) key: u64,
    call: CallId,
    input: Vec<u8>,
    within: Duration,
    idempotent: bool,
    /// Only of idempotent calls.
    pub(super) hedge: Option<Duration>,
    fail_fast: bool,
    origin: Option<String>,
    traceparent: Option<String>,
}

/// Whether everybody who got a request declares that `method` may run twice.
fn is_declared(asked: [Option<&Arc<Peer>>; 2], method: &str) -> bool {
    let mut asked = asked.into_iter().flatten();
    asked.all(|peer| peer.declares_idempotent(method))
}

/// One request to one instance; `number` counts those that went before.
pub(super) async fn attempt(
    peer: &Arc<Peer>,
    plan: &CallPlan,
    number: u32,
    deadline: Instant,
) -> Attempt {
    let in_flight = peer.begin();
    let Ok(Some(connection)) = timeout_at(deadline, peer.connection()).await else {
        return Attempt::NotConnected;
    };
    let request = Request {
        service: peer.instance.service(),
        method: &plan.call.method,
        info: RequestInfo {
            request_id: &plan.call.request_id,
            origin: plan.origin.as_deref().unwrap_or_default(),
            retry_count: number,
            deadline: Some(deadline),
            traceparent: plan.traceparent.as_deref(),
        },
        input: &plan.input,
    };
    in_flight.sending();
    let began = Instant::now();
    match connection.call(request).await {
        Ok(reply) => {
            in_flight.answered(began.elapsed());
            Attempt::Answered(reply)
        }
        Err(failure) => {
            if connection.is_closed() {
                peer.lost(&connection);
            } else {
                match said_of_the_instance(&failure) {
                    Said::Nothing => {}
                    Said::Going => peer.is_going(),
                    Said::Failing => in_flight.failed(),
                }
            }
            Attempt::Failed(failure)
        }
    }
}

/// What a failed call says of the instance that it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// It takes no more calls, and that is meant.
    Going,
    /// It takes calls, and does not do what it should.
    Failing,
}

fn said_of_the_instance(failure: &CallFailure) -> Said {
    match failure {
        CallFailure::NotExecuted { code, .. } if *code == Code::Draining => Said::Going,
        // The request itself is wrong; it would be refused anywhere.
        CallFailure::NotSent {
            why: Why::TooLarge { .. },
            ..
        } => Said::Nothing,
        CallFailure::Rejected { code, .. } if *code != Some(Code::Internal) => Said::Nothing,
        _ => Said::Failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Called, Outcome};

    #[test]
    fn of_several_attempts_the_least_certain_tells_what_is_known() {
        let called = || {
            Box::new(Called {
                service: "Service".to_owned(),
                method: "Method".to_owned(),
                instance: None,
                address: ([127, 0, 0, 1], 9000).into(),
                request_id: String::new(),
            })
        };
        let failure = |outcome| match outcome {
            Outcome::NotSent => CallFailure::NotSent {
                called: called(),
                why: Why::Deadline,
            },
            Outcome::NotExecuted => CallFailure::NotExecuted {
                called: called(),
                code: Code::Overloaded,
                message: String::new(),
            },
            Outcome::Unknown => CallFailure::Unknown {
                called: called(),
                why: Why::Deadline,
            },
            Outcome::Failed => CallFailure::Rejected {
                called: called(),
                code: Some(Code::Internal),
                message: String::new(),
            },
        };
        for before in Outcome::ALL {
            assert_eq!(less_certain(None, failure(before)).outcome(), before);
            for after in Outcome::ALL {
                let known = less_certain(Some(failure(before)), failure(after));
                assert_eq!(known.outcome(), before.max(after));
            }
        }
    }
}
