//! The view through everything that a registry may say.

use proptest::prelude::*;

use super::*;
use crate::instance::Identity;

fn instance(id: u128, state: State, mod_revision: i64) -> Arc<Instance> {
    Arc::new(Instance {
        identity: Identity {
            service: "s".into(),
            version: "1".into(),
            region: "r".into(),
            host: "h".into(),
            id: InstanceId::from_u128(id),
        },
        address: None,
        admin_address: None,
        registered: true,
        state,
        reason: None,
        process: None,
        started: jiff::Timestamp::UNIX_EPOCH,
        deployment: None,
        weight: 100,
        lease: 1,
        tags: Vec::new(),
        mod_revision,
    })
}

fn states(view: &ViewBuilder) -> Vec<State> {
    view.snapshot()
        .instances()
        .map(|instance| instance.state)
        .collect()
}

fn remove(view: &mut ViewBuilder, id: u128, revision: i64, now: Instant) {
    let identity = instance(id, State::Ready, 0).identity.clone();
    view.remove(Key::Instance(identity), revision, now);
    view.weigh(now);
}

fn put(view: &mut ViewBuilder, id: u128, state: State, revision: i64) {
    view.apply(Change::PutInstance(instance(id, state, revision)));
}

/// Lists these and no others, all as they were written at `revision`.
fn list(view: &mut ViewBuilder, ids: &[u128], revision: i64, now: Instant) {
    let changed = ids
        .iter()
        .map(|id| Change::PutInstance(instance(*id, State::Ready, revision)))
        .collect();
    let gone = view
        .snapshot()
        .instances()
        .map(|instance| instance.id())
        .filter(|id| !ids.contains(&id.as_u128()))
        .map(Change::RemoveInstance)
        .collect();
    view.replace(changed, gone, revision, now);
    view.weigh(now);
}

const GRACE: Duration = Duration::from_secs(20);

#[test]
fn absence_is_suspected_and_said_death_is_believed() {
    let mut view = ViewBuilder::default();
    let now = Instant::now();
    for (id, state) in [(1, State::Ready), (2, State::Dead), (3, State::Leaving)] {
        put(&mut view, id, state, 5);
    }
    for id in 1..=3 {
        remove(&mut view, id, 6, now);
    }
    assert_eq!(states(&view), [State::Suspect]);
    let expiry = view.next_expiry().unwrap();
    assert!(!view.expire(now));
    assert!(view.expire(expiry));
    assert_eq!(states(&view), []);
}

#[test]
fn a_suspect_that_comes_back_is_not_given_up() {
    let mut view = ViewBuilder::default();
    let now = Instant::now();
    put(&mut view, 1, State::Ready, 5);
    list(&mut view, &[], 6, now);
    assert_eq!(states(&view), [State::Suspect]);
    put(&mut view, 1, State::Ready, 7);
    assert!(!view.expire(now + GRACE * 9));
    assert_eq!(states(&view), [State::Ready]);
}

#[test]
fn old_news_is_passed_over() {
    let mut view = ViewBuilder::default();
    let now = Instant::now();
    put(&mut view, 1, State::Ready, 9);
    put(&mut view, 1, State::Starting, 7);
    remove(&mut view, 1, 8, now);
    assert_eq!(states(&view), [State::Ready]);
    // A stream that tells its last events again brings nothing back.
    remove(&mut view, 1, 10, now);
    put(&mut view, 1, State::Ready, 9);
    assert_eq!(states(&view), [State::Suspect]);
    put(&mut view, 2, State::Leaving, 11);
    remove(&mut view, 2, 12, now);
    put(&mut view, 2, State::Leaving, 11);
    assert_eq!(states(&view), [State::Suspect]);
}

#[test]
fn the_deletion_of_a_former_key_takes_nothing_away() {
    let mut view = ViewBuilder::default();
    put(&mut view, 1, State::Ready, 5);
    let mut former = instance(1, State::Ready, 0).identity.clone();
    former.version = "0".into();
    view.remove(Key::Instance(former), 6, Instant::now());
    assert_eq!(states(&view), [State::Ready]);
}

