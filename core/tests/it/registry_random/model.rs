//! What is true, and what must therefore be seen: pure bookkeeping over the times of a run.
//!
//! Invariants that it checks: **I1** who lives and is ready is in every connected reader's view
//! 15 s after the last fault, and never missing for more than 2 s; **I2** who is dead leaves the
//! registry within its time to live and half a second, and the views follow; **I8** no reader goes
//! back in revision.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skynet::instance::{InstanceId, State};
use skynet::registry::snapshot::Snapshot;
use tokio::time::Instant;

use super::plan::{PROCESSES, READERS};

/// The time to live of the entries of a run.
const TTL: Duration = Duration::from_secs(10);
/// How long after the last fault everything must be right.
const SETTLED: Duration = Duration::from_secs(15);
/// How long a living instance may be missing.
const MISSING: Duration = Duration::from_secs(2);
/// Separated for longer, an instance may have been given up: its lease ends after 6 s at the
/// earliest, and it is suspected for 30 s, less the time that it has to come back.
const GIVEN_UP: Duration = Duration::from_secs(20);
/// How long a listing may take.
const LISTING: Duration = Duration::from_secs(5);
/// How long one that is dead may be shown as suspect, behind its end in the registry.
const SUSPECT: Duration = Duration::from_secs(90);

/// One instance of the truth.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) id: InstanceId,
    pub(crate) process: usize,
    pub(crate) state: State,
    /// `None` while nobody can know it.
    pub(crate) wish: Option<bool>,
    /// The lease that its key hung on when it was last wished something.
    pub(crate) wished_on: i64,
    /// It has followed the wish, which therefore outlives its key.
    pub(crate) has_heard: bool,
    /// When it last changed: came, changed its state, was wished something, ended.
    pub(crate) changed: Instant,
    pub(crate) ended: Option<Instant>,
    /// When it was first found to be gone from the registry after its end.
    gone: Option<Instant>,
}

impl Truth {
    /// One that is dead and has left the registry leaves the views too. Until `settled` a reader
    /// may not have known, or not have believed it; `alarmed` tells when it last held a service.
    fn check_end(
        &self,
        reader: usize,
        snapshot: &Snapshot,
        settled: Instant,
        alarmed: &HashMap<Arc<str>, Instant>,
        now: Instant,
    ) -> Result<(), String> {
        let (Some(gone), Some(row)) = (self.gone, snapshot.instance(self.id)) else {
            return Ok(());
        };
        let late = now - settled.max(gone);
        if late > SETTLED && row.state != State::Suspect {
            return Err(format!(
                "I2: reader {reader} still shows {} as {:?}, {late:?} after it left the registry",
                self.id, row.state
            ));
        }
        // Where most of a service vanished at once, nobody is given up before that is over; then all
        // have their time again.
        let is_alarm = alarmed.get(&row.identity.service);
        if late > SUSPECT && is_alarm.is_none_or(|at| now - *at > SUSPECT) {
            return Err(format!(
                "I2: reader {reader} still suspects {} after {late:?}",
                self.id
            ));
        }
        Ok(())
    }
}

/// What one reader has seen so far.
#[derive(Debug, Default)]
struct Seen {
    revision: i64,
    /// How many breaks of history it has followed.
    n_breaks: usize,
    /// When it last kept what an unknown registry does not tell of.
    protected: Option<Instant>,
    /// When it last held most of a service that vanished at once.
    alarmed: HashMap<Arc<str>, Instant>,
    /// Since when an instance is missing that it has shown.
    missing: HashMap<InstanceId, Option<Instant>>,
}

/// The truth of one run.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) truths: Vec<Truth>,
    readers: Vec<Seen>,
    /// When something that concerns all last went wrong; `now` while it does.
    all_disturbed: Instant,
    processes_disturbed: [Instant; PROCESSES],
    readers_disturbed: [Instant; READERS],
    /// Since when a process may be kept from the registry, until it has had time to come back.
    separated: [Option<Instant>; PROCESSES],
    /// When all leases last got their whole time.
    leases_renewed: Instant,
    n_breaks: usize,
    /// When that last happened.
    broke: Instant,
}

/// Which faults go on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disturbed {
    pub(crate) all: bool,
    pub(crate) processes: [bool; PROCESSES],
    pub(crate) readers: [bool; READERS],
    /// Leases cannot expire.
    pub(crate) leases_stand: bool,
}

