//! The view of the cluster: pure application of what the watch reads.
//!
//! Invariants: it never goes back: an event or a listing that is older than what stands is passed
//! over, row by row; absence is not death: an instance that vanishes without having said `leaving`
//! or been marked `dead` stays as *suspect* for a while.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::list::Listing;
use super::snapshot::{Change, Snapshot};
use crate::instance::{Instance, InstanceId, State};

/// How long an instance that vanished unmarked is shown, and may be called on standing connections.
const SUSPECT_FOR: Duration = Duration::from_secs(30);

/// The snapshot in the making.
#[derive(Debug, Default)]
pub(super) struct ViewBuilder {
    snapshot: Snapshot,
    suspects: VecDeque<(Instant, InstanceId)>,
}

impl ViewBuilder {
    /// The snapshot as it stands; the copy shares its structure.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    pub(super) fn revision(&self) -> i64 {
        self.snapshot.revision()
    }

    /// Applies one event of the watch.
    pub(super) fn apply(&mut self, change: Change, now: Instant) {
        match change {
            Change::RemoveInstance(id) => self.vanish(id, now),
            Change::PutInstance(instance) => {
                let known = self.snapshot.instance(instance.id());
                let newer = known.is_none_or(|known| known.mod_revision <= instance.mod_revision);
                // A registry that was put back counts from the start again: a suspect that comes
                // back is believed at any revision.
                if newer || known.is_some_and(|known| known.state == State::Suspect) {
                    self.snapshot.apply(Change::PutInstance(instance));
                }
            }
            other => self.snapshot.apply(other),
        }
    }

    /// Notes the revision that has been reached.
    pub(super) fn reached(&mut self, revision: i64) {
        if revision > self.snapshot.revision() {
            self.snapshot.set_position(revision);
        }
    }

    /// Takes a listing that was held against this view; what is missing in it vanishes.
    pub(super) fn replace(&mut self, listing: Listing, now: Instant) {
        for change in listing.gone {
            self.apply(change, now);
        }
        for change in listing.changed {
            // The listing is the truth of its moment, whatever revision stood before.
            self.snapshot.apply(change);
        }
        self.snapshot.set_position(listing.position.revision);
    }

    /// When the next suspect is given up.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.suspects.front().map(|(since, _)| *since + SUSPECT_FOR)
    }

    /// Gives up the suspects whose time is over; `true` when the view changed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while let Some((since, id)) = self.suspects.front().copied() {
            if since + SUSPECT_FOR > now {
                break;
            }
            self.suspects.pop_front();
            let still = self
                .snapshot
                .instance(id)
                .is_some_and(|it| it.state == State::Suspect);
            // It may have come back and vanished again since; then a later entry stands for it.
            if still && !self.suspects.iter().any(|(_, later)| *later == id) {
                self.snapshot.apply(Change::RemoveInstance(id));
                changed = true;
            }
        }
        changed
    }

    fn vanish(&mut self, id: InstanceId, now: Instant) {
        let Some(known) = self.snapshot.instance(id) else {
            return;
        };
        match known.state {
            State::Suspect => {}
            // Only a daemon's word on it is left, and that is not what vanished.
            state if state.is_child_only() => {}
            State::Leaving | State::Dead => self.snapshot.apply(Change::RemoveInstance(id)),
            _ => {
                let suspect = Instance {
                    state: State::Suspect,
                    reason: Some(Arc::from("vanished from the registry without a word")),
                    ..Instance::clone(known)
                };
                self.snapshot.apply(Change::PutInstance(Arc::new(suspect)));
                self.suspects.push_back((now, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Identity;

    fn instance(id: u128, state: State, mod_revision: i64) -> Arc<Instance> {
        Arc::new(Instance {
            identity: Identity {
                service: "s".into(),
                version: "1".into(),
                region: "r".into(),
                host: "h".into(),
                id: InstanceId::from_u128(id),
            },
            address: None,
            admin_address: None,
            registered: true,
            state,
            reason: None,
            process: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            deployment: None,
            weight: 100,
            lease: 1,
            tags: Vec::new(),
            mod_revision,
        })
    }

    fn states(view: &ViewBuilder) -> Vec<State> {
        view.snapshot()
            .instances()
            .map(|instance| instance.state)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn absence_is_suspected_and_said_death_is_believed() {
        let mut view = ViewBuilder::default();
        let now = Instant::now();
        for (id, state) in [(1, State::Ready), (2, State::Dead), (3, State::Leaving)] {
            view.apply(Change::PutInstance(instance(id, state, 5)), now);
        }
        for id in 1..=3 {
            view.apply(Change::RemoveInstance(InstanceId::from_u128(id)), now);
        }
        assert_eq!(states(&view), [State::Suspect]);
        let expiry = view.next_expiry().unwrap();
        assert!(!view.expire(now));
        assert!(view.expire(expiry));
        assert_eq!(states(&view), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspect_that_comes_back_is_not_given_up() {
        let mut view = ViewBuilder::default();
        let now = Instant::now();
        view.apply(Change::PutInstance(instance(1, State::Ready, 5)), now);
        let gone = vec![Change::RemoveInstance(InstanceId::from_u128(1))];
        let nothing = Listing {
            gone,
            ..Listing::default()
        };
        view.replace(nothing, now);
        assert_eq!(states(&view), [State::Suspect]);
        view.apply(Change::PutInstance(instance(1, State::Ready, 3)), now);
        assert!(!view.expire(view.next_expiry().unwrap()));
        assert_eq!(states(&view), [State::Ready]);
    }

    #[tokio::test(start_paused = true)]
    async fn old_news_is_passed_over() {
        let mut view = ViewBuilder::default();
        let now = Instant::now();
        view.apply(Change::PutInstance(instance(1, State::Ready, 9)), now);
        view.apply(Change::PutInstance(instance(1, State::Starting, 7)), now);
        assert_eq!(states(&view), [State::Ready]);
    }
}
