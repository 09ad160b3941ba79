//! The registry's client under single faults, on paused time: each test names its row of the matrix
//! of faults. The same faults on real sockets are at the end.

use std::sync::Arc;
use std::time::Duration;

use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::embedded::{Faults, Leases, Path};
use skynet::registry::snapshot::Snapshot;
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registration, Registry, RegistryConfig, View};
use skynet::testing::{Network, SimulatedRegistry, TestRegistry};
use tokio::time::{Instant, sleep, timeout};

/// Says what was measured, for those who run it with `--nocapture`.
#[expect(clippy::print_stdout, reason = "figures for people")]
fn tell(figures: std::fmt::Arguments<'_>) {
    println!("{figures}");
}

pub(crate) fn identity(id: u128) -> Identity {
    Identity {
        service: "Echo".into(),
        version: "1".into(),
        region: "east".into(),
        host: format!("host-{id}").into(),
        id: InstanceId::from_u128(id),
    }
}

/// An entry of a process that nobody can look at, so that it is never taken for dead.
pub(crate) fn value(id: u128) -> InstanceValue {
    InstanceValue {
        address: ([127, 0, 0, 1], 9000).into(),
        admin_address: None,
        process: ProcessId {
            boot_id: format!("boot-{id}").into(),
            pid: 7,
            process_start: 70,
        },
        started: jiff::Timestamp::UNIX_EPOCH,
        registered: true,
        state: State::Ready,
        reason: None,
        deployment: None,
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: Vec::new(),
        other: serde_json::Map::new(),
    }
}

fn state_of(snapshot: &Snapshot, id: u128) -> Option<State> {
    snapshot
        .instance(InstanceId::from_u128(id))
        .map(|instance| instance.state)
}

fn key_of(faults: &Faults, id: u128) -> Option<skynet::registry::embedded::Standing> {
    let id = InstanceId::from_u128(id).to_string();
    let standing = faults.standing("/t/instances/");
    standing
        .into_iter()
        .find(|standing| standing.key.ends_with(&id))
}

