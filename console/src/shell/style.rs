//! How the shell's line looks: the terminal's own colors, and signs that it can draw.

use nu_ansi_term::{Color, Style};
use skynet::query::Role;

/// The signs of the prompt and the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signs {
    /// Ready for a line.
    pub(super) ready: &'static str,
    /// Not connected.
    pub(super) lost: &'static str,
    /// Between filter and counts.
    pub(super) dot: &'static str,
    /// Where something was left out.
    pub(super) ellipsis: &'static str,
    /// Whether boxes can be drawn.
    pub(super) boxes: bool,
}

impl Signs {
    /// For terminals that speak UTF-8.
    pub(super) const UNICODE: Self = Self {
        ready: "❯",
        lost: "○",
        dot: "·",
        ellipsis: "…",
        boxes: true,
    };
    /// For the others.
    pub(super) const ASCII: Self = Self {
        ready: ">",
        lost: "o",
        dot: "-",
        ellipsis: "..",
        boxes: false,
    };

    /// What the locale of the environment can draw.
    pub(super) fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(lookup)
            .find(|value| !value.is_empty());
        let utf8 = |locale: &str| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        };
        // Containers leave the locale out, and their terminals speak UTF-8.
        if locale.is_none_or(|locale| utf8(&locale)) {
            Self::UNICODE
        } else {
            Self::ASCII
        }
    }
}

/// How a part of a query looks.
pub(super) fn of_role(role: Role) -> Style {
    match role {
        Role::Command => Style::new().fg(Color::Green).bold(),
        Role::Keyword => Style::new().fg(Color::Purple),
        Role::Field => Style::new().fg(Color::Cyan),
        Role::Operator | Role::Punctuation => Style::new().fg(Color::DarkGray),
        Role::Value => Style::new().fg(Color::Yellow),
        Role::Flag => Style::new().fg(Color::Blue),
        Role::Fuzzy => Style::new(),
        Role::Error => error(),
    }
}

/// What cannot be understood.
pub(super) fn error() -> Style {
    Style::new().fg(Color::Red).underline()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_locale_gets_ascii() {
        let with = |value: &'static str| {
            Signs::from_env(move |name| (name == "LANG").then(|| value.to_owned()))
        };
        assert_eq!(with("de_DE.UTF-8"), Signs::UNICODE);
        assert_eq!(with("C"), Signs::ASCII);
        assert_eq!(with(""), Signs::UNICODE);
    }
}