#[test]
fn what_an_unknown_registry_lacks_is_kept_then_suspected_then_gone() {
    let mut view = ViewBuilder::default();
    let start = Instant::now();
    list(&mut view, &[1, 2], 90, start);
    view.protect(Doubt::Wiped, GRACE, start);
    list(&mut view, &[], 1, start);
    assert_eq!(states(&view), [State::Ready; 2]);
    assert_eq!((view.snapshot().epoch(), view.revision()), (1, 1));
    // It registers again, at a revision that was long passed; a newcomer counts at once.
    put(&mut view, 1, State::Ready, 2);
    put(&mut view, 3, State::Ready, 3);
    assert!(!view.expire(start + GRACE - Duration::from_millis(1)));
    assert_eq!(states(&view), [State::Ready; 3]);
    assert!(view.expire(start + GRACE));
    assert!(view.protection().is_none());
    assert_eq!(states(&view), [State::Ready, State::Suspect, State::Ready]);
    assert!(view.expire(view.next_expiry().unwrap()));
    assert_eq!(states(&view), [State::Ready; 2]);
}

#[test]
fn while_things_are_kept_only_those_who_say_so_go() {
    let mut view = ViewBuilder::default();
    let start = Instant::now();
    list(&mut view, &[1, 2], 90, start);
    put(&mut view, 2, State::Leaving, 91);
    view.protect(Doubt::WentBack, GRACE, start);
    list(&mut view, &[1], 50, start);
    assert_eq!(states(&view), [State::Ready], "it had said that it leaves");
    remove(&mut view, 1, 51, start);
    assert_eq!(states(&view), [State::Ready]);
    assert!(view.expire(start + GRACE));
    assert_eq!(states(&view), [State::Suspect]);
}

#[test]
fn an_absent_registry_gives_everybody_the_whole_time_again() {
    let mut view = ViewBuilder::default();
    let start = Instant::now();
    list(&mut view, &[1], 5, start);
    list(&mut view, &[], 6, start);
    let back = start + GRACE * 9;
    view.prolong(back);
    assert!(!view.expire(back));
    assert!(view.expire(view.next_expiry().unwrap()));

    list(&mut view, &[1], 7, start);
    view.protect(Doubt::Wiped, GRACE, start);
    list(&mut view, &[], 1, start);
    view.prolong(back);
    assert!(!view.expire(back));
    assert_eq!(states(&view), [State::Ready]);
}

#[test]
fn most_of_a_service_is_held_until_it_is_back() {
    let mut view = ViewBuilder::default();
    let start = Instant::now();
    list(&mut view, &[1, 2, 3, 4], 5, start);
    list(&mut view, &[4], 6, start);
    let alarm = view.snapshot().alarms().get("s").copied().unwrap();
    assert_eq!((alarm.vanished, alarm.of), (3, 4));
    let late = start + GRACE * 9;
    assert!(!view.expire(late));
    assert_eq!(
        view.snapshot().len(),
        4,
        "held for longer than a suspect is"
    );
    for id in 1..=2 {
        put(&mut view, id, State::Ready, 7);
    }
    view.weigh(late);
    assert_eq!(view.snapshot().alarms()["s"].vanished, 1);
    put(&mut view, 3, State::Ready, 8);
    view.weigh(late);
    assert!(view.snapshot().alarms().is_empty());
    assert_eq!(states(&view), [State::Ready; 4]);
}

#[test]
fn an_operators_word_ends_the_hold_after_the_usual_time() {
    let mut view = ViewBuilder::default();
    let start = Instant::now();
    list(&mut view, &[1, 2, 3], 5, start);
    list(&mut view, &[], 6, start);
    let late = start + GRACE * 9;
    assert!(!view.expire(late));
    view.dismiss(late);
    assert!(view.snapshot().alarms().is_empty());
    assert!(!view.expire(late));
    assert!(view.expire(view.next_expiry().unwrap()));
    assert_eq!(states(&view), []);
}

proptest! {
    /// Events in order, and any of them again later: what stands in the end is what was said last.
    #[test]
    fn what_is_told_again_changes_nothing(
        events in prop::collection::vec((0_u128..4, prop::bool::ANY), 1..40),
        again in prop::collection::vec(0_usize..40, 0..40),
    ) {
        let now = Instant::now();
        let mut view = ViewBuilder::default();
        let tell = |view: &mut ViewBuilder, index: usize| {
            let (id, stands) = events[index];
            let revision = i64::try_from(index).unwrap() + 2;
            if stands {
                put(view, id, State::Ready, revision);
            } else {
                remove(view, id, revision, now);
            }
        };
        for index in 0..events.len() {
            tell(&mut view, index);
        }
        let told = states(&view);
        let revisions = |view: &ViewBuilder| -> Vec<i64> {
            view.snapshot().instances().map(|one| one.mod_revision).collect()
        };
        let at = revisions(&view);
        for index in again {
            if index < events.len() {
                tell(&mut view, index);
            }
        }
        prop_assert_eq!(states(&view), told);
        prop_assert_eq!(revisions(&view), at);
    }
}

