//! Takes over the children of the daemon before this one.
//!
//! Invariants: a living child goes on as it is; one that died meanwhile is started again; one that
//! was started when its daemon was killed, before its pid was noted, is found by its mark. What
//! cannot be looked at does not count as gone: then nothing is taken over and nothing started.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use skynet::hint::Hint;
use skynet::instance::{InstanceId, ProcessId};

use super::Supervisor;
use super::entry::ChildEntry;
use crate::process::{self, Process};
use crate::store::ChildRecord;
use crate::supervise::{Event, Wish};

/// What is found of each child's process.
pub(super) type Found = HashMap<InstanceId, Process>;

/// How often a child is looked at when the system does not let us.
const TRIES: u32 = 5;

/// How long after a failed look the next one is taken.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// It cannot be told which children live, so none is started and none is declared dead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The system does not let us look at a process or watch it.
    #[error("cannot tell whether the child {child} still runs as process {pid}")]
    Process {
        /// The child.
        child: InstanceId,
        /// Its process, as far as it is known.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// The system does not let us look through all processes.
    #[error("cannot search the processes for children that live")]
    Search(#[source] io::Error),
    /// The search panicked.
    #[error("the search for living children broke off")]
    Broken(#[source] tokio::task::JoinError),
}

impl Hint for AdoptError {
    fn hint(&self) -> Option<String> {
        Some(
            "the children were left alone: start the daemon again with the same arguments, as a \
             user that may watch them and with enough open files"
                .to_owned(),
        )
    }
}

/// Finds the living processes of the children that were noted.
pub(super) async fn search(
    noted: &BTreeMap<InstanceId, Arc<ChildRecord>>,
) -> Result<Found, AdoptError> {
    let wanted: Vec<(InstanceId, Option<ProcessId>)> = noted
        .iter()
        .map(|(id, record)| (*id, record.process.clone()))
        .collect();
    let wanted = Arc::new(wanted);
    insist(|| {
        let wanted = Arc::clone(&wanted);
        let look = move || find(&wanted, process::adopt, process::find_marked);
        async move {
            let found = tokio::task::spawn_blocking(look).await;
            found.map_err(AdoptError::Broken)?
        }
    })
    .await
}

/// Looks again when the system refuses: it may be short of something for a moment.
async fn insist<T, L>(look: impl Fn() -> L) -> Result<T, AdoptError>
where
    L: Future<Output = Result<T, AdoptError>>,
{
    for _ in 1..TRIES {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot look at the children that were left");
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    look().await
}

impl Supervisor {
    pub(super) fn take_over(
        &mut self,
        noted: BTreeMap<InstanceId, Arc<ChildRecord>>,
        mut found: Found,
    ) {
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
fn find(
    wanted: &[(InstanceId, Option<ProcessId>)],
    adopt: impl Fn(&ProcessId) -> io::Result<Option<Process>>,
    find_marked: impl Fn() -> io::Result<HashMap<InstanceId, ProcessId>>,
) -> Result<Found, AdoptError> {
    let adopt = |child: InstanceId, id: &ProcessId| {
        adopt(id).map_err(|source| AdoptError::Process {
            child,
            pid: id.pid,
            source,
        })
    };
    let mut found = Found::new();
    let mut lost = Vec::new();
    for (id, process) in wanted {
        let process = process.as_ref().map(|process| adopt(*id, process));
        match process.transpose()?.flatten() {
            Some(process) => drop(found.insert(*id, process)),
            None => lost.push(*id),
        }
    }
    if lost.is_empty() {
        return Ok(found);
    }
    let marked = find_marked().map_err(AdoptError::Search)?;
    for id in lost {
        let process = marked.get(&id).map(|process| adopt(id, process));
        if let Some(process) = process.transpose()?.flatten() {
            found.insert(id, process);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refused() -> io::Error {
        io::Error::from_raw_os_error(24)
    }

    #[test]
    fn only_what_is_seen_to_be_gone_is_gone() {
        let own = ProcessId::own().unwrap();
        let child = InstanceId::new_v4();
        let noted = [(child, Some(own.clone()))];
        let nothing_marked = || Ok(HashMap::new());
        let gone = find(&noted, |_| Ok(None), nothing_marked).unwrap();
        assert!(gone.is_empty());

        let error = find(&noted, |_| Err(refused()), nothing_marked).unwrap_err();
        let pid = own.pid;
        assert_eq!(
            error.to_string(),
            format!("cannot tell whether the child {child} still runs as process {pid}")
        );
        assert!(error.hint().is_some());
        let error = find(&noted, |_| Ok(None), || Err(refused())).unwrap_err();
        assert!(matches!(error, AdoptError::Search(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_asked_again_and_not_for_ever() {
        for (refusals, is_seen) in [(0, true), (TRIES - 1, true), (TRIES, false)] {
            let looks = Cell::new(0);
            let seen = insist(async || {
                looks.set(looks.get() + 1);
                let is_refused = looks.get() <= refusals;
                (!is_refused)
                    .then_some(())
                    .ok_or(AdoptError::Search(refused()))
            });
            assert_eq!(seen.await.is_ok(), is_seen, "{refusals}");
            assert_eq!(looks.get(), TRIES.min(refusals + 1));
        }
    }

    #[test]
    fn a_child_whose_process_was_not_noted_is_found_by_its_mark() {
        let own = ProcessId::own().unwrap();
        let child = InstanceId::new_v4();
        let marked = || Ok(HashMap::from([(child, own.clone())]));
        let found = find(&[(child, None)], process::adopt, marked).unwrap();
        assert_eq!(found[&child].id(), Some(&own));
        let error = find(&[(child, None)], |_| Err(refused()), marked).unwrap_err();
        assert!(matches!(error, AdoptError::Process { .. }));
    }
}
