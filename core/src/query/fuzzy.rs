//! Scores for completion and for highlighting: how well a text fits what was typed.
//!
//! Invariants: the matcher is named in this file only, behind [`Fuzzy`]; what [`Scorer`] scores is
//! what a fuzzy word of a query finds. Selecting needs no scores and does not come here.

use nucleo::pattern::{Atom, AtomKind, CaseMatching, Normalization};
use nucleo::{Config, Matcher, Utf32Str};

use super::ast::{Word, WordKind};

/// How well texts fit a pattern.
pub trait Fuzzy {
    /// The score of `text`, higher is better; `None` when it does not fit. The places of the letters
    /// that fit, counted in characters, are appended to `places` in no order.
    fn score(&mut self, text: &str, places: &mut Vec<u32>) -> Option<u16>;
}

/// Scores one pattern with smart case. It holds about 135 kB of scratch memory: reuse it.
#[derive(Debug)]
pub struct Scorer {
    matcher: Matcher,
    atom: Atom,
    letters: Vec<char>,
}

impl Scorer {
    /// Letters in order, with others between them; starts of texts and of words score higher.
    pub fn new(pattern: &str) -> Self {
        Self::of(pattern, AtomKind::Fuzzy)
    }

    /// What a word of a query finds.
    pub fn of_word(word: &Word) -> Self {
        let kind = match word.kind {
            WordKind::Fuzzy => AtomKind::Fuzzy,
            WordKind::Substring => AtomKind::Substring,
            WordKind::Prefix => AtomKind::Prefix,
            WordKind::Suffix => AtomKind::Postfix,
            WordKind::Whole => AtomKind::Exact,
        };
        Self::of(&word.text, kind)
    }

    fn of(pattern: &str, kind: AtomKind) -> Self {
        let mut config = Config::DEFAULT;
        config.prefer_prefix = true;
        let (case, normalization) = (CaseMatching::Smart, Normalization::Never);
        Self {
            matcher: Matcher::new(config),
            atom: Atom::new(pattern, case, normalization, kind, false),
            letters: Vec::new(),
        }
    }
}

impl Fuzzy for Scorer {
    fn score(&mut self, text: &str, places: &mut Vec<u32>) -> Option<u16> {
        let text = Utf32Str::new(text, &mut self.letters);
        self.atom.indices(text, &mut self.matcher, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_score_higher() {
        let mut scorer = Scorer::new("pay");
        let mut places = Vec::new();
        let start = scorer.score("payments", &mut places);
        assert_eq!(places, [0, 1, 2]);
        assert!(start > scorer.score("repay", &mut places));
        assert!(start > scorer.score("p-a-y", &mut places));
        assert_eq!(scorer.score("pa", &mut places), None);
        assert!(Scorer::new("").score("x", &mut places).is_some());
    }
}
