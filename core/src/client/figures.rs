//! What a client measures: the calls of each query, and totals over all instances.
//!
//! Invariants: a call counts once, however it ends, also when its caller drops it; the calls of one
//! query are counted in one place, and share one retry budget, however many service clients make
//! them; a program that asks with ever new queries does not grow without limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::error::CallError;
use super::retry::RetryBudget;
use crate::metrics::{Recorder, ServiceClientMetrics, signed};
use crate::rpc::Outcome;

/// Queries that are counted apart; all further ones are counted together.
const MOST_QUERIES: usize = 256;

/// What stands for the query of those that are counted together.
const FURTHER: &str = "(further queries)";

/// How a call ended: as an [`Outcome`], or well, or not at all.
const SUCCEEDED: usize = Outcome::ALL.len();
const ABANDONED: usize = SUCCEEDED + 1;
const ENDS: usize = ABANDONED + 1;

/// The calls of one query.
pub(super) struct Calls {
    query: String,
    recorder: Recorder<ENDS>,
    retries: AtomicU64,
    hedges: AtomicU64,
    budget_refused: AtomicU64,
    budget: Mutex<RetryBudget>,
}

impl Calls {
    fn new(query: String) -> Self {
        let now = Instant::now();
        Self {
            query,
            recorder: Recorder::new(now),
            retries: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            budget_refused: AtomicU64::new(0),
            budget: Mutex::new(RetryBudget::new(now)),
        }
    }

    /// Counts a call that begins.
    pub(super) fn begin(&self) -> Counting<'_> {
        self.recorder.begun();
        Counting {
            calls: self,
            began: Instant::now(),
            end: ABANDONED,
        }
    }

    /// Notes in the budget that a call was asked for.
    pub(super) fn earn(&self) {
        self.budget().earn();
    }

    /// Takes a retry out of the budget; `false` when there is none.
    pub(super) fn spend_retry(&self) -> bool {
        self.spend(&self.retries)
    }

    /// Takes a second request out of the budget; `false` when there is none.
    pub(super) fn spend_hedge(&self) -> bool {
        self.spend(&self.hedges)
    }

    fn spend(&self, what: &AtomicU64) -> bool {
        let spent = self.budget().spend(Instant::now());
        let counted = if spent { what } else { &self.budget_refused };
        counted.fetch_add(1, Ordering::Relaxed);
        spent
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it.
    pub(super) fn read(&self) -> ServiceClientMetrics {
        let read = self.recorder.read();
        let ended = |end: usize| read.ended.get(end).copied().unwrap_or(0);
        let count = |counter: &AtomicU64| signed(counter.load(Ordering::Relaxed));
        ServiceClientMetrics {
            query: self.query.clone(),
            calls: read.calls,
            in_flight: read.in_flight,
            succeeded: ended(SUCCEEDED),
            failed: ended(Outcome::Failed as usize),
            not_sent: ended(Outcome::NotSent as usize),
            not_executed: ended(Outcome::NotExecuted as usize),
            unknown: ended(Outcome::Unknown as usize),
            abandoned: ended(ABANDONED),
            retries: count(&self.retries),
            hedges: count(&self.hedges),
            budget_refused: count(&self.budget_refused),
            budget_left: self.budget().left(Instant::now()),
            latency: read.latency,
        }
    }
}

/// A call that is counted; dropping it counts it as abandoned.
pub(super) struct Counting<'a> {
    calls: &'a Calls,
    began: Instant,
    end: usize,
}

impl Counting<'_> {
    /// Counts its end.
    pub(super) fn ended<T>(mut self, result: &Result<T, CallError>) {
        self.end = match result {
            Ok(_) => SUCCEEDED,
            Err(error) => error.outcome() as usize,
        };
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        let took = (self.end != ABANDONED).then_some(took);
        self.calls.recorder.ended(self.end, now, took);
    }
}

/// The calls of a client, by query.
#[derive(Default)]
pub(super) struct CallsByQuery {
    known: Mutex<BTreeMap<String, Arc<Calls>>>,
}

impl CallsByQuery {
    /// Where the calls of `query` are counted.
    pub(super) fn of(&self, query: String) -> Arc<Calls> {
        let mut known = self.lock();
        let full = known.len() >= MOST_QUERIES && !known.contains_key(&query);
        let query = if full { FURTHER.to_owned() } else { query };
        let calls = known.entry(query);
        let query = calls.key().clone();
        Arc::clone(calls.or_insert_with(|| Arc::new(Calls::new(query))))
    }

    /// Those of each query.
    pub(super) fn read(&self) -> Vec<ServiceClientMetrics> {
        self.lock().values().map(|calls| calls.read()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Calls>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Totals over all instances of a client, also over those that are gone.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) connected: AtomicU64,
    pub(super) connect_failures: AtomicU64,
    pub(super) ejections: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_was_abandoned_and_says_nothing_of_time() {
        let calls = Calls::new("service=a".to_owned());
        drop(calls.begin());
        let counting = calls.begin();
        tokio::time::advance(std::time::Duration::from_millis(3)).await;
        counting.ended(&Ok(()));
        let running = calls.begin();
        let read = calls.read();
        assert_eq!((read.calls, read.in_flight), (3, 1));
        assert_eq!((read.succeeded, read.abandoned), (1, 1));
        assert_eq!((read.latency.count, read.latency.total_us), (1, 3000));
        drop(running);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_budget_refuses_is_counted_apart() {
        let calls = Calls::new("service=a".to_owned());
        let spent = (0..100).filter(|_| calls.spend_retry()).count();
        let read = calls.read();
        assert_eq!(read.retries, i64::try_from(spent).unwrap());
        assert_eq!(read.retries + read.budget_refused, 100);
        assert_eq!(read.budget_left, 0);
        assert!(!calls.spend_hedge());
        assert_eq!(calls.read().hedges, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn ever_new_queries_are_counted_together_in_the_end() {
        let calls = CallsByQuery::default();
        let first = calls.of("service=s0".to_owned());
        for number in 0..MOST_QUERIES * 2 {
            calls
                .of(format!("service=s{number}"))
                .begin()
                .ended(&Ok(()));
        }
        assert!(Arc::ptr_eq(&first, &calls.of("service=s0".to_owned())));
        let read = calls.read();
        assert_eq!(read.len(), MOST_QUERIES + 1);
        let further = read.iter().find(|read| read.query == FURTHER).unwrap();
        assert_eq!(further.succeeded, i64::try_from(MOST_QUERIES).unwrap());
    }
}
