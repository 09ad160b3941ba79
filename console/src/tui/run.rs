//! The loop: it owns the state, the terminal and the sources; nothing else does.
//!
//! Invariants: after the first event all that are ready are taken, then at most one frame is drawn,
//! at least 8 ms after the last one for a key and 33 ms for data, a second while nobody looks; data
//! that are costly to apply are applied so seldom that they take a tenth of the time; when nothing
//! happens, nothing runs. A terminal that takes no bytes delays frames, never events.

mod effects;
mod input;
mod snapshot;

use std::time::Duration;

use anyhow::Context;
use crossterm::event::Event as TerminalEvent;
use skynet::session::Session;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::effect::Effect;
use super::event::{Event, action_for};
use super::keymap::Keymap;
use super::screen::Screen;
use super::state::{Moment, Place, State, ViewKind};
use super::terminal::Terminal;
use super::update::{timers::next_wake, update};
use super::view::view;
use crate::theme::Theme;
use crate::traffic::TrafficCounters;
use effects::{Effects, Sources};
use input::Input;

pub use snapshot::snapshot;

/// The least time between two frames after a key.
const AFTER_INPUT: Duration = Duration::from_millis(8);

/// The least time between two frames after data.
const AFTER_DATA: Duration = Duration::from_millis(33);

/// The least time between two frames while nobody looks.
const UNFOCUSED: Duration = Duration::from_secs(1);

/// How many events are taken before a frame.
const MOST_EVENTS: usize = 256;

/// How a console is opened.
#[derive(Clone)]
pub struct TuiConfig {
    /// The cluster.
    pub session: Session,
    /// Where it looks, as it is told on the screen.
    pub place: Place,
    /// How it looks.
    pub theme: Theme,
    /// The view that is shown first.
    pub view: ViewKind,
    /// The text of the filter at the beginning.
    pub filter: String,
    /// The counters of the demo's traffic, which are shown at the foot.
    pub traffic: Option<watch::Receiver<TrafficCounters>>,
    /// Ends the console when it is cancelled.
    pub shutdown: CancellationToken,
}

impl TuiConfig {
    /// The instances of the session's cluster without a filter, in the theme that the environment
    /// asks for.
    pub fn new(session: Session) -> Self {
        let registry = session.registry();
        let place = Place {
            endpoints: registry.endpoints(),
            prefix: registry.prefix().to_owned(),
            label: None,
        };
        Self {
            place,
            theme: Theme::from_env(|name| std::env::var(name).ok()),
            view: ViewKind::Instances,
            filter: String::new(),
            traffic: None,
            shutdown: CancellationToken::new(),
            session,
        }
    }
}

/// Why a console ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The user quit.
    Quit,
    /// The caller asked for it.
    Shutdown,
    /// A signal asked for it.
    Signal(&'static str),
    /// The terminal is gone.
    TerminalLost,
}

/// How a console was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuiOutcome {
    /// Why it ended.
    pub ending: Ending,
    /// The view that was shown.
    pub view: ViewKind,
    /// The whole filter, as text that selects the same.
    pub filter: String,
}

/// Opens the console on the terminal and runs it until it is left, or until the configuration's
/// `shutdown` is cancelled.
///
/// SIGTERM, SIGHUP and SIGINT end it too. The terminal is restored when this returns, fails, panics
/// or is dropped. Nothing else may read the terminal or write to it in the meantime: log to a file.
///
/// # Errors
/// When there is no terminal, or signals cannot be heard.
///
/// # Cancel safety
/// Dropping the future restores the terminal and breaks off running changes, of which what was begun
/// is left to the daemons.
pub async fn run_tui(config: TuiConfig) -> anyhow::Result<TuiOutcome> {
    let mut signals = Signals::new().context("signals cannot be heard")?;
    let mut state = State::new(Moment::present(), config.place.clone());
    state.view = config.view;
    state.filter.set_text(&config.filter);
    let mut runner = Runner {
        effects: Effects::new(config.session),
        sources: Sources::new(config.traffic),
        keymap: Keymap::default(),
        screen: Screen::new(),
        frame: Frames::new(),
        theme: config.theme,
        state,
    };
    runner.sources.watch(runner.effects.view());
    let size = crossterm::terminal::size().unwrap_or((80, 24));
    let mut terminal = Terminal::enter().context("the console needs a terminal")?;
    let mut input = Input::open();
    runner.apply(Action::Resize(size.0, size.1));
    let shutdown = config.shutdown;
    let ending = loop {
        runner.draw(&mut terminal)?;
        let wake = runner.wake(&terminal);
        let mut events = Vec::new();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ending::Shutdown,
            name = signals.next() => break Ending::Signal(name),
            outcome = terminal.written() , if terminal.is_busy() => {
                if outcome.is_err() {
                    break Ending::TerminalLost;
                }
            }
            heard = input.next() => match heard {
                Some(event) => events.push(Event::Input(event)),
                None => break Ending::TerminalLost,
            },
            event = runner.effects.next() => events.push(event),
            event = runner.sources.next(runner.frame.data_at) => events.push(event),
            () = sleep_until(wake) => {}
        }
        if runner.take(events, &mut input) {
            break Ending::Quit;
        }
    };
    drop(terminal);
    input.close().await;
    Ok(TuiOutcome {
        ending,
        view: runner.state.view,
        filter: runner.state.filter.text(),
    })
}

