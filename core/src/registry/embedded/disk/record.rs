//! What is in the registry's file and in its backups: records that vouch for themselves.
//!
//! Pure. A record begins with a mark and ends with a checksum, so it can be told from anything else
//! even where the file's index is gone, and a flipped bit never passes as a value. All numbers are
//! little-endian.

use bytes::Bytes;
use etcd_client::proto::PbKeyValue;
use prost::Message;

use super::Identity;
use crate::registry::embedded::{read::key_value, store::Version};

const MARK: [u8; 8] = *b"\x93sky\r\n\x1a\0";

const KIND_STATE: u8 = 1;
const KIND_LEASE: u8 = 2;
const KIND_VERSION: u8 = 3;

/// The mark, the length of the body and its kind.
const HEAD_LEN: usize = MARK.len() + 4 + 1;
const SUM_LEN: usize = 8;

/// What one record says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::registry::embedded) enum Record {
    /// Where the registry stands.
    State(Stamp),
    /// A lease with its TTL in seconds.
    Lease {
        /// Its id.
        id: i64,
        /// Seconds.
        ttl: i64,
    },
    /// One version of one key.
    Version {
        /// The commit that wrote it: of two that claim the same place, the later one is true.
        commit: u64,
        /// The version.
        version: Version,
    },
}

/// Where the registry stood when it wrote this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry::embedded) struct Stamp {
    pub(in crate::registry::embedded) identity: Identity,
    pub(in crate::registry::embedded) revision: i64,
    pub(in crate::registry::embedded) compacted: i64,
    /// One more with every commit.
    pub(in crate::registry::embedded) commit: u64,
    /// How many versions there are.
    pub(in crate::registry::embedded) n_versions: u64,
    /// How many leases there are.
    pub(in crate::registry::embedded) n_leases: u64,
}

/// Appends where the registry stands.
pub(in crate::registry::embedded) fn write_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    framed(out, KIND_STATE, |out| {
        for number in [
            stamp.identity.cluster_id,
            stamp.identity.member_id,
            stamp.identity.term,
            stamp.commit,
            stamp.n_versions,
            stamp.n_leases,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [stamp.revision, stamp.compacted] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    });
}

/// Appends a lease.
pub(in crate::registry::embedded) fn write_lease(out: &mut Vec<u8>, id: i64, ttl: i64) {
    framed(out, KIND_LEASE, |out| {
        for number in [id, ttl] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    });
}

/// Appends a version.
pub(in crate::registry::embedded) fn write_version(
    out: &mut Vec<u8>,
    commit: u64,
    version: &Version,
) {
    framed(out, KIND_VERSION, |out| {
        out.extend_from_slice(&commit.to_le_bytes());
        out.extend_from_slice(&version.sub.to_le_bytes());
        // A vector grows as it must, so encoding into it cannot fail.
        key_value(version).encode_raw(out);
    });
}

fn framed(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&MARK);
    let head = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    let start = out.len();
    body(out);
    // A request is at most 1.5 MiB, so a body's length fits by far.
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(head..head + 4) {
        place.copy_from_slice(&len.to_le_bytes());
    }
    let sum = sum(out.get(head..).unwrap_or_default());
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Reads the record that `bytes` begin with; answers it and its length.
pub(in crate::registry::embedded) fn read(bytes: &[u8]) -> Option<(Record, usize)> {
    let head = bytes.get(..HEAD_LEN)?.strip_prefix(&MARK)?;
    let (len, kind) = head.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let end = HEAD_LEN.checked_add(len)?;
    let body = bytes.get(HEAD_LEN..end)?;
    let stored = bytes.get(end..end.checked_add(SUM_LEN)?)?;
    if sum(bytes.get(MARK.len()..end)?).to_le_bytes() != stored {
        return None;
    }
    let record = match *kind.first()? {
        KIND_STATE => Record::State(stamp(body)?),
        KIND_LEASE => {
            let mut numbers = Numbers(body);
            Record::Lease {
                id: numbers.signed()?,
                ttl: numbers.signed()?,
            }
        }
        KIND_VERSION => {
            let mut numbers = Numbers(body);
            let commit = numbers.next()?;
            let sub = numbers.signed()?;
            let stored = PbKeyValue::decode(numbers.0).ok()?;
            Record::Version {
                commit,
                version: Version {
                    key: Bytes::from(stored.key),
                    value: Bytes::from(stored.value),
                    create_revision: stored.create_revision,
                    mod_revision: stored.mod_revision,
                    sub,
                    version: stored.version,
                    lease: stored.lease,
                },
            }
        }
        _ => return None,
    };
    Some((record, end + SUM_LEN))
}

