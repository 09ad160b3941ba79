//! What heals by itself, and in what time: silent watches, entries that others spoil, what vanished.

use super::*;

/// An instance that vanished, and comes back while the reader's watch is stuck.
#[tokio::test(start_paused = true)]
async fn a_stuck_watch_gives_nobody_up() {
    let server = SimulatedRegistry::new();
    let faults = server.faults();
    let reader = server.client("/t");
    let view = reader.view();
    let network = Network::default();
    let owner = server.client_over(&server.config("/t"), &network);
    let registration = owner.register(identity(1), value(1));
    registration.registered().await;
    until(&view, "it", SECOND, |now| state_of(now, 1).is_some()).await;
    network.set(Path::Lost);
    until(&view, "suspect", 15 * SECOND, |now| {
        state_of(now, 1) == Some(State::Suspect)
    })
    .await;
    sleep(24 * SECOND).await;
    faults.silence(true);
    network.set(Path::Open);
    within("it stands again", 5 * SECOND, || {
        key_of(&faults, 1).is_some()
    })
    .await;
    let end = Instant::now() + 10 * SECOND;
    while Instant::now() < end {
        assert!(state_of(&view.snapshot(), 1).is_some(), "it was given up");
        sleep(SECOND / 10).await;
    }
    faults.silence(false);
    until(&view, "back", 15 * SECOND, |now| {
        state_of(now, 1) == Some(State::Ready)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_lost_behind_a_silent_watch_is_written_again_within_15_s() {
    let server = SimulatedRegistry::new();
    let faults = server.faults();
    let owner = server.client("/t");
    let registration = owner.register(identity(1), value(1));
    registration.registered().await;
    sleep(3 * SECOND).await;
    faults.silence(true);
    let lease = key_of(&faults, 1).map_or(0, |one| one.lease);
    faults.revoke_secretly(lease).await.unwrap();
    let took = within("written again", 15 * SECOND, || {
        key_of(&faults, 1).is_some()
    })
    .await;
    tell(format_args!("behind a silent watch: after {took:?}"));
}
