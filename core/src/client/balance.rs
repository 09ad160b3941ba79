//! Which instances may get the next call, and which one gets it. Pure.
//!
//! Invariants: nothing that is unreachable is ever chosen; ejection is ignored when it would leave
//! less than half; whoever was left alone for long enough gets the next call, which shows whether it is
//! back; the caller's own region comes first while enough of it is usable; an instance
//! that has just come gets its share by and by (but keys stay with their owner, however new). Among
//! those that are left, the policy chooses.

use super::policy::{Policy, Turn};

/// How far an instance is from its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearness {
    SameHost,
    SameRegion,
    Far,
}

/// Whether an instance can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    Usable,
    /// It was left alone for long enough: one call is to show whether it is back.
    Due,
    /// It failed too often of late.
    Ejected,
    /// No connection to it stands, and one is being tried.
    Unreachable,
}

/// What the choice needs to know of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// The instance's id.
    pub(super) id: u128,
    /// The share of its traffic that it may get by now, from above 0 to 1.
    pub(super) warmth: f64,
    /// Expected response time in seconds.
    pub(super) latency_s: f64,
    pub(super) in_flight: usize,
    pub(super) weight: u32,
    pub(super) nearness: Nearness,
    pub(super) availability: Availability,
    /// Whether this call has tried it already.
    pub(super) tried: bool,
    /// Only when no other can be called: it vanished from the registry a while ago and still answers,
    /// or said that it is going.
    pub(super) last: bool,
}

/// What a call on the same host costs, beside one over the network.
const SAME_HOST: f64 = 0.8;

impl Candidate {
    #[expect(clippy::cast_precision_loss, reason = "calls in flight are few")]
    pub(super) fn cost(&self) -> f64 {
        let weight = f64::from(self.weight.max(1)) / 100.0;
        let nearness = if self.nearness == Nearness::SameHost {
            SAME_HOST
        } else {
            1.0
        };
        self.latency_s * (self.in_flight as f64 + 1.0) * nearness / weight
    }
}

/// The index of the instance to call, `None` when none is reachable. `draw(n)` gives a random
/// number below `n`.
pub(super) fn choose(
    candidates: &[Candidate],
    policy: Policy,
    turn: Turn,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    let with = |wanted: fn(Availability) -> bool| -> Vec<usize> {
        (0..candidates.len())
            .filter(|index| wanted(candidates[*index].availability))
            .collect()
    };
    let usable =
        with(|availability| matches!(availability, Availability::Usable | Availability::Due));
    // When less than half would be left, ejection itself is the danger: ignore it.
    let mut pool = if usable.len() * 2 < candidates.len() {
        with(|availability| availability != Availability::Unreachable)
    } else {
        usable
    };
    prefer(&mut pool, |index| !candidates[index].tried);
    prefer(&mut pool, |index| !candidates[index].last);
    let is_local = |index: &usize| candidates[*index].nearness != Nearness::Far;
    let local = (0..candidates.len()).filter(is_local).count();
    let local_usable = pool.iter().filter(|index| is_local(index)).count();
    if local_usable * 2 >= local.max(1) {
        prefer(&mut pool, |index| is_local(&index));
    }
    if policy != Policy::ConsistentHash {
        // Its latency would keep it waiting for long, because failures count as slow.
        let is_due = |index: &usize| candidates[*index].availability == Availability::Due;
        if let Some(due) = pool.iter().copied().find(is_due) {
            return Some(due);
        }
        // Beside others that are new, a newcomer is none.
        let warmth = |index: usize| candidates[index].warmth;
        let warmest = pool.iter().copied().map(warmth).fold(0.0, f64::max);
        prefer(&mut pool, |index| {
            let share = warmth(index) / warmest;
            share >= 1.0 || is_drawn(share, &mut draw)
        });
    }
    match pool.as_slice() {
        [] => None,
        [only] => Some(*only),
        pool => Some(policy.pick(pool, candidates, turn, draw)),
    }
}

/// True in `share` of all cases.
fn is_drawn(share: f64, draw: &mut impl FnMut(usize) -> usize) -> bool {
    const STEPS: u32 = 1_000;
    let drawn = u32::try_from(draw(1_000)).unwrap_or(STEPS);
    f64::from(drawn) < share * f64::from(STEPS)
}

