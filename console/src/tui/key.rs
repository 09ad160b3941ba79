//! Keys as the console names them: `Ctrl-d`, `PgUp`, `g`.
//!
//! Invariants: what [`Key`] prints, it reads again; shift is part of a character and never a
//! modifier beside it, so that terminals that report it and terminals that do not agree.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key with what is held beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The key.
    pub code: KeyCode,
    /// Whether Ctrl is held.
    pub ctrl: bool,
    /// Whether Alt is held.
    pub alt: bool,
}

const NAMED: [(&str, KeyCode); 15] = [
    ("Enter", KeyCode::Enter),
    ("Esc", KeyCode::Esc),
    ("Tab", KeyCode::Tab),
    ("Shift-Tab", KeyCode::BackTab),
    ("Backspace", KeyCode::Backspace),
    ("Del", KeyCode::Delete),
    ("Space", KeyCode::Char(' ')),
    ("↑", KeyCode::Up),
    ("↓", KeyCode::Down),
    ("←", KeyCode::Left),
    ("→", KeyCode::Right),
    ("Home", KeyCode::Home),
    ("End", KeyCode::End),
    ("PgUp", KeyCode::PageUp),
    ("PgDn", KeyCode::PageDown),
];

impl Key {
    /// A key with nothing beside it.
    pub const fn plain(code: KeyCode) -> Self {
        Self {
            code,
            ctrl: false,
            alt: false,
        }
    }

    /// The key of a press or of a repeat; `None` for a release and for a modifier alone.
    pub fn pressed(event: &KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let code = match event.code {
            KeyCode::Modifier(_) | KeyCode::Null => return None,
            KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
            code => code,
        };
        Some(Self {
            code,
            ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
            alt: event.modifiers.contains(KeyModifiers::ALT),
        })
    }

    /// The character that the key types into a line.
    pub fn typed(self) -> Option<char> {
        match self.code {
            KeyCode::Char(character) if !self.ctrl && !self.alt => Some(character),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            formatter.write_str("Ctrl-")?;
        }
        if self.alt {
            formatter.write_str("Alt-")?;
        }
        if let Some((name, _)) = NAMED.iter().find(|(_, code)| *code == self.code) {
            return formatter.write_str(name);
        }
        match self.code {
            KeyCode::Char(character) => write!(formatter, "{character}"),
            other => write!(formatter, "{other:?}"),
        }
    }
}

/// A word that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a key")]
pub struct UnknownKey {
    word: String,
}

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownKey {
            word: word.to_owned(),
        };
        let (ctrl, rest) = strip(word, "Ctrl-");
        let (alt, rest) = strip(rest, "Alt-");
        let named = NAMED.iter().find(|(name, _)| *name == rest);
        let code = if let Some((_, code)) = named {
            *code
        } else {
            let mut characters = rest.chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) if !character.is_control() => KeyCode::Char(character),
                _ => return Err(unknown()),
            }
        };
        Ok(Self { code, ctrl, alt })
    }
}

fn strip<'a>(word: &'a str, prefix: &str) -> (bool, &'a str) {
    match word.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        for word in [
            "Ctrl-d",
            "Alt-&",
            "g",
            "G",
            "PgUp",
            "Shift-Tab",
            "Space",
            "-",
            "↓",
            "Esc",
        ] {
            let key: Key = word.parse().unwrap();
            assert_eq!(key.to_string(), word);
        }
        for word in ["", "Ctrl-", "gg", "Hyper-x", "\u{1b}"] {
            assert!(word.parse::<Key>().is_err(), "{word}");
        }
    }

    #[test]
    fn shift_is_part_of_the_character() {
        let event = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(Key::pressed(&event), Some("G".parse().unwrap()));
        let mut event = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::NONE);
        event.kind = KeyEventKind::Release;
        assert_eq!(Key::pressed(&event), None);
    }
}
