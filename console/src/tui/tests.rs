//! Keys in, screens out.

mod changes;
pub(crate) mod cluster;
mod keys;
mod safety;
mod screens;

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{Event as Input, KeyEvent, KeyModifiers};
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;
use skynet::stats::InstanceStats;
use tokio::time::Instant;

use super::action::Action;
use super::effect::{Effect, Outcome};
use super::event::{Event, action_for};
use super::key::Key;
use super::keymap::Keymap;
use super::state::{Moment, Place, State};
use super::update::update;
use super::view::snapshot_frame;
use crate::theme::Theme;

/// A console whose time and events come from a test.
pub(crate) struct Console {
    pub(crate) state: State,
    pub(crate) effects: Vec<Effect>,
    keymap: Keymap,
}

impl Console {
    /// A console of this size that has just been opened.
    pub(crate) fn opened(width: u16, height: u16) -> Self {
        let now = Moment {
            mono: Instant::now(),
            wall: cluster::now(),
        };
        let place = Place {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            prefix: "/skynet/v1".to_owned(),
            label: None,
        };
        let mut console = Self {
            state: State::new(now, place),
            effects: Vec::new(),
            keymap: Keymap::default(),
        };
        console.act(Action::Resize(width, height));
        console
    }

    /// A console that shows so many instances, measured.
    pub(crate) fn showing(width: u16, height: u16, count: u32) -> Self {
        let mut console = Self::opened(width, height);
        console.live(cluster::of(count));
        console.answer_stats();
        console.wait(Duration::from_secs(1));
        console.answer_stats();
        console.wait(Duration::from_millis(10));
        console
    }

    pub(crate) fn act(&mut self, action: Action) {
        let effects = update(&mut self.state, action);
        self.effects.extend(effects);
    }

    /// The registry has answered with this.
    pub(crate) fn live(&mut self, snapshot: Snapshot) {
        let heard = self.state.now.mono;
        self.act(Action::Data(Arc::new(snapshot)));
        self.act(Action::Link(Link::Live { heard }));
    }

    /// Lets time pass; the registry goes on being heard while it is live.
    pub(crate) fn wait(&mut self, time: Duration) {
        let now = self.state.now;
        let moment = Moment {
            mono: now.mono + time,
            wall: now.wall.checked_add(time).unwrap(),
        };
        self.act(Action::Clock(moment));
        if self.state.link.is_live() {
            self.act(Action::Link(Link::Live { heard: moment.mono }));
        }
    }

    /// Hosts answer the last question for measurements.
    pub(crate) fn answer_stats(&mut self) {
        let asked = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Stats { ticket, instances } => Some((*ticket, instances.clone())),
            _ => None,
        });
        let Some((ticket, instances)) = asked else {
            return;
        };
        let seconds = self.state.now.wall.as_second() - cluster::now().as_second();
        let answers = instances.iter().map(|instance| {
            let number = i64::from(instance.pid().unwrap_or(0)) - 1000;
            let stats = InstanceStats {
                clients: number % 40,
                inflight: number % 3,
                requests: 1_000 + number * 4_321 + seconds * (number * 37 % 900),
                avg_us: 300 + number * 2_917 % 250_000,
                p50_us: 250 + number * 2_500 % 200_000,
                p99_us: 900 + number * 5_000 % 900_000,
                started: instance.started.to_string(),
                last: self.state.now.wall.to_string(),
                cpu_pct: Some(1.5),
                rss_bytes: Some(14_900_000),
            };
            (instance.id(), stats)
        });
        let outcome = Outcome::Stats(answers.collect());
        self.act(Action::Finished(ticket, outcome));
    }

    /// Presses keys: characters as they stand, others as `<Enter>`, `<Ctrl-d>`.
    pub(crate) fn press(&mut self, script: &str) {
        let mut rest = script;
        while let Some(first) = rest.chars().next() {
            let (word, after) = match rest.strip_prefix('<').and_then(|it| it.split_once('>')) {
                Some((name, after)) if !name.is_empty() => (name, after),
                _ => rest.split_at(first.len_utf8()),
            };
            let word = if word == " " { "Space" } else { word };
            self.key(word.parse().unwrap());
            rest = after;
        }
    }

    fn key(&mut self, key: Key) {
        let mut modifiers = KeyModifiers::NONE;
        if key.ctrl {
            modifiers |= KeyModifiers::CONTROL;
        }
        if key.alt {
            modifiers |= KeyModifiers::ALT;
        }
        let event = Event::Input(Input::Key(KeyEvent::new(key.code, modifiers)));
        if let Some(action) = action_for(event, &self.state, &self.keymap) {
            self.act(action);
        }
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        snapshot_frame(&self.state, &Theme::terminal())
    }

    /// The text of the messages on the screen.
    pub(crate) fn toasts(&self) -> Vec<&str> {
        self.state
            .toasts
            .iter()
            .map(|toast| toast.text.as_str())
            .collect()
    }
}
