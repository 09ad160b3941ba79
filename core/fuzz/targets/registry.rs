//! Keys and values of a registry that anybody may have written: read or refused, and kept whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skynet::registry::key::Key;
use skynet::registry::value::{ChildValue, Claim, HostValue, InstanceValue};

const PREFIX: &str = "/skynet/v1";

/// What reads, survives being rewritten, the fields of newer programs included.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &[u8]) {
    if let Ok(read) = serde_json::from_slice::<T>(value) {
        let written = serde_json::to_vec(&read).expect("what was read does not become JSON");
        let again: T = serde_json::from_slice(&written).expect("what was written does not read");
        assert_eq!(again, read);
    }
}

fuzz_target!(|data: &[u8]| {
    // A key, a zero, a value.
    let zero = data.iter().position(|byte| *byte == 0);
    let (key, value) = data.split_at(zero.unwrap_or(data.len()));
    let value = value.get(1..).unwrap_or_default();
    if let Some(read) = Key::parse(PREFIX, key) {
        let path = read.path(PREFIX);
        assert_eq!(Key::parse(PREFIX, path.as_bytes()), Some(read));
    }
    same::<InstanceValue>(value);
    same::<HostValue>(value);
    same::<ChildValue>(value);
    same::<Claim>(value);
});
