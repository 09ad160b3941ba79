//! The lessor: which leases live, until when, and which keys hang on them.
//!
//! Pure: the caller says what time it is. Invariants: a key hangs on at most one lease; the queue
//! of expiries has exactly one entry per lease; a lease that expired stays known until the caller
//! has deleted its keys and called [`Lessor::remove`].

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::refusal::Refusal;

/// The longest TTL that etcd grants, in seconds.
const MAX_TTL_SECS: i64 = 9_000_000_000;

/// The longest wait that a clock can be asked for; longer leases are checked again after it.
const FAR_AWAY: Duration = Duration::from_hours(24 * 365);

/// One lease.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// Seconds, at least one.
    pub(super) ttl: i64,
    expiry: Instant,
    keys: BTreeSet<Bytes>,
}

impl Lease {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.ttl.unsigned_abs()).min(FAR_AWAY)
    }

    /// The whole seconds until it expires.
    pub(super) fn remaining_secs(&self, now: Instant) -> i64 {
        let left = self.expiry.saturating_duration_since(now).as_secs();
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// The keys that go with it, sorted.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Lessor {
    leases: HashMap<i64, Lease>,
    queue: BTreeSet<(Instant, i64)>,
}

impl Lessor {
    /// Grants a lease of `ttl` seconds (less than one counts as one) and returns its id and TTL;
    /// an id of 0 lets the lessor choose.
    pub(super) fn grant(&mut self, id: i64, ttl: i64, now: Instant) -> Result<(i64, i64), Refusal> {
        if ttl > MAX_TTL_SECS {
            return Err(Refusal::TtlTooLarge);
        }
        let id = if id == 0 { self.free_id() } else { id };
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = ttl.max(1);
        let mut lease = Lease {
            ttl,
            expiry: now,
            keys: BTreeSet::new(),
        };
        lease.expiry = now + lease.duration();
        self.queue.insert((lease.expiry, id));
        self.leases.insert(id, lease);
        Ok((id, ttl))
    }