/// Every record that can be found in `bytes`, wherever it stands; one within another is its value
/// and does not count.
pub(in crate::registry::embedded) fn scan(bytes: &[u8]) -> impl Iterator<Item = Record> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let [first, ..] = MARK;
            at += bytes.get(at..)?.iter().position(|byte| *byte == first)?;
            if let Some((record, len)) = read(bytes.get(at..)?) {
                at += len;
                return Some(record);
            }
            at += 1;
        }
    })
}

fn stamp(body: &[u8]) -> Option<Stamp> {
    let mut numbers = Numbers(body);
    Some(Stamp {
        identity: Identity {
            cluster_id: numbers.next()?,
            member_id: numbers.next()?,
            term: numbers.next()?,
        },
        commit: numbers.next()?,
        n_versions: numbers.next()?,
        n_leases: numbers.next()?,
        revision: numbers.signed()?,
        compacted: numbers.signed()?,
    })
}

struct Numbers<'body>(&'body [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn signed(&mut self) -> Option<i64> {
        self.next().map(u64::cast_signed)
    }
}

/// FNV-1a with 64 bits. Each step is a bijection, so a change within one byte always shows.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        let numbers = || prop::array::uniform4(any::<i64>());
        let version = (bytes(), bytes(), numbers(), any::<i64>(), any::<u64>());
        prop_oneof![
            (prop::array::uniform6(any::<u64>()), any::<[i64; 2]>()).prop_map(|(n, [r, c])| {
                Record::State(Stamp {
                    identity: Identity {
                        cluster_id: n[0],
                        member_id: n[1],
                        term: n[2],
                    },
                    commit: n[3],
                    n_versions: n[4],
                    n_leases: n[5],
                    revision: r,
                    compacted: c,
                })
            }),
            any::<[i64; 2]>().prop_map(|[id, ttl]| Record::Lease { id, ttl }),
            version.prop_map(|(key, value, n, lease, commit)| Record::Version {
                commit,
                version: Version {
                    key: key.into(),
                    value: value.into(),
                    create_revision: n[0],
                    mod_revision: n[1],
                    sub: n[2],
                    version: n[3],
                    lease,
                },
            }),
        ]
    }

    fn write(out: &mut Vec<u8>, record: &Record) {
        match record {
            Record::State(stamp) => write_stamp(out, stamp),
            Record::Lease { id, ttl } => write_lease(out, *id, *ttl),
            Record::Version { commit, version } => write_version(out, *commit, version),
        }
    }

    proptest! {
        #[test]
        fn records_are_found_between_anything_and_no_change_passes(
            record in any_record(),
            [before, after] in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..40)),
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let mut whole = before.clone();
            write(&mut whole, &record);
            let end = whole.len();
            whole.extend_from_slice(&after);
            let len = end - before.len();
            prop_assert_eq!(read(&whole[before.len()..]), Some((record.clone(), len)));
            prop_assert_eq!(scan(&whole).collect::<Vec<_>>(), [record]);
            prop_assert_eq!(read(&whole[before.len()..end - 1]), None);

            let (at, bits) = flip;
            let at = before.len() + at.index(len);
            whole[at] ^= bits.max(1);
            prop_assert_eq!(read(&whole[before.len()..]), None);
        }
    }

    #[test]
    fn a_record_within_a_value_is_no_record() {
        let mut inner = Vec::new();
        write_lease(&mut inner, 7, 60);
        let mut outer = Vec::new();
        let version = Version {
            key: "key".into(),
            value: inner.into(),
            create_revision: 2,
            mod_revision: 2,
            sub: 0,
            version: 1,
            lease: 0,
        };
        write_version(&mut outer, 1, &version);
        assert_eq!(
            scan(&outer).collect::<Vec<_>>(),
            [Record::Version { commit: 1, version }]
        );
    }
}
