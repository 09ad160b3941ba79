//! A registry without space: it is read, leases go on, and what could not be written is written
//! once there is space again.

use std::time::Duration;

use skynet::{
    hint::Hint,
    instance::State,
    registry::{Error, Refusal, Registry, RegistryConfig},
};
use tokio::time::{Instant, sleep};

use crate::registry_client::identity;

use super::server::{PATIENCE, Pair, Programs, Server, on_both};

on_both!(a_full_registry_is_read_and_loses_nobody);

async fn a_full_registry_is_read_and_loses_nobody(programs: Programs) {
    let server = Server::start(programs, "http", |_folder| {
        let quota = ["--quota-backend-bytes", "2097152"];
        (quota.map(str::to_owned).to_vec(), Vec::new())
    })
    .await;
    let config = RegistryConfig {
        ttl: Duration::from_secs(10),
        ..RegistryConfig::at(&server.url())
    };
    let pair = Pair::start(&config).await;
    let lease = pair.lease();

    let filler = "x".repeat(100_000);
    let deadline = Instant::now() + PATIENCE;
    while !server.ctl(["alarm", "list"]).contains("NOSPACE") {
        assert!(Instant::now() < deadline, "it does not get full");
        server.try_ctl(["put", "/filler", &filler]);
    }

    // A write fails at once, and says what to do.
    let registry = Registry::new(&config).unwrap();
    let asked = Instant::now();
    let identity = identity(1);
    let error = registry.set_registered(&identity, false).await.unwrap_err();
    assert!(asked.elapsed() < config.call_timeout, "it was waited for");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(error.refusal(), Some(Refusal::Full));
    assert!(error.hint().unwrap().contains("etcdctl alarm disarm"));

    // It is read, and leases are renewed: longer than one lives, nobody is lost.
    pair.registration.set_state(State::Pressured);
    sleep(config.ttl + Duration::from_secs(3)).await;
    let snapshot = registry.snapshot().await.unwrap();
    assert_eq!(
        snapshot.instance(identity.id).map(|it| it.state),
        Some(State::Ready)
    );
    pair.is_live().await;

    // What was to be written is written when there is space again.
    let status = server.ctl(["get", "/filler", "-w", "json", "--keys-only"]);
    let revision = status
        .split("\"revision\":")
        .nth(1)
        .and_then(|rest| rest.split(|it: char| !it.is_ascii_digit()).next())
        .unwrap();
    server.ctl(["compact", revision]);
    server.ctl(["defrag"]);
    server.ctl(["alarm", "disarm"]);
    pair.sees(State::Pressured).await;
    assert_eq!(pair.lease(), lease, "the lease was lost");
}
