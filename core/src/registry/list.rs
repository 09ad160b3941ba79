//! One listing of the cluster: in pages, all at one revision.

use etcd_client::{GetOptions, GetResponse, ResponseHeader};

use super::error::Error;
use super::etcd::Etcd;
use super::names::Names;
use super::read;
use super::snapshot::{Change, Snapshot};

/// Keys in one page.
const PAGE: i64 = 2_000;
/// The folders below the prefix that a snapshot is made of.
const FOLDERS: [&str; 3] = ["instances/", "hosts/", "status/"];

/// Where a listing stands in the registry's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) revision: i64,
    pub(super) cluster_id: u64,
}

/// Everything that a snapshot shows, at one revision.
///
/// # Cancel safety
/// Reads only; dropping the future changes nothing.
pub(super) async fn list(
    etcd: &Etcd,
    prefix: &str,
    names: &mut Names,
) -> Result<(Vec<Change>, Position), Error> {
    let mut changes = Vec::new();
    let mut position: Option<Position> = None;
    for folder in FOLDERS {
        let first = format!("{prefix}/{folder}").into_bytes();
        let end = range_end(&first);
        let mut from = first;
        loop {
            let response = page(etcd, &from, &end, position).await?;
            position.get_or_insert_with(|| position_of(response.header()));
            changes.extend(
                response
                    .kvs()
                    .iter()
                    .filter_map(|kv| read::put(names, prefix, kv)),
            );
            match response.kvs().last() {
                Some(last) if response.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => break,
            }
        }
    }
    Ok((changes, position.unwrap_or_default()))
}

/// The listing as a snapshot.
pub(super) async fn snapshot(etcd: &Etcd, prefix: &str) -> Result<Snapshot, Error> {
    let (changes, position) = list(etcd, prefix, &mut Names::default()).await?;
    let mut snapshot = Snapshot::default();
    for change in changes {
        snapshot.apply(change);
    }
    snapshot.set_position(position.revision);
    Ok(snapshot)
}

async fn page(
    etcd: &Etcd,
    from: &[u8],
    end: &[u8],
    position: Option<Position>,
) -> Result<GetResponse, Error> {
    let options = GetOptions::new()
        .with_range(end)
        .with_limit(PAGE)
        .with_revision(position.map_or(0, |position| position.revision));
    etcd.call("list the cluster", async |mut client| {
        client.get(from, Some(options.clone())).await
    })
    .await
}

pub(super) fn position_of(header: Option<&ResponseHeader>) -> Position {
    header.map_or_else(Position::default, |header| Position {
        revision: header.revision(),
        cluster_id: header.cluster_id(),
    })
}

/// The first key behind all that begin with `start`.
pub(super) fn range_end(start: &[u8]) -> Vec<u8> {
    let mut end = start.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Nothing is behind: a single zero byte means the end of the key space.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_range_is_the_next_key_that_does_not_begin_so() {
        assert_eq!(range_end(b"/a/"), b"/a0");
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff"), [0]);
    }
}
