//! A real registry process is killed a hundred times under load, and a ledger says what it owes.
//!
//! Every writer has keys of its own and writes down what was acknowledged, and what was under way
//! when the process died: that may have happened or not, but once at most. A watcher resumes behind
//! the last event that it saw, across all the kills. The seed is printed; `SKYNET_TEST_SEED` repeats
//! a run's choices (not its timing).

mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use fastrand::Rng;
use rustix::process::Signal;
use skynet::testing::free_address;
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::writer::{Events, Ledger, Shared, Writer};
use super::registry_process::{PATIENCE, Serving};

const WRITERS: usize = 6;

/// What a watcher saw that resumes across the kills, and what stands according to it.
#[derive(Debug)]
struct Seen {
    revision: i64,
    /// Value, revision and lease.
    state: BTreeMap<String, (String, i64, i64)>,
    /// Revisions that were seen and not yet compared with the ledger.
    fresh: BTreeMap<i64, Events>,
}

impl Seen {
    /// Watches until the registry goes away, or until `until` was seen.
    async fn watch(&mut self, mut client: Client, until: Option<i64>) {
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(self.revision + 1);
        let Ok(mut watch) = client.watch("", Some(options)).await else {
            return;
        };
        while until.is_none_or(|until| self.revision < until) {
            let Ok(Some(response)) = timeout(PATIENCE, watch.message()).await.unwrap() else {
                assert!(until.is_none(), "the watch broke off at {}", self.revision);
                return;
            };
            assert!(!response.canceled(), "{response:?}");
            // A revision's events come in one answer, so an answer never ends within one.
            let mut answer: BTreeMap<i64, Events> = BTreeMap::new();
            for event in response.events() {
                let kv = event.kv().unwrap();
                let key = kv.key_str().unwrap().to_owned();
                let what = match event.event_type() {
                    EventType::Put => Some((kv.value_str().unwrap().to_owned(), kv.lease())),
                    EventType::Delete => None,
                };
                let twice = answer
                    .entry(kv.mod_revision())
                    .or_default()
                    .insert(key, what);
                assert!(
                    twice.is_none(),
                    "one key twice in revision {}",
                    kv.mod_revision()
                );
            }
            for (revision, events) in answer {
                assert_eq!(
                    revision,
                    self.revision + 1,
                    "each revision comes exactly once"
                );
                self.take_in(revision, events);
            }
        }
    }

    fn take_in(&mut self, revision: i64, events: Events) {
        self.revision = revision;
        for (key, event) in &events {
            match event {
                Some((value, lease)) => {
                    let new = (value.clone(), revision, *lease);
                    self.state.insert(key.clone(), new);
                }
                None => drop(self.state.remove(key)),
            }
        }
        self.fresh.insert(revision, events);
    }

    /// Holds what was seen against the ledger; what was open is settled by it.
    fn compare(&mut self, ledger: &mut Ledger) {
        for (revision, events) in std::mem::take(&mut self.fresh) {
            if let Some(owed) = ledger.owed.remove(&revision) {
                assert_eq!(
                    events, owed,
                    "revision {revision} is not what was acknowledged"
                );
                continue;
            }
            let asked = ledger.open.iter().position(|open| *open == events);
            let asked = asked.unwrap_or_else(|| panic!("{revision} was never asked: {events:?}"));
            ledger.open.swap_remove(asked);
        }
        let left = &ledger.owed;
        assert!(left.is_empty(), "acknowledged and lost: {left:?}");
        // What did not happen until now never will: the process that had it is dead.
        ledger.open.clear();
    }
}

