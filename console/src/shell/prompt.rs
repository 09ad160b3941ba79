//! The prompt: the filter is always in it, because what it selects is what a change would hit.
//!
//! Invariants: drawn from what is known already, never from the network; finished prompts shrink to
//! their sign.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reedline::{Color, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus};
use skynet::registry::link::Link;
use skynet::registry::snapshot::{Alarm, Snapshot};
use tokio::time::Instant;
use unicode_width::UnicodeWidthStr;

use super::cluster::{Cluster, Counts};
use super::style::Signs;
use crate::link::words;
use crate::report::plain;

/// The widest filter that the prompt shows whole, in columns.
const FILTER_WIDTH: usize = 40;
/// For so long a link that is not there yet, or no more, is not spoken of.
const OLD: Duration = Duration::from_secs(5);

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

/// What is said at the right: how the link stands if not well, else the worst alarm.
fn state(link: &Link, snapshot: &Snapshot, now: Instant, wall: Timestamp) -> String {
    let is_brief = match link {
        Link::Connecting { .. } | Link::Lost { .. } => link.age(now) <= OLD,
        _ => link.is_live(),
    };
    if !is_brief {
        return words(link, now, wall).swap_remove(0);
    }
    let Some((service, alarm)) = snapshot.worst_alarm() else {
        return String::new();
    };
    let Alarm { vanished, of, .. } = alarm;
    let others = match snapshot.alarms().len() {
        0 | 1 => String::new(),
        count => format!(" +{}", count - 1),
    };
    format!("{}: {vanished} of {of} vanished{others}", plain(service))
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
        let (link, now) = (self.cluster.link(), Instant::now());
        let snapshot = self.cluster.snapshot();
        state(&link, &snapshot, now, Timestamp::now()).into()
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
    use skynet::registry::link::Doubt;

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
    fn a_link_over_which_nothing_may_be_acted_on_is_named_as_it_is() {
        let (since, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let seconds = Duration::from_secs;
        let (retry_at, until) = (since + seconds(16), since + seconds(20));
        let (heard, why) = (since, Doubt::Wiped);
        let written = Timestamp::from_second(-7_260).unwrap();
        let mut snapshot = Snapshot::default();
        for alarmed in [false, true] {
            let calm = if alarmed {
                "payments: 7 of 9 vanished +1"
            } else {
                ""
            };
            for (link, after, expected) in [
                (Link::Live { heard }, 12, calm),
                (Link::Connecting { since }, 2, calm),
                (Link::Connecting { since }, 12, "connecting 12s"),
                (Link::Cached { since, written }, 0, "no answer, data 2h old"),
                (
                    Link::Protected {
                        since,
                        until,
                        heard,
                        why,
                    },
                    1,
                    "wiped, nothing is removed for 19s",
                ),
                (Link::Lost { since, retry_at }, 3, calm),
                (Link::Lost { since, retry_at }, 12, "lost 12s, retry in 4s"),
                (
                    Link::Unknown {
                        since,
                        retry_at,
                        format: 9,
                    },
                    1,
                    "format 9 is not known here, retry in 15s",
                ),
            ] {
                let said = state(&link, &snapshot, since + seconds(after), wall);
                assert_eq!(said, expected, "{link:?}");
            }
            let alarm = |vanished| Alarm {
                vanished,
                of: 9,
                since,
            };
            let alarms = [("payments".into(), alarm(7)), ("search".into(), alarm(6))];
            snapshot.set_alarms(alarms.into());
        }
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
