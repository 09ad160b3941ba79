//! What the registry shows of the children.
//!
//! Invariants: an entry counts only for the process that it belongs to; an entry of a process that
//! is gone is marked dead once.

use std::sync::Arc;

use skynet::instance::{Instance, InstanceId, ProcessId, State};
use skynet::registry::snapshot::Snapshot;

use super::Supervisor;
use super::effects::mark_dead;
use crate::supervise::{Event, Presence};

impl Supervisor {
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        let ids: Vec<InstanceId> = self.children.keys().copied().collect();
        for id in ids {
            let shown = snapshot.instance(id).filter(|shown| is_entry(shown));
            self.look_at(id, shown);
        }
    }

    fn look_at(&mut self, id: InstanceId, shown: Option<&Arc<Instance>>) {
        let Some(entry) = self.children.get_mut(&id) else {
            return;
        };
        let Some(process) = entry.process() else {
            self.mark_left_over(id, shown);
            return;
        };
        let own = shown.filter(|shown| is_of(shown, process.id()));
        let is_news = match (own, entry.seen()) {
            (Some(now), Some(before)) => !Arc::ptr_eq(now, before),
            (None, None) => false,
            _ => true,
        };
        if !is_news {
            return;
        }
        let presence = own.map_or(Presence::Absent, |own| presence_of(own.state));
        entry.see(own.map(Arc::clone), &self.happened);
        self.apply(id, Event::Presence(presence));
    }

    /// A process may be gone before the registry shows its entry: then nobody has marked it.
    fn mark_left_over(&mut self, id: InstanceId, shown: Option<&Arc<Instance>>) {
        let Some(shown) = shown else {
            return;
        };
        let Some(entry) = self.children.get_mut(&id) else {
            return;
        };
        let is_left_over = entry.gone.is_some()
            && shown.process == entry.gone
            && shown.mod_revision != entry.marked_at;
        if !is_left_over || matches!(shown.state, State::Dead | State::Leaving) {
            return;
        }
        entry.marked_at = shown.mod_revision;
        let (registry, shown) = (self.registry.clone(), Arc::clone(shown));
        tokio::spawn(async move {
            mark_dead(&registry, &shown, "its process is gone").await;
        });
    }
}

/// Whether a row of the snapshot is an entry that an instance wrote, and still stands.
fn is_entry(shown: &Instance) -> bool {
    shown.lease != 0 && shown.state != State::Suspect
}

/// Whether an entry belongs to this process of a child, or to one that it has started: not to an
/// earlier run of the child. A program that starts another at once does so within one tick of the
/// clock, so that both have the same start time; an earlier run ended before this one was started.
fn is_of(shown: &Instance, process: Option<&ProcessId>) -> bool {
    let (Some(registered), Some(own)) = (&shown.process, process) else {
        return false;
    };
    registered.is_of_same_boot(own) && registered.process_start >= own.process_start
}

fn presence_of(state: State) -> Presence {
    match state {
        State::Ready | State::Pressured => Presence::Ready,
        State::Dead => Presence::Absent,
        _ => Presence::Unready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, process_start: u64) -> ProcessId {
        ProcessId {
            boot_id: "boot".into(),
            pid,
            process_start,
        }
    }

    fn entry_of(process: ProcessId) -> Instance {
        Instance {
            identity: skynet::instance::Identity {
                service: "s".into(),
                version: "1".into(),
                region: "r".into(),
                host: "h".into(),
                id: InstanceId::nil(),
            },
            address: None,
            admin_address: None,
            registered: true,
            state: State::Ready,
            reason: None,
            process: Some(process),
            started: jiff::Timestamp::UNIX_EPOCH,
            deployment: None,
            weight: 100,
            lease: 7,
            tags: Vec::new(),
            mod_revision: 1,
        }
    }

    #[test]
    fn an_entry_counts_for_its_process_and_what_that_has_started() {
        let own = process(50, 1000);
        for (registered, counts) in [
            (process(50, 1000), true),
            (process(51, 1001), true),
            (process(40, 999), false),
            (process(51, 1000), true),
        ] {
            assert_eq!(is_of(&entry_of(registered), Some(&own)), counts);
        }
        let mut other_boot = process(51, 2000);
        other_boot.boot_id = "another".into();
        assert!(!is_of(&entry_of(other_boot), Some(&own)));
        assert!(!is_of(&entry_of(own), None));
    }
}
