//! Colors as theme files write them, and what a terminal can show of them.
//!
//! Invariants: a color is mapped down once, when its theme is loaded; the 16 named colors are
//! never mapped, since they belong to the terminal's user.

use ratatui::style::Color;

/// How many colors the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// None at all.
    Mono,
    /// The 16 named ones.
    Ansi16,
    /// The 256 of the usual palette.
    Ansi256,
    /// All of them.
    True,
}

impl Depth {
    /// What the environment says: `NO_COLOR`, then `COLORTERM`, then `TERM`.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        if lookup("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Self::Mono;
        }
        if lookup("COLORTERM").is_some_and(|value| value == "truecolor" || value == "24bit") {
            return Self::True;
        }
        match lookup("TERM") {
            Some(term) if term.contains("256color") || term.contains("kitty") => Self::Ansi256,
            Some(term) if term == "dumb" => Self::Mono,
            _ => Self::Ansi16,
        }
    }

    /// The nearest color that this depth has.
    pub fn map(self, color: Color) -> Color {
        match (self, color) {
            (Self::Mono, _) => Color::Reset,
            (Self::Ansi16, Color::Rgb(red, green, blue)) => nearest_named(red, green, blue),
            (Self::Ansi16, Color::Indexed(index)) => {
                let (red, green, blue) = indexed_rgb(index);
                nearest_named(red, green, blue)
            }
            (Self::Ansi256, Color::Rgb(red, green, blue)) => nearest_indexed(red, green, blue),
            (_, color) => color,
        }
    }
}

const NAMED: [(&str, Color, (u8, u8, u8)); 16] = [
    ("black", Color::Black, (0, 0, 0)),
    ("red", Color::Red, (170, 0, 0)),
    ("green", Color::Green, (0, 170, 0)),
    ("yellow", Color::Yellow, (170, 85, 0)),
    ("blue", Color::Blue, (0, 0, 170)),
    ("magenta", Color::Magenta, (170, 0, 170)),
    ("cyan", Color::Cyan, (0, 170, 170)),
    ("white", Color::Gray, (170, 170, 170)),
    ("bright-black", Color::DarkGray, (85, 85, 85)),
    ("bright-red", Color::LightRed, (255, 85, 85)),
    ("bright-green", Color::LightGreen, (85, 255, 85)),
    ("bright-yellow", Color::LightYellow, (255, 255, 85)),
    ("bright-blue", Color::LightBlue, (85, 85, 255)),
    ("bright-magenta", Color::LightMagenta, (255, 85, 255)),
    ("bright-cyan", Color::LightCyan, (85, 255, 255)),
    ("bright-white", Color::White, (255, 255, 255)),
];

/// Reads `default`, an ANSI name, `#rrggbb` or `0` to `255`.
pub fn parse(word: &str) -> Option<Color> {
    if word == "default" {
        return Some(Color::Reset);
    }
    if let Some((_, color, _)) = NAMED.iter().find(|(name, _, _)| *name == word) {
        return Some(*color);
    }
    if let Some(digits) = word.strip_prefix('#') {
        if digits.len() != 6 || !digits.is_ascii() {
            return None;
        }
        let value = u32::from_str_radix(digits, 16).ok()?;
        let [_, red, green, blue] = value.to_be_bytes();
        return Some(Color::Rgb(red, green, blue));
    }
    word.parse().ok().map(Color::Indexed)
}

fn distance(one: (u8, u8, u8), other: (u8, u8, u8)) -> u32 {
    let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
    square(one.0, other.0) + square(one.1, other.1) + square(one.2, other.2)
}

fn nearest_named(red: u8, green: u8, blue: u8) -> Color {
    NAMED
        .iter()
        .min_by_key(|(_, _, rgb)| distance(*rgb, (red, green, blue)))
        .map_or(Color::Reset, |(_, color, _)| *color)
}

fn nearest_indexed(red: u8, green: u8, blue: u8) -> Color {
    (16..=255_u8)
        .min_by_key(|index| distance(indexed_rgb(*index), (red, green, blue)))
        .map_or(Color::Reset, Color::Indexed)
}

/// The usual color of an index: 16 named ones, a cube of 6 steps, 24 greys.
fn indexed_rgb(index: u8) -> (u8, u8, u8) {
    const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    match index {
        0..=15 => NAMED[usize::from(index)].2,
        16..=231 => {
            let cube = usize::from(index - 16);
            (STEPS[cube / 36], STEPS[cube / 6 % 6], STEPS[cube % 6])
        }
        232..=255 => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_colors() {
        assert_eq!(parse("default"), Some(Color::Reset));
        assert_eq!(parse("bright-black"), Some(Color::DarkGray));
        assert_eq!(parse("#2e86ab"), Some(Color::Rgb(0x2e, 0x86, 0xab)));
        assert_eq!(parse("208"), Some(Color::Indexed(208)));
        for word in ["", "#12", "#12345é", "256", "-1", "sea"] {
            assert_eq!(parse(word), None, "{word}");
        }
    }

    #[test]
    fn colors_map_down_and_named_ones_stay() {
        assert_eq!(
            Depth::Ansi256.map(Color::Rgb(255, 0, 0)),
            Color::Indexed(196)
        );
        assert_eq!(Depth::Ansi16.map(Color::Rgb(250, 80, 80)), Color::LightRed);
        assert_eq!(Depth::Ansi16.map(Color::Indexed(231)), Color::White);
        assert_eq!(Depth::Ansi16.map(Color::Cyan), Color::Cyan);
        assert_eq!(Depth::Mono.map(Color::Cyan), Color::Reset);
    }
}
