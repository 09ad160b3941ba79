//! How things look: named roles, never colors at the place of use.
//!
//! Invariants: every role has a style, whatever a theme file says or leaves out; the default theme
//! uses the terminal's own 16 colors and background. Knows nothing of what is drawn.

pub mod color;
pub mod file;

use ratatui::style::Style;

pub use color::Depth;
pub use file::{Loaded, ThemeProblem};

/// What a piece of the screen means; a theme says how that looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Plain text.
    Text,
    /// What matters less.
    Muted,
    /// What draws the eye.
    Accent,
    /// The program's name and titles of panes.
    Title,
    /// Lines between parts.
    Rule,
    /// A view that is not shown.
    Tab,
    /// The view that is shown.
    TabActive,
    /// The names of columns.
    Header,
    /// The row under the cursor.
    Cursor,
    /// A marked row.
    Mark,
    /// All is well.
    Ok,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
    /// No longer there.
    Gone,
    /// Just come.
    New,
    /// A value that has just changed.
    Changed,
    /// The part of a text that a search matched.
    Match,
    /// A term of the filter that came from drilling down.
    Structural,
    /// A field's name in a query.
    Field,
    /// An operator in a query.
    Operator,
    /// A value in a query.
    Value,
    /// A bare word in a query.
    Fuzzy,
    /// A keyword in a query or statement.
    Keyword,
    /// What does not parse.
    Error,
    /// The name of a key.
    Key,
    /// The text of a dialog.
    Dialog,
    /// The title of a dialog that changes things.
    DangerTitle,
    /// A passing message.
    Toast,
    /// Small graphs.
    Graph,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 29] = [
        Self::Text,
        Self::Muted,
        Self::Accent,
        Self::Title,
        Self::Rule,
        Self::Tab,
        Self::TabActive,
        Self::Header,
        Self::Cursor,
        Self::Mark,
        Self::Ok,
        Self::Warn,
        Self::Bad,
        Self::Gone,
        Self::New,
        Self::Changed,
        Self::Match,
        Self::Structural,
        Self::Field,
        Self::Operator,
        Self::Value,
        Self::Fuzzy,
        Self::Keyword,
        Self::Error,
        Self::Key,
        Self::Dialog,
        Self::DangerTitle,
        Self::Toast,
        Self::Graph,
    ];

    /// The role's name in theme files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Muted => "muted",
            Self::Accent => "accent",
            Self::Title => "title",
            Self::Rule => "rule",
            Self::Tab => "tab",
            Self::TabActive => "tab_active",
            Self::Header => "header",
            Self::Cursor => "cursor",
            Self::Mark => "mark",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Gone => "gone",
            Self::New => "new",
            Self::Changed => "changed",
            Self::Match => "match",
            Self::Structural => "structural",
            Self::Field => "field",
            Self::Operator => "operator",
            Self::Value => "value",
            Self::Fuzzy => "fuzzy",
            Self::Keyword => "keyword",
            Self::Error => "error",
            Self::Key => "key",
            Self::Dialog => "dialog",
            Self::DangerTitle => "danger_title",
            Self::Toast => "toast",
            Self::Graph => "graph",
        }
    }

    /// The role with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The glyphs that stand beside colors, so that no meaning hangs on color alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    /// Symbols of Unicode.
    Unicode,
    /// ASCII only.
    Ascii,
}

impl Glyphs {
    /// ASCII unless the locale speaks UTF-8.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(&lookup)
            .find(|value| !value.is_empty());
        match locale {
            Some(value) => {
                let value = value.to_ascii_lowercase();
                if value.contains("utf-8") || value.contains("utf8") {
                    Self::Unicode
                } else {
                    Self::Ascii
                }
            }
            // Containers and cron leave the locale out, and their terminals speak UTF-8 today.
            None => Self::Unicode,
        }
    }

    /// `unicode` or `ascii`, whichever this set is.
    pub const fn pick<T>(self, unicode: T, ascii: T) -> T
    where
        T: Copy,
    {
        match self {
            Self::Unicode => unicode,
            Self::Ascii => ascii,
        }
    }
}

/// A style for every role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    name: String,
    styles: [Style; Role::ALL.len()],
    /// Which glyphs are drawn.
    pub glyphs: Glyphs,
}

impl Theme {
    /// A theme in which every role looks like plain text.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            styles: [Style::new(); Role::ALL.len()],
            glyphs: Glyphs::Unicode,
        }
    }

    /// The built-in theme `terminal`.
    pub fn terminal() -> Self {
        file::built_in("terminal", Depth::Ansi16)
            .map_or_else(|| Self::plain("terminal"), |loaded| loaded.theme)
    }

    /// The theme that the environment asks for: `mono` under `NO_COLOR`, else the built-in one that
    /// `SKY_THEME` names, else `terminal`; glyphs by the locale.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let depth = Depth::from_env(&lookup);
        let name = match depth {
            Depth::Mono => "mono".to_owned(),
            _ => lookup("SKY_THEME").unwrap_or_else(|| "terminal".to_owned()),
        };
        let mut theme =
            file::built_in(&name, depth).map_or_else(Self::terminal, |loaded| loaded.theme);
        theme.glyphs = Glyphs::from_env(&lookup);
        theme
    }

    /// The theme's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How `role` looks.
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(role as usize).copied().unwrap_or_default()
    }

    /// Says how `role` looks.
    pub fn set(&mut self, role: Role, style: Style) {
        if let Some(place) = self.styles.get_mut(role as usize) {
            *place = style;
        }
    }

    pub(crate) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_stand_at_their_own_place_and_names_read_back() {
        for (index, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, index);
            assert_eq!(Role::named(role.name()), Some(role));
        }
    }

    #[test]
    fn no_color_gives_mono_and_a_foreign_locale_ascii() {
        let theme = Theme::from_env(|name| match name {
            "NO_COLOR" => Some("1".to_owned()),
            "LANG" => Some("C".to_owned()),
            _ => None,
        });
        assert_eq!(theme.name(), "mono");
        assert_eq!(theme.glyphs, Glyphs::Ascii);
        let theme = Theme::from_env(|name| (name == "LANG").then(|| "de_DE.UTF-8".to_owned()));
        assert_eq!(theme.name(), "terminal");
        assert_eq!(theme.glyphs, Glyphs::Unicode);
        let theme = Theme::from_env(|name| (name == "SKY_THEME").then(|| "light".to_owned()));
        assert_eq!(theme.name(), "light");
    }
}
