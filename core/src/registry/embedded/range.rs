//! Ranges of keys as etcd's requests give them: a key and an end.
//!
//! Pure. An empty end is one key, an end of one zero byte is everything from the key on, and an end
//! that does not lie behind the key is an empty range, never an error.

use std::ops::Bound;

use bytes::Bytes;

/// Where a lookup in a sorted map begins and ends.
pub(super) type Bounds<'range> = (Bound<&'range [u8]>, Bound<&'range [u8]>);

/// A set of keys that lie together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// From the first key on, without the second.
    Between(Bytes, Bytes),
    /// From this key on, without end.
    From(Bytes),
}

impl KeyRange {
    /// Reads the pair of a request.
    pub(super) fn new(key: &[u8], end: &[u8]) -> Self {
        let key = Bytes::copy_from_slice(key);
        match end {
            [] => Self::One(key),
            [0] => Self::From(key),
            _ => Self::Between(key, Bytes::copy_from_slice(end)),
        }
    }

    /// Whether no key can lie in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Between(start, end) if start >= end)
    }

    /// Whether `key` lies in it.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(start, end) => start.as_ref() <= key && key < end.as_ref(),
            Self::From(start) => start.as_ref() <= key,
        }
    }

    /// The bounds for a lookup in a sorted map; `None` for an empty range, which maps refuse.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        if self.is_empty() {
            return None;
        }
        Some(match self {
            Self::One(one) => (Bound::Included(one), Bound::Included(one)),
            Self::Between(start, end) => (Bound::Included(start), Bound::Excluded(end)),
            Self::From(start) => (Bound::Included(start), Bound::Unbounded),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &[u8], end: &[u8], inside: &[&[u8]], outside: &[&[u8]]) {
        let range = KeyRange::new(key, end);
        for key in inside {
            assert!(range.contains(key), "{range:?} has {key:?}");
        }
        for key in outside {
            assert!(!range.contains(key), "{range:?} has no {key:?}");
        }
    }

    #[test]
    fn ends_are_read_as_etcd_reads_them() {
        check(b"a", b"", &[b"a"], &[b"", b"aa", b"b"]);
        check(b"a", b"b", &[b"a", b"a\0", b"aa"], &[b"b", b"A"]);
        check(b"a", b"\0", &[b"a", b"b", b"\xff"], &[b"A"]);
        check(b"\0", b"\0", &[b"\0", b"a"], &[]);
        check(b"b", b"a", &[], &[b"a", b"b"]);
        assert!(KeyRange::new(b"b", b"a").bounds().is_none());
    }
}
