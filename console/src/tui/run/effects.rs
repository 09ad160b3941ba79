//! Effects while they run, and the sources of data.
//!
//! Invariants: every effect that is begun ends in one event or is broken off; at most one question
//! for measurements runs at a time, a newer one ends the older.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skynet::hint::chain;
use skynet::registry::View;
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;
use skynet::session::Session;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::super::effect::{Effect, Outcome, TargetOutcome, Ticket};
use super::super::event::Event;
use crate::traffic::TrafficCounters;

/// How long hosts have to answer a question for measurements.
const STATS_WITHIN: Duration = Duration::from_millis(900);

/// The session, and what it is busy with.
pub(super) struct Effects {
    session: Session,
    view: Arc<View>,
    tasks: JoinSet<(Ticket, Outcome)>,
    changes: HashMap<Ticket, AbortHandle>,
    stats: Option<AbortHandle>,
}

impl Effects {
    pub(super) fn new(session: Session) -> Self {
        let view = session.view();
        Self {
            session,
            view,
            tasks: JoinSet::new(),
            changes: HashMap::new(),
            stats: None,
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Sets an effect going.
    pub(super) fn begin(&mut self, effect: Effect, snapshot: &Arc<Snapshot>) {
        let session = self.session.clone();
        match effect {
            Effect::Stats { ticket, instances } => {
                if let Some(older) = self.stats.take() {
                    older.abort();
                }
                let snapshot = Arc::clone(snapshot);
                self.stats = Some(self.tasks.spawn(async move {
                    let measured = session.measure(&instances, &snapshot, STATS_WITHIN).await;
                    (ticket, Outcome::Stats(measured.instances))
                }));
            }
            Effect::Change { ticket, plan } => {
                let task = self.tasks.spawn(async move {
                    let outcome = match session.execute(&plan).await {
                        Ok(results) => Outcome::Done(results.iter().map(told).collect()),
                        Err(error) => Outcome::Refused(chain(&error)),
                    };
                    (ticket, outcome)
                });
                self.changes.insert(ticket, task);
            }
            Effect::Deploy { ticket, plan } => {
                let task = self.tasks.spawn(async move {
                    let results = session.deploy(&plan).await;
                    let told = results.into_iter().map(|result| TargetOutcome {
                        target: result.host.name.to_string(),
                        outcome: result.outcome.map(drop),
                    });
                    (ticket, Outcome::Done(told.collect()))
                });
                self.changes.insert(ticket, task);
            }
            Effect::Cancel(ticket) => {
                if let Some(task) = self.changes.remove(&ticket) {
                    task.abort();
                }
            }
            Effect::Resync => self.view.resync(),
            // Those are the loop's own.
            Effect::Repaint | Effect::Quit => {}
        }
    }

    /// The next end of an effect; waits for ever when none runs.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((ticket, outcome))) => {
                    self.changes.remove(&ticket);
                    return Event::Done(ticket, outcome);
                }
                // It was broken off, or it panicked: then its ticket is never redeemed, and what is
                // asked again is asked under a new one.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// What became of a target, in words.
fn told(result: &skynet::session::TargetResult) -> TargetOutcome {
    let outcome = match &result.outcome {
        skynet::session::Outcome::Done => Ok(()),
        other => Err(other.to_string()),
    };
    TargetOutcome {
        target: result.target.to_string(),
        outcome,
    }
}

/// Where data come from: each one until its sender is gone.
pub(super) struct Sources {
    snapshots: Option<watch::Receiver<Arc<Snapshot>>>,
    links: Option<watch::Receiver<Link>>,
    traffic: Option<watch::Receiver<TrafficCounters>>,
}

impl Sources {
    pub(super) fn new(traffic: Option<watch::Receiver<TrafficCounters>>) -> Self {
        Self {
            snapshots: None,
            links: None,
            traffic: traffic.map(unread),
        }
    }

    /// Listens to a view.
    pub(super) fn watch(&mut self, view: &View) {
        self.snapshots = Some(unread(view.changes()));
        self.links = Some(unread(view.link()));
    }

    /// The next piece of data; snapshots not before `data_at`. Cancel safe: what was not returned is
    /// returned next time.
    pub(super) async fn next(&mut self, data_at: Instant) -> Event {
        let Self {
            snapshots,
            links,
            traffic,
        } = self;
        tokio::select! {
            biased;
            // The cluster before the link, so that a link that is live has rows to show.
            snapshot = async {
                sleep_until(data_at).await;
                changed(snapshots).await
            } => Event::Snapshot(snapshot),
            link = changed(links) => Event::Link(link),
            counters = changed(traffic) => Event::Traffic(counters),
        }
    }
}

/// A receiver whose present value counts as news.
fn unread<T>(mut receiver: watch::Receiver<T>) -> watch::Receiver<T> {
    receiver.mark_changed();
    receiver
}

/// The next value; for ever when there is no sender (any more).
async fn changed<T: Clone>(source: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(receiver) = source {
        if receiver.changed().await.is_ok() {
            return receiver.borrow_and_update().clone();
        }
        *source = None;
    }
    std::future::pending().await
}
