//! Instances as they register themselves, and the plain loops that write and list them.

use std::sync::Arc;

use anyhow::Context as _;
use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp};
use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::key::Key;
use skynet::registry::value::{Claim, HostValue, InstanceValue};
use tokio::task::JoinSet;

use crate::server::PREFIX;

/// Writes in one transaction: etcd takes 128.
const AT_ONCE: u32 = 100;
/// Plain loops at work.
const LOOPS: u32 = 16;
/// How long leases of plain rows live, in seconds: longer than any stage.
pub(crate) const LEASE_SECONDS: i64 = 3_600;

/// An instance's names: 200 services of 5 versions on 2,000 hosts in 10 regions.
pub(crate) fn identity(number: u32) -> Identity {
    let host = number.wrapping_mul(7_919) % 2_000;
    let mixed = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Identity {
        service: format!("service-{:03}", number % 200).into(),
        version: format!("1.{}.0", number / 200 % 5).into(),
        region: format!("region-{}", host % 10).into(),
        host: host_name(host),
        id: InstanceId::from_u128(mixed),
    }
}

pub(crate) fn host_name(number: u32) -> Arc<str> {
    format!("host-{number:04}").into()
}

/// What it registers. The port is its own on its host.
pub(crate) fn value(number: u32, process: &ProcessId) -> InstanceValue {
    let port = u16::try_from(9_000 + number / 2_000).unwrap_or(9_000);
    InstanceValue {
        address: ([10, 0, 0, 1], port).into(),
        admin_address: Some(([10, 0, 0, 1], port.wrapping_add(1)).into()),
        process: process.clone(),
        started: jiff::Timestamp::UNIX_EPOCH,
        registered: true,
        state: State::Ready,
        reason: None,
        deployment: Some("front".into()),
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: vec!["blue".into()],
        other: serde_json::Map::new(),
    }
}

pub(crate) fn host(process: &ProcessId) -> HostValue {
    HostValue {
        region: "region-1".into(),
        address: ([10, 0, 0, 1], 9_000).into(),
        process: process.clone(),
        started: jiff::Timestamp::UNIX_EPOCH,
        version: "1".into(),
        other: serde_json::Map::new(),
    }
}

/// The key of an instance.
pub(crate) fn path(number: u32) -> String {
    Key::Instance(identity(number)).path(PREFIX)
}

/// Writes instances in transactions of many, on leases of plain loops; returns the last revision.
pub(crate) async fn write(client: &Client, numbers: &[u32], weight: u32) -> anyhow::Result<i64> {
    let process = ProcessId::own()?;
    let mut loops = JoinSet::new();
    let share = numbers.len().div_ceil(LOOPS as usize).max(1);
    for numbers in numbers.chunks(share) {
        let (mut client, numbers, process) = (client.clone(), numbers.to_vec(), process.clone());
        loops.spawn(async move {
            let lease = client.lease_grant(LEASE_SECONDS, None).await?.id();
            let mut revision = 0;
            for numbers in numbers.chunks(AT_ONCE as usize) {
                let puts = numbers.iter().map(|number| {
                    let value = InstanceValue {
                        weight,
                        lease,
                        ..value(*number, &process)
                    };
                    let value = serde_json::to_vec(&value)?;
                    let options = PutOptions::new().with_lease(lease);
                    anyhow::Ok(TxnOp::put(path(*number), value, Some(options)))
                });
                let puts: Vec<TxnOp> = puts.collect::<Result<_, _>>()?;
                let done = client.txn(Txn::new().and_then(puts)).await?;
                revision = done.header().context("no header")?.revision();
            }
            anyhow::Ok(revision)
        });
    }
    let mut newest = 0;
    while let Some(revision) = loops.join_next().await {
        newest = newest.max(revision??);
    }
    Ok(newest)
}

/// Deletes instances; returns the last revision.
pub(crate) async fn delete(client: &mut Client, numbers: &[u32]) -> anyhow::Result<i64> {
    let mut revision = 0;
    for numbers in numbers.chunks(AT_ONCE as usize) {
        let deletes = numbers
            .iter()
            .map(|number| TxnOp::delete(path(*number), None));
        let deletes: Vec<TxnOp> = deletes.collect();
        let done = client.txn(Txn::new().and_then(deletes)).await?;
        revision = done.header().context("no header")?.revision();
    }
    Ok(revision)
}

/// Registers as our machinery does, in the same transaction, without any of it.
pub(crate) async fn register(
    client: &mut Client,
    number: u32,
    lease: i64,
    process: &ProcessId,
) -> anyhow::Result<()> {
    let (identity, value) = (identity(number), value(number, process));
    let claim = Key::Address {
        host: Arc::clone(&identity.host),
        port: value.address.port(),
    };
    let claimed = serde_json::to_vec(&Claim {
        uuid: identity.id,
        process: process.clone(),
    })?;
    let keys = [
        (path(number), serde_json::to_vec(&value)?),
        (claim.path(PREFIX), claimed),
    ];
    let free = keys
        .iter()
        .map(|(key, _)| Compare::mod_revision(key.as_str(), CompareOp::Equal, 0));
    let puts = keys.iter().map(|(key, value)| {
        let options = PutOptions::new().with_lease(lease);
        TxnOp::put(key.as_str(), value.as_slice(), Some(options))
    });
    let free: Vec<Compare> = free.collect();
    let puts: Vec<TxnOp> = puts.collect();
    let done = client.txn(Txn::new().when(free).and_then(puts)).await?;
    anyhow::ensure!(done.succeeded(), "instance {number} was there already");
    Ok(())
}

/// Lists all instances in pages at one revision, and keeps what comes.
pub(crate) async fn list(client: &mut Client) -> anyhow::Result<Vec<KeyValue>> {
    let (mut from, end) = (
        format!("{PREFIX}/instances/"),
        format!("{PREFIX}/instances0"),
    );
    let (mut all, mut revision) = (Vec::new(), 0);
    loop {
        let options = GetOptions::new()
            .with_range(end.as_str())
            .with_limit(2_000)
            .with_revision(revision);
        let mut page = client.get(from.as_str(), Some(options)).await?;
        if revision == 0 {
            revision = page.header().context("no header")?.revision();
        }
        let more = page.more();
        all.append(&mut page.take_kvs());
        match all.last() {
            Some(last) if more => from = format!("{}\0", last.key_str()?),
            _ => return Ok(all),
        }
    }
}
