//! Whether the peer of a connection still lives, though it may say nothing. Pure.
//!
//! Whoever keeps a connection looks at it once a second and tells what it sees. Invariants: whatever
//! was heard proves life; a ping goes out only when calls wait for an answer and nothing came since
//! the last look, or when nothing came for ten looks; two pings without an answer end it. Looks are
//! counted, and no clock is read: a process that stood still itself misses looks, and takes nobody
//! for dead because of that.

use std::time::Duration;

/// How often a connection is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After how many silent looks a connection without calls is asked.
const IDLE_LOOKS: u32 = 10;
/// How many looks a ping may stay without an answer.
const ANSWER_LOOKS: u32 = 2;
/// How many pings.
const PINGS: u32 = 2;

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing.
    Fine,
    /// Ask for a sign of life.
    Ping,
    /// Nobody is there any more.
    Dead,
}

/// What was seen of one connection so far.
#[derive(Debug, Default)]
pub(super) struct Life {
    heard: u64,
    /// Looks since something was heard.
    silent: u32,
    /// Looks since the first ping that nothing followed.
    asked: Option<u32>,
}

impl Life {
    /// One look: `heard` changes with everything that is read, `waits` says whether calls wait for
    /// an answer.
    pub(super) fn look(&mut self, heard: u64, waits: bool) -> Sign {
        if heard != self.heard {
            *self = Self {
                heard,
                ..Self::default()
            };
            return Sign::Fine;
        }
        self.silent = self.silent.saturating_add(1);
        match &mut self.asked {
            None if waits || self.silent >= IDLE_LOOKS => {
                self.asked = Some(0);
                Sign::Ping
            }
            None => Sign::Fine,
            Some(looks) => {
                *looks += 1;
                if *looks >= ANSWER_LOOKS * PINGS {
                    Sign::Dead
                } else if looks.is_multiple_of(ANSWER_LOOKS) {
                    Sign::Ping
                } else {
                    Sign::Fine
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::{Dead, Fine, Ping};
    use super::*;

    fn signs(looks: &[(u64, bool)]) -> Vec<Sign> {
        let mut life = Life::default();
        looks
            .iter()
            .map(|(heard, waits)| life.look(*heard, *waits))
            .collect()
    }

    #[test]
    fn row_24_two_missed_pings_end_it_within_five_looks_while_calls_wait() {
        assert_eq!(signs(&[(0, true); 5]), [Ping, Fine, Ping, Fine, Dead]);
    }

    #[test]
    fn an_idle_connection_is_asked_after_ten_looks() {
        let seen = signs(&[(0, false); 14]);
        assert_eq!(seen[..9], [Fine; 9]);
        assert_eq!(seen[9..], [Ping, Fine, Ping, Fine, Dead]);
    }

    #[test]
    fn whatever_is_heard_proves_life() {
        let seen = signs(&[(0, true), (0, true), (0, true), (0, true), (1, true)]);
        assert_eq!(seen, [Ping, Fine, Ping, Fine, Fine]);
        let busy: Vec<_> = (1..100).map(|look| (look, true)).collect();
        assert!(signs(&busy).iter().all(|sign| *sign == Fine));
        let slow: Vec<_> = (0..100).map(|look| (look / 3, true)).collect();
        assert!(signs(&slow).iter().all(|sign| *sign != Dead));
    }
}
