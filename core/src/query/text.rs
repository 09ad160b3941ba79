//! How texts are compared: substrings without regard to case, globs, letters in order.
//!
//! Invariants: nothing here allocates while it compares; what is compared is prepared once. Case is
//! folded letter by letter, as `char::to_lowercase` does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A text prepared for a search that minds the case or does not.
#[derive(Debug, Clone)]
pub(crate) struct Needle {
    /// As it is searched for: lower case when case does not matter.
    text: Box<str>,
    sensitive: bool,
    ascii: bool,
}

impl Needle {
    /// A search without regard to case.
    pub(crate) fn insensitive(text: &str) -> Self {
        let text = text.to_lowercase().into_boxed_str();
        let ascii = text.is_ascii();
        Self {
            text,
            sensitive: false,
            ascii,
        }
    }

    /// Smart case: a capital in `text` makes the search mind the case.
    pub(crate) fn smart(text: &str) -> Self {
        if text.chars().any(char::is_uppercase) {
            Self {
                text: text.into(),
                sensitive: true,
                ascii: text.is_ascii(),
            }
        } else {
            Self::insensitive(text)
        }
    }

    /// Whether it consists of such letters only.
    pub(crate) fn consists_of(&self, letters: impl Fn(char) -> bool) -> bool {
        self.text.chars().all(letters)
    }

    /// Whether `text` contains it.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        if self.sensitive {
            return text.contains(&*self.text);
        }
        if !self.ascii {
            return text
                .char_indices()
                .any(|(at, _)| text.get(at..).is_some_and(|rest| self.folded_start(rest)));
        }
        let (text, needle) = (text.as_bytes(), self.text.as_bytes());
        let Some(first) = needle.first() else {
            return true;
        };
        text.windows(needle.len()).any(|window| {
            window[0].eq_ignore_ascii_case(first) && window.eq_ignore_ascii_case(needle)
        })
    }

    /// Whether `text` starts with it.
    pub(crate) fn starts(&self, text: &str) -> bool {
        if self.sensitive {
            return text.starts_with(&*self.text);
        }
        if !self.ascii {
            return self.folded_start(text);
        }
        text.as_bytes()
            .get(..self.text.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(self.text.as_bytes()))
    }

    /// Whether `text` ends with it.
    pub(crate) fn ends(&self, text: &str) -> bool {
        if self.sensitive {
            return text.ends_with(&*self.text);
        }
        if !self.ascii {
            return text
                .char_indices()
                .any(|(at, _)| text.get(at..).is_some_and(|rest| self.is_whole(rest)));
        }
        text.len() >= self.text.len()
            && text.as_bytes()[text.len() - self.text.len()..]
                .eq_ignore_ascii_case(self.text.as_bytes())
    }

    /// Whether `text` is it.
    pub(crate) fn is_whole(&self, text: &str) -> bool {
        if self.sensitive {
            text == &*self.text
        } else if self.ascii {
            text.eq_ignore_ascii_case(&self.text)
        } else {
            text.chars()
                .flat_map(char::to_lowercase)
                .eq(self.text.chars())
        }
    }

    /// Whether its letters stand in `text` in their order, with any others between them.
    pub(crate) fn is_scattered_in(&self, text: &str) -> bool {
        if self.ascii {
            let mut wanted = self.text.bytes().peekable();
            for letter in text.bytes() {
                let Some(next) = wanted.peek() else {
                    return true;
                };
                if letter == *next || (!self.sensitive && letter.to_ascii_lowercase() == *next) {
                    wanted.next();
                }
            }
            return wanted.peek().is_none();
        }
        let mut wanted = self.text.chars().peekable();
        for letter in text.chars() {
            if self.sensitive {
                wanted.next_if_eq(&letter);
            } else {
                for folded in letter.to_lowercase() {
                    wanted.next_if_eq(&folded);
                }
            }
        }
        wanted.peek().is_none()
    }

    fn folded_start(&self, text: &str) -> bool {
        let mut letters = text.chars().flat_map(char::to_lowercase);
        self.text
            .chars()
            .all(|wanted| letters.next() == Some(wanted))
    }
}

/// A glob over a whole text: `*` for any letters, `?` for one.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    pattern: Box<[char]>,
    sensitive: bool,
}

impl Glob {
    pub(crate) fn new(pattern: &str, sensitive: bool) -> Self {
        let pattern = if sensitive {
            pattern.chars().collect()
        } else {
            pattern.chars().map(fold).collect()
        };
        Self { pattern, sensitive }
    }

