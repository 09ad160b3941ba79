//! Counting the requests that were not begun, by the word that their answer carries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::signed;
use crate::rpc::error::Code;

/// How often each code was answered, in the order of [`Code::ALL`].
#[derive(Debug, Default)]
pub(super) struct Refused {
    counts: [AtomicU64; Code::ALL.len()],
}

impl Refused {
    pub(super) fn count(&self, code: Code) {
        if let Some(count) = self.counts.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// By word; those that never occurred are left out.
    pub(super) fn read(&self) -> BTreeMap<String, i64> {
        let counts = Code::ALL.iter().zip(&self.counts);
        counts
            .map(|(code, count)| (code.to_string(), signed(count.load(Ordering::Relaxed))))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_count_of_its_own() {
        let refused = Refused::default();
        for (times, code) in Code::ALL.into_iter().enumerate() {
            for _ in 0..times {
                refused.count(code);
            }
        }
        let wanted = Code::ALL.into_iter().zip(0..).skip(1);
        let wanted: BTreeMap<_, _> = wanted
            .map(|(code, times)| (code.to_string(), times))
            .collect();
        assert_eq!(refused.read(), wanted);
    }
}
