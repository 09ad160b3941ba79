//! Who gets how much of the traffic: choice and health together, on a clock that the tests turn.

use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

use super::balance::{self, Availability, Candidate, Nearness};
use super::health::{Health, Trouble};
use super::policy::{Policy, Turn};

const MS: Duration = Duration::from_millis(1);

/// An instance that answers after a time, or refuses at once.
struct Simulated {
    health: Health,
    in_flight: usize,
    takes: Duration,
    refuses: bool,
    calls: u32,
}

/// A client and its instances, called at an even pace.
struct World {
    instances: Vec<Simulated>,
    random: fastrand::Rng,
    now: Instant,
    /// When each call under way is answered, by whom, and when it began; the earliest first.
    under_way: BinaryHeap<std::cmp::Reverse<(Instant, usize, Instant)>>,
}

impl World {
    fn new(count: usize, takes: Duration) -> Self {
        let now = Instant::now();
        let instances = (0..count).map(|_| Simulated {
            health: Health::new(Trouble::default(), now),
            in_flight: 0,
            takes,
            refuses: false,
            calls: 0,
        });
        Self {
            instances: instances.collect(),
            random: fastrand::Rng::with_seed(7),
            now,
            under_way: BinaryHeap::new(),
        }
    }

    /// Calls so often, a millisecond apart, and tells how often each instance was called.
    fn call(&mut self, times: u32) -> Vec<u32> {
        for instance in &mut self.instances {
            instance.calls = 0;
        }
        for _ in 0..times {
            self.now += MS;
            self.answer();
            if let Some(chosen) = self.choose() {
                self.send(chosen);
            }
        }
        self.instances.iter().map(|it| it.calls).collect()
    }

    fn choose(&mut self) -> Option<usize> {
        let now = self.now;
        let candidates: Vec<Candidate> = (1..)
            .zip(&self.instances)
            .map(|(id, it)| Candidate {
                id,
                warmth: 1.0,
                latency_s: it.health.latency_s(now),
                in_flight: it.in_flight,
                weight: 100,
                nearness: Nearness::SameRegion,
                availability: if it.health.is_ejected(now) {
                    Availability::Ejected
                } else if it.health.awaits_probe(now) {
                    Availability::Due
                } else {
                    Availability::Usable
                },
                tried: false,
                last: false,
            })
            .collect();
        let draw = |below| self.random.usize(..below);
        balance::choose(&candidates, Policy::TwoChoices, Turn::default(), draw)
    }

    fn send(&mut self, index: usize) {
        let instance = &mut self.instances[index];
        instance.calls += 1;
        instance.health.calling(self.now);
        if instance.refuses {
            instance.health.failed(self.now);
            return;
        }
        instance.in_flight += 1;
        let answered = self.now + instance.takes;
        let call = (answered, index, self.now);
        self.under_way.push(std::cmp::Reverse(call));
    }

    fn answer(&mut self) {
        while let Some(std::cmp::Reverse((at, index, began))) = self.under_way.peek().copied() {
            if at > self.now {
                return;
            }
            self.under_way.pop();
            let instance = &mut self.instances[index];
            instance.in_flight -= 1;
            instance.health.answered(at.duration_since(began), at);
        }
    }
}

fn total(shares: &[u32]) -> u32 {
    shares.iter().sum()
}

#[tokio::test(start_paused = true)]
async fn row_25_one_that_gets_ten_times_slower_loses_its_share_within_a_second() {
    for takes in [MS, MS * 5, MS * 40] {
        let mut world = World::new(5, takes);
        let before = world.call(5_000);
        assert!(before.iter().all(|share| *share > 700), "{before:?}");
        world.instances[4].takes = takes * 10;
        let within_a_second = world.call(1_000);
        assert!(
            within_a_second[4] * 10 < total(&within_a_second),
            "{takes:?}: {within_a_second:?}"
        );
        let others = &within_a_second[..4];
        assert!(others.iter().all(|share| *share < 350), "{others:?}");
        assert!(!world.instances[4].health.is_ejected(world.now));
        // As fast as before, it is found out by the few calls that it gets.
        world.instances[4].takes = takes;
        world.call(60_000);
        let again = world.call(5_000);
        assert!(again[4] > 700, "{takes:?}: {again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_26_one_that_refuses_is_out_after_five_calls_and_back_soon_after_it_recovers() {
    let mut world = World::new(5, MS * 5);
    world.call(1_000);
    world.instances[4].refuses = true;
    let refused = world.call(16_000);
    assert_eq!(refused[4], 5, "{refused:?}");
    assert!(world.instances[4].health.is_ejected(world.now));
    world.instances[4].refuses = false;
    world.call(10_000);
    let again = world.call(5_000);
    assert!(again[4] > 700, "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn row_27_when_all_refuse_all_are_called_and_the_first_good_one_counts_at_once() {
    let mut world = World::new(5, MS * 5);
    for instance in &mut world.instances {
        instance.refuses = true;
    }
    world.call(10_000);
    let refused = world.call(1_000);
    assert_eq!(total(&refused), 1_000, "somebody is called all the same");
    for instance in &mut world.instances {
        instance.refuses = false;
    }
    world.call(100);
    let served = world.call(1_000);
    assert_eq!(total(&served), 1_000);
    let back = world.instances.iter();
    let back = back.filter(|it| !it.health.is_ejected(world.now)).count();
    assert!(back >= 3, "{back} of five are back");
}
