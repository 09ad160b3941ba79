//! Theme files: TOML with a palette and roles, partial, extending another theme.
//!
//! Invariants: a file that does not read, or a role that does not, never stops the console: the
//! role keeps what the base says, and the problem names file and role. Pure.

use ratatui::style::{Modifier, Style};
use toml::{Table, Value};

use super::color::{self, Depth};
use super::{Role, Theme};

/// The themes that are built in: name and text.
pub const BUILT_IN: [(&str, &str); 3] = [
    ("terminal", include_str!("../../../themes/terminal.toml")),
    ("light", include_str!("../../../themes/light.toml")),
    ("mono", include_str!("../../../themes/mono.toml")),
];

/// How far `extends` and names of colors are followed.
const MAX_DEPTH: usize = 8;

/// What is wrong with a theme file; the rest of it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThemeProblem {
    /// The file is not TOML.
    #[error("theme file `{file}` does not read: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Where and why.
        message: String,
    },
    /// It names a role that there is not.
    #[error("theme file `{file}`: `{role}` is not a role")]
    UnknownRole {
        /// The file.
        file: String,
        /// The word that was given.
        role: String,
    },
    /// A role names a color that there is not.
    #[error("theme file `{file}`: role `{role}`: `{word}` is not a color")]
    UnknownColor {
        /// The file.
        file: String,
        /// The role.
        role: String,
        /// The word that was given.
        word: String,
    },
    /// A role is neither a color nor a table of `fg`, `bg` and attributes.
    #[error("theme file `{file}`: role `{role}`: `{key}` is not understood")]
    BadStyle {
        /// The file.
        file: String,
        /// The role.
        role: String,
        /// The key that is not understood.
        key: String,
    },
    /// It extends a theme that there is not.
    #[error("theme file `{file}` extends `{base}`, which is not a theme")]
    UnknownBase {
        /// The file.
        file: String,
        /// The word that was given.
        base: String,
    },
}

impl skynet::hint::Hint for ThemeProblem {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } => None,
            Self::UnknownRole { .. } => Some(format!(
                "the roles are: {}",
                Role::ALL.map(Role::name).join(" ")
            )),
            Self::UnknownColor { .. } => Some(
                "a color is a name of the palette, `default`, an ANSI name like `bright-black`, \
                 `#rrggbb` or 0 to 255"
                    .to_owned(),
            ),
            Self::BadStyle { .. } => Some(
                "a role is a color, or a table of fg, bg, bold, dim, italic, underline, reverse \
                 and strike"
                    .to_owned(),
            ),
            Self::UnknownBase { .. } => Some(format!(
                "the built-in themes are: {}",
                BUILT_IN.map(|(name, _)| name).join(" ")
            )),
        }
    }
}

/// A theme and what was wrong with its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The theme, whole in any case.
    pub theme: Theme,
    /// What was left out, and why.
    pub problems: Vec<ThemeProblem>,
}

/// A built-in theme, mapped to `depth`.
pub fn built_in(name: &str, depth: Depth) -> Option<Loaded> {
    let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(load(name, text, depth))
}

/// Reads a theme file's text; `file` is named in problems.
pub fn load(file: &str, text: &str, depth: Depth) -> Loaded {
    let mut loader = Loader {
        depth,
        problems: Vec::new(),
    };
    let theme = loader.theme(file, text, 0);
    Loaded {
        theme,
        problems: loader.problems,
    }
}

struct Loader {
    depth: Depth,
    problems: Vec<ThemeProblem>,
}

/// One file while it is read.
struct Source<'a> {
    file: &'a str,
    palette: Table,
    roles: Table,
}

