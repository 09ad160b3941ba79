//! The tasks of one peer: one that connects, one that looks after a connection.
//!
//! Invariants: neither keeps its peer; nobody connects to what the registry does not tell of; a
//! service of 2012 is not asked for signs of life, because it may answer one call at a time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::super::life::{LOOK_EVERY, Life, Sign};
use super::Peer;
use crate::backoff::Backoff;
use crate::rpc::{ConnectError, ConnectOptions, Connection, Expected};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The waits between two attempts to connect again.
const LEAST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_secs(5);

/// Connects at once, and goes on until a connection stands or nobody wants the peer any more.
pub(super) async fn connect(peer: Weak<Peer>) {
    let Some(now) = peer.upgrade() else { return };
    let (address, options) = (now.address, options(&now));
    drop(now);
    let opened = Connection::open(address, &options).await;
    let Some(now) = peer.upgrade() else { return };
    match opened {
        Ok(connection) => now.stands(connection),
        Err(error) => {
            now.failed_to_connect(&error);
            drop(now);
            try_on(peer, waits_after(&error)).await;
        }
    }
}

/// Connects after a wait, which is the longer the more often a connection broke of late, and goes
/// on.
pub(super) async fn connect_again(peer: Weak<Peer>, breaks: u32) {
    let least = LEAST_WAIT.saturating_mul(1 << breaks.saturating_sub(1).min(6));
    try_on(peer, Backoff::new(least.min(MOST_WAIT), MOST_WAIT)).await;
}

/// While its instance is not listed, it waits.
async fn try_on(peer: Weak<Peer>, mut waits: Backoff) {
    loop {
        sleep(waits.next_wait()).await;
        let Some(now) = peer.upgrade() else { return };
        let (id, mut cluster) = (now.instance.id(), now.cluster.clone());
        let (address, options) = (now.address, options(&now));
        drop(now);
        let listed = cluster.wait_for(|snapshot| snapshot.instance(id).is_some());
        match timeout(MOST_WAIT, listed).await {
            Ok(Ok(_listed)) => {}
            // The view has ended, and with it everybody who could call.
            Ok(Err(_ended)) => return,
            // Perhaps nobody wants it any more.
            Err(_elapsed) => continue,
        }
        let opened = Connection::open(address, &options).await;
        let Some(now) = peer.upgrade() else { return };
        match opened {
            Ok(connection) => return now.stands(connection),
            Err(error) => now.failed_to_connect(&error),
        }
    }
}

fn options(peer: &Peer) -> ConnectOptions {
    ConnectOptions {
        expect: Some(Expected {
            service: Some(Arc::clone(peer.instance.service())),
            id: Some(peer.instance.id()),
        }),
        timeout: CONNECT_TIMEOUT,
        ..ConnectOptions::default()
    }
}

fn waits_after(error: &ConnectError) -> Backoff {
    match error {
        // Its entry is old: whoever has the address now is not called, and seldom asked.
        ConnectError::Mismatch { .. } => Backoff::new(MOST_WAIT, MOST_WAIT),
        _ => Backoff::new(LEAST_WAIT, MOST_WAIT),
    }
}

/// Looks after a connection to its end, and tells the peer.
pub(super) async fn keep(peer: Weak<Peer>, connection: Connection) {
    let is_ours = !connection.handshake().uuid.is_empty();
    let mut life = Life::default();
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = connection.closed() => break,
            _ = looks.tick() => {}
        }
        // Whoever runs as many calls as it may reads nothing.
        if !is_ours || connection.is_full() {
            continue;
        }
        match life.look(connection.heard(), connection.in_flight() > 0) {
            Sign::Fine => {}
            Sign::Ping => connection.ping(),
            Sign::Dead => {
                tracing::info!(address = %connection.address(), "an instance fell silent");
                connection.give_up();
            }
        }
    }
    if let Some(peer) = peer.upgrade() {
        peer.lost(&connection);
    }
}
