//! CRC-32C (Castagnoli), the checksum that etcd's hashes are made of, over the rows that etcd would
//! hold.
//!
//! Pure. A hash of the keys is the very number that etcd answers for the same history: the rows in
//! the order of their revisions, each as etcd's file has it. Its other hash runs over all buckets of
//! the file, members and raft's marks too, so it is comparable between files of etcd only.

use std::sync::Arc;

use prost::Message;

use super::{read::key_value, store::Version};

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

/// The bucket of etcd's file that holds the keys.
const KEY_BUCKET: &[u8] = b"key";
/// The bucket of etcd's file that holds the leases.
const LEASE_BUCKET: &[u8] = b"lease";

/// A checksum that grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// Of nothing.
    pub(super) fn new() -> Self {
        Self(u32::MAX)
    }

    /// Takes in bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [low, ..] = self.0.to_le_bytes();
            self.0 = (self.0 >> 8) ^ TABLE[usize::from(low ^ byte)];
        }
    }

    /// Takes in the bucket of the keys: its name, then every row by its revision.
    pub(super) fn add_versions(&mut self, mut versions: Vec<Arc<Version>>) {
        versions.sort_unstable_by_key(|version| (version.mod_revision, version.sub));
        self.add(KEY_BUCKET);
        let mut row = Vec::new();
        for version in versions {
            self.add(&version.mod_revision.to_be_bytes());
            self.add(b"_");
            self.add(&version.sub.to_be_bytes());
            row.clear();
            if version.is_tombstone() {
                self.add(b"t");
                let mut shown = key_value(&version);
                // A deletion is a row with a key and nothing else.
                shown.mod_revision = 0;
                shown.encode_raw(&mut row);
            } else {
                key_value(&version).encode_raw(&mut row);
            }
            self.add(&row);
        }
    }

    /// Takes in the bucket of the leases: its name, then ids and TTLs in the order of the ids.
    pub(super) fn add_leases(&mut self, mut leases: Vec<(i64, i64)>) {
        leases.sort_unstable();
        self.add(LEASE_BUCKET);
        for (id, ttl) in leases {
            self.add(&id.to_be_bytes());
            self.add(&ttl.to_be_bytes());
        }
    }

    /// The checksum.
    pub(super) fn finish(self) -> u32 {
        !self.0
    }
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    let mut idx = 0;
    while idx < table.len() {
        let mut rest = byte;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 {
                (rest >> 1) ^ POLYNOMIAL
            } else {
                rest >> 1
            };
            bit += 1;
        }
        table[idx] = rest;
        byte += 1;
        idx += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // RFC 3720, section B.4, and the check value that catalogues of checksums give.
        for (bytes, expected) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&[], 0),
        ] {
            let mut checksum = Checksum::new();
            checksum.add(bytes);
            assert_eq!(checksum.finish(), expected, "{bytes:?}");
        }
    }
}
