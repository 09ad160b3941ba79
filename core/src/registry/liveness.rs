//! Whether a watch stream lives: when to ask it for a sign of life, when to give it up, and whether
//! what it has told is all that there was to tell at a moment. Pure, time is data.
//!
//! Invariants: a stream is given up 12 s after it was last heard, but never before it was asked and
//! had time to answer: whoever was stopped for a while reads first what has waited. What is due is
//! done only when something was heard behind a question that was put after that moment.

use std::time::Duration;

use tokio::time::Instant;

/// A stream that was not heard for so long is asked for a sign of life, again and again.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A stream that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(12);
/// Whoever was asked has so long to answer at least.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Behind an answer, so long is waited for what was told before it and not yet read.
const SETTLE: Duration = Duration::from_millis(500);

/// What is known of one stream's life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Liveness {
    heard: Instant,
    ask_at: Instant,
    /// When it was last asked.
    asked: Option<Instant>,
    /// Something was heard since it was last asked.
    is_answered: bool,
}

impl Liveness {
    /// Of a stream that was opened just now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            ask_at: now + ASK_EVERY,
            asked: None,
            is_answered: false,
        }
    }

    /// A message came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.ask_at = now + ASK_EVERY;
        self.is_answered = true;
    }

    /// A sign of life was asked for.
    pub(super) fn asked(&mut self, now: Instant) {
        self.ask_at = now + ASK_EVERY;
        self.asked = Some(now);
        self.is_answered = false;
    }

    /// When the last message came.
    pub(super) fn last_heard(&self) -> Instant {
        self.heard
    }

    /// When to ask for a sign of life.
    pub(super) fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// When the stream is given up.
    pub(super) fn give_up_at(&self) -> Instant {
        // Not before the question that comes next, which is put first if both are due.
        let asked = self.asked.filter(|asked| *asked > self.heard);
        (self.heard + SILENCE).max(asked.map_or(self.ask_at, |asked| asked) + ANSWER_WITHIN)
    }

    /// When to go on with what is due at `due`: to ask first, or to do it. `None` while an answer
    /// is waited for.
    pub(super) fn look_at(&self, due: Instant) -> Option<Instant> {
        match self.asked {
            Some(asked) if asked >= due => self.is_answered.then(|| asked + SETTLE),
            _ => Some(due),
        }
    }

    /// Whether all that was told until `due` has been read.
    pub(super) fn is_sure(&self, due: Instant, now: Instant) -> bool {
        self.is_answered
            && self
                .asked
                .is_some_and(|asked| asked >= due && now >= asked + SETTLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_stream_is_asked_twice_and_given_up_after_12_s() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let mut liveness = Liveness::new(start);
        liveness.heard(second(3));
        assert_eq!(liveness.ask_at(), second(8));
        liveness.asked(second(8));
        liveness.asked(second(13));
        assert_eq!(liveness.give_up_at(), second(15));
    }

    #[test]
    fn whoever_was_stopped_asks_once_before_it_gives_up() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let mut liveness = Liveness::new(start);
        assert!(liveness.give_up_at() > liveness.ask_at());
        liveness.asked(second(5));
        // Stopped from here on.
        liveness.asked(second(40));
        assert_eq!(
            liveness.ask_at(),
            second(45),
            "not once per 5 s that passed"
        );
        assert_eq!(liveness.give_up_at(), second(42));
        liveness.heard(second(41));
        assert_eq!(liveness.give_up_at(), second(53));
    }

    #[test]
    fn what_is_due_waits_for_an_answer_to_a_later_question() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let mut liveness = Liveness::new(start);
        let due = second(30);
        liveness.asked(second(29));
        liveness.heard(second(31));
        assert!(
            !liveness.is_sure(due, second(99)),
            "an answer to an old question"
        );
        assert_eq!(liveness.look_at(due), Some(due));
        liveness.asked(second(31));
        assert_eq!(liveness.look_at(due), None);
        liveness.heard(second(31));
        let at = liveness.look_at(due).unwrap();
        assert!(!liveness.is_sure(due, second(31)) && liveness.is_sure(due, at));
    }
}
