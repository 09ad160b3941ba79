//! Clusters for tests: the same at every run.

use jiff::Timestamp;
use skynet::instance::{Host, Identity, Instance, InstanceId, ProcessId, State};
use skynet::registry::snapshot::Snapshot;

/// The wall time of tests.
pub(crate) fn now() -> Timestamp {
    "2026-08-12T13:02:11Z".parse().unwrap()
}

fn process(pid: u32) -> ProcessId {
    ProcessId {
        boot_id: "boot".into(),
        pid,
        process_start: 1,
    }
}

/// The instance with this number; numbers of one host are twelve apart.
pub(crate) fn instance(number: u32) -> Instance {
    let (service, version) = match number % 7 {
        0 | 1 => ("payments", "1.4.2"),
        2 => ("payments", "1.4.10"),
        3 => ("billing", "2.0"),
        4 => ("search", "0.9.1"),
        _ => ("Fibonacci", "1"),
    };
    let host = number % 12;
    let region = ["us-east-1", "us-west-2", "eu-west-1"][usize::try_from(host % 3).unwrap()];
    let port = u16::try_from(9000 + number / 12).unwrap();
    let third = u8::try_from(host).unwrap();
    let seconds = i64::from(number) * 3_607 + 61;
    Instance {
        identity: Identity {
            service: service.into(),
            version: version.into(),
            region: region.into(),
            host: format!("host-{host:04}").into(),
            id: InstanceId::from_u128(
                0x6f1c_9b2e_0b1d_4c58_9a8e_0000_0000_0000
                    + (u128::from(number).wrapping_mul(0x9e37_79b9_7f4a) << 64)
                    + u128::from(number),
            ),
        },
        address: Some(([10, 0, third, 4], port).into()),
        admin_address: Some(([10, 0, third, 4], port + 500).into()),
        registered: true,
        state: State::Ready,
        reason: None,
        process: Some(process(1000 + number)),
        started: Timestamp::from_second(now().as_second() - seconds).unwrap(),
        deployment: None,
        weight: 100,
        lease: 7,
        tags: Vec::new(),
        mod_revision: i64::from(number) + 1,
    }
}

/// The host with this number.
pub(crate) fn host(number: u32) -> Host {
    let region = ["us-east-1", "us-west-2", "eu-west-1"][usize::try_from(number % 3).unwrap()];
    Host {
        name: format!("host-{number:04}").into(),
        region: region.into(),
        address: ([10, 0, u8::try_from(number).unwrap(), 4], 8000).into(),
        process: process(number),
        started: now(),
        mod_revision: 1,
    }
}

/// So many instances on twelve hosts, some of them not as they should be.
pub(crate) fn of(count: u32) -> Snapshot {
    let instances = (0..count).map(|number| {
        let mut instance = instance(number);
        match number {
            9 => instance.registered = false,
            16 => instance.state = State::Draining,
            23 => {
                instance.state = State::Crashloop;
                instance.registered = false;
                instance.address = None;
                instance.admin_address = None;
                instance.process = None;
                instance.reason = Some("exit code 3, five times in 40 s".into());
            }
            _ => {}
        }
        instance
    });
    Snapshot::of(instances, (0..12).map(host))
}