/// Waits until `holds`, for at most `patience` of the test's time; tells how long it took.
async fn within(what: &str, patience: Duration, holds: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

async fn until(view: &View, what: &str, patience: Duration, holds: impl Fn(&Snapshot) -> bool) {
    let mut changes = view.changes();
    let seen = timeout(patience, changes.wait_for(|snapshot| holds(snapshot))).await;
    assert!(seen.is_ok(), "never seen within {patience:?}: {what}");
}

const SECOND: Duration = Duration::from_secs(1);

mod healing;

/// A registry, an instance in it, and a view that shows it.
struct Cluster {
    server: SimulatedRegistry,
    faults: Faults,
    owner: Registry,
    registration: Registration,
    _reader: Registry,
    view: Arc<View>,
}

impl Cluster {
    async fn with_endpoints(n_endpoints: usize) -> Self {
        let server = SimulatedRegistry::with_endpoints(n_endpoints);
        let faults = server.faults();
        let owner = server.client("/t");
        let registration = owner.register(identity(1), value(1));
        registration.registered().await;
        let reader = server.client("/t");
        let view = reader.view();
        until(&view, "the instance", 5 * SECOND, |snapshot| {
            state_of(snapshot, 1) == Some(State::Ready)
        })
        .await;
        // Past the first looks at what was written.
        sleep(2 * SECOND).await;
        Self {
            server,
            faults,
            owner,
            registration,
            _reader: reader,
            view,
        }
    }

    fn lease(&self) -> i64 {
        key_of(&self.faults, 1).map_or(0, |standing| standing.lease)
    }

    fn shows(&self, state: State) -> bool {
        state_of(&self.view.snapshot(), 1) == Some(state)
    }

    /// Watches the view for a while: the instance must be there all the time.
    async fn never_missing_for(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let state = state_of(&self.view.snapshot(), 1);
            assert!(
                matches!(state, Some(State::Ready | State::Suspect)),
                "the instance is {state:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_12_a_revoked_lease_is_replaced_within_a_second() {
    let cluster = Cluster::with_endpoints(1).await;
    for _ in 0..3 {
        let lease = cluster.lease();
        cluster.faults.revoke(lease).await.unwrap();
        within("registered again", SECOND, || {
            let now = cluster.lease();
            now != 0 && now != lease
        })
        .await;
        within("seen again", SECOND, || cluster.shows(State::Ready)).await;
        cluster.never_missing_for(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_12_a_lease_that_is_renewed_though_it_is_gone_is_replaced_within_a_second() {
    let cluster = Cluster::with_endpoints(1).await;
    for _ in 0..3 {
        let lease = cluster.lease();
        cluster.faults.revoke_secretly(lease).await.unwrap();
        within("registered again", SECOND, || {
            let now = cluster.lease();
            now != 0 && now != lease
        })
        .await;
        cluster.never_missing_for(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_16_an_entry_is_written_also_in_a_registry_that_went_back() {
    let cluster = Cluster::with_endpoints(1).await;
    let revision = cluster.faults.revision();
    for state in [State::Pressured, State::Ready].repeat(5) {
        cluster.registration.set_state(state);
        sleep(SECOND).await;
    }
    assert!(cluster.faults.revision() > revision + 5);
    cluster.faults.change_cluster_id();
    cluster.faults.go_back(revision).await.unwrap();
    cluster.never_missing_for(10 * SECOND).await;
    // The key stands there, on the lease that we hold, at a revision that is long behind us.
    cluster.registration.set_state(State::Draining);
    within("the change", 5 * SECOND, || {
        key_of(&cluster.faults, 1)
            .is_some_and(|one| String::from_utf8_lossy(&one.value).contains("draining"))
    })
    .await;
    // A wish of others reaches it as well.
    let mut wish = cluster.registration.wish();
    cluster
        .owner
        .set_registered(&identity(1), false)
        .await
        .unwrap();
    let heard = timeout(5 * SECOND, wish.wait_for(|wish| !wish)).await;
    assert!(heard.is_ok(), "the wish was not heard");
}

#[tokio::test(start_paused = true)]
async fn row_16_what_registers_in_the_new_registry_after_the_grace_is_believed() {
    let cluster = Cluster::with_endpoints(1).await;
    for state in [State::Pressured, State::Ready].repeat(10) {
        cluster.registration.set_state(state);
        sleep(SECOND).await;
    }
    // The reader lists an empty registry, and hears of nothing until its grace is over.
    cluster.faults.silence(true);
    cluster.faults.change_cluster_id();
    cluster.faults.lose_data().await.unwrap();
    cluster.never_missing_for(40 * SECOND).await;
    cluster.faults.silence(false);
    within(
        "ready, at a revision far below the last",
        15 * SECOND,
        || cluster.shows(State::Ready),
    )
    .await;
    cluster.never_missing_for(Duration::from_mins(1)).await;
    assert!(cluster.shows(State::Ready));
}

#[tokio::test(start_paused = true)]
async fn row_17_a_compaction_under_a_watcher_loses_nothing() {
    let cluster = Cluster::with_endpoints(1).await;
    let second = cluster.owner.register(identity(2), value(2));
    second.registered().await;
    within("the second", SECOND, || {
        state_of(&cluster.view.snapshot(), 2) == Some(State::Ready)
    })
    .await;
    // While the watcher hears nothing, one changes, one leaves, one comes, and that is forgotten.
    cluster.faults.silence(true);
    cluster.registration.set_state(State::Pressured);
    second.leave().await;
    let third = cluster.owner.register(identity(3), value(3));
    third.registered().await;
    within("written", SECOND, || {
        key_of(&cluster.faults, 1)
            .is_some_and(|one| String::from_utf8_lossy(&one.value).contains("pressured"))
    })
    .await;
    cluster.faults.compact().await.unwrap();
    let before = cluster.faults.tally().calls("Range");
    cluster.faults.cut();
    cluster.faults.silence(false);
    within("all of it", 5 * SECOND, || {
        let now = cluster.view.snapshot();
        // What left without being seen to leave is suspected, not called.
        let second = state_of(&now, 2).is_none_or(|state| state == State::Suspect);
        second
            && state_of(&now, 1) == Some(State::Pressured)
            && state_of(&now, 3) == Some(State::Ready)
    })
    .await;
    assert!(
        cluster.faults.tally().calls("Range") > before,
        "nobody listed again"
    );
}

#[tokio::test(start_paused = true)]
async fn row_18_a_silent_watch_is_left_for_another_endpoint_within_12_s() {
    let server = SimulatedRegistry::with_endpoints(3);
    let watches = |endpoint| {
        let faults = server.faults().of_endpoint(endpoint);
        faults.tally().calls("Watch")
    };
    let reader = server.client("/t");
    let view = reader.view();
    view.ready().await;
    sleep(SECOND).await;
    // Whichever endpoint it uses, that one falls silent.
    let used = (0..3).find(|endpoint| watches(*endpoint) > 0).unwrap();
    let owner = server.client("/t");
    let registration = owner.register(identity(1), value(1));
    registration.registered().await;
    until(&view, "it", SECOND, |now| state_of(now, 1).is_some()).await;
    let before: usize = (0..3).filter(|one| *one != used).map(watches).sum();
    server.faults().of_endpoint(used).silence(true);
    registration.set_state(State::Pressured);
    let took = within("the news", 13 * SECOND, || {
        state_of(&view.snapshot(), 1) == Some(State::Pressured)
    })
    .await;
    tell(format_args!("row 18: the news came after {took:?}"));
    assert!(took > 6 * SECOND, "the silence was not heard: {took:?}");
    let after: usize = (0..3).filter(|one| *one != used).map(watches).sum();
    assert!(after > before, "no other endpoint was asked");
}

#[tokio::test(start_paused = true)]
async fn row_19_old_and_repeated_events_change_nothing() {
    let cluster = Cluster::with_endpoints(1).await;
    // History: a second one that came, changed, left and came back; the first one's changes.
    for state in [State::Pressured, State::Ready, State::Pressured] {
        cluster.registration.set_state(state);
        sleep(SECOND).await;
    }
    let second = cluster.owner.register(identity(2), value(2));
    second.registered().await;
    second.leave().await;
    let second = cluster.owner.register(identity(2), value(2));
    second.registered().await;
    sleep(2 * SECOND).await;
    let standing = cluster.faults.standing("/t/");

    for (is_late, n) in [(false, 3), (false, 50), (true, 3), (true, 50)] {
        if is_late {
            cluster.faults.reorder(n);
        } else {
            cluster.faults.duplicate(n);
        }
        cluster.faults.cut();
        let end = Instant::now() + 15 * SECOND;
        while Instant::now() < end {
            let now = cluster.view.snapshot();
            assert_eq!(
                state_of(&now, 1),
                Some(State::Pressured),
                "late {is_late}, {n}"
            );
            assert_eq!(state_of(&now, 2), Some(State::Ready), "late {is_late}, {n}");
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(cluster.faults.standing("/t/"), standing, "somebody wrote");
    }
}

#[tokio::test(start_paused = true)]
async fn row_33_slow_answers_cost_no_lease_and_are_not_asked_for_twice() {
    let cluster = Cluster::with_endpoints(1).await;
    let lease = cluster.lease();
    cluster.faults.answer_after(3 * SECOND);
    cluster.never_missing_for(Duration::from_mins(2)).await;
    assert_eq!(cluster.lease(), lease, "the lease was lost");
    let tally = cluster.faults.tally();
    assert_eq!(tally.most_at_once.get("LeaseKeepAlive"), Some(&1));
    // Two workers look at one key each: the entry's own and the view's listing.
    assert!(
        tally
            .most_at_once
            .get("Range")
            .is_none_or(|most| *most <= 2)
    );
}

#[tokio::test(start_paused = true)]
async fn row_33_too_many_requests_are_answered_with_patience() {
    let cluster = Cluster::with_endpoints(1).await;
    let lease = cluster.lease();
    let before: usize = cluster.faults.tally().calls.values().sum();
    cluster.faults.refuse(usize::MAX);
    cluster.registration.set_state(State::Pressured);
    cluster.never_missing_for(6 * SECOND).await;
    let asked = cluster.faults.tally().calls.values().sum::<usize>() - before;
    assert!(asked <= 40, "{asked} calls in 6 s to one that has too many");
    cluster.faults.refuse(0);
    within("written after all", 5 * SECOND, || {
        cluster.shows(State::Pressured)
    })
    .await;
    assert_eq!(cluster.lease(), lease, "the lease was lost");
}

#[tokio::test(start_paused = true)]
async fn row_14_without_a_leader_nobody_connects_anew() {
    let cluster = Cluster::with_endpoints(3).await;
    cluster.faults.lose_leader(true);
    // The streams that broke off are opened anew once.
    cluster.never_missing_for(10 * SECOND).await;
    let before = cluster.faults.tally();
    cluster.never_missing_for(Duration::from_mins(1)).await;
    let after = cluster.faults.tally();
    let connected = after.connections - before.connections;
    assert!(connected <= 6, "{connected} new connections in a minute");
    let asked = after.calls.values().sum::<usize>() - before.calls.values().sum::<usize>();
    // Lease, own key, and the reader's: each asks three endpoints twice a second at most.
    assert!(asked <= 60 * 2 * 3 * 3, "{asked} calls in a minute");
    cluster.faults.lose_leader(false);
    within("registered", 15 * SECOND, || {
        cluster.lease() != 0 && cluster.shows(State::Ready)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rows_11_to_14_a_frozen_registry_costs_nothing_but_time() {
    for leases in [Leases::Stand, Leases::Expire] {
        let cluster = Cluster::with_endpoints(1).await;
        cluster.faults.freeze(leases);
        cluster.never_missing_for(Duration::from_mins(5)).await;
        cluster.faults.thaw();
        within("registered", 15 * SECOND, || {
            cluster.lease() != 0 && cluster.shows(State::Ready)
        })
        .await;
        cluster.never_missing_for(Duration::from_mins(2)).await;
        assert!(cluster.shows(State::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn row_13_one_endpoint_of_three_may_die_in_any_way() {
    for path in [Path::Refused, Path::Stalled, Path::Lost] {
        let cluster = Cluster::with_endpoints(3).await;
        let lease = cluster.lease();
        for endpoint in 0..3 {
            cluster.server.set_path(endpoint, path);
            cluster.never_missing_for(20 * SECOND).await;
            cluster.registration.set_state(State::Pressured);
            within("a change", 15 * SECOND, || cluster.shows(State::Pressured)).await;
            cluster.registration.set_state(State::Ready);
            within("another", 15 * SECOND, || cluster.shows(State::Ready)).await;
            cluster.server.set_path(endpoint, Path::Open);
            assert_eq!(cluster.lease(), lease, "the lease was lost: {path:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cluster_writes_nothing_for_an_hour() {
    let server = SimulatedRegistry::with_endpoints(3);
    // Two processes hold 20 entries each; these and eight others look on.
    let clients: Vec<Registry> = (0..10).map(|_| server.client("/t")).collect();
    let registrations: Vec<Registration> = (0..40_u128)
        .zip(clients.iter().take(2).cycle())
        .map(|(id, client)| client.register(identity(id + 1), value(id + 1)))
        .collect();
    let views: Vec<Arc<View>> = clients.iter().map(Registry::view).collect();
    for registration in &registrations {
        registration.registered().await;
    }
    for view in &views {
        until(view, "all", 10 * SECOND, |snapshot| snapshot.len() == 40).await;
    }
    let faults = server.faults();
    let (revision, before) = (faults.revision(), faults.tally());
    sleep(Duration::from_hours(1)).await;
    assert_eq!(faults.revision(), revision, "somebody wrote");
    assert!(views.iter().all(|view| view.snapshot().len() == 40));
    let tally = faults.tally();
    assert_eq!(
        tally.connections, before.connections,
        "somebody dialled again"
    );
    tell(format_args!(
        "an hour of 10 processes, 40 instances, 10 views: {:?}",
        tally.calls
    ));
}

/// Registries restart under `n` clients; tells what they asked for in each second after it, as
/// connections, watches and reads.
async fn come_back(n: usize) -> Vec<(usize, usize, usize)> {
    let server = SimulatedRegistry::new();
    let faults = server.faults();
    let owner = server.client("/t");
    let registration = owner.register(identity(1), value(1));
    registration.registered().await;
    let clients: Vec<Registry> = (0..n).map(|_| server.client("/t")).collect();
    // Two views of one process share one watcher.
    let views: Vec<[Arc<View>; 2]> = clients.iter().map(|one| [one.view(), one.view()]).collect();
    for [view, _] in &views {
        view.ready().await;
    }
    sleep(3 * SECOND).await;
    let before = faults.tally();
    assert!(before.calls("Watch") <= n + 3, "{before:?}");
    server.set_path(0, Path::Refused);
    sleep(20 * SECOND).await;
    server.set_path(0, Path::Open);
    let mut per_second = Vec::new();
    let mut last = faults.tally();
    for _ in 0..8 {
        sleep(SECOND).await;
        let now = faults.tally();
        per_second.push((
            now.connections - last.connections,
            now.calls("Watch") - last.calls("Watch"),
            now.calls("Range") - last.calls("Range"),
        ));
        last = now;
    }
    let connections = last.connections - before.connections;
    let watches = last.calls("Watch") - before.calls("Watch");
    // One each, and the owner's.
    assert_eq!(connections, n + 1, "{per_second:?}");
    assert!((n..=n + 20).contains(&watches), "{per_second:?}");
    for [view, _] in &views {
        assert!(view.link().borrow().is_live());
    }
    per_second
}

/// With full jitter up to 5 s, the first second has a third of them, not all.
fn is_spread(n: usize, per_second: &[(usize, usize, usize)]) {
    tell(format_args!(
        "row 43: {n} clients, (connections, watches, reads) per second: {per_second:?}"
    ));
    let most = per_second
        .iter()
        .map(|(connections, ..)| *connections)
        .max();
    assert!(most.is_some_and(|most| most * 2 <= n), "{per_second:?}");
    // Who resumes asks whose registry it is, by two reads of one key, and does not list, which would
    // be three more.
    let reads: usize = per_second.iter().map(|(.., reads)| reads).sum();
    assert!(reads <= 2 * n + 10, "they need not list: {per_second:?}");
}

#[tokio::test(start_paused = true)]
async fn row_43_many_clients_come_back_one_by_one() {
    is_spread(150, &come_back(150).await);
}

#[tokio::test(start_paused = true)]
#[ignore = "half a minute; cargo test --release -p skynet --test it a_thousand -- --ignored --nocapture"]
async fn row_43_a_thousand_clients_come_back_one_by_one() {
    is_spread(1000, &come_back(1000).await);
}

mod on_real_sockets {
    //! The same faults reach a registry on a socket.

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_registry_can_be_ill_treated() {
        let server = TestRegistry::embedded().await.unwrap();
        let faults = server.faults().await.unwrap();
        let config = RegistryConfig::at(&server.url()).with_prefix("/t");
        let registry = Registry::new(&config).unwrap();
        let registration = registry.register(identity(1), value(1));
        registration.registered().await;
        let view = registry.view();
        let ready = |snapshot: &Snapshot| state_of(snapshot, 1) == Some(State::Ready);
        until(&view, "the instance", PATIENCE, ready).await;
        let revision = faults.revision();

        let lease = || key_of(&faults, 1).map_or(0, |standing| standing.lease);
        for secretly in [false, true] {
            let old = lease();
            if secretly {
                faults.revoke_secretly(old).await.unwrap();
            } else {
                faults.revoke(old).await.unwrap();
            }
            within("another lease", PATIENCE, || ![0, old].contains(&lease())).await;
            until(&view, "back", PATIENCE, ready).await;
        }

        faults.freeze(Leases::Stand);
        let frozen = timeout(SECOND / 10, registry.snapshot()).await;
        assert!(frozen.is_err(), "a frozen registry answered");
        faults.thaw();
        registry.snapshot().await.unwrap();

        faults.answer_after(SECOND / 5);
        let began = Instant::now();
        registry.snapshot().await.unwrap();
        assert!(began.elapsed() >= SECOND / 5);
        faults.answer_after(Duration::ZERO);

        faults.go_back(revision).await.unwrap();
        within("back and registered", PATIENCE, || {
            lease() != 0 && registration.stands().borrow().to_owned()
        })
        .await;
        faults.change_cluster_id();
        faults.lose_data().await.unwrap();
        within("registered in an empty one", PATIENCE, || lease() != 0).await;
        until(&view, "seen in it", PATIENCE, ready).await;
    }

    #[tokio::test]
    async fn what_was_lost_stays_lost_on_the_disk() {
        let mut server = TestRegistry::embedded().await.unwrap();
        let config = RegistryConfig::at(&server.url()).with_prefix("/t");
        let registry = Registry::new(&config).unwrap();
        let registration = registry.register(identity(1), value(1));
        registration.registered().await;
        registration.leave().await;
        let faults = server.faults().await.unwrap();
        assert!(faults.revision() > 1);
        drop(registry);
        faults.lose_data().await.unwrap();
        assert_eq!(faults.revision(), 1);
        server.restart().await.unwrap();
        let faults = server.faults().await.unwrap();
        assert_eq!(faults.revision(), 1);
        assert_eq!(faults.standing("/"), []);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_way_is_cut_is_kept_for_a_while_and_comes_back() {
    let server = SimulatedRegistry::new();
    let network = Network::default();
    let owner = server.client_over(&server.config("/t"), &network);
    let registration = owner.register(identity(1), value(1));
    registration.registered().await;
    let reader = server.client("/t");
    let view = reader.view();
    until(&view, "it", SECOND, |now| state_of(now, 1).is_some()).await;
    network.set(Path::Lost);
    let took = within("it leaves the registry", 11 * SECOND, || {
        key_of(&server.faults(), 1).is_none()
    })
    .await;
    assert!(took > 6 * SECOND, "a lease ended after {took:?}");
    within("suspect", SECOND, || {
        state_of(&view.snapshot(), 1) == Some(State::Suspect)
    })
    .await;
    network.set(Path::Open);
    within("back", 15 * SECOND, || {
        state_of(&view.snapshot(), 1) == Some(State::Ready)
    })
    .await;
}

#[test]
fn row_30_nothing_in_the_registry_reads_a_clock_that_people_set() {
    // Paused time shows the rest: the tests above live through hours in which the wall clock moves
    // by milliseconds, and no lease ends too early or too late.
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry")];
    let mut offenders = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // A damaged file is put aside under the time of day, for people; what the disk remembers
            // says when it was true, and is too old after a week.
            if [
                "embedded/disk/repair.rs",
                "registry/cache.rs",
                "registry/cache/tests.rs",
            ]
            .iter()
            .any(|allowed| path.ends_with(allowed))
            {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in [
                "SystemTime",
                "Timestamp::now",
                "Zoned::now",
                "std::time::Instant",
            ] {
                if text.contains(word) {
                    offenders.push(format!("{} names `{word}`", path.display()));
                }
            }
        }
    }
    assert!(offenders.is_empty(), "{offenders:?}");
}
