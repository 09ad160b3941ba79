//! The terminal: entered once, restored on every way out, written by a thread of its own.
//!
//! Invariants: the terminal is restored when the guard is dropped, be it after a return, an error,
//! a panic or a signal; a panic's message is printed after the terminal is restored; a terminal
//! that takes no bytes never blocks the loop, and holds up leaving by at most [`LEAVE_PATIENCE`].

use std::fs::File;
use std::io::{self, Write};
use std::panic;
use std::sync::{Arc, Mutex, PoisonError, mpsc as sync_mpsc};
use std::time::Duration;

use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, queue, style};
use tokio::sync::mpsc;

/// How long leaving waits for a terminal that takes no bytes.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);

/// How many panics of other tasks are kept until they can be printed.
const MAX_PANICS: usize = 16;

/// What the writing thread is asked to do.
enum Job {
    /// Write a frame, then say so.
    Frame(Vec<u8>),
    /// Write the last bytes, then say so and end.
    Leave(Vec<u8>, sync_mpsc::SyncSender<()>),
}

/// The terminal while the console has it.
pub(super) struct Terminal {
    jobs: sync_mpsc::SyncSender<Job>,
    written: mpsc::Receiver<io::Result<()>>,
    busy: bool,
    panics: PanicNotes,
}

impl Terminal {
    /// Takes the terminal: raw mode, the alternate screen, bracketed paste, notices of focus.
    ///
    /// # Errors
    /// When standard output is no terminal, or the writing thread cannot be started.
    pub(super) fn enter() -> io::Result<Self> {
        let output = File::from(rustix::io::dup(rustix::stdio::stdout())?);
        let (jobs, take_jobs) = sync_mpsc::sync_channel(2);
        let (say_written, written) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("terminal".to_owned())
            .spawn(move || write_jobs(output, &take_jobs, &say_written))?;
        enable_raw_mode()?;
        // From here on dropping restores the terminal.
        let mut terminal = Self {
            jobs,
            written,
            busy: false,
            panics: PanicNotes::install(),
        };
        let mut bytes = Vec::new();
        queue!(
            bytes,
            EnterAlternateScreen,
            EnableBracketedPaste,
            EnableFocusChange,
            cursor::Hide
        )?;
        terminal.write(bytes);
        Ok(terminal)
    }

    /// Whether the last frame is still on its way; then the next one waits.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands a frame to the writing thread. Call it only when the terminal is not busy.
    pub(super) fn write(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.busy = self.jobs.try_send(Job::Frame(bytes)).is_ok();
        }
    }

    /// Waits until the frame on its way is written.
    ///
    /// # Errors
    /// When the terminal is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        let outcome = self.written.recv().await;
        self.busy = false;
        outcome.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal's modes first: they can be set even when it takes no bytes. The outcome does
        // not matter, since there is nothing left to do about it.
        let _restored = disable_raw_mode();
        let mut bytes = Vec::new();
        let queued = queue!(
            bytes,
            DisableFocusChange,
            DisableBracketedPaste,
            style::SetAttribute(style::Attribute::Reset),
            LeaveAlternateScreen,
            cursor::Show
        );
        let (say_left, left) = sync_mpsc::sync_channel(1);
        if queued.is_ok() && self.jobs.try_send(Job::Leave(bytes, say_left)).is_ok() {
            let _patience = left.recv_timeout(LEAVE_PATIENCE);
        }
        self.panics.print();
    }
}

fn write_jobs(
    mut output: File,
    jobs: &sync_mpsc::Receiver<Job>,
    written: &mpsc::Sender<io::Result<()>>,
) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Frame(bytes) => {
                // When nobody listens the console is leaving, and only its last bytes matter.
                let _heard = written.blocking_send(output.write_all(&bytes));
            }
            Job::Leave(bytes, say_left) => {
                // Whoever waits gives up after a while; so neither outcome matters.
                let _written = output.write_all(&bytes);
                let _heard = say_left.try_send(());
                return;
            }
        }
    }
}

/// A panic hook, as the standard library has it.
type Hook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send + 'static>;

/// The messages of panics while the terminal was ours: printed when it is no longer.
struct PanicNotes {
    notes: Arc<Mutex<Vec<String>>>,
    before: Option<Hook>,
}

impl PanicNotes {
    fn install() -> Self {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&notes);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_PANICS {
                kept.push(info.to_string());
            }
        }));
        Self {
            notes,
            before: Some(before),
        }
    }

    fn print(&mut self) {
        // A thread that is panicking may not change the hook; the process ends then anyway.
        if let Some(before) = self.before.take().filter(|_| !std::thread::panicking()) {
            panic::set_hook(before);
        }
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes.drain(..) {
            // Standard error may be gone with the terminal.
            let _printed = writeln!(io::stderr(), "{note}");
        }
    }
}
