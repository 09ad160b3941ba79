//! One listing of the cluster: in pages, all at one revision.
//!
//! Invariants: every page is read at the revision of the first; while a page is read into rows the
//! next one is on its way, and no more than these two are held; a page holds as many keys as make
//! about [`PAGE_BYTES`], because registries count keys and clients refuse messages by their size.

use etcd_client::{GetOptions, GetResponse, ResponseHeader};

use super::cluster::{self, ClusterValue};
use super::error::Error;
use super::etcd::Etcd;
use super::key::Key;
use super::names::Names;
use super::origin::Witness;
use super::refusal::Refusal;
use super::snapshot::{Change, Snapshot};
use super::unreadable::{Unread, Unreadable};
use crate::instance::Identity;
use reader::Reader;

mod reader;

/// Keys in the first page, before anything is known of their size.
const FIRST_PAGE: i64 = 1_000;
/// The most keys in one page.
const LARGEST_PAGE: i64 = 20_000;
/// What a page should weigh, in bytes of keys and values: the client takes 4 MiB and no more.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// By how much a page that was refused is made smaller: it may have been too large to be taken.
const SHRINK: i64 = 16;
/// The folders below the prefix that a snapshot is made of.
const FOLDERS: [&str; 3] = ["instances/", "hosts/", "status/"];

/// Where a listing stands in the registry's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) revision: i64,
    pub(super) cluster_id: u64,
}

/// What a listing found, held against what was known before.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Listing {
    pub(super) position: Position,
    /// What stands under the `cluster` key.
    pub(super) cluster: Option<ClusterValue>,
    /// The newest write among what was listed.
    pub(super) witness: Option<Witness>,
    /// What could not be read.
    pub(super) unreadable: Vec<Unread>,
    /// What is new or different.
    pub(super) changed: Vec<Change>,
    /// What is no longer there, as removals.
    pub(super) gone: Vec<Change>,
    /// Known under keys that stand no more, though other keys of the same ids do; or not shown, and
    /// gone.
    pub(super) moved: Vec<Identity>,
    /// How many rows had to be read; the others stand as they are known.
    pub(super) n_read: usize,
}

/// What is known before a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Up to where the snapshot follows the registry's history. Rows that have not changed since are
    /// then passed over unread; without it every row is read and compared.
    pub(super) since: Option<Position>,
}

/// Everything that a snapshot shows, at one revision, as what it changes in what is known.
///
/// # Errors
/// [`Error::Format`] when it cannot be understood, and what an exchange can end in.
///
/// # Cancel safety
/// Reads only; dropping the future changes nothing.
pub(super) async fn list(
    etcd: &Etcd,
    prefix: &str,
    names: &mut Names,
    known: Known<'_>,
) -> Result<Listing, Error> {
    let mut pages = Pages::new(prefix);
    let (cluster, position) = who(etcd, prefix).await?;
    pages.position = Some(position);
    let mut reader = Reader::new(prefix, names, known);
    let mut fetched = pages.fetch(etcd).await?;
    while let Some(page) = fetched.take() {
        pages.advance(&page);
        let (next, ()) = tokio::join!(pages.fetch(etcd), reader.read(page));
        fetched = next?;
    }
    let listing = Listing {
        cluster,
        ..reader.finish(position)
    };
    tracing::debug!(
        revision = listing.position.revision,
        changed = listing.changed.len(),
        gone = listing.gone.len(),
        read = listing.n_read,
        "the cluster was listed"
    );
    Ok(listing)
}

/// What stands under the `cluster` key, and where the registry is.
///
/// # Errors
/// [`Error::Format`], and what an exchange can end in.
pub(super) async fn who(
    etcd: &Etcd,
    prefix: &str,
) -> Result<(Option<ClusterValue>, Position), Error> {
    let key = Key::Cluster.path(prefix);
    let options = etcd
        .reads_one_node()
        .then(|| GetOptions::new().with_serializable());
    let response = etcd
        .call("look who the registry is", |mut client| {
            let (key, options) = (key.as_str(), options.clone());
            async move { client.get(key, options).await }
        })
        .await?;
    let value = match response.kvs().first() {
        Some(kv) => cluster::read(prefix, kv.value())?,
        None => None,
    };
    Ok((value, position_of(response.header())))
}

/// The listing as a snapshot.
pub(super) async fn snapshot(etcd: &Etcd, prefix: &str) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let known = Known {
        snapshot: &snapshot,
        since: None,
    };
    let listing = list(etcd, prefix, &mut Names::default(), known).await?;
    for change in listing.changed {
        snapshot.apply(change);
    }
    snapshot.set_position(listing.position.revision);
    let mut unreadable = Unreadable::default();
    unreadable.replace(listing.unreadable);
    snapshot.set_unreadable(unreadable.len());
    Ok(snapshot)
}

/// Which page comes next.
#[derive(Debug)]
struct Pages {
    /// The ranges that are still to be read, the next one last.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    limit: i64,
    position: Option<Position>,
}

impl Pages {
    fn new(prefix: &str) -> Self {
        let ranges = FOLDERS.iter().rev().map(|folder| {
            let first = format!("{prefix}/{folder}").into_bytes();
            let end = range_end(&first);
            (first, end)
        });
        Self {
            ranges: ranges.collect(),
            limit: FIRST_PAGE,
            position: None,
        }
    }

