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
use super::call::{Attempt, CallPlan, attempt};
use super::peer::Peer;
use crate::instance::InstanceId;

/// What became of an attempt.
pub(super) struct Sent {
    pub(super) ended: Attempt,
    /// With whom it ended, when that is not whom it began with.
    pub(super) other: Option<Arc<Peer>>,
    /// How many requests went out beside the first: 0 or 1.
    pub(super) hedged: u32,
}

impl Sent {
    fn once(ended: Attempt) -> Self {
        Self {
            ended,
            other: None,
            hedged: 0,
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
        let Some(after) = plan.hedge else {
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
            other: (!is_first).then(|| Arc::clone(&other)),
            hedged: 1,
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
            .filter(|_| self.spend_retry())
    }
}

/// The end of whichever is answered first, and whether that is the first; of two failures the
/// later.
async fn first_answer(
    first: Pin<&mut impl Future<Output = Attempt>>,
    second: Pin<&mut impl Future<Output = Attempt>>,
) -> (bool, Attempt) {
    match select(first, second).await {
        Either::Left((answered @ Attempt::Answered(_), _)) => (true, answered),
        Either::Right((answered @ Attempt::Answered(_), _)) => (false, answered),
        Either::Left((_failed, second)) => (false, second.await),
        Either::Right((_failed, first)) => (true, first.await),
    }
}