/// Everything but the terminal and its input.
struct Runner {
    state: State,
    theme: Theme,
    keymap: Keymap,
    screen: Screen,
    frame: Frames,
    effects: Effects,
    sources: Sources,
}

/// When the next frame may be drawn, and when the next data may be applied.
struct Frames {
    last: Instant,
    dirty: Option<Duration>,
    data_at: Instant,
}

impl Frames {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now.checked_sub(UNFOCUSED).unwrap_or(now),
            dirty: Some(Duration::ZERO),
            data_at: now,
        }
    }

    /// Asks for a frame, so long after the last one at least.
    fn want(&mut self, gap: Duration) {
        self.dirty = Some(self.dirty.map_or(gap, |before| before.min(gap)));
    }

    fn due(&self) -> Option<Instant> {
        self.dirty.map(|gap| self.last + gap)
    }
}

impl Runner {
    /// Draws if something changed and it is time.
    fn draw(&mut self, terminal: &mut Terminal) -> anyhow::Result<()> {
        let now = Instant::now();
        if terminal.is_busy() || self.frame.due().is_none_or(|due| due > now) {
            return Ok(());
        }
        let (state, theme) = (&self.state, &self.theme);
        let bytes = self
            .screen
            .frame(state.size, |buffer| view(state, theme, buffer))
            .context("a frame cannot be written to memory")?;
        terminal.write(bytes);
        self.frame.last = now;
        self.frame.dirty = None;
        Ok(())
    }

    /// When the loop has to go on by itself.
    fn wake(&self, terminal: &Terminal) -> Instant {
        // A busy terminal says when it is done; until then no frame is due.
        let frame = self.frame.due().filter(|_| !terminal.is_busy());
        let wake = [frame, next_wake(&self.state)].into_iter().flatten().min();
        wake.unwrap_or_else(|| Instant::now() + Duration::from_hours(1))
    }

    /// Takes what has happened and all else that is ready; `true` when the console is to end.
    fn take(&mut self, mut events: Vec<Event>, input: &mut Input) -> bool {
        while events.len() < MOST_EVENTS {
            // What ended the input is met again by the loop.
            let Some(event) = input.ready() else {
                break;
            };
            events.push(Event::Input(event));
        }
        drop_early_resizes(&mut events);
        if self.apply(Action::Clock(Moment::present())) {
            return true;
        }
        self.frame.want(AFTER_DATA);
        for event in events {
            let gap = if matches!(event, Event::Input(_)) {
                AFTER_INPUT
            } else if self.state.focused {
                AFTER_DATA
            } else {
                UNFOCUSED
            };
            let is_data = matches!(event, Event::Snapshot(_));
            let began = Instant::now();
            let Some(action) = action_for(event, &self.state, &self.keymap) else {
                continue;
            };
            if self.apply(action) {
                return true;
            }
            self.frame.want(gap);
            if is_data {
                let cost = began.elapsed();
                self.frame.data_at = Instant::now() + AFTER_DATA.max(cost * 9);
            }
        }
        false
    }

    /// Applies one action and sets its effects going; `true` when the console is to end.
    fn apply(&mut self, action: Action) -> bool {
        let mut quit = false;
        for effect in update(&mut self.state, action) {
            match effect {
                Effect::Quit => quit = true,
                Effect::Repaint => self.screen.forget(),
                other => self.effects.begin(other, &self.state.snapshot),
            }
        }
        quit
    }
}

/// Of several changes of size only the last one counts.
fn drop_early_resizes(events: &mut Vec<Event>) {
    let is_resize = |event: &Event| matches!(event, Event::Input(TerminalEvent::Resize(..)));
    let last = events.iter().rposition(is_resize);
    let mut index = 0;
    events.retain(|event| {
        let keep = !is_resize(event) || Some(index) == last;
        index += 1;
        keep
    });
}

/// The signals that end the console.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