/// Keeps those that `wanted` names, if there are any.
fn prefer(pool: &mut Vec<usize>, mut wanted: impl FnMut(usize) -> bool) {
    let kept: Vec<usize> = pool
        .iter()
        .copied()
        .filter(|index| wanted(*index))
        .collect();
    if !kept.is_empty() {
        *pool = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Candidate = Candidate {
        id: 1,
        warmth: 1.0,
        latency_s: 0.001,
        in_flight: 0,
        weight: 100,
        nearness: Nearness::SameRegion,
        availability: Availability::Usable,
        tried: false,
        last: false,
    };

    fn choose_any(candidates: &[Candidate], draw: impl FnMut(usize) -> usize) -> Option<usize> {
        choose(candidates, Policy::default(), Turn::default(), draw)
    }

    fn is_reachable(candidate: &Candidate) -> bool {
        candidate.availability != Availability::Unreachable
    }

    fn shares(candidates: &[Candidate]) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut shares = vec![0; candidates.len()];
        for _ in 0..1_000 {
            let index = choose_any(candidates, |below| random.usize(..below)).unwrap();
            shares[index] += 1;
        }
        shares
    }

    #[test]
    fn equals_share_and_the_slow_one_gets_little() {
        let slow = Candidate {
            latency_s: 0.05,
            ..PLAIN
        };
        let shares = shares(&[PLAIN, PLAIN, PLAIN, PLAIN, slow]);
        assert_eq!(shares[4], 0, "the slowest of five never wins a draw of two");
        assert!(
            shares[..4].iter().all(|share| (150..350).contains(share)),
            "{shares:?}"
        );
    }

    #[test]
    fn the_own_region_comes_first_until_too_little_of_it_is_left() {
        let far = Candidate {
            nearness: Nearness::Far,
            ..PLAIN
        };
        let down = Candidate {
            availability: Availability::Unreachable,
            ..PLAIN
        };
        assert_eq!(shares(&[PLAIN, far, far])[0], 1_000);
        let spilled = shares(&[PLAIN, down, down, far, far]);
        assert!(spilled[3] > 100 && spilled[1] == 0, "{spilled:?}");
    }

    #[test]
    fn the_own_host_comes_first_until_it_has_more_to_do() {
        let near = Candidate {
            nearness: Nearness::SameHost,
            ..PLAIN
        };
        assert_eq!(shares(&[near, PLAIN]), [1_000, 0]);
        let busy = Candidate {
            in_flight: 1,
            ..near
        };
        assert_eq!(shares(&[busy, PLAIN]), [0, 1_000]);
    }

    #[test]
    fn ejection_is_ignored_when_it_would_leave_less_than_half() {
        let ejected = Candidate {
            availability: Availability::Ejected,
            ..PLAIN
        };
        assert_eq!(shares(&[PLAIN, PLAIN, ejected])[2], 0);
        assert!(shares(&[PLAIN, ejected, ejected])[1] > 0);
    }

    #[test]
    fn a_newcomer_gets_its_share_by_and_by() {
        let at = |warmth| Candidate { warmth, ..PLAIN };
        let tenth = shares(&[PLAIN, PLAIN, PLAIN, at(0.1)])[3];
        let half = shares(&[PLAIN, PLAIN, PLAIN, at(0.5)])[3];
        assert!((10..50).contains(&tenth), "{tenth} of 1,000");
        assert!((90..170).contains(&half), "{half} of 1,000");
        let all_new = shares(&[at(0.1), at(0.1)]);
        assert!(all_new.iter().all(|share| *share > 400), "{all_new:?}");
    }

    #[test]
    fn another_instance_is_tried_first() {
        let tried = Candidate {
            tried: true,
            ..PLAIN
        };
        assert_eq!(shares(&[tried, PLAIN]), [0, 1_000]);
        assert_eq!(
            choose_any(&[tried], |_| 0),
            Some(0),
            "the only one may be tried again"
        );
    }

    #[test]
    fn what_vanished_is_called_when_nothing_else_is_there() {
        let vanished = Candidate {
            last: true,
            ..PLAIN
        };
        let down = Candidate {
            availability: Availability::Unreachable,
            ..PLAIN
        };
        assert_eq!(shares(&[vanished, PLAIN]), [0, 1_000]);
        assert_eq!(shares(&[vanished, down]), [1_000, 0]);
    }

    proptest! {
        #[test]
        fn only_reachable_ones_are_chosen(flags in prop::collection::vec(0_u8..32, 0..12)) {
            let candidates: Vec<Candidate> = flags.iter().map(|bits| Candidate {
                nearness: if bits & 1 != 0 { Nearness::SameRegion } else { Nearness::Far },
                tried: bits & 2 != 0,
                availability: match (bits >> 2) & 0b11 {
                            0 => Availability::Usable,
                            1 => Availability::Ejected,
                            _ => Availability::Unreachable,
                        },
                latency_s: if bits & 16 != 0 { 1.0 } else { 0.001 },
                ..PLAIN
            }).collect();
            let chosen = choose_any(&candidates, |below| fastrand::usize(..below));
            prop_assert_eq!(chosen.is_some(), candidates.iter().any(is_reachable));
            if let Some(index) = chosen {
                prop_assert!(is_reachable(&candidates[index]));
            }
        }
    }
}
