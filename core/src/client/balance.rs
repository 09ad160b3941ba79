//! Which instance gets the next call: power of two choices. Pure.
//!
//! Two candidates are drawn at random and the cheaper one is taken (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001); the cost is the expected latency times the calls in
//! flight, over the weight. The caller's own region comes first while enough of it is usable.

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
    /// It failed too often of late.
    Ejected,
    /// No connection to it stands, and one is being tried.
    Unreachable,
}

/// What the choice needs to know of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Expected response time in seconds.
    pub(super) latency_s: f64,
    pub(super) in_flight: usize,
    pub(super) weight: u32,
    pub(super) nearness: Nearness,
    pub(super) availability: Availability,
    /// Whether this call has tried it already.
    pub(super) tried: bool,
}

/// What a call on the same host costs, beside one over the network.
const SAME_HOST: f64 = 0.8;

impl Candidate {
    #[expect(clippy::cast_precision_loss, reason = "calls in flight are few")]
    fn cost(&self) -> f64 {
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
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    let with = |wanted: fn(Availability) -> bool| -> Vec<usize> {
        (0..candidates.len())
            .filter(|index| wanted(candidates[*index].availability))
            .collect()
    };
    let usable = with(|availability| availability == Availability::Usable);
    // When less than half would be left, ejection itself is the danger: ignore it.
    let mut pool = if usable.len() * 2 < candidates.len() {
        with(|availability| availability != Availability::Unreachable)
    } else {
        usable
    };
    prefer(&mut pool, |index| !candidates[index].tried);
    let is_local = |index: &usize| candidates[*index].nearness != Nearness::Far;
    let local = (0..candidates.len()).filter(is_local).count();
    let local_usable = pool.iter().filter(|index| is_local(index)).count();
    if local_usable * 2 >= local.max(1) {
        prefer(&mut pool, |index| is_local(&index));
    }
    match pool.as_slice() {
        [] => None,
        [only] => Some(*only),
        pool => {
            let first = draw(pool.len());
            let mut second = draw(pool.len() - 1);
            if second >= first {
                second += 1;
            }
            let (first, second) = (pool[first], pool[second]);
            let cheaper = candidates[first].cost() <= candidates[second].cost();
            Some(if cheaper { first } else { second })
        }
    }
}

/// Keeps those that `wanted` names, if there are any.
fn prefer(pool: &mut Vec<usize>, wanted: impl Fn(usize) -> bool) {
    if pool.iter().any(|index| wanted(*index)) {
        pool.retain(|index| wanted(*index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Candidate = Candidate {
        latency_s: 0.001,
        in_flight: 0,
        weight: 100,
        nearness: Nearness::SameRegion,
        availability: Availability::Usable,
        tried: false,
    };

    fn is_reachable(candidate: &Candidate) -> bool {
        candidate.availability != Availability::Unreachable
    }

    fn shares(candidates: &[Candidate]) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut shares = vec![0; candidates.len()];
        for _ in 0..1_000 {
            let index = choose(candidates, |below| random.usize(..below)).unwrap();
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
    fn ejection_is_ignored_when_it_would_leave_less_than_half() {
        let ejected = Candidate {
            availability: Availability::Ejected,
            ..PLAIN
        };
        assert_eq!(shares(&[PLAIN, PLAIN, ejected])[2], 0);
        assert!(shares(&[PLAIN, ejected, ejected])[1] > 0);
    }

    #[test]
    fn another_instance_is_tried_first() {
        let tried = Candidate {
            tried: true,
            ..PLAIN
        };
        assert_eq!(shares(&[tried, PLAIN]), [0, 1_000]);
        assert_eq!(
            choose(&[tried], |_| 0),
            Some(0),
            "the only one may be tried again"
        );
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
            let chosen = choose(&candidates, |below| fastrand::usize(..below));
            prop_assert_eq!(chosen.is_some(), candidates.iter().any(is_reachable));
            if let Some(index) = chosen {
                prop_assert!(is_reachable(&candidates[index]));
            }
        }
    }
}