    /// Whether the whole of `text` fits. Takes time in the order of the product of both lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut at = 0;
        let mut rest = text.chars();
        // Where to go on after the last star, when what follows it does not fit here.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.pattern.get(at) == Some(&'*') {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            let fits = match (self.pattern.get(at), rest.next()) {
                (None, None) => return true,
                (Some('?'), Some(_)) => true,
                (Some(wanted), Some(letter)) if self.sensitive => *wanted == letter,
                (Some(wanted), Some(letter)) => *wanted == fold(letter),
                // The text is at its end: no shorter rest can fit either.
                (Some(_), None) => return false,
                (None, Some(_)) => false,
            };
            if fits {
                at += 1;
                continue;
            }
            let Some((star, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            at = *star;
            rest = from.clone();
        }
    }
}

/// One letter in lower case; letters that become several keep their first.
fn fold(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    letter.to_lowercase().next().unwrap_or(letter)
}

/// A text that is written in place, for addresses: they are compared as texts without allocating.
#[derive(Default)]
pub(crate) struct Scratch {
    bytes: Inline,
    length: usize,
}

/// Room for the longest socket address, with scope.
struct Inline([u8; 64]);

impl Default for Inline {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Scratch {
    /// `address` as text. The usual kind is written by hand: formatting it takes several times as
    /// long, and a filter writes one per instance.
    pub(crate) fn write_ip(&mut self, address: IpAddr) -> &str {
        let IpAddr::V4(address) = address else {
            return self.write(address);
        };
        self.length = 0;
        self.push_v4(address);
        self.text()
    }

    /// `address` as text, with its port.
    pub(crate) fn write_address(&mut self, address: SocketAddr) -> &str {
        let SocketAddr::V4(address) = address else {
            return self.write(address);
        };
        self.length = 0;
        self.push_v4(*address.ip());
        self.push(b':');
        self.push_number(address.port());
        self.text()
    }

    fn push_v4(&mut self, address: Ipv4Addr) {
        let [first, rest @ ..] = address.octets();
        self.push_number(first.into());
        for octet in rest {
            self.push(b'.');
            self.push_number(octet.into());
        }
    }

    fn push_number(&mut self, number: u16) {
        let mut scale = 10_000;
        while scale > 1 && number < scale {
            scale /= 10;
        }
        while scale > 0 {
            // A digit is below 10.
            self.push(b'0' + u8::try_from(number / scale % 10).unwrap_or(0));
            scale /= 10;
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.0.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes.0[..self.length]).unwrap_or_default()
    }

    /// `value` as text.
    pub(crate) fn write(&mut self, value: impl std::fmt::Display) -> &str {
        use std::fmt::Write as _;
        self.length = 0;
        // What does not fit is cut: no address is longer.
        let _cut = write!(self, "{value}");
        self.text()
    }
}

impl std::fmt::Write for Scratch {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let room = self
            .bytes
            .0
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_fit_whole_texts() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("**", "ab", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*d", "abcbd", true),
            ("*b*d", "abdc", false),
            ("1.4*", "1.4.2", true),
            ("1.4*", "11.4", false),
            ("A*", "abc", false),
            ("?", "\u{e4}", true),
        ] {
            assert_eq!(
                Glob::new(pattern, true).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(Glob::new("A*\u{c4}", false).matches("ab\u{e4}"));
    }

    proptest! {
        #[test]
        fn needles_are_found_as_in_lower_case(needle in "[a-cA-C\u{e4}\u{c4}]{1,3}", text in "[a-cA-C\u{e4}\u{c4}]{0,6}") {
            let (lower, low_text) = (needle.to_lowercase(), text.to_lowercase());
            let prepared = Needle::insensitive(&needle);
            prop_assert_eq!(prepared.is_in(&text), low_text.contains(&lower));
            prop_assert_eq!(prepared.starts(&text), low_text.starts_with(&lower));
            prop_assert_eq!(prepared.ends(&text), low_text.ends_with(&lower));
            prop_assert_eq!(prepared.is_whole(&text), low_text == lower);
        }

        #[test]
        fn letters_in_order_are_scattered(needle in "[a-cA\u{e4}]{1,3}", text in "[a-cA\u{e4}]{0,8}") {
            let mut regex = String::from("(?s)");
            if !needle.chars().any(char::is_uppercase) {
                regex.push_str("(?i)");
            }
            for letter in needle.chars() {
                regex.push_str(".*");
                regex.push(letter);
            }
            let expected = regex::Regex::new(&regex).unwrap().is_match(&text);
            prop_assert_eq!(Needle::smart(&needle).is_scattered_in(&text), expected);
        }

        #[test]
        fn addresses_are_written_as_usual(ip: Ipv4Addr, port: u16) {
            let mut scratch = Scratch::default();
            let address = SocketAddr::from((ip, port));
            prop_assert_eq!(scratch.write_address(address), address.to_string());
            prop_assert_eq!(scratch.write_ip(ip.into()), ip.to_string());
        }

        #[test]
        fn globs_are_regexes(pattern in "[ab*?]{0,6}", text in "[ab]{0,8}") {
            let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex::Regex::new(&regex).unwrap().is_match(&text);
            prop_assert_eq!(Glob::new(&pattern, true).matches(&text), expected);
        }
    }
}
