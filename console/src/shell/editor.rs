//! The line editor, on a thread of its own, because reading a line blocks.
//!
//! Invariants: one question at a time goes to the thread and one reply comes back; the thread ends
//! with the handle, and the terminal is restored before it does; the shell alone knows reedline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as sync_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nu_ansi_term::{Color, Style};
use reedline::{
    ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, IdeMenu, KeyCode, KeyModifiers,
    MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal, default_emacs_keybindings,
};
use tokio::sync::{mpsc, oneshot};

use super::cluster::Cluster;
use super::completer::LineCompleter;
use super::highlighter::LineHighlighter;
use super::prompt::{DonePrompt, Question, ShellPrompt};
use super::style::Signs;
use super::validator::LineValidator;

/// How many lines are remembered.
const HISTORY: usize = 10_000;
/// How often the editor looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);
/// The least time between two drawings of the prompt that no key asked for.
const REPAINT_EVERY: Duration = Duration::from_millis(250);
/// How long ending waits for the thread.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long output may take to be drawn before the editor asks the terminal where its cursor is: some
/// terminals answer before they have drawn what came with the question.
const SETTLE: Duration = Duration::from_millis(25);
/// Below this width the menu has no room for descriptions.
const WIDE: u16 = 80;
/// The name of the menu of completions.
const MENU: &str = "completions";

/// What the thread is asked for.
enum Ask {
    /// A line of the shell.
    Line,
    /// An answer to a question.
    Answer(String),
}

/// What was typed.
#[derive(Debug)]
pub(super) enum Reply {
    /// A line.
    Line(String),
    /// Ctrl-C: never mind.
    Cancelled,
    /// Ctrl-D: leave.
    End,
    /// The terminal cannot be read.
    Broken(std::io::Error),
}

/// The handle of the line editor; dropping it ends the editor.
pub(super) struct Editor {
    asks: Option<sync_mpsc::SyncSender<Ask>>,
    replies: mpsc::Receiver<Reply>,
    stop: Arc<AtomicBool>,
    ended: sync_mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
    /// Draws the prompt again when what it shows has changed.
    repainting: tokio::task::JoinHandle<()>,
    /// Whether a question was asked whose reply nobody took.
    waiting: bool,
}

impl Editor {
    /// Starts the editor.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(cluster: Arc<Cluster>, signs: Signs) -> std::io::Result<Self> {
        let (asks, take_asks) = sync_mpsc::sync_channel(1);
        let (say, replies) = mpsc::channel(1);
        let (say_ended, ended) = sync_mpsc::sync_channel(1);
        let (give_repaint, take_repaint) = oneshot::channel();
        let watched = Arc::clone(&cluster);
        let stop = Arc::new(AtomicBool::new(false));
        let setup = Setup {
            cluster,
            signs,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("line editor".to_owned())
            .spawn(move || {
                serve(&take_asks, &say, give_repaint, &setup);
                // Nobody may be waiting for the end any more.
                let _ = say_ended.try_send(());
            })?;
        Ok(Self {
            asks: Some(asks),
            replies,
            stop,
            ended,
            thread: Some(thread),
            repainting: tokio::spawn(repaint_on_change(watched, take_repaint)),
            waiting: false,
        })
    }

    /// Reads a line at the prompt.
    ///
    /// # Cancel safety
    /// The line that is being typed is lost.
    pub(super) async fn line(&mut self) -> Reply {
        self.ask(Ask::Line).await
    }

    /// Reads the answer to a question; `None` when there is none.
    ///
    /// # Cancel safety
    /// The answer that is being typed is lost.
    pub(super) async fn answer(&mut self, question: &str) -> Option<String> {
        match self.ask(Ask::Answer(question.to_owned())).await {
            Reply::Line(answer) => Some(answer),
            Reply::Cancelled | Reply::End | Reply::Broken(_) => None,
        }
    }

