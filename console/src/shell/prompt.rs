//! The prompt: the filter is always in it, because what it selects is what a change would hit.
//!
//! Invariants: drawn from what is known already, never from the network; finished prompts shrink to
//! their sign.

use std::borrow::Cow;
use std::sync::Arc;

use reedline::{Color, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus};
use tokio::time::Instant;
use unicode_width::UnicodeWidthStr;

use super::cluster::{Cluster, Counts};
use super::style::Signs;
use crate::report::plain;

/// The widest filter that the prompt shows whole, in columns.
const FILTER_WIDTH: usize = 40;
/// A view that is older than this, in seconds, is dated.
const OLD: u64 = 5;

/// The prompt of the shell.
pub(super) struct ShellPrompt {
    /// What is shown.
    pub(super) cluster: Arc<Cluster>,
    /// Which signs the terminal can draw.
    pub(super) signs: Signs,
}

impl ShellPrompt {
    fn is_live(&self) -> bool {
        self.cluster.link().is_live()
    }
}

/// The text before the sign.
pub(super) fn text(filter: &str, counts: Counts, signs: Signs) -> String {
    let Counts { matching, total } = counts;
    let shown = if filter.is_empty() {
        "all".to_owned()
    } else {
        shorten(filter, signs)
    };
    let matching = matching.map_or_else(|| "?".to_owned(), |count| count.to_string());
    format!("sky {shown} {} {matching}/{total} ", signs.dot)
}

/// A long filter without its middle.
fn shorten(filter: &str, signs: Signs) -> String {
    let filter = plain(filter);
    if filter.width() <= FILTER_WIDTH {
        return filter;
    }
    let letters: Vec<char> = filter.chars().collect();
    let half = FILTER_WIDTH / 2 - 1;
    let start: String = letters.iter().take(half).collect();
    let end: String = letters
        .iter()
        .skip(letters.len().saturating_sub(half))
        .collect();
    format!("{start}{}{end}", signs.ellipsis)
}

impl Prompt for ShellPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        let filter = self.cluster.filter().to_string();
        text(&filter, self.cluster.counts(), self.signs).into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        let link = self.cluster.link();
        let age = link.age(Instant::now()).as_secs();
        if link.is_live() || age <= OLD {
            return Cow::Borrowed("");
        }
        format!("not connected for {age}s").into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        let sign = if self.is_live() {
            self.signs.ready
        } else {
            self.signs.lost
        };
        format!("{sign} ").into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("  ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let found = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing found, ",
        };
        format!("({found}search: {}) ", plain(&search.term)).into()
    }

    fn get_prompt_color(&self) -> Color {
        // Without a filter a change would hit everything.
        if self.cluster.filter().is_all() {
            Color::Yellow
        } else {
            Color::Cyan
        }
    }

    fn get_indicator_color(&self) -> Color {
        if self.is_live() {
            Color::Green
        } else {
            Color::Red
        }
    }

    fn get_prompt_right_color(&self) -> Color {
        Color::Red
    }
}

/// What is left of a prompt when its line is done.
pub(super) struct DonePrompt {
    /// Which signs the terminal can draw.
    pub(super) signs: Signs,
}

impl Prompt for DonePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        format!("{} ", self.signs.ready).into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("  ")
    }

    fn render_prompt_history_search_indicator(&self, _search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn get_indicator_color(&self) -> Color {
        Color::DarkGray
    }
}

/// The question before a change.
pub(super) struct Question(pub(super) String);

impl Prompt for Question {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        plain(&self.0).into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_history_search_indicator(&self, _search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn get_prompt_color(&self) -> Color {
        Color::Red
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &str, matching: Option<usize>, expected: &str) {
        let counts = Counts {
            matching,
            total: 486,
        };
        assert_eq!(text(filter, counts, Signs::UNICODE), expected);
    }

    #[test]
    fn the_filter_and_the_counts_are_always_there() {
        check("", Some(486), "sky all · 486/486 ");
        check(
            "service=payments",
            Some(41),
            "sky service=payments · 41/486 ",
        );
        check("avg>50ms", None, "sky avg>50ms · ?/486 ");
    }

    #[test]
    fn a_long_filter_loses_its_middle() {
        check(
            "service=payments region=us-east-1 registered host=host-0017",
            Some(1),
            "sky service=payments re…ered host=host-0017 · 1/486 ",
        );
    }
}
