//! Numbers, durations, ages and names as the console shows them.
//!
//! Invariants: an age changes at most once a minute; a text that is cut ends in a sign; no control
//! character and no mark that changes the direction of writing comes through. Pure.

use std::borrow::Cow;
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands where nothing is known.
pub const UNKNOWN: &str = "–";

/// The text without characters that could harm the terminal or mislead its reader.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_harmful) {
        Cow::Owned(
            text.chars()
                .filter(|character| !is_harmful(*character))
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// How many cells a text takes.
pub fn width(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}

/// The text cut to `room` cells, with `…` where something is missing.
pub fn fit(text: &str, room: u16) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    if room == 0 {
        return Cow::Borrowed("");
    }
    let mut taken = 0;
    let mut cut = String::new();
    for character in text.chars() {
        let cells = u16::try_from(character.width().unwrap_or(0)).unwrap_or(0);
        if taken + cells + 1 > room {
            break;
        }
        taken += cells;
        cut.push(character);
    }
    cut.push('…');
    Cow::Owned(cut)
}

/// A count in at most five cells: `812`, `9.81k`, `30.2M`.
pub fn count(value: i64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (10_000, "k"),
    ];
    let Ok(value) = u64::try_from(value) else {
        return UNKNOWN.to_owned();
    };
    for (from, unit) in UNITS {
        if value >= from {
            let scale = if unit == "k" { 1_000 } else { from };
            return format!("{}{unit}", three_digits(value, scale));
        }
    }
    value.to_string()
}

/// `value / scale` with three digits that say something.
fn three_digits(value: u64, scale: u64) -> String {
    let whole = value / scale;
    let thousandths = value % scale * 1_000 / scale;
    match whole {
        0..10 => format!("{whole}.{:02}", thousandths / 10),
        10..100 => format!("{whole}.{}", thousandths / 100),
        _ => whole.to_string(),
    }
}

/// A number with thin groups of three: `12,345`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Requests per second: `0`, `3.2`, `812`, `18.4k`.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        return UNKNOWN.to_owned();
    }
    if per_second < 0.05 {
        return "0".to_owned();
    }
    if per_second < 9.95 {
        return format!("{per_second:.1}");
    }
    count(round(per_second))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float beyond the range becomes the range's end"
)]
fn round(value: f64) -> i64 {
    value.round() as i64
}

/// A response time: `80µs`, `1.2ms`, `214ms`, `3.1s`.
pub fn micros(value: i64) -> String {
    let Ok(value) = u64::try_from(value) else {
        return UNKNOWN.to_owned();
    };
    match value {
        0..1_000 => format!("{value}µs"),
        1_000..10_000 => format!("{}.{}ms", value / 1_000, value % 1_000 / 100),
        10_000..10_000_000 => format!("{}ms", value / 1_000),
        _ => format!("{}s", value / 1_000_000),
    }
}

/// How long something has been going on: `<1m`, `4m`, `3h12m`, `3d04h`.
pub fn uptime(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes {
        0 => "<1m".to_owned(),
        1..60 => format!("{minutes}m"),
        60..1_440 => format!("{}h{:02}m", minutes / 60, minutes % 60),
        _ => format!("{}d{:02}h", minutes / 1_440, minutes % 1_440 / 60),
    }
}

/// How long ago something was: `now`, then whole minutes, hours, days.
pub fn ago(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes {
        0 => "now".to_owned(),
        1..60 => format!("{minutes}m"),
        60..1_440 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1_440),
    }
}

/// How long until the text of an age changes.
pub fn until_next_minute(age: Duration) -> Duration {
    Duration::from_mins(1).saturating_sub(Duration::new(age.as_secs() % 60, age.subsec_nanos()))
}

/// Bytes: `912K`, `14.2M`.
pub fn bytes(value: i64) -> String {
    let Ok(value) = u64::try_from(value) else {
        return UNKNOWN.to_owned();
    };
    match value {
        0..1_048_576 => format!("{}K", value / 1_024),
        1_048_576..1_073_741_824 => format!("{}M", three_digits(value, 1_048_576)),
        _ => format!("{}G", three_digits(value, 1_073_741_824)),
    }
}

/// One of `one` or `many`, with the number before it: `1 host`, `3 hosts`.
pub fn plural(number: usize, one: &str, many: &str) -> String {
    let number_text = grouped(u64::try_from(number).unwrap_or(u64::MAX));
    let word = if number == 1 { one } else { many };
    format!("{number_text} {word}")
}

/// A row of small bars, scaled from zero to the greatest value; empty for no values.
pub fn sparkline(values: impl DoubleEndedIterator<Item = f64> + Clone, ascii: bool) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '.', ',', '-', '~', '=', '^', '#'];
    let bars = if ascii { ASCII } else { BARS };
    let greatest = values.clone().fold(0.0_f64, f64::max);
    values
        .map(|value| {
            let share = if greatest > 0.0 {
                value / greatest
            } else {
                0.0
            };
            let step = round(share * 7.0).clamp(0, 7);
            bars.get(usize::try_from(step).unwrap_or(0))
                .copied()
                .unwrap_or(' ')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_five_cells() {
        for (value, text) in [
            (0, "0"),
            (812, "812"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (999_999, "999k"),
            (9_812_345, "9.81M"),
            (30_200_000, "30.2M"),
            (-1, "–"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!(count(i64::MAX), "9223372T");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(rate(0.01), "0");
        assert_eq!(rate(3.21), "3.2");
        assert_eq!(rate(18_432.0), "18.4k");
        assert_eq!(rate(f64::NAN), "–");
        assert_eq!(rate(f64::INFINITY), "–");
        assert_eq!(bytes(14_900_000), "14.2M");
    }

    #[test]
    fn durations_are_coarse() {
        for (value, text) in [
            (80, "80µs"),
            (1_290, "1.2ms"),
            (214_900, "214ms"),
            (31_000_000, "31s"),
        ] {
            assert_eq!(micros(value), text);
        }
        for (seconds, up, last) in [
            (0, "<1m", "now"),
            (59, "<1m", "now"),
            (60, "1m", "1m"),
            (11_520, "3h12m", "3h"),
            (273_600, "3d04h", "3d"),
        ] {
            let age = Duration::from_secs(seconds);
            assert_eq!((uptime(age).as_str(), ago(age).as_str()), (up, last));
        }
        assert_eq!(
            until_next_minute(Duration::from_secs(75)),
            Duration::from_secs(45)
        );
    }

    #[test]
    fn harmful_characters_are_taken_out_and_cuts_are_shown() {
        assert_eq!(clean("a\u{1b}[31mb\u{202e}c\n"), "a[31mbc");
        assert_eq!(fit("payments", 8), "payments");
        assert_eq!(fit("payments", 4), "pay…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("payments", 1), "…");
        assert_eq!(fit("payments", 0), "");
    }

    #[test]
    fn bars_scale_to_the_greatest() {
        assert_eq!(sparkline([0.0, 5.0, 10.0].into_iter(), false), "▁▅█");
        assert_eq!(sparkline([0.0, 0.0].into_iter(), true), "__");
    }
}
