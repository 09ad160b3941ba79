//! A made-up cluster of 100,000 instances for benches: 200 services of 5 versions on 2,000 hosts in
//! 10 regions. Names are shared between instances only as far as a registry's reader shares them.

use std::sync::Arc;

use jiff::Timestamp;
use skynet::instance::{Host, Identity, Instance, InstanceId, ProcessId, State};
use skynet::registry::snapshot::Snapshot;

/// How many instances there are.
pub(crate) const INSTANCES: u32 = 100_000;

/// The time of the benches.
pub(crate) fn now() -> Timestamp {
    "2026-08-01T12:00:00Z".parse().expect("a time")
}

/// One of the instances.
pub(crate) fn instance(number: u32) -> Instance {
    let host = number.wrapping_mul(7_919) % 2_000;
    let mixed = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let ip = [
        10,
        0,
        u8::try_from(host / 250).unwrap_or(0),
        u8::try_from(host % 250).unwrap_or(0),
    ];
    let port = u16::try_from(9_000 + number % 1_000).unwrap_or(9_000);
    Instance {
        identity: Identity {
            service: format!("service-{:03}", number % 200).into(),
            version: format!("1.{}.{}", number / 200 % 5, number % 3).into(),
            region: format!("region-{}", host % 10).into(),
            host: format!("host-{host:04}").into(),
            id: InstanceId::from_u128(mixed),
        },
        address: Some((ip, port).into()),
        admin_address: Some((ip, port + 1_000).into()),
        registered: !number.is_multiple_of(10),
        state: State::Ready,
        reason: None,
        process: Some(ProcessId {
            boot_id: "boot".into(),
            pid: number,
            process_start: 1,
        }),
        started: now(),
        deployment: None,
        weight: 100,
        lease: 1,
        tags: Vec::new(),
        mod_revision: 1,
    }
}

/// All of them, with their hosts.
pub(crate) fn snapshot() -> Snapshot {
    let hosts = (0..2_000_u32).map(|number| Host {
        name: Arc::from(format!("host-{number:04}")),
        region: format!("region-{}", number % 10).into(),
        address: ([10, 0, 0, 1], 9_000).into(),
        process: ProcessId {
            boot_id: "boot".into(),
            pid: 1,
            process_start: 1,
        },
        started: now(),
        mod_revision: 1,
    });
    Snapshot::of((0..INSTANCES).map(instance), hosts)
}
