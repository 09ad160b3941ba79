//! One child's state and its transitions.
//!
//! Invariants: see [`super`]. Every event is taken in every phase; one that means nothing there
//! changes nothing.

use std::time::Duration;

use skynet::instance::State;
use tokio::time::Instant;

use super::{Effect, Event, Exit, ExitPolicy, Failures, Next, Phase, Policy, Presence, Wish};

/// How often a kill is repeated while the kernel holds a process.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// A child as its state machine knows it.
#[derive(Debug, Clone)]
pub struct Child {
    phase: Phase,
    wish: Wish,
    policy: Policy,
    failures: Failures,
    /// How long the present process was ready at a stretch, at its best.
    best_ready: Duration,
    /// How long an adopted process had run before this daemon found it.
    age: Duration,
    misses: u32,
    restarts: u64,
    reason: Option<String>,
}

/// What others are told of a child that is not registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// One of the states that only a child has.
    pub state: State,
    /// Why, for people.
    pub reason: Option<String>,
    /// When it is started again.
    pub next_try: Option<Instant>,
}

impl Child {
    /// A child that was never started; `seed` makes its jitter repeatable.
    pub fn new(policy: Policy, wish: Wish, seed: u64) -> Self {
        Self {
            phase: match wish {
                Wish::Running => Phase::Pending,
                Wish::Stopped => Phase::Stopped,
            },
            wish,
            policy,
            failures: Failures::new(seed),
            best_ready: Duration::ZERO,
            age: Duration::ZERO,
            misses: 0,
            restarts: 0,
            reason: None,
        }
    }

    /// The same with what an earlier daemon knew of it.
    #[must_use]
    pub fn with_past(mut self, restarts: u64, reason: Option<String>) -> Self {
        self.restarts = restarts;
        self.reason = reason;
        self
    }

    /// What it is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether it is to run.
    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// How often it was started again without being asked to.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Why it last ended or could not start, for people.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether its last failures are a crash loop.
    pub fn is_looping(&self) -> bool {
        self.failures.is_looping()
    }

