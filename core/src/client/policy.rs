//! How one of several good instances is chosen. Pure.
//!
//! Invariant: a policy chooses only among those that it is given; who may be called at all is the
//! balance's business, so every policy keeps to regions, ejections and warming up.

use super::balance::Candidate;

/// How one of several instances is chosen for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Two are drawn at random, and the one that will answer sooner is taken: expected latency times
    /// the calls in flight, over the weight. Right for almost everybody (Mitzenmacher, "The Power of
    /// Two Choices in Randomized Load Balancing", 2001).
    #[default]
    TwoChoices,
    /// One after the other, whatever their weight. For calls that all cost the same.
    RoundRobin,
    /// The one with the fewest calls in flight of this client, over its weight. For long calls.
    LeastLoaded,
    /// The same instance for the same [`CallOptions::key`](super::CallOptions::key), as long as it
    /// can be called; when instances come and go, only their own share of the keys moves. For
    /// caches. Weighted rendezvous hashing (Thaler and Ravishankar, "A Name-Based Mapping Scheme for
    /// Rendezvous", 1996).
    ConsistentHash,
}

/// What tells one call from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// Which call of its client it is.
    pub(super) number: usize,
    /// The hash of its key.
    pub(super) key: u64,
}

impl Policy {
    /// One of `pool`, which is not empty and holds indices of `candidates`.
    pub(super) fn pick(
        self,
        pool: &[usize],
        candidates: &[Candidate],
        turn: Turn,
        mut draw: impl FnMut(usize) -> usize,
    ) -> usize {
        let least = |from: usize, cost: &dyn Fn(&Candidate) -> f64| {
            let rotated = pool.iter().cycle().skip(from).take(pool.len());
            rotated
                .copied()
                .min_by(|left, right| {
                    cost(&candidates[*left]).total_cmp(&cost(&candidates[*right]))
                })
                .unwrap_or_default()
        };
        match self {
            Self::TwoChoices => {
                let first = draw(pool.len());
                let second = draw(pool.len().saturating_sub(1).max(1));
                let second = (first + 1 + second) % pool.len();
                let (first, second) = (pool[first], pool[second]);
                let cheaper = candidates[first].cost() <= candidates[second].cost();
                if cheaper { first } else { second }
            }
            Self::RoundRobin => pool[turn.number % pool.len()],
            // Beginning anywhere, so that equals share.
            Self::LeastLoaded => least(draw(pool.len()), &Candidate::load),
            Self::ConsistentHash => least(0, &|candidate| candidate.distance(turn.key)),
        }
    }
}

impl Candidate {
    #[expect(clippy::cast_precision_loss, reason = "calls in flight are few")]
    fn load(&self) -> f64 {
        (self.in_flight as f64 + 1.0) / f64::from(self.weight.max(1))
    }

    /// How far it is from a key: exponentially distributed, so that the nearest of several has the
    /// key with a probability in proportion to its weight.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are random enough")]
    fn distance(&self, key: u64) -> f64 {
        #[expect(clippy::cast_possible_truncation, reason = "both halves are mixed in")]
        let (high, low) = ((self.id >> 64) as u64, self.id as u64);
        let bits = mixed(mixed(mixed(key) ^ high) ^ low) >> 11;
        let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(self.weight.max(1))
    }
}

/// The hash of a key, the same in every process: FNV-1a of 64 bits.
pub(super) fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Every bit of the result depends on every bit of `bits`: the finalizer of `SplitMix64` (Steele, Lea
/// and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::balance::{Availability, Nearness};
    use super::*;

    fn candidate(id: u128) -> Candidate {
        Candidate {
            id: id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            warmth: 1.0,
            latency_s: 0.001,
            in_flight: 0,
            weight: 100,
            nearness: Nearness::SameRegion,
            availability: Availability::Usable,
            tried: false,
            last: false,
        }
    }

    fn owners(candidates: &[Candidate], n_keys: u64) -> Vec<u128> {
        let pool: Vec<usize> = (0..candidates.len()).collect();
        (0..n_keys)
            .map(|key| {
                let turn = Turn {
                    key: hash(&format!("key-{key}")),
                    number: 0,
                };
                let index = Policy::ConsistentHash.pick(&pool, candidates, turn, |_| 0);
                candidates[index].id
            })
            .collect()
    }

    #[test]
    fn round_robin_takes_turns() {
        let candidates: Vec<Candidate> = (0..4).map(candidate).collect();
        let pool = [0, 2, 3];
        let picked: Vec<usize> = (0..6)
            .map(|number| {
                let turn = Turn { number, key: 0 };
                Policy::RoundRobin.pick(&pool, &candidates, turn, |_| 0)
            })
            .collect();
        assert_eq!(picked, [0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_taken_and_equals_share() {
        let mut candidates: Vec<Candidate> = (0..3).map(candidate).collect();
        candidates[0].in_flight = 3;
        candidates[1].in_flight = 2;
        candidates[2].in_flight = 2;
        candidates[2].weight = 50;
        let pick = |candidates: &[Candidate], from| {
            Policy::LeastLoaded.pick(&[0, 1, 2], candidates, Turn::default(), |_| from)
        };
        assert!((0..3).all(|from| pick(&candidates, from) == 1));
        candidates[2].weight = 100;
        assert_eq!([pick(&candidates, 1), pick(&candidates, 2)], [1, 2]);
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let mut candidates: Vec<Candidate> = (1..=4).map(candidate).collect();
        candidates[3].weight = 200;
        let mut shares: HashMap<u128, u32> = HashMap::new();
        for owner in owners(&candidates, 10_000) {
            *shares.entry(owner).or_default() += 1;
        }
        for candidate in &candidates {
            let wanted = candidate.weight * 20;
            let share = shares[&candidate.id];
            assert!(share.abs_diff(wanted) < wanted / 8, "{share}, not {wanted}");
        }
    }

    proptest! {
        #[test]
        fn only_the_keys_of_the_one_that_goes_move(count in 2_u128..12, gone in 0_usize..12) {
            let before: Vec<Candidate> = (1..=count).map(candidate).collect();
            let mut after = before.clone();
            let lost = after.remove(gone % before.len()).id;
            let moved = owners(&before, 200).into_iter().zip(owners(&after, 200));
            for (was, is) in moved {
                prop_assert!(was == is || was == lost);
            }
        }

        #[test]
        fn what_is_picked_is_in_the_pool(
            pool in prop::sample::subsequence((0..8_usize).collect::<Vec<_>>(), 1..8),
            number in any::<usize>(), key in any::<u64>(), seed in any::<u64>(),
            policy in prop::sample::select(vec![
                Policy::TwoChoices, Policy::RoundRobin, Policy::LeastLoaded, Policy::ConsistentHash,
            ]),
        ) {
            let candidates: Vec<Candidate> = (0..8).map(candidate).collect();
            let mut random = fastrand::Rng::with_seed(seed);
            let picked = policy.pick(&pool, &candidates, Turn { number, key }, |below| {
                random.usize(..below)
            });
            prop_assert!(pool.contains(&picked));
        }
    }
}