    /// Goes on behind `page`.
    fn advance(&mut self, page: &GetResponse) {
        self.position
            .get_or_insert_with(|| position_of(page.header()));
        let Some((from, _)) = self.ranges.last_mut() else {
            return;
        };
        match page.kvs().last() {
            Some(last) if page.more() => {
                from.clear();
                from.extend_from_slice(last.key());
                from.push(0);
            }
            _ => drop(self.ranges.pop()),
        }
        let bytes: usize = page
            .kvs()
            .iter()
            .map(|kv| kv.key().len() + kv.value().len())
            .sum();
        if let Some(each) = bytes.checked_div(page.kvs().len()) {
            let fitting = PAGE_BYTES / each.max(1);
            self.limit = i64::try_from(fitting)
                .unwrap_or(LARGEST_PAGE)
                .clamp(1, LARGEST_PAGE);
        }
    }

    /// The next page, `None` behind the last.
    async fn fetch(&self, etcd: &Etcd) -> Result<Option<GetResponse>, Error> {
        let Some((from, end)) = self.ranges.last() else {
            return Ok(None);
        };
        let mut limit = self.limit;
        loop {
            let mut options = self.options(end, limit);
            if etcd.reads_one_node() {
                options = options.with_serializable();
            }
            let page = etcd
                .call("list the cluster", async |mut client| {
                    client.get(from.as_slice(), Some(options.clone())).await
                })
                .await;
            match page {
                // Larger rows than those before may have made it too large to be taken.
                Err(error) if limit > 1 && may_be_too_large(&error) => {
                    limit = (limit / SHRINK).max(1);
                }
                other => return other.map(Some),
            }
        }
    }

    fn options(&self, end: &[u8], limit: i64) -> GetOptions {
        GetOptions::new()
            .with_range(end)
            .with_limit(limit)
            .with_revision(self.position.map_or(0, |position| position.revision))
    }
}

/// Whether a smaller page may be taken: what is refused for a known reason is refused again.
fn may_be_too_large(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused {
            refusal: None | Some(Refusal::TooLarge),
            ..
        }
    )
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
    use etcd_client::proto::{PbKeyValue, PbRangeResponse, PbResponseHeader};

    use super::*;

    #[test]
    fn the_end_of_a_range_is_the_next_key_that_does_not_begin_so() {
        assert_eq!(range_end(b"/a/"), b"/a0");
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff"), [0]);
    }

    #[test]
    fn only_what_may_be_too_large_is_asked_for_in_smaller_pages() {
        let refused = |refusal| Error::Refused {
            operation: "list the cluster",
            refusal,
            source: "no".into(),
        };
        assert!(may_be_too_large(&refused(None)));
        assert!(may_be_too_large(&refused(Some(Refusal::TooLarge))));
        for refusal in [
            Refusal::Permission,
            Refusal::Compacted,
            Refusal::Corrupt,
            Refusal::TooBusy,
        ] {
            assert!(!may_be_too_large(&refused(Some(refusal))), "{refusal:?}");
        }
    }

    fn page(keys: &[&str], bytes: usize, more: bool, revision: i64) -> GetResponse {
        GetResponse(PbRangeResponse {
            header: Some(PbResponseHeader {
                revision,
                ..PbResponseHeader::default()
            }),
            kvs: keys
                .iter()
                .map(|key| PbKeyValue {
                    key: (*key).into(),
                    value: vec![0; bytes],
                    ..PbKeyValue::default()
                })
                .collect(),
            more,
            count: 0,
        })
    }

    fn next(pages: &Pages) -> Option<&str> {
        let (from, _) = pages.ranges.last()?;
        Some(std::str::from_utf8(from).unwrap())
    }

    #[test]
    fn every_page_is_read_at_the_revision_of_the_first() {
        let mut pages = Pages::new("/p");
        assert_eq!(next(&pages), Some("/p/instances/"));
        let revision_of = |pages: &Pages| pages.position.map(|position| position.revision);
        assert_eq!(revision_of(&pages), None, "the first page is of now");
        pages.advance(&page(&["/p/instances/a"], 10, true, 7));
        assert_eq!(next(&pages), Some("/p/instances/a\0"));
        // Others write meanwhile; the header tells their revision.
        pages.advance(&page(&["/p/instances/b"], 10, false, 9));
        assert_eq!(next(&pages), Some("/p/hosts/"));
        pages.advance(&page(&[], 0, false, 10));
        assert_eq!(next(&pages), Some("/p/status/"));
        assert_eq!(revision_of(&pages), Some(7));
        let options = format!("{:?}", pages.options(b"", 1));
        assert!(options.contains("revision: 7"), "{options}");
        pages.advance(&page(&["/p/status/a"], 10, false, 11));
        assert_eq!(next(&pages), None);
    }

    #[test]
    fn a_page_has_as_many_keys_as_make_its_weight() {
        let mut pages = Pages::new("/p");
        assert_eq!(pages.limit, FIRST_PAGE);
        pages.advance(&page(
            &["/p/instances/ab", "/p/instances/cd"],
            1_009,
            true,
            7,
        ));
        assert_eq!(pages.limit, 2_048);
        pages.advance(&page(&["/p/instances/x"], 3 * PAGE_BYTES, true, 7));
        assert_eq!(pages.limit, 1, "never none");
        pages.advance(&page(&["/p/instances/y"], 0, true, 7));
        assert_eq!(pages.limit, LARGEST_PAGE);
    }
}
