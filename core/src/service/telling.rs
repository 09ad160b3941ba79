//! What callbacks are told: whether clients may choose the service, and at last that it has stopped.
//!
//! Invariants: callbacks run one after the other, in the order in which things came about; whoever
//! decides holds the lock while it does, so that an older wish is never followed behind a newer one;
//! nothing is told behind the end; no lock is held while a callback runs, so it may decide anew.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many may wait for a callback that takes long; then two that contradict each other are left out.
const WAITING: usize = 64;

/// What a callback is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Clients may choose it.
    Registered,
    /// They may no longer.
    Unregistered,
    /// Nothing is left of it.
    Stopped,
}

/// What was told, and what is to be told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    registered: bool,
    has_ended: bool,
    waiting: VecDeque<News>,
    /// Somebody is telling, and goes on until nothing waits.
    is_telling: bool,
}

impl Telling {
    /// Takes what `decide` says, and tells it if it is news.
    pub(super) fn follow(&self, decide: impl FnOnce() -> bool, tell: impl Fn(News)) {
        let mut state = self.lock();
        let registered = decide();
        state.take(registered);
        self.tell_all(state, tell);
    }

    /// Tells the end; nothing follows it.
    pub(super) fn end(&self, tell: impl Fn(News)) {
        let mut state = self.lock();
        state.take(false);
        if !std::mem::replace(&mut state.has_ended, true) {
            state.waiting.push_back(News::Stopped);
        }
        self.tell_all(state, tell);
    }

    fn tell_all<'a>(&'a self, mut state: MutexGuard<'a, State>, tell: impl Fn(News)) {
        if std::mem::replace(&mut state.is_telling, true) {
            return;
        }
        while let Some(news) = state.waiting.pop_front() {
            drop(state);
            tell(news);
            state = self.lock();
        }
        state.is_telling = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, registered: bool) {
        if self.has_ended || std::mem::replace(&mut self.registered, registered) == registered {
            return;
        }
        if self.waiting.len() >= WAITING {
            // They alternate, so the last one says the opposite.
            self.waiting.pop_back();
        } else if registered {
            self.waiting.push_back(News::Registered);
        } else {
            self.waiting.push_back(News::Unregistered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_told_and_nothing_behind_the_end() {
        let telling = Telling::default();
        let told = Mutex::new(Vec::new());
        let tell = |news| told.lock().unwrap().push(news);
        for registered in [false, true, true, false, true] {
            telling.follow(|| registered, tell);
        }
        telling.end(tell);
        telling.follow(|| true, tell);
        telling.end(tell);
        let expected = [
            News::Registered,
            News::Unregistered,
            News::Registered,
            News::Unregistered,
            News::Stopped,
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }

    #[test]
    fn a_callback_that_decides_is_told_of_it_afterwards() {
        let telling = Telling::default();
        let told = Mutex::new(Vec::new());
        telling.follow(
            || true,
            |news| {
                told.lock().unwrap().push(news);
                if news == News::Registered {
                    telling.follow(|| false, |_| panic!("told out of turn"));
                }
            },
        );
        assert_eq!(
            *told.lock().unwrap(),
            [News::Registered, News::Unregistered]
        );
    }

    #[test]
    fn what_waits_is_bounded_and_ends_with_the_last_decision() {
        let telling = Telling::default();
        let told = Mutex::new(Vec::new());
        telling.follow(
            || true,
            |news| {
                told.lock().unwrap().push(news);
                if told.lock().unwrap().len() == 1 {
                    for round in 0..1001 {
                        telling.follow(|| round % 2 == 1, |_| panic!("told out of turn"));
                    }
                }
            },
        );
        let told = told.into_inner().unwrap();
        assert!(told.len() <= 1 + WAITING, "{}", told.len());
        assert_eq!(told.last(), Some(&News::Unregistered));
        assert!(told.windows(2).all(|two| two[0] != two[1]), "{told:?}");
    }
}