    async fn ask(&mut self, ask: Ask) -> Reply {
        let gone = || Reply::Broken(std::io::ErrorKind::BrokenPipe.into());
        if self.waiting {
            // Whoever asked has gone, and the reply is not for us.
            self.stop.store(true, Ordering::Relaxed);
            drop(self.replies.recv().await);
            self.stop.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(SETTLE).await;
        let sent = self
            .asks
            .as_ref()
            .is_some_and(|asks| asks.try_send(ask).is_ok());
        if !sent {
            return gone();
        }
        self.waiting = true;
        let reply = self.replies.recv().await;
        self.waiting = false;
        reply.unwrap_or_else(gone)
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.asks = None;
        self.repainting.abort();
        // A reply that nobody takes must not hold the thread.
        self.replies.close();
        if self.waiting {
            self.stop.store(true, Ordering::Relaxed);
        }
        if self.ended.recv_timeout(PATIENCE).is_ok() {
            if let Some(thread) = self.thread.take() {
                // Its panic has been told by the panic hook.
                drop(thread.join());
            }
        } else {
            // It is stuck in the terminal: restore what can be restored without it.
            drop(crossterm::terminal::disable_raw_mode());
        }
    }
}

/// What the thread works with.
struct Setup {
    cluster: Arc<Cluster>,
    signs: Signs,
    stop: Arc<AtomicBool>,
}

/// Asks the editor to draw its prompt again.
type Repaint = Box<dyn Fn() + Send>;

/// Draws the prompt again when what it shows has changed. Never returns by itself.
async fn repaint_on_change(cluster: Arc<Cluster>, repaint: oneshot::Receiver<Repaint>) {
    let Ok(repaint) = repaint.await else { return };
    let mut link = cluster.view().link();
    let mut changes = cluster.view().changes();
    let mut shown = cluster.shown();
    loop {
        let changed = tokio::select! {
            changed = link.changed() => changed,
            changed = changes.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let now = cluster.shown();
        if now != shown {
            shown = now;
            repaint();
            tokio::time::sleep(REPAINT_EVERY).await;
        }
    }
}

fn serve(
    asks: &sync_mpsc::Receiver<Ask>,
    say: &mpsc::Sender<Reply>,
    repaint: oneshot::Sender<Repaint>,
    setup: &Setup,
) {
    let mut editor = line_editor(setup);
    let signal = editor.repaint_signal();
    // Without the task that would ask for it, the prompt is drawn with the next key.
    drop(repaint.send(Box::new(move || signal.request_repaint())));
    let prompt = ShellPrompt {
        cluster: Arc::clone(&setup.cluster),
        signs: setup.signs,
    };
    while let Ok(ask) = asks.recv() {
        let read = match ask {
            Ask::Line => editor.read_line(&prompt),
            Ask::Answer(question) => bare_editor(setup).read_line(&Question(question)),
        };
        let reply = match read {
            Ok(Signal::Success(line)) => Reply::Line(line),
            Ok(Signal::CtrlD) => Reply::End,
            Ok(_) => Reply::Cancelled,
            Err(error) => Reply::Broken(std::io::Error::other(error)),
        };
        if say.blocking_send(reply).is_err() {
            return;
        }
    }
}

/// An editor for answers: nothing is remembered, offered or colored.
fn bare_editor(setup: &Setup) -> Reedline {
    Reedline::create()
        .with_ansi_colors(has_colors())
        .with_break_signal(Arc::clone(&setup.stop))
        .with_poll_interval(POLL)
}

fn line_editor(setup: &Setup) -> Reedline {
    let mut editor = bare_editor(setup)
        .use_bracketed_paste(true)
        .with_completer(Box::new(LineCompleter {
            cluster: Arc::clone(&setup.cluster),
        }))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_menu(ReedlineMenu::EngineCompleter(menu(setup.signs)))
        .with_highlighter(Box::new(LineHighlighter))
        .with_validator(Box::new(LineValidator))
        .with_hinter(Box::new(
            DefaultHinter::default().with_style(Style::new().fg(Color::DarkGray)),
        ))
        .with_transient_prompt(Box::new(DonePrompt { signs: setup.signs }))
        .with_history_exclusion_prefix(Some(" ".to_owned()))
        .with_edit_mode(Box::new(Emacs::new(keys())));
    if let Some(history) = history() {
        editor = editor.with_history(history);
    }
    editor
}

fn has_colors() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !no_color && !dumb
}

fn keys() -> reedline::Keybindings {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]),
    );
    keys.add_binding(
        KeyModifiers::SHIFT,
        KeyCode::BackTab,
        ReedlineEvent::MenuPrevious,
    );
    keys
}

/// A box with descriptions where there is room for it, columns of words elsewhere.
fn menu(signs: Signs) -> Box<dyn reedline::Menu> {
    let (columns, rows) = crossterm::terminal::size().unwrap_or((WIDE, 24));
    // The menu draws the sign of the prompt in its place.
    let marker = format!("{} ", signs.ready);
    let chosen = Style::new().reverse();
    let matched = Style::new().fg(Color::Cyan).bold();
    if columns < WIDE {
        return Box::new(
            ColumnarMenu::default()
                .with_name(MENU)
                .with_marker(&marker)
                .with_columns(2)
                .with_text_style(Style::new())
                .with_description_text_style(Style::new().fg(Color::DarkGray))
                .with_selected_text_style(chosen)
                .with_match_text_style(matched)
                .with_selected_match_text_style(chosen),
        );
    }
    let menu = IdeMenu::default()
        .with_name(MENU)
        .with_marker(&marker)
        .with_max_completion_height((rows / 3).max(4))
        .with_padding(1)
        .with_min_description_width(20)
        .with_max_description_width(60)
        .with_max_description_height(4)
        .with_description_offset(1)
        .with_correct_cursor_pos(true)
        .with_text_style(Style::new())
        .with_selected_text_style(chosen)
        .with_description_text_style(Style::new().fg(Color::DarkGray))
        .with_match_text_style(matched)
        .with_selected_match_text_style(chosen);
    Box::new(if signs.boxes {
        menu.with_default_border()
    } else {
        menu.with_border('+', '+', '+', '+', '-', '|')
    })
}

/// The lines of earlier days; without a place for them there are only those of today.
fn history() -> Option<Box<FileBackedHistory>> {
    let file = history_file()?;
    FileBackedHistory::with_file(HISTORY, file)
        .inspect_err(|error| tracing::warn!(%error, "the history cannot be kept"))
        .ok()
        .map(Box::new)
}

fn history_file() -> Option<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "sky")?;
    Some(folders.state_dir()?.join("history"))
}