/// Compares everything that stands there with what the watcher's events add up to.
async fn check(client: &mut Client, seen: &mut Seen, shared: &Shared) {
    let options = GetOptions::new().with_all_keys();
    let read = client.get("", Some(options)).await.unwrap();
    let revision = read.header().unwrap().revision();
    assert!(revision >= seen.revision, "went back to {revision}");
    seen.watch(client.clone(), Some(revision)).await;
    let there: BTreeMap<String, (String, i64, i64)> = read
        .kvs()
        .iter()
        .map(|kv| {
            let value = kv.value_str().unwrap().to_owned();
            let key = kv.key_str().unwrap().to_owned();
            (key, (value, kv.mod_revision(), kv.lease()))
        })
        .collect();
    assert_eq!(there, seen.state, "at {revision}");
    let leases = client.leases().await.unwrap();
    let leases: BTreeSet<i64> = leases
        .leases()
        .iter()
        .map(etcd_client::LeaseStatus::id)
        .collect();

    let mut ledger = shared.ledger();
    seen.compare(&mut ledger);
    let lost: Vec<_> = ledger.leases.difference(&leases).collect();
    assert!(lost.is_empty(), "leases lost: {lost:?}");
    let risen: Vec<_> = ledger.ended.intersection(&leases).collect();
    assert!(risen.is_empty(), "leases that were revoked: {risen:?}");
    for lease in leases.difference(&ledger.leases) {
        assert!(
            ledger.open_leases.contains(lease),
            "nobody asked for {lease}"
        );
    }
    // The next round's writers know only their own leases; whoever is left over stays.
    ledger.leases = leases;
    ledger.open_leases.clear();
    drop(ledger);
}

/// Writes and watches until the process is killed, after so many acknowledged writes.
async fn load(serving: &Serving, seen: Seen, shared: &Arc<Shared>, rng: &mut Rng) -> Seen {
    let client = serving.client().await;
    let mut writers = JoinSet::new();
    for name in 0..WRITERS {
        let own = seen
            .state
            .iter()
            .filter(|(key, _)| key.starts_with(&format!("{name}/")));
        let keys = own.map(|(key, at)| (key.clone(), (at.1, at.2))).collect();
        let writer = Writer {
            name,
            shared: Arc::clone(shared),
            client: client.clone(),
            rng: rng.fork(),
            keys,
            leases: Vec::new(),
        };
        writers.spawn(writer.work());
    }
    let watching = tokio::spawn({
        let client = client.clone();
        let mut seen = seen;
        async move {
            seen.watch(client, None).await;
            seen
        }
    });
    let enough = shared.ledger().n_acknowledged + rng.usize(..80);
    let deadline = Instant::now() + PATIENCE;
    while shared.ledger().n_acknowledged < enough {
        timeout(deadline - Instant::now(), shared.acknowledged.notified())
            .await
            .expect("nothing is written");
    }
    // Somewhere between two commits, or within one.
    sleep(Duration::from_micros(rng.u64(..4000))).await;
    serving.signal(Signal::KILL);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    watching.await.unwrap()
}

#[expect(
    clippy::print_stdout,
    reason = "the seed and the figures are for whoever reads the log"
)]
async fn kill_under_load(rounds: usize) {
    let seed = std::env::var("SKYNET_TEST_SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SKYNET_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let folder = TempDir::new().unwrap();
    let address = free_address().unwrap();
    let shared = Arc::new(Shared::default());
    let mut seen = Seen {
        revision: 1,
        state: BTreeMap::new(),
        fresh: BTreeMap::new(),
    };
    let started = Instant::now();
    let mut starting = Duration::ZERO;
    let mut n_early = 0;
    for _ in 0..rounds {
        if rng.u8(..5) == 0 {
            // While it starts, too.
            let serving = Serving::start(address, folder.path());
            sleep(Duration::from_micros(rng.u64(..30_000))).await;
            serving.signal(Signal::KILL);
            n_early += 1;
        }
        let before = Instant::now();
        let serving = Serving::start(address, folder.path());
        let mut client = serving.client().await;
        starting += before.elapsed();
        check(&mut client, &mut seen, &shared).await;
        seen = load(&serving, seen, &shared, &mut rng).await;
    }
    let serving = Serving::start(address, folder.path());
    check(&mut serving.client().await, &mut seen, &shared).await;
    let n_acknowledged = shared.ledger().n_acknowledged;
    println!(
        "killed {rounds} times under load and {n_early} times while it started in {:?}: \
         {n_acknowledged} acknowledged revisions of {}, none lost; a start took {:?} on average",
        started.elapsed(),
        seen.revision - 1,
        starting / u32::try_from(rounds).unwrap(),
    );
    assert!(n_acknowledged >= rounds * 10);
}

#[tokio::test]
async fn acknowledged_writes_survive_a_hundred_kills_under_load() {
    Box::pin(kill_under_load(100)).await;
}

#[tokio::test]
#[ignore = "long; cargo test -p skynet --test it thousand_kills -- --ignored --nocapture"]
async fn acknowledged_writes_survive_a_thousand_kills_under_load() {
    Box::pin(kill_under_load(1000)).await;
}