#[test]
fn those_that_died_together_are_given_up_in_the_end() {
    let mut view = ViewBuilder::default();
    let start = Instant::now();
    list(&mut view, &[1, 2, 3], 5, start);
    list(&mut view, &[3], 6, start);
    let mut steps = 0;
    while let Some(next) = view.next_expiry() {
        assert!(next <= start + Duration::from_mins(11), "held for ever");
        view.expire(next);
        if next < start + Duration::from_mins(10) {
            assert_eq!(view.snapshot().len(), 3, "given up too early");
        }
        steps += 1;
        assert!(steps < 20, "it is looked at again and again");
    }
    assert!(view.snapshot().alarms().is_empty());
    assert_eq!(states(&view), [State::Ready]);
}

/// One of several that are registered under the first id, each on a host of its own.
fn twin(host: &str, started_s: i64, state: State, mod_revision: i64) -> Arc<Instance> {
    let mut twin = Instance::clone(&instance(1, state, mod_revision));
    twin.identity.host = host.into();
    twin.started = jiff::Timestamp::from_second(started_s).unwrap();
    Arc::new(twin)
}

fn hosts(view: &ViewBuilder) -> Vec<String> {
    let snapshot = view.snapshot();
    let shown = snapshot.instance(InstanceId::from_u128(1));
    let rows: Vec<String> = snapshot
        .instances()
        .map(|it| it.host().to_string())
        .collect();
    assert_eq!(shown.map(|it| it.host().to_string()).as_ref(), rows.first());
    rows
}

#[test]
fn row_35_of_two_keys_with_one_id_one_is_shown_whatever_the_order() {
    let now = Instant::now();
    let (old, new) = (
        twin("a", 10, State::Ready, 5),
        twin("b", 20, State::Ready, 6),
    );
    for order in [[&old, &new], [&new, &old]] {
        for gone in [&old, &new] {
            let mut view = ViewBuilder::default();
            for one in order {
                view.apply(Change::PutInstance(Arc::clone(one)));
            }
            assert_eq!(hosts(&view), ["b"], "the one that started last");
            view.remove(Key::Instance(gone.identity.clone()), 7, now);
            view.weigh(now);
            let left = if gone == &old { "b" } else { "a" };
            assert_eq!(hosts(&view), [left], "the living one stays");
            assert_eq!(states(&view), [State::Ready]);
            // The last of them is missed like any other.
            let last = if gone == &old { &new } else { &old };
            view.remove(Key::Instance(last.identity.clone()), 8, now);
            view.weigh(now);
            assert_eq!(states(&view), [State::Suspect]);
            view.expire(view.next_expiry().unwrap());
            assert_eq!(hosts(&view), [""; 0]);
        }
    }
}

#[test]
fn row_35_one_that_serves_goes_before_one_that_leaves() {
    let mut view = ViewBuilder::default();
    view.apply(Change::PutInstance(twin("a", 10, State::Ready, 5)));
    view.apply(Change::PutInstance(twin("b", 20, State::Ready, 6)));
    view.apply(Change::PutInstance(twin("b", 20, State::Leaving, 7)));
    assert_eq!(hosts(&view), ["a"]);
    let (at, now) = (twin("b", 20, State::Leaving, 7), Instant::now());
    view.remove(Key::Instance(at.identity.clone()), 8, now);
    assert_eq!(hosts(&view), ["a"]);
}

#[test]
fn row_35_a_suspect_that_comes_back_elsewhere_leaves_no_ghost() {
    let (mut view, now) = (ViewBuilder::default(), Instant::now());
    let gone = twin("a", 10, State::Ready, 5);
    view.apply(Change::PutInstance(Arc::clone(&gone)));
    view.remove(Key::Instance(gone.identity.clone()), 6, now);
    assert_eq!(states(&view), [State::Suspect]);
    let back = twin("b", 20, State::Ready, 7);
    view.apply(Change::PutInstance(Arc::clone(&back)));
    assert_eq!(hosts(&view), ["b"]);
    view.remove(Key::Instance(back.identity.clone()), 8, now);
    assert_eq!(hosts(&view), ["b"]);
    view.expire(view.next_expiry().unwrap());
    assert_eq!(hosts(&view), [""; 0]);
}
