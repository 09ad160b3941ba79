use std::time::Duration;

use proptest::prelude::*;
use skynet::instance::State;
use tokio::time::Instant;

use super::*;

/// A child with a clock of its own.
struct Run {
    child: Child,
    now: Instant,
    effects: Vec<Effect>,
}

impl Run {
    fn new(policy: Policy) -> Self {
        Self {
            child: Child::new(policy, Wish::Running, 7),
            now: Instant::now(),
            effects: Vec::new(),
        }
    }

    fn ready() -> Self {
        let mut run = Self::new(Policy::default());
        run.take(Event::Start);
        run.take(Event::Spawned);
        run.take(Event::Presence(Presence::Ready));
        run
    }

    fn take(&mut self, event: Event) -> &[Effect] {
        let (child, effects) = step(self.child.clone(), event, self.now);
        self.child = child;
        self.effects = effects;
        &self.effects
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    /// Lets the time pass until the child's own deadline; returns how long that was.
    fn reach_deadline(&mut self) -> Duration {
        let deadline = self
            .child
            .deadline()
            .expect("the child waits for something");
        let wait = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        self.take(Event::Tick);
        wait
    }

    /// Kills the process and waits for the next start; returns the wait.
    fn fail_and_wait(&mut self) -> Duration {
        let died = self.now;
        self.take(Event::Exited(Exit::Signal(9)));
        assert_eq!(
            self.effects,
            [Effect::Clear {
                reason: "killed by SIGKILL".to_owned()
            }]
        );
        self.take(Event::Cleared);
        self.reach_deadline();
        assert_eq!(self.effects, [Effect::Spawn]);
        self.take(Event::Spawned);
        self.now - died
    }

    fn shown(&self) -> Option<State> {
        self.child.shown().map(|shown| shown.state)
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_child_that_was_ready_for_ten_seconds_is_back_after_a_tenth() {
    let mut run = Run::ready();
    run.pass(secs(10));
    assert_eq!(run.fail_and_wait(), Duration::from_millis(100));
    assert_eq!(run.shown(), None, "a short wait is not told");
}

#[test]
fn a_registry_that_does_not_answer_delays_a_start_by_half_a_second() {
    let mut run = Run::ready();
    run.pass(secs(10));
    run.take(Event::Exited(Exit::Code(1)));
    assert_eq!(run.reach_deadline(), Duration::from_millis(500));
    assert!(matches!(run.child.phase(), Phase::Backoff { .. }));
    assert_eq!(run.reach_deadline(), Duration::ZERO);
    assert_eq!(run.effects, [Effect::Spawn]);
}

#[test]
fn waits_double_and_five_failures_are_a_crash_loop_that_is_still_tried() {
    let mut run = Run::new(Policy::default());
    run.take(Event::Start);
    run.take(Event::Spawned);
    for full in [1, 2, 4, 8].map(secs) {
        let wait = run.fail_and_wait();
        assert!(
            full.mul_f64(0.8) <= wait && wait <= full,
            "{wait:?} of {full:?}"
        );
    }
    for _ in 0..10 {
        run.take(Event::Exited(Exit::Code(3)));
        run.take(Event::Cleared);
        assert_eq!(run.shown(), Some(State::Crashloop));
        let wait = run.reach_deadline();
        assert!(secs(48) <= wait && wait <= secs(60), "{wait:?}");
        assert_eq!(run.effects, [Effect::Spawn]);
        run.take(Event::Spawned);
    }
    assert_eq!(run.child.restarts(), 14);
    run.take(Event::Presence(Presence::Ready));
    run.pass(secs(60));
    let wait = run.fail_and_wait();
    assert_eq!(
        wait,
        Duration::from_millis(100),
        "a minute ready forgets it"
    );
    assert!(!run.child.is_looping());
}

#[test]
fn quick_restarts_in_a_row_are_a_crash_loop_too() {
    let mut run = Run::ready();
    for _ in 0..4 {
        run.take(Event::Presence(Presence::Ready));
        run.pass(secs(15));
        assert_eq!(run.fail_and_wait(), Duration::from_millis(100));
    }
    run.take(Event::Presence(Presence::Ready));
    run.pass(secs(15));
    run.take(Event::Exited(Exit::Code(0)));
    run.take(Event::Cleared);
    assert_eq!(run.shown(), Some(State::Crashloop));
}

#[test]
fn being_ready_counts_although_the_key_went_before_the_process() {
    let mut run = Run::ready();
    run.pass(secs(30)).take(Event::Presence(Presence::Absent));
    assert_eq!(*run.child.phase(), Phase::Unready);
    run.pass(secs(5));
    assert_eq!(run.fail_and_wait(), Duration::from_millis(100));
}

#[test]
fn an_adopted_child_that_is_ready_counts_its_age() {
    let mut run = Run::new(Policy::default());
    run.take(Event::Found { age: secs(3600) });
    assert_eq!(*run.child.phase(), Phase::Adopted);
    assert_eq!(run.effects, []);
    run.take(Event::Presence(Presence::Ready));
    assert_eq!(run.fail_and_wait(), Duration::from_millis(100));
}

#[test]
fn an_adopted_child_that_was_to_stop_is_stopped() {
    let mut child = Child::new(Policy::default(), Wish::Stopped, 1);
    let now = Instant::now();
    let effects;
    (child, effects) = step(child, Event::Found { age: secs(1) }, now);
    assert_eq!(effects, [Effect::AskStop]);
    assert!(matches!(child.phase(), Phase::Draining { .. }));
}

#[test]
fn a_stop_drains_then_terminates_then_kills_after_thirty_seconds() {
    let mut run = Run::ready();
    assert_eq!(run.take(Event::Stop), [Effect::AskStop]);
    run.take(Event::StopAsked { taken: true });
    assert_eq!(run.reach_deadline(), secs(25));
    assert_eq!(run.effects, [Effect::Terminate]);
    assert_eq!(run.reach_deadline(), secs(5));
    assert_eq!(run.effects, [Effect::Kill]);
    run.reach_deadline();
    assert_eq!(
        run.effects,
        [Effect::Kill],
        "a process that the kernel holds"
    );
    run.take(Event::Exited(Exit::Signal(9)));
    run.take(Event::Cleared);
    assert_eq!(run.shown(), Some(State::Stopped));
    assert_eq!(run.child.deadline(), None);
    assert_eq!(run.take(Event::Start), [Effect::Spawn]);
}

#[test]
fn a_child_that_cannot_be_asked_is_terminated_at_once() {
    let mut run = Run::ready();
    run.take(Event::Stop);
    assert_eq!(
        run.take(Event::StopAsked { taken: false }),
        [Effect::Terminate]
    );
}

#[test]
fn a_planned_restart_waits_for_nothing_and_is_no_failure() {
    let mut run = Run::ready();
    assert_eq!(run.take(Event::Restart), [Effect::AskStop]);
    run.take(Event::Exited(Exit::Code(0)));
    assert_eq!(run.take(Event::Cleared), [Effect::Spawn]);
    assert_eq!(run.child.restarts(), 0);
    run.take(Event::Spawned);
    run.take(Event::Restart);
    run.take(Event::Stop);
    run.take(Event::Exited(Exit::Code(0)));
    run.take(Event::Cleared);
    assert_eq!(*run.child.phase(), Phase::Stopped, "the later wish holds");
}

#[test]
fn a_stop_during_a_start_takes_effect_once_the_process_lives() {
    let mut run = Run::new(Policy::default());
    run.take(Event::Start);
    assert_eq!(run.take(Event::Stop), []);
    assert_eq!(run.take(Event::Spawned), [Effect::AskStop]);
}

#[test]
fn what_cannot_start_fails_for_good_or_is_tried_again() {
    let mut run = Run::new(Policy::default());
    run.take(Event::Start);
    run.take(Event::SpawnFailed {
        reason: "`x` is not there".to_owned(),
        permanent: true,
    });
    assert_eq!(run.shown(), Some(State::Failed));
    assert_eq!(run.child.reason(), Some("`x` is not there"));
    run.take(Event::Start);
    run.take(Event::SpawnFailed {
        reason: "no more processes".to_owned(),
        permanent: false,
    });
    assert!(matches!(run.child.phase(), Phase::Backoff { .. }));
    run.reach_deadline();
    assert_eq!(run.effects, [Effect::Spawn]);
}

#[test]
fn three_unanswered_questions_kill_and_count_as_a_failure() {
    let mut run = Run::ready();
    run.pass(secs(20));
    let miss = Event::Liveness { answered: false };
    assert_eq!(run.take(miss.clone()), []);
    assert_eq!(run.take(Event::Liveness { answered: true }), []);
    assert_eq!(run.take(miss.clone()), []);
    assert_eq!(run.take(miss.clone()), []);
    assert_eq!(run.take(miss), [Effect::Kill]);
    run.take(Event::Exited(Exit::Signal(9)));
    run.take(Event::Cleared);
    run.reach_deadline();
    assert_eq!(run.effects, [Effect::Spawn]);
    assert_eq!(run.child.restarts(), 1);
    assert!(
        run.child
            .reason()
            .is_some_and(|r| r.starts_with("3 questions"))
    );
}

#[test]
fn the_exit_policy_decides_who_is_done() {
    for (exit, how, done) in [
        (ExitPolicy::Always, Exit::Code(0), false),
        (ExitPolicy::OnFailure, Exit::Code(0), true),
        (ExitPolicy::OnFailure, Exit::Code(1), false),
        (ExitPolicy::OnFailure, Exit::Unknown, false),
        (ExitPolicy::Never, Exit::Signal(9), true),
    ] {
        let mut run = Run::new(Policy {
            exit,
            ..Policy::default()
        });
        run.take(Event::Start);
        run.take(Event::Spawned);
        run.take(Event::Exited(how));
        run.take(Event::Cleared);
        assert_eq!(*run.child.phase() == Phase::Done, done, "{exit:?} {how:?}");
    }
}

#[test]
fn a_short_drain_shortens_the_grace() {
    let policy = Policy::with_drain(secs(1));
    assert_eq!(policy.longest_stop(), secs(2));
    assert_eq!(Policy::default().longest_stop(), secs(30));
    assert_eq!(Policy::with_drain(secs(300)).grace, secs(5));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(Event::Stop),
        Just(Event::Restart),
        Just(Event::Spawned),
        any::<bool>().prop_map(|permanent| Event::SpawnFailed {
            reason: "no".to_owned(),
            permanent
        }),
        Just(Event::Found { age: secs(20) }),
        prop_oneof![
            Just(Exit::Code(0)),
            Just(Exit::Code(1)),
            Just(Exit::Signal(9))
        ]
        .prop_map(Event::Exited),
        prop_oneof![
            Just(Presence::Absent),
            Just(Presence::Unready),
            Just(Presence::Ready)
        ]
        .prop_map(Event::Presence),
        Just(Event::Cleared),
        any::<bool>().prop_map(|taken| Event::StopAsked { taken }),
        any::<bool>().prop_map(|answered| Event::Liveness { answered }),
        Just(Event::Tick),
    ]
}

/// Whether an event can happen to a child whose process is so.
fn is_possible(event: &Event, asked: bool, alive: bool) -> bool {
    match event {
        Event::Spawned | Event::SpawnFailed { .. } => asked,
        Event::Exited(_) | Event::Liveness { .. } | Event::StopAsked { .. } => alive,
        Event::Found { .. } => !asked && !alive,
        _ => true,
    }
}

proptest! {
    #[test]
    fn one_process_at_a_time_and_never_given_up_silently(
        events in prop::collection::vec((any_event(), 0_u64..90_000), 1..120),
    ) {
        let mut child = Child::new(Policy::default(), Wish::Running, 3);
        let mut now = Instant::now();
        // What a world that answers as it should has seen.
        let (mut asked, mut alive) = (false, false);
        for (event, wait) in events {
            if !is_possible(&event, asked, alive) {
                continue;
            }
            match &event {
                Event::Spawned => (asked, alive) = (false, true),
                Event::SpawnFailed { .. } => asked = false,
                Event::Exited(_) => alive = false,
                Event::Found { .. } if !matches!(child.phase(), Phase::Exited { .. }) => alive = true,
                _ => {}
            }
            now += Duration::from_millis(wait);
            let effects;
            (child, effects) = step(child, event, now);
            for effect in effects {
                match effect {
                    Effect::Spawn => {
                        prop_assert!(!asked && !alive, "a second process");
                        asked = true;
                    }
                    Effect::AskStop | Effect::Terminate | Effect::Kill => prop_assert!(alive),
                    Effect::Clear { .. } => prop_assert!(!alive),
                }
            }
            prop_assert_eq!(child.phase().has_process(), asked || alive);
            let explained = matches!(
                child.phase(),
                Phase::Pending | Phase::Failed | Phase::Done | Phase::Stopped
            );
            prop_assert!(explained || asked || alive || child.deadline().is_some());
            if let Some(deadline) = child.deadline() {
                prop_assert!(deadline <= now + Policy::default().longest_wait);
            }
        }
    }

    #[test]
    fn a_stop_ends_in_stopped_whatever_came_before(
        events in prop::collection::vec((any_event(), 0_u64..90_000), 0..40),
    ) {
        let mut child = Child::new(Policy::default(), Wish::Running, 3);
        let mut now = Instant::now();
        for (event, wait) in events {
            now += Duration::from_millis(wait);
            (child, _) = step(child, event, now);
        }
        (child, _) = step(child, Event::Stop, now);
        for _ in 0..8 {
            let answer = match child.phase() {
                Phase::Starting => Event::Spawned,
                Phase::Draining { .. } => Event::StopAsked { taken: false },
                Phase::Stopping { .. } => Event::Exited(Exit::Code(0)),
                Phase::Exited { .. } => Event::Cleared,
                _ => Event::Tick,
            };
            (child, _) = step(child, answer, now);
        }
        prop_assert_eq!(child.phase(), &Phase::Stopped);
    }
}
