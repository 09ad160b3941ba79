//! A second request beside one that takes long.
//!
//! Invariants: at most one more request, to another instance, for idempotent calls and within the
//! retry budget; the first answer counts, and the request that lost is given up at once.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::ServiceClient;
use super::call::{ATTEMPTS, Attempt, CallPlan, attempt, less_certain};
use super::peer::Peer;
use crate::instance::InstanceId;

/// What became of an attempt.
pub(super) struct Sent {
    pub(super) ended: Attempt,
    /// Who got a request beside the first one.
    pub(super) other: Option<Arc<Peer>>,
    /// Whether it ended with that other one.
    pub(super) by_other: bool,
}

impl Sent {
    fn once(ended: Attempt) -> Self {
        Self {
            ended,
            other: None,
            by_other: false,
        }
    }
}

impl ServiceClient {
    /// One attempt at `peer`, and a second one elsewhere when the plan wants it and this one takes
    /// long.
    ///
    /// # Cancel safety
    /// Dropping the future gives up whatever was sent.
    pub(super) async fn attempt_hedged(
        &self,
        plan: &CallPlan,
        peer: &Arc<Peer>,
        number: u32,
        deadline: Instant,
        tried: &[InstanceId],
    ) -> Sent {
        let first = pin!(attempt(peer, plan, number, deadline));
        let room = number + 1 < ATTEMPTS;
        let Some(after) = plan.hedge.filter(|_| room) else {
            return Sent::once(first.await);
        };
        let first = match select(first, pin!(sleep(after))).await {
            Either::Left((ended, _)) => return Sent::once(ended),
            Either::Right(((), first)) => first,
        };
        let Some(other) = self.another(plan, peer, tried) else {
            return Sent::once(first.await);
        };
        let second = pin!(attempt(&other, plan, number + 1, deadline));
        let (is_first, ended) = first_answer(first, second).await;
        Sent {
            ended,
            other: Some(Arc::clone(&other)),
            by_other: !is_first,
        }
    }

    /// Another instance for the second request, if there is one and the budget allows it.
    fn another(
        &self,
        plan: &CallPlan,
        first: &Arc<Peer>,
        tried: &[InstanceId],
    ) -> Option<Arc<Peer>> {
        let mut tried = tried.to_vec();
        tried.push(first.instance.id());
        self.choose(plan.key, &tried)
            .filter(|other| !tried.contains(&other.instance.id()))
            .filter(|_| self.shared.calls.spend_hedge())
    }
}

/// The end of whichever is answered first, and whether that is the first; if none is, what is known
/// of both together.
async fn first_answer(
    first: Pin<&mut impl Future<Output = Attempt>>,
    second: Pin<&mut impl Future<Output = Attempt>>,
) -> (bool, Attempt) {
    let (was_first, failed, then) = match select(first, second).await {
        Either::Left((answered @ Attempt::Answered(_), _)) => return (true, answered),
        Either::Right((answered @ Attempt::Answered(_), _)) => return (false, answered),
        Either::Left((failed, second)) => (true, failed, second.await),
        Either::Right((failed, first)) => (false, failed, first.await),
    };
    match (failed, then) {
        (failed, Attempt::NotConnected) => (was_first, failed),
        (Attempt::Failed(failed), Attempt::Failed(then)) => {
            (was_first, Attempt::Failed(less_certain(Some(failed), then)))
        }
        (_, ended) => (!was_first, ended),
    }
}