impl Model {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            truths: Vec::new(),
            readers: (0..READERS).map(|_| Seen::default()).collect(),
            all_disturbed: now,
            processes_disturbed: [now; PROCESSES],
            readers_disturbed: [now; READERS],
            separated: [None; PROCESSES],
            leases_renewed: now,
            n_breaks: 0,
            broke: now,
        }
    }

    pub(crate) fn came(&mut self, id: InstanceId, process: usize, now: Instant) {
        self.truths.push(Truth {
            id,
            process,
            state: State::Ready,
            wish: Some(true),
            wished_on: 0,
            has_heard: true,
            changed: now,
            ended: None,
            gone: None,
        });
    }

    pub(crate) fn living(&mut self, process: usize) -> impl Iterator<Item = &mut Truth> {
        self.truths
            .iter_mut()
            .filter(move |truth| truth.process == process && truth.ended.is_none())
    }

    pub(crate) fn ended(&mut self, process: usize, now: Instant) {
        for truth in self.living(process) {
            truth.ended = Some(now);
            truth.changed = now;
        }
    }

    /// The registry's history is no longer what it was: what was written may be gone.
    pub(crate) fn broke(&mut self, now: Instant) {
        self.n_breaks += 1;
        self.broke = now;
        self.leases_renewed = now;
        for truth in &mut self.truths {
            truth.wish = None;
            // Restored entries of the dead stand until their leases end.
            truth.gone = None;
        }
    }

    /// Looks how a wish fares: it stands in the instance's key until the instance has heard it, and
    /// is lost with the key if that goes first.
    pub(crate) fn follow_wish(&mut self, id: InstanceId, told: bool, lease: i64) {
        let Some(truth) = self.truths.iter_mut().find(|truth| truth.id == id) else {
            return;
        };
        if truth.wish.is_none() || truth.has_heard {
            return;
        }
        if truth.wish == Some(told) {
            truth.has_heard = true;
        } else if lease != truth.wished_on {
            truth.wish = None;
        }
    }

    /// All leases got their whole time.
    pub(crate) fn renewed_all(&mut self, now: Instant) {
        self.leases_renewed = now;
    }

    /// Something went wrong for a moment, for everybody.
    pub(crate) fn disturb(&mut self, now: Instant) {
        self.all_disturbed = now;
    }

    /// Notes what goes on now.
    pub(crate) fn pass(&mut self, disturbed: &Disturbed, now: Instant) {
        if disturbed.all {
            self.all_disturbed = now;
        }
        if disturbed.leases_stand {
            self.leases_renewed = now;
        }
        for reader in 0..READERS {
            if disturbed.readers[reader] {
                self.readers_disturbed[reader] = now;
            }
        }
        for process in 0..PROCESSES {
            if disturbed.processes[process] {
                self.processes_disturbed[process] = now;
            }
            let last = self.all_disturbed.max(self.processes_disturbed[process]);
            if last == now {
                self.separated[process].get_or_insert(now);
            } else if now - last > SETTLED {
                self.separated[process] = None;
            }
        }
    }

    /// Compares what a reader sees with the truth.
    pub(crate) fn check_view(
        &mut self,
        reader: usize,
        snapshot: &Snapshot,
        is_protected: bool,
        now: Instant,
    ) -> Result<(), String> {
        let seen = &mut self.readers[reader];
        if is_protected {
            seen.protected = Some(now);
        }
        let held = snapshot.alarms().keys().map(|it| (Arc::clone(it), now));
        seen.alarmed.extend(held);
        let revision = snapshot.revision();
        if revision < seen.revision {
            if seen.n_breaks == self.n_breaks {
                return Err(format!(
                    "I8: reader {reader} went back from revision {} to {revision}",
                    seen.revision
                ));
            }
            // A listing that was under way when history broke again goes back once more.
            let is_fresh = now - self.broke < LISTING;
            seen.n_breaks = self.n_breaks - usize::from(is_fresh);
        }
        seen.revision = revision;
        let calm = self.all_disturbed.max(self.readers_disturbed[reader]);
        for truth in &self.truths {
            let row = snapshot.instance(truth.id);
            let state = row.map(|row| row.state);
            let settled = calm
                .max(self.processes_disturbed[truth.process])
                .max(truth.changed);
            let is_settled = now - settled > SETTLED;
            if truth.ended.is_some() {
                seen.missing.remove(&truth.id);
                truth.check_end(
                    reader,
                    snapshot,
                    settled.max(seen.protected.unwrap_or(settled)),
                    &seen.alarmed,
                    now,
                )?;
                continue;
            }
            let is_usable =
                state.is_some_and(|state| !matches!(state, State::Dead | State::Leaving));
            if is_usable {
                seen.missing.insert(truth.id, None);
            } else if let Some(since) = seen.missing.get_mut(&truth.id) {
                let since = *since.get_or_insert(now);
                let separated = self.separated[truth.process];
                let is_excused = separated.is_some_and(|began| now - began > GIVEN_UP);
                if now - since > MISSING && !is_excused {
                    return Err(format!(
                        "I1: {} of process {} is {state:?} for reader {reader} for {:?}, though it \
                         lives (separated for {:?})",
                        truth.id,
                        truth.process,
                        now - since,
                        separated.map(|began| now - began),
                    ));
                }
            }
            if is_settled && state != Some(truth.state) {
                return Err(format!(
                    "I1: {} of process {} is {state:?} and not {:?} for reader {reader}, {:?} after \
                     all was well",
                    truth.id,
                    truth.process,
                    truth.state,
                    now - settled,
                ));
            }
            if let (true, Some(wish), Some(row)) = (is_settled, truth.wish, row)
                && row.registered != wish
            {
                return Err(format!(
                    "reader {reader} shows {} with the wish {}, and it was wished {wish}",
                    truth.id, row.registered
                ));
            }
        }
        Ok(())
    }

    /// Compares what stands in the registry itself with the truth.
    pub(crate) fn check_registry(
        &mut self,
        stands: impl Fn(InstanceId) -> bool,
        now: Instant,
    ) -> Result<(), String> {
        for truth in &mut self.truths {
            let Some(ended) = truth.ended else { continue };
            if !stands(truth.id) {
                truth.gone.get_or_insert(now);
                continue;
            }
            truth.gone = None;
            let since = now - ended.max(self.leases_renewed);
            // The half second is the rule's, the rest the distance between two looks.
            if since > TTL + Duration::from_millis(600) {
                return Err(format!(
                    "I2: {} of process {} is dead for {:?} and still stands in the registry",
                    truth.id,
                    truth.process,
                    now - ended
                ));
            }
        }
        Ok(())
    }
}
