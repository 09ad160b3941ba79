//! Which endpoint is asked, and for how long before the next one is.
//!
//! Pure. Invariants: the current endpoint is kept for as long as it works, so that one that is dead
//! is paid for once and then left alone; after a failure, those that have not failed come first (one
//! of them by chance, as all processes have the same list), then the one whose failure is the oldest.
//! The first one is chosen by chance, too: the processes of a cluster are to spread over it.
//!
//! One endpoint that is silent must leave time for the others, so each gets a share of a call's
//! time. If all are silent, they are slow rather than dead: then each gets the whole time, until one
//! answers within its share again.

use std::time::Duration;

use tokio::time::Instant;

/// How many endpoints one call has time for.
const SHARES: usize = 3;

/// The endpoints' standing, by their index.
#[derive(Debug)]
pub(super) struct Rotation {
    current: usize,
    failures: Vec<Option<Failure>>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    at: Instant,
    /// It did not answer at all, though perhaps it would have.
    silent: bool,
}

impl Rotation {
    /// For `count` endpoints (one at least), of which `chance` chooses the first: it gets a number
    /// of choices and returns one below it.
    pub(super) fn new(count: usize, chance: impl FnOnce(usize) -> usize) -> Self {
        Self {
            current: chance(count),
            failures: vec![None; count],
        }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// How long one endpoint may take of `time`.
    pub(super) fn share(&self, time: Duration) -> Duration {
        let all_silent = self
            .failures
            .iter()
            .all(|failure| failure.is_some_and(|failure| failure.silent));
        if all_silent {
            time
        } else {
            self.usual_share(time)
        }
    }

    /// The same while the endpoints are as fast as they should be.
    pub(super) fn usual_share(&self, time: Duration) -> Duration {
        time / u32::try_from(self.failures.len().min(SHARES)).unwrap_or(1)
    }

    /// An endpoint answered; `late` if it took longer than a share.
    pub(super) fn worked(&mut self, index: usize, late: bool) {
        if let Some(failure) = self.failures.get_mut(index)
            && !late
        {
            *failure = None;
        }
    }

    /// An endpoint failed: another one becomes current, if it was this one.
    pub(super) fn failed(
        &mut self,
        index: usize,
        silent: bool,
        now: Instant,
        chance: impl FnOnce(usize) -> usize,
    ) {
        if let Some(failure) = self.failures.get_mut(index) {
            *failure = Some(Failure { at: now, silent });
        }
        if index != self.current {
            return;
        }
        let others = || (0..self.failures.len()).filter(|other| *other != index);
        let sound: Vec<usize> = others()
            .filter(|other| self.failures.get(*other).is_some_and(Option::is_none))
            .collect();
        let next = if sound.is_empty() {
            others()
                .min_by_key(|other| self.failures.get(*other).copied().flatten().map(|it| it.at))
        } else {
            sound.get(chance(sound.len())).copied()
        };
        self.current = next.unwrap_or(index);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_dead_are_left_alone_until_the_others_fail() {
        let now = Instant::now();
        let mut rotation = Rotation::new(3, |_| 0);
        rotation.failed(0, true, now, |_| 0);
        assert_eq!(rotation.current(), 1);
        // A late failure of the one that was left moves nobody.
        rotation.failed(0, false, now, |_| 0);
        assert_eq!(rotation.current(), 1);
        rotation.worked(1, false);
        rotation.failed(1, false, now + SECOND, |_| 0);
        assert_eq!(rotation.current(), 2, "the dead one was tried again");
        rotation.failed(2, false, now + 2 * SECOND, |_| 0);
        assert_eq!(rotation.current(), 0, "the oldest failure is next");
        rotation.worked(0, false);
        rotation.failed(0, false, now + 3 * SECOND, |_| 0);
        assert_eq!(rotation.current(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_is_chosen_by_chance_among_the_sound() {
        let now = Instant::now();
        let mut rotation = Rotation::new(4, |_| 2);
        rotation.failed(2, false, now, |choices| choices - 1);
        assert_eq!(rotation.current(), 3);
        let mut alone = Rotation::new(1, |_| 0);
        alone.failed(0, true, now, |_| 0);
        assert_eq!(alone.current(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_slow_each_gets_the_whole_time() {
        let now = Instant::now();
        let time = Duration::from_secs(6);
        assert_eq!(Rotation::new(1, |_| 0).share(time), time);
        let mut rotation = Rotation::new(2, |_| 0);
        assert_eq!(rotation.share(time), time / 2);
        rotation.failed(0, true, now, |_| 0);
        assert_eq!(rotation.share(time), time / 2);
        rotation.failed(1, true, now, |_| 0);
        assert_eq!(rotation.share(time), time);
        rotation.worked(0, true);
        assert_eq!(rotation.share(time), time, "it was late again");
        rotation.worked(0, false);
        assert_eq!(rotation.share(time), time / 2);
        assert_eq!(Rotation::new(5, |_| 0).share(time), time / 3);
    }

    proptest! {
        #[test]
        fn one_that_works_is_found_by_asking_each_once(
            count in 1_usize..6,
            good in 0_usize..6,
            history in proptest::collection::vec((0_usize..6, any::<bool>()), 0..30),
        ) {
            let good = good % count;
            let start = Instant::now();
            let mut rotation = Rotation::new(count, |choices| fastrand::usize(..choices));
            let mut tick = 0;
            for (index, fails) in history {
                tick += 1;
                let now = start + SECOND * tick;
                if fails {
                    rotation.failed(index % count, false, now, |choices| fastrand::usize(..choices));
                } else {
                    rotation.worked(index % count, false);
                }
            }
            // From now on only one works: it is current after every other has failed once.
            for _ in 0..count {
                tick += 1;
                if rotation.current() == good {
                    break;
                }
                let current = rotation.current();
                rotation.failed(current, false, start + SECOND * tick, |choices| fastrand::usize(..choices));
            }
            prop_assert_eq!(rotation.current(), good);
        }
    }
}