    /// The lease, if it lives.
    pub(super) fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// The ids of all leases, soonest to expire first.
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.queue.iter().map(|(_, id)| *id)
    }

    /// Gives the lease its whole TTL again and returns that.
    pub(super) fn renew(&mut self, id: i64, now: Instant) -> Result<i64, Refusal> {
        let lease = self.leases.get_mut(&id).ok_or(Refusal::LeaseNotFound)?;
        self.queue.remove(&(lease.expiry, id));
        lease.expiry = now + lease.duration();
        self.queue.insert((lease.expiry, id));
        Ok(lease.ttl)
    }

    /// Gives every lease its whole TTL again, as a new leader of etcd does: after a pause of this
    /// process nobody can know which holders tried to renew meanwhile.
    pub(super) fn renew_all(&mut self, now: Instant) {
        self.queue.clear();
        for (id, lease) in &mut self.leases {
            lease.expiry = now + lease.duration();
            self.queue.insert((lease.expiry, *id));
        }
    }

    /// Forgets the lease and returns it.
    pub(super) fn remove(&mut self, id: i64) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.queue.remove(&(lease.expiry, id));
        Some(lease)
    }

    /// Takes back a lease that was removed, as it was.
    pub(super) fn put_back(&mut self, id: i64, lease: Lease) {
        self.queue.insert((lease.expiry, id));
        self.leases.insert(id, lease);
    }

    /// Hangs exactly these keys on the leases that they name.
    pub(super) fn attach_only<'keys>(&mut self, keys: impl Iterator<Item = (&'keys Bytes, i64)>) {
        for lease in self.leases.values_mut() {
            lease.keys.clear();
        }
        for (key, id) in keys {
            self.attach(id, key.clone());
        }
    }

    /// Hangs `key` on the lease; an unknown lease changes nothing.
    pub(super) fn attach(&mut self, id: i64, key: Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    /// Takes `key` off the lease.
    pub(super) fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// When the next lease expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// A lease that has expired by `now`.
    pub(super) fn expired(&self, now: Instant) -> Option<i64> {
        self.queue
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
    }

    /// Takes over the expiries that `old` knew: for a lessor that was just read back from disk.
    pub(super) fn keep_expiries(&mut self, old: &Self) {
        for (id, lease) in &mut self.leases {
            if let Some(known) = old.leases.get(id) {
                self.queue.remove(&(lease.expiry, *id));
                lease.expiry = known.expiry;
                self.queue.insert((lease.expiry, *id));
            }
        }
    }

    fn free_id(&self) -> i64 {
        loop {
            let id = fastrand::i64(1..=i64::MAX);
            if !self.leases.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_at_its_ttl_and_not_before() {
        let mut lessor = Lessor::default();
        let (id, ttl) = lessor.grant(0, 5, Instant::now()).unwrap();
        assert!(id > 0 && ttl == 5);
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert_eq!(lessor.expired(Instant::now()), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(lessor.expired(Instant::now()), Some(id));
        assert_eq!(lessor.expired(Instant::now()), Some(id), "until removed");
        assert_eq!(lessor.remove(id).unwrap().keys().count(), 0);
        assert_eq!(lessor.expired(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_gives_the_whole_ttl_again() {
        let mut lessor = Lessor::default();
        lessor.grant(7, 2, Instant::now()).unwrap();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(1900)).await;
            assert_eq!(lessor.expired(Instant::now()), None);
            assert_eq!(lessor.renew(7, Instant::now()), Ok(2));
        }
        assert_eq!(lessor.get(7).unwrap().remaining_secs(Instant::now()), 2);
        assert_eq!(lessor.renew(8, Instant::now()), Err(Refusal::LeaseNotFound));
    }

    #[tokio::test(start_paused = true)]
    async fn leases_expire_in_the_order_of_their_expiry() {
        let mut lessor = Lessor::default();
        for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
            lessor.grant(id, ttl, Instant::now()).unwrap();
        }
        assert_eq!(lessor.ids().collect::<Vec<_>>(), [2, 3, 1]);
        tokio::time::advance(Duration::from_secs(25)).await;
        let mut gone = Vec::new();
        while let Some(id) = lessor.expired(Instant::now()) {
            lessor.remove(id);
            gone.push(id);
        }
        assert_eq!(gone, [2, 3]);
        lessor.renew_all(Instant::now());
        assert_eq!(lessor.get(1).unwrap().remaining_secs(Instant::now()), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_hang_on_leases_until_they_are_taken_off() {
        let mut lessor = Lessor::default();
        lessor.grant(1, 10, Instant::now()).unwrap();
        for key in ["b", "a", "c"] {
            lessor.attach(1, Bytes::from(key));
        }
        lessor.attach(2, Bytes::from("nowhere"));
        lessor.detach(1, b"c");
        let lease = lessor.remove(1).unwrap();
        assert!(lease.keys().eq(["a", "b"]));
        assert!(lessor.remove(2).is_none());
        lessor.put_back(1, lease);
        assert_eq!(
            lessor.expired(Instant::now() + Duration::from_secs(10)),
            Some(1)
        );
        let [kept, foreign] = [Bytes::from("d"), Bytes::from("e")];
        lessor.attach_only([(&kept, 1), (&foreign, 2)].into_iter());
        assert!(lessor.get(1).unwrap().keys().eq(["d"]));
    }

    #[tokio::test(start_paused = true)]
    async fn odd_ttls_and_ids_are_answered_as_etcd_does() {
        let mut lessor = Lessor::default();
        let now = Instant::now();
        assert_eq!(lessor.grant(5, 0, now), Ok((5, 1)));
        assert_eq!(lessor.grant(6, -3, now), Ok((6, 1)));
        assert_eq!(lessor.grant(5, 9, now), Err(Refusal::LeaseExists));
        assert_eq!(
            lessor.grant(9, MAX_TTL_SECS + 1, now),
            Err(Refusal::TtlTooLarge)
        );
        assert_eq!(lessor.grant(9, MAX_TTL_SECS, now), Ok((9, MAX_TTL_SECS)));
    }
}
