//! Takes over the children of the daemon before this one.
//!
//! Invariants: a living child goes on as it is; one that died meanwhile is started again; one that
//! was started when its daemon was killed, before its pid was noted, is found by its mark.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use skynet::instance::{InstanceId, ProcessId};

use super::Supervisor;
use super::entry::ChildEntry;
use crate::process::{self, Process};
use crate::store::ChildRecord;
use crate::supervise::{Event, Wish};

/// What is found of each child's process.
type Found = HashMap<InstanceId, Process>;

impl Supervisor {
    pub(super) async fn take_over(&mut self, noted: BTreeMap<InstanceId, Arc<ChildRecord>>) {
        let wanted: Vec<(InstanceId, Option<ProcessId>)> = noted
            .iter()
            .map(|(id, record)| (*id, record.process.clone()))
            .collect();
        let found = tokio::task::spawn_blocking(move || find(&wanted)).await;
        let mut found = found.unwrap_or_else(|error| {
            tracing::error!(%error, "the search for living children broke off");
            Found::new()
        });
        self.noted = noted.clone();
        for (id, record) in noted {
            let process = found.remove(&id);
            self.take_over_one(id, ChildRecord::clone(&record), process);
        }
    }

    fn take_over_one(&mut self, id: InstanceId, record: ChildRecord, process: Option<Process>) {
        let wish = record.wish;
        let last = record.process.clone();
        let mut entry = ChildEntry::new(id, record, self.context.policy);
        let event = if let Some(process) = process {
            let age = process.id().and_then(process::age);
            entry.watch(process, self.happened.clone());
            Some(Event::Found {
                age: age.unwrap_or(Duration::ZERO),
            })
        } else {
            entry.gone = last;
            (wish == Wish::Running).then_some(Event::Start)
        };
        self.children.insert(id, entry);
        match event {
            Some(event) => self.apply(id, event),
            None => self.tell(id),
        }
    }
}

/// Finds the living processes of these children. Blocks.
fn find(wanted: &[(InstanceId, Option<ProcessId>)]) -> Found {
    let mut found = Found::new();
    let mut lost = Vec::new();
    for (id, process) in wanted {
        match process.as_ref().and_then(adopt) {
            Some(process) => drop(found.insert(*id, process)),
            None => lost.push(*id),
        }
    }
    if lost.is_empty() {
        return found;
    }
    let marked = process::find_marked();
    for id in lost {
        if let Some(process) = marked.get(&id).and_then(adopt) {
            found.insert(id, process);
        }
    }
    found
}

fn adopt(id: &ProcessId) -> Option<Process> {
    process::adopt(id).unwrap_or_else(|error| {
        tracing::error!(pid = id.pid, %error, "cannot watch a child that was left");
        None
    })
}
