//! Whether there is room: the quota, and what is known about the disk.
//!
//! Invariants: without room, requests that take more of it are refused as etcd refuses them under its
//! NOSPACE alarm, before they change anything; whatever needs none, and whatever makes room, goes on.
//! Unlike etcd's, this alarm ends by itself, as soon as there is room.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// The quota if nobody says otherwise: etcd's.
pub(super) const DEFAULT_QUOTA: u64 = 2 * 1024 * 1024 * 1024;

/// Below this share of the quota there is room again: one key more or less decides nothing.
const RELIEF_PERCENT: u64 = 95;

const ROOM: u8 = 0;
const OVER_QUOTA: u8 = 1;
const DISK_FULL: u8 = 2;

/// What is known about the room; shared between the owner and those who report it.
#[derive(Debug)]
pub(super) struct Space {
    quota: AtomicU64,
    state: AtomicU8,
    has_disk_failed: AtomicBool,
}

impl Default for Space {
    fn default() -> Self {
        Self::new(DEFAULT_QUOTA)
    }
}

impl Space {
    /// Room, within a quota in bytes.
    pub(super) fn new(quota: u64) -> Self {
        Self {
            quota: AtomicU64::new(quota),
            state: AtomicU8::new(ROOM),
            has_disk_failed: AtomicBool::new(false),
        }
    }

    /// The quota in bytes.
    pub(super) fn quota(&self) -> u64 {
        self.quota.load(Ordering::Relaxed)
    }

    /// Whether nothing that takes room may be written: etcd's alarm NOSPACE.
    pub(super) fn is_exceeded(&self) -> bool {
        self.state.load(Ordering::Relaxed) != ROOM
    }

    /// Whether the disk said so, which only the disk can take back.
    pub(super) fn is_disk_full(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DISK_FULL
    }

    /// Whether the last write failed for another reason than room.
    pub(super) fn has_disk_failed(&self) -> bool {
        self.has_disk_failed.load(Ordering::Relaxed)
    }

    /// A write failed for another reason than room.
    pub(super) fn disk_failed(&self) {
        self.has_disk_failed.store(true, Ordering::Relaxed);
    }

    /// A write succeeded.
    pub(super) fn disk_works(&self) {
        if self.has_disk_failed.swap(false, Ordering::Relaxed) {
            tracing::info!("the registry can write to its disk again");
        }
    }

    /// The disk is full.
    pub(super) fn disk_is_full(&self) {
        let before = self.state.swap(DISK_FULL, Ordering::Relaxed);
        if before != DISK_FULL {
            tracing::error!("the registry's disk is full: writes are refused until there is room");
        }
    }

    /// The disk has room.
    pub(super) fn disk_has_room(&self) {
        if self.state.swap(ROOM, Ordering::Relaxed) != ROOM {
            tracing::info!("the registry has room again");
        }
    }

    /// Compares what is kept with the quota; what the disk said stands.
    pub(super) fn measure(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let quota = self.quota();
        match self.state.load(Ordering::Relaxed) {
            ROOM if bytes > quota => {
                tracing::error!(
                    bytes,
                    quota,
                    "the registry is over its quota: writes are refused until there is room"
                );
                self.state.store(OVER_QUOTA, Ordering::Relaxed);
            }
            OVER_QUOTA if bytes <= quota / 100 * RELIEF_PERCENT => self.disk_has_room(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_of_the_quota_ends_by_itself_and_the_disk_s_does_not() {
        let space = Space::new(1000);
        let mut seen = Vec::new();
        for bytes in [0, 1000, 1001, 1000, 951, 950, 1000] {
            space.measure(bytes);
            seen.push(space.is_exceeded());
        }
        assert_eq!(seen, [false, false, true, true, true, false, false]);
        space.disk_is_full();
        space.measure(0);
        assert!(space.is_exceeded() && space.is_disk_full());
        space.disk_has_room();
        assert!(!space.is_exceeded());
    }
}
