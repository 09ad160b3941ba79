//! The connections of a server: how many there are, and who makes room when descriptors run short.
//!
//! Invariants: nobody with a call in hand is asked to leave; who has not even greeted goes first,
//! who can be told before who cannot, and among equals who has been silent longest; a connection
//! decides itself, so that no request is lost to a moment between the choice and the end. Knows no
//! sockets and keeps no time of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::call::Outbox;

/// What a connection is, in the order in which they make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has not sent its handshake.
    Greeting,
    /// It understands notices, so it loses nothing.
    Told,
    /// A client of 2012: it finds out when it next uses the connection.
    Untold,
}

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Crowd {
    began: Instant,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    /// The number of the last one.
    last: u64,
    taken: HashMap<u64, Arc<Presence>>,
}

/// One connection, as it is known outside of its task.
#[derive(Debug)]
pub(super) struct Presence {
    stage: AtomicU8,
    /// When it last sent something, in milliseconds since the crowd began.
    heard: AtomicU64,
    /// It is asked to make room.
    asked: AtomicBool,
    outbox: Arc<Outbox>,
}

/// A connection's seat; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    number: u64,
    presence: Arc<Presence>,
}

impl Crowd {
    /// Nobody yet, as of `now`.
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            began: now,
            seats: Mutex::default(),
        })
    }

    /// How many are there.
    pub(super) fn len(&self) -> usize {
        self.seats().taken.len()
    }

    /// A seat for one that came at `now`.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Seat {
        let presence = Arc::new(Presence {
            stage: AtomicU8::new(Stage::Greeting as u8),
            heard: AtomicU64::new(self.millis(now)),
            asked: AtomicBool::new(false),
            outbox: Arc::default(),
        });
        let mut seats = self.seats();
        seats.last += 1;
        let number = seats.last;
        seats.taken.insert(number, Arc::clone(&presence));
        drop(seats);
        Seat {
            crowd: Arc::clone(self),
            number,
            presence,
        }
    }

    /// Asks as many as `most`, none of them beyond stage `last`, that were silent for `silence` at
    /// `now`, to leave; tells how many it asked.
    pub(super) fn ask(&self, most: usize, last: Stage, silence: Duration, now: Instant) -> usize {
        let Some(before) = now.checked_sub(silence).filter(|at| *at >= self.began) else {
            return 0;
        };
        let before = self.millis(before);
        let seats = self.seats();
        let silent = seats.taken.values().filter(|presence| {
            presence.stage.load(Ordering::Relaxed) <= last as u8
                && presence.heard.load(Ordering::Relaxed) <= before
                && presence.outbox.running() == 0
                && !presence.is_asked()
        });
        let key = |presence: &Presence| {
            let stage = presence.stage.load(Ordering::Relaxed);
            (stage, presence.heard.load(Ordering::Relaxed))
        };
        let mut silent: Vec<_> = silent.map(|it| (key(it), Arc::clone(it))).collect();
        drop(seats);
        if silent.len() > most {
            silent.select_nth_unstable_by_key(most, |(key, _)| *key);
            silent.truncate(most);
        }
        for (_, presence) in &silent {
            presence.asked.store(true, Ordering::Release);
            presence.outbox.wake_connection();
        }
        silent.len()
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Where its answers gather.
    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether it is asked to make room.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// It has something to do after all, and stays.
    pub(super) fn stay(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Ready once it is asked to make room.
    pub(super) fn poll_asked(&self, task: &TaskContext<'_>) -> Poll<()> {
        self.outbox.wake(task);
        if self.is_asked() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Seat {
    /// The connection.
    pub(super) fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// It has come as far as `stage`.
    pub(super) fn reach(&self, stage: Stage) {
        self.presence.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// It has sent something at `now`.
    pub(super) fn heard(&self, now: Instant) {
        let now = self.crowd.millis(now);
        self.presence.heard.store(now, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.seats().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn asked(seats: &[Seat]) -> Vec<bool> {
        let asked = seats.iter().map(|seat| seat.presence().is_asked());
        asked.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_make_room_and_who_can_be_told_before_who_cannot() {
        let began = Instant::now();
        let crowd = Crowd::new(began);
        let stages = [Stage::Untold, Stage::Told, Stage::Told, Stage::Greeting];
        let seats: Vec<Seat> = (0..)
            .zip(stages)
            .map(|(second, stage)| {
                let seat = crowd.enter(began + SECOND * second);
                seat.reach(stage);
                seat
            })
            .collect();
        let now = began + SECOND * 10;
        // Nobody has been silent for so long.
        assert_eq!(crowd.ask(9, Stage::Untold, SECOND * 11, now), 0);
        assert_eq!(crowd.ask(9, Stage::Untold, SECOND * 60, now), 0);
        assert_eq!(crowd.ask(1, Stage::Untold, SECOND, now), 1);
        assert_eq!(asked(&seats), [false, false, false, true]);
        // Who has been heard since stays, and nobody is asked twice.
        seats[1].heard(began + SECOND * 9);
        assert_eq!(crowd.ask(1, Stage::Untold, SECOND, now), 1);
        assert_eq!(asked(&seats), [false, false, true, true]);
        assert_eq!(crowd.ask(9, Stage::Told, SECOND * 2, now), 0);
        assert_eq!(crowd.ask(9, Stage::Untold, SECOND * 2, now), 1);
        assert_eq!(asked(&seats), [true, false, true, true]);
        seats[0].presence().stay();
        assert_eq!(crowd.ask(9, Stage::Untold, SECOND * 2, now), 1);
        drop(seats);
        assert_eq!(crowd.len(), 0);
    }
}