impl Loader {
    fn theme(&mut self, file: &str, text: &str, depth: usize) -> Theme {
        let mut table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                self.problems.push(ThemeProblem::Syntax {
                    file: file.to_owned(),
                    message: error.to_string().trim().replace('\n', " "),
                });
                return self.base(file, None, depth);
            }
        };
        let base = table
            .get("extends")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let mut theme = self.base(file, base.as_deref(), depth);
        theme.rename(table.get("name").and_then(Value::as_str).unwrap_or(file));
        let mut take = |key: &str| match table.remove(key) {
            Some(Value::Table(inner)) => inner,
            _ => Table::new(),
        };
        let source = Source {
            file,
            palette: take("palette"),
            roles: take("roles"),
        };
        for (name, value) in &source.roles {
            match Role::named(name) {
                Some(role) => {
                    if let Some(style) = self.style(&source, name, value) {
                        theme.set(role, style);
                    }
                }
                None => self.problems.push(ThemeProblem::UnknownRole {
                    file: file.to_owned(),
                    role: name.clone(),
                }),
            }
        }
        theme
    }

    fn base(&mut self, file: &str, base: Option<&str>, depth: usize) -> Theme {
        let wanted = base.unwrap_or("terminal");
        let text = BUILT_IN.iter().find(|(name, _)| *name == wanted);
        match text {
            // The theme that all others stand on has no base.
            _ if base.is_none() && BUILT_IN.iter().any(|(name, _)| *name == file) => {
                Theme::plain(file)
            }
            Some((name, text)) if depth < MAX_DEPTH => self.theme(name, text, depth + 1),
            _ => {
                self.problems.push(ThemeProblem::UnknownBase {
                    file: file.to_owned(),
                    base: wanted.to_owned(),
                });
                Theme::plain(file)
            }
        }
    }

    fn style(&mut self, source: &Source<'_>, role: &str, value: &Value) -> Option<Style> {
        let table = match value {
            Value::Table(table) => table,
            plain => {
                let color = self.color(source, role, plain)?;
                return Some(Style::new().fg(color));
            }
        };
        let mut style = Style::new();
        for (key, value) in table {
            let modifier = match (key.as_str(), value) {
                ("fg", value) => {
                    style = style.fg(self.color(source, role, value)?);
                    continue;
                }
                ("bg", value) => {
                    style = style.bg(self.color(source, role, value)?);
                    continue;
                }
                (_, Value::Boolean(false)) => continue,
                ("bold", Value::Boolean(true)) => Modifier::BOLD,
                ("dim", Value::Boolean(true)) => Modifier::DIM,
                ("italic", Value::Boolean(true)) => Modifier::ITALIC,
                ("underline", Value::Boolean(true)) => Modifier::UNDERLINED,
                ("reverse", Value::Boolean(true)) => Modifier::REVERSED,
                ("strike", Value::Boolean(true)) => Modifier::CROSSED_OUT,
                _ => {
                    self.problems.push(ThemeProblem::BadStyle {
                        file: source.file.to_owned(),
                        role: role.to_owned(),
                        key: key.clone(),
                    });
                    continue;
                }
            };
            style = style.add_modifier(modifier);
        }
        Some(style)
    }

    fn color(
        &mut self,
        source: &Source<'_>,
        role: &str,
        value: &Value,
    ) -> Option<ratatui::style::Color> {
        let mut word = word_of(value);
        for _ in 0..MAX_DEPTH {
            if let Some(color) = color::parse(&word) {
                return Some(self.depth.map(color));
            }
            // A name of the palette comes before another role, whose foreground is taken.
            let next = source.palette.get(&word).or_else(|| {
                let other = source.roles.get(&word)?;
                other.get("fg").or(Some(other))
            });
            match next {
                Some(next) => word = word_of(next),
                None => break,
            }
        }
        self.problems.push(ThemeProblem::UnknownColor {
            file: source.file.to_owned(),
            role: role.to_owned(),
            word: word_of(value),
        });
        None
    }
}

fn word_of(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Color;

    use super::*;

    #[test]
    fn built_in_themes_read_without_problems_and_define_every_role() {
        for (name, text) in BUILT_IN {
            let loaded = built_in(name, Depth::True).unwrap();
            assert_eq!(loaded.problems, [], "{name}");
            assert_eq!(loaded.theme.name(), name);
            let table: Table = text.parse().unwrap();
            if table.contains_key("extends") {
                continue;
            }
            let roles = table.get("roles").and_then(Value::as_table).unwrap();
            for role in Role::ALL {
                assert!(
                    roles.contains_key(role.name()),
                    "{name} lacks {}",
                    role.name()
                );
            }
        }
    }

    #[test]
    fn the_terminal_theme_uses_named_colors_only() {
        let theme = Theme::terminal();
        for role in Role::ALL {
            let style = theme.style(role);
            for color in [style.fg, style.bg].into_iter().flatten() {
                assert!(
                    !matches!(color, Color::Rgb(..) | Color::Indexed(_)),
                    "{}",
                    role.name()
                );
            }
        }
    }

    #[test]
    fn a_partial_file_extends_and_names_its_problems() {
        let text = r##"
            name = "harbour"
            extends = "terminal"
            [palette]
            sea = "#2e86ab"
            deep = "sea"
            [roles]
            accent = "deep"
            header = { fg = "accent", bold = true }
            warn = "orange"
            wran = "red"
            bad = { fg = "red", blink = true }
        "##;
        let loaded = load("harbour.toml", text, Depth::True);
        assert_eq!(loaded.theme.name(), "harbour");
        let sea = Color::Rgb(0x2e, 0x86, 0xab);
        assert_eq!(
            loaded.theme.style(Role::Header),
            Style::new().fg(sea).add_modifier(Modifier::BOLD)
        );
        let base = Theme::terminal();
        assert_eq!(loaded.theme.style(Role::Warn), base.style(Role::Warn));
        let mut problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        problems.sort();
        assert_eq!(
            problems,
            [
                "theme file `harbour.toml`: `wran` is not a role",
                "theme file `harbour.toml`: role `bad`: `blink` is not understood",
                "theme file `harbour.toml`: role `warn`: `orange` is not a color",
            ]
        );
    }

    #[test]
    fn nonsense_leaves_a_whole_theme() {
        let loaded = load("x.toml", "roles = [", Depth::Ansi16);
        assert_eq!(loaded.problems.len(), 1);
        assert_eq!(
            loaded.theme.style(Role::Ok),
            Theme::terminal().style(Role::Ok)
        );
        let circle = "[palette]\na = \"b\"\nb = \"a\"\n[roles]\ntext = \"a\"";
        assert_eq!(load("y.toml", circle, Depth::Ansi16).problems.len(), 1);
        let loaded = load("z.toml", "extends = \"nowhere\"", Depth::Ansi16);
        assert_eq!(
            loaded.problems,
            [ThemeProblem::UnknownBase {
                file: "z.toml".to_owned(),
                base: "nowhere".to_owned()
            }]
        );
    }
}
