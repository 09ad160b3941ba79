//! Messages of daemons and admin ports: decoded from any bytes, encoded and decoded the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skynet::daemon_api;
use skynet::rpc::admin::StopRequest;
use skynet::rpc::typed;
use skynet::stats::{DaemonStats, HostStats, InstanceStats};

fn same<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(read) = typed::decode::<T>(data) {
        let written = typed::encode(&read).expect("what was read does not become a document");
        let again: T = typed::decode(&written).expect("what was written does not read");
        // Not by value: a number may be none.
        let twice = typed::encode(&again).expect("what was read does not become a document");
        assert_eq!(twice, written);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 16 {
        0 => same::<daemon_api::DeployRequest>(data),
        1 => same::<daemon_api::ChildUuid>(data),
        2 => same::<daemon_api::ChildRequest>(data),
        3 => same::<daemon_api::ChildDone>(data),
        4 => same::<daemon_api::ChildInfo>(data),
        5 => same::<daemon_api::ChildList>(data),
        6 => same::<daemon_api::StopAllReply>(data),
        7 => same::<daemon_api::StartAllReply>(data),
        8 => same::<daemon_api::RestartAllReply>(data),
        9 => same::<daemon_api::StatsRequest>(data),
        10 => same::<daemon_api::LogLevelRequest>(data),
        11 => same::<daemon_api::LogLevelReply>(data),
        12 => same::<StopRequest>(data),
        13 => same::<InstanceStats>(data),
        14 => same::<HostStats>(data),
        _ => same::<DaemonStats>(data),
    }
});
