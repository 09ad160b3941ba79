//! The order of versions: part by part, numbers as numbers.
//!
//! Invariants: a total order up to equivalence; missing parts count as 0, so `1.4` and `1.4.0` are
//! equivalent; letters come before a missing part, so `1.4.2-rc1` is before `1.4.2`; never fails.

use std::cmp::Ordering;

/// A run of digits or of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    Letters(&'a str),
    /// Without leading zeros.
    Digits(&'a str),
}

/// Compares two versions.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (parts(left), parts(right));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) => order(
                left.unwrap_or(Part::Digits("")),
                right.unwrap_or(Part::Digits("")),
            ),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn order(left: Part<'_>, right: Part<'_>) -> Ordering {
    match (left, right) {
        (Part::Letters(_), Part::Digits(_)) => Ordering::Less,
        (Part::Digits(_), Part::Letters(_)) => Ordering::Greater,
        (Part::Letters(left), Part::Letters(right)) => left.cmp(right),
        (Part::Digits(left), Part::Digits(right)) => {
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        }
    }
}

/// The runs of digits and of letters; signs only separate. A `v` before a digit does not count.
fn parts(version: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = version
        .strip_prefix('v')
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or(version);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|letter: char| !letter.is_alphanumeric());
        let first = rest.chars().next()?;
        let digits = first.is_ascii_digit();
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() || letter.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (run, behind) = rest.split_at_checked(end)?;
        rest = behind;
        Some(if digits {
            Part::Digits(run.trim_start_matches('0'))
        } else {
            Part::Letters(run)
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_compared_as_numbers() {
        let ascending = [
            "",
            "0.9",
            "1-alpha",
            "1.0.0-rc9",
            "1.0.0-rc10",
            "1",
            "1.4.2",
            "1.4.10",
            "1.10",
            "v2",
            "10",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (left, right) in [("1.4", "1.4.0"), ("v1", "1"), ("01", "1"), ("", "0")] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_transitive(a in "[0-2a.]{0,4}", b in "[0-2a.]{0,4}", c in "[0-2a.]{0,4}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
