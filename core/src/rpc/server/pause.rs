//! Notices that the whole process stood still, so that what waited meanwhile is known to be old.
//!
//! A request tells how long its caller will still wait, counted from its arrival; but what arrives
//! while the process is frozen (SIGSTOP, a paused machine) is read only when it goes on, and would
//! look new. A task that wakes up at a steady pace finds out: when it is late, the process stood
//! still since its last wake-up. Invariant: what is read on a connection that was empty after the
//! pause counts as new. Pauses shorter than [`NOTICED`] are not noticed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the task wakes up.
const WAKE_EVERY: Duration = Duration::from_millis(250);

/// A wake-up so long after the one before tells of a pause.
const NOTICED: Duration = Duration::from_millis(500);

/// What has waited through a pause is read by then; what comes later on an idle connection is new.
const BACKLOG: Duration = Duration::from_secs(1);

/// What is known of the process's pauses.
#[derive(Debug)]
pub(super) struct Pauses {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last wake-up.
    awake: Instant,
    /// The last pause, from the wake-up before it to the one behind it.
    last: Option<(Instant, Instant)>,
}

impl Pauses {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                awake: now,
                last: None,
            }),
        }
    }

    /// Wakes up at a steady pace; never returns.
    #[expect(clippy::infinite_loop, reason = "it is cancelled with its server")]
    pub(super) async fn notice(&self) {
        let mut wakes = interval(WAKE_EVERY);
        wakes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            wakes.tick().await;
            self.lock().wake(Instant::now());
        }
    }

    /// The earliest time at which bytes may have arrived that were read at `now` from a connection
    /// which was empty at `empty`.
    pub(super) fn arrival(&self, empty: Instant, now: Instant) -> Instant {
        let mut state = self.lock();
        // Which task goes on first after a pause is nobody's choice.
        state.wake(now);
        match state.last {
            Some((from, to)) if empty < to && now < to + BACKLOG => from.max(empty),
            _ => now,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self, now: Instant) {
        if now.saturating_duration_since(self.awake) >= NOTICED {
            self.last = Some((self.awake, now));
        }
        self.awake = self.awake.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn what_waited_through_a_pause_is_as_old_as_the_pause() {
        let start = Instant::now();
        let pauses = Pauses::new(start);
        let empty = start + MS * 100;
        let on = start + MS * 10_000;
        assert_eq!(pauses.arrival(empty, on), empty);
        // Another connection, read a little later, was empty long before.
        let before = start.checked_sub(MS * 5_000).unwrap();
        assert_eq!(pauses.arrival(before, on + MS * 20), start);
        // One that has been empty since has read something new.
        assert_eq!(pauses.arrival(on + MS, on + MS * 30), on + MS * 30);
        // And so has one that was idle for long, and is not read in the rush behind the pause.
        let later = on + BACKLOG;
        for wakes in 1..=4 {
            pauses.lock().wake(on + WAKE_EVERY * wakes);
        }
        assert_eq!(pauses.arrival(empty, later), later);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_runs_has_no_pauses() {
        let pauses = Pauses::new(Instant::now());
        let started = Instant::now();
        let noticing = tokio::time::timeout(MS * 60_000, pauses.notice());
        assert!(noticing.await.is_err());
        let now = Instant::now();
        assert_eq!(pauses.arrival(started, now), now);
    }
}