    /// When it wants an [`Event::Tick`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining { until }
            | Phase::Exited { until, .. }
            | Phase::Backoff { until, .. }
            | Phase::CrashLoop { until } => Some(until),
            Phase::Stopping { kill_at } => Some(kill_at),
            _ => None,
        }
    }

    /// What others are told of it, when that differs from what they were told before: a child that
    /// is on its way to being registered, or waits for a moment only, is not told anew.
    pub fn shown(&self) -> Option<Shown> {
        let (state, next_try) = match self.phase {
            Phase::Backoff {
                until,
                notable: true,
            } => (State::Backoff, Some(until)),
            Phase::CrashLoop { until } => (State::Crashloop, Some(until)),
            Phase::Failed => (State::Failed, None),
            Phase::Done => (State::Done, None),
            Phase::Stopped => (State::Stopped, None),
            _ => return None,
        };
        Some(Shown {
            state,
            reason: self.reason.clone(),
            next_try,
        })
    }

    pub(super) fn take(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Start => self.start(),
            Event::Stop => self.stop(now),
            Event::Restart => self.restart(now),
            Event::Spawned => self.spawned(now),
            Event::SpawnFailed { reason, permanent } => self.spawn_failed(reason, permanent, now),
            Event::Found { age } => self.found(age, now),
            Event::Exited(exit) => self.exited(exit, now),
            Event::Presence(presence) => self.presence(presence, now),
            Event::Cleared => self.cleared(),
            Event::StopAsked { taken } => self.stop_asked(taken, now),
            Event::Liveness { answered } => self.liveness(answered, now),
            Event::Tick => self.tick(now),
        }
    }

    // === What people want ===

    fn start(&mut self) -> Vec<Effect> {
        self.wish = Wish::Running;
        match self.phase {
            Phase::Pending
            | Phase::Backoff { .. }
            | Phase::CrashLoop { .. }
            | Phase::Failed
            | Phase::Done
            | Phase::Stopped => {
                self.failures.forget();
                self.spawn()
            }
            Phase::Exited { until, .. } => {
                self.phase = Phase::Exited {
                    next: Next::Start,
                    until,
                };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn stop(&mut self, now: Instant) -> Vec<Effect> {
        self.wish = Wish::Stopped;
        match self.phase {
            Phase::Running | Phase::Adopted | Phase::Ready { .. } | Phase::Unready => {
                self.drain(now)
            }
            Phase::Exited { until, .. } => {
                self.phase = Phase::Exited {
                    next: Next::Stop,
                    until,
                };
                Vec::new()
            }
            // A start that is under way is stopped once it is known what came of it.
            Phase::Starting | Phase::Draining { .. } | Phase::Stopping { .. } => Vec::new(),
            Phase::Pending
            | Phase::Backoff { .. }
            | Phase::CrashLoop { .. }
            | Phase::Failed
            | Phase::Done
            | Phase::Stopped => {
                self.phase = Phase::Stopped;
                Vec::new()
            }
        }
    }

    fn restart(&mut self, now: Instant) -> Vec<Effect> {
        if self.phase.is_serving() {
            self.wish = Wish::Running;
            return self.drain(now);
        }
        self.start()
    }

    fn drain(&mut self, now: Instant) -> Vec<Effect> {
        self.note_ready_stretch(now);
        self.phase = Phase::Draining {
            until: now + self.policy.drain,
        };
        vec![Effect::AskStop]
    }

    // === What became of its process ===

    fn spawn(&mut self) -> Vec<Effect> {
        self.phase = Phase::Starting;
        self.best_ready = Duration::ZERO;
        self.age = Duration::ZERO;
        self.misses = 0;
        vec![Effect::Spawn]
    }

    fn spawned(&mut self, now: Instant) -> Vec<Effect> {
        if self.phase != Phase::Starting {
            return Vec::new();
        }
        self.phase = Phase::Running;
        match self.wish {
            Wish::Running => Vec::new(),
            Wish::Stopped => self.drain(now),
        }
    }

    fn spawn_failed(&mut self, reason: String, permanent: bool, now: Instant) -> Vec<Effect> {
        if self.phase != Phase::Starting {
            return Vec::new();
        }
        self.reason = Some(reason);
        if self.wish == Wish::Stopped {
            self.phase = Phase::Stopped;
        } else if permanent {
            self.phase = Phase::Failed;
        } else {
            let next = self.after_failure(Duration::ZERO, now);
            return self.enter(next);
        }
        Vec::new()
    }

    fn found(&mut self, age: Duration, now: Instant) -> Vec<Effect> {
        if self.phase.has_process() || matches!(self.phase, Phase::Exited { .. }) {
            return Vec::new();
        }
        self.phase = Phase::Adopted;
        self.best_ready = Duration::ZERO;
        self.age = age;
        self.misses = 0;
        match self.wish {
            Wish::Running => Vec::new(),
            Wish::Stopped => self.drain(now),
        }
    }

    fn exited(&mut self, exit: Exit, now: Instant) -> Vec<Effect> {
        if !self.phase.has_process() {
            return Vec::new();
        }
        self.note_ready_stretch(now);
        let planned = matches!(self.phase, Phase::Draining { .. } | Phase::Stopping { .. })
            && self.misses < self.policy.misses;
        let reason = if self.misses >= self.policy.misses {
            format!(
                "{} questions whether it lives stayed unanswered",
                self.misses
            )
        } else {
            exit.to_string()
        };
        let next = match (self.wish, planned) {
            (Wish::Stopped, _) => Next::Stop,
            (Wish::Running, true) => Next::Start,
            (Wish::Running, false) => match (self.policy.exit, exit) {
                (ExitPolicy::Never, _) | (ExitPolicy::OnFailure, Exit::Code(0)) => Next::Done,
                _ => self.after_failure(self.best_ready, now),
            },
        };
        self.reason = Some(reason.clone());
        self.phase = Phase::Exited {
            next,
            until: now + self.policy.notice,
        };
        vec![Effect::Clear { reason }]
    }

    fn after_failure(&mut self, ready_for: Duration, now: Instant) -> Next {
        let verdict = self.failures.note(ready_for, now, &self.policy);
        self.restarts = self.restarts.saturating_add(1);
        let until = now + verdict.wait;
        if verdict.looping {
            Next::Retry { until }
        } else {
            let notable = verdict.wait >= self.policy.notable_wait;
            Next::Wait { until, notable }
        }
    }

    fn cleared(&mut self) -> Vec<Effect> {
        match self.phase {
            Phase::Exited { next, .. } => self.enter(next),
            _ => Vec::new(),
        }
    }

    fn enter(&mut self, next: Next) -> Vec<Effect> {
        self.phase = match next {
            Next::Start => return self.spawn(),
            Next::Wait { until, notable } => Phase::Backoff { until, notable },
            Next::Retry { until } => Phase::CrashLoop { until },
            Next::Done => Phase::Done,
            Next::Stop => Phase::Stopped,
        };
        Vec::new()
    }

    // === What is seen of it ===

    fn presence(&mut self, presence: Presence, now: Instant) -> Vec<Effect> {
        match (presence, &self.phase) {
            (Presence::Ready, Phase::Running | Phase::Unready) => {
                self.phase = Phase::Ready { since: now };
            }
            (Presence::Ready, Phase::Adopted) => {
                // It was ready before this daemon came: its age stands in for what was not seen.
                self.best_ready = self.age;
                self.phase = Phase::Ready { since: now };
            }
            (Presence::Unready, Phase::Running | Phase::Adopted | Phase::Ready { .. })
            | (Presence::Absent, Phase::Ready { .. }) => {
                self.note_ready_stretch(now);
                self.phase = Phase::Unready;
            }
            _ => {}
        }
        Vec::new()
    }

    fn note_ready_stretch(&mut self, now: Instant) {
        if let Phase::Ready { since } = self.phase {
            let stretch = now.saturating_duration_since(since);
            self.best_ready = self.best_ready.max(stretch);
        }
    }

    fn stop_asked(&mut self, taken: bool, now: Instant) -> Vec<Effect> {
        if taken || !matches!(self.phase, Phase::Draining { .. }) {
            return Vec::new();
        }
        self.terminate(now)
    }

    fn terminate(&mut self, now: Instant) -> Vec<Effect> {
        self.phase = Phase::Stopping {
            kill_at: now + self.policy.grace,
        };
        vec![Effect::Terminate]
    }

    fn liveness(&mut self, answered: bool, now: Instant) -> Vec<Effect> {
        if !self.phase.is_serving() {
            return Vec::new();
        }
        if answered {
            self.misses = 0;
            return Vec::new();
        }
        self.misses += 1;
        if self.misses < self.policy.misses {
            return Vec::new();
        }
        self.note_ready_stretch(now);
        self.kill(now)
    }

    fn kill(&mut self, now: Instant) -> Vec<Effect> {
        self.phase = Phase::Stopping {
            kill_at: now + KILL_AGAIN,
        };
        vec![Effect::Kill]
    }

    fn tick(&mut self, now: Instant) -> Vec<Effect> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match self.phase {
            Phase::Draining { .. } => self.terminate(now),
            Phase::Stopping { .. } => self.kill(now),
            Phase::Exited { next, .. } => self.enter(next),
            Phase::Backoff { .. } | Phase::CrashLoop { .. } => self.spawn(),
            _ => Vec::new(),
        }
    }
}
